//! Some records in one buffer, to be encrypted or decrypted together: here, or by a worker.

use dst_security::{RECORD_HEADER_LEN, RECORD_MAX, RECORD_OVERHEAD, RecordError, Ticket};
use dst_wire::HEADER_LEN;
use dst_workers::Job;
use spdk::iov::Iov;

/// Records of full size that a buffer has room for: 128 KiB of data, about as much as is worth a system call.
const FULL_RECORDS: usize = if cfg!(feature = "simulator") { 2 } else { 8 };

/// Bytes of a buffer.
pub const BUFFER: usize = FULL_RECORDS * (RECORD_MAX + RECORD_OVERHEAD);

/// Bytes of one large I/O with its header: about what a buffer takes, and a socket at once.
pub const AT_ONCE: usize = FULL_RECORDS * RECORD_MAX + HEADER_LEN;

/// Most records in a batch that is handed over. Of smaller ones, fewer bytes are.
pub const RECORDS_MAX: usize = 64;

/// What is to be done with the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Encrypt.
    Seal,
    /// Decrypt.
    Open,
}

/// Records, one behind the other.
pub struct Batch {
    /// Its place in the order of its direction's batches.
    pub number: u64,
    pub buffer: Box<[u8]>,
    /// Bytes of records.
    pub filled: usize,
    /// Where each begins that is to be worked on, with its ticket.
    todo: Vec<(usize, Ticket)>,
    /// Bytes of the data in each record, from the first on that was not taken yet.
    lens: Vec<usize>,
    /// Records that were taken, and bytes of the next one.
    taken: (usize, usize),
    /// Where that record begins.
    at: usize,
    work: Work,
    /// What was wrong with one of them.
    pub error: Option<RecordError>,
}

impl Job for Batch {
    fn run(&mut self) {
        for (start, ticket) in self.todo.drain(..) {
            let record = &mut self.buffer[start..start + ticket.record_len()];
            match self.work {
                Work::Seal => ticket.seal(record),
                Work::Open => {
                    if let Err(error) = ticket.open(record) {
                        self.error = Some(error);
                        break;
                    }
                }
            }
        }
    }
}

impl Batch {
    pub fn new(work: Work) -> Box<Batch> {
        Box::new(Batch {
            number: 0,
            buffer: vec![0; BUFFER].into(),
            filled: 0,
            todo: Vec::with_capacity(RECORDS_MAX),
            lens: Vec::with_capacity(RECORDS_MAX),
            taken: (0, 0),
            at: 0,
            work,
            error: None,
        })
    }

    /// Nothing is in it any more.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.todo.clear();
        self.lens.clear();
        self.taken = (0, 0);
        self.at = 0;
    }

    /// Its records begin there.
    pub fn begin_at(&mut self, start: usize) {
        self.filled = start;
        self.at = start;
    }

    /// Adds a record that is in the buffer, behind those that were added.
    pub fn add(&mut self, ticket: Ticket) {
        self.lens.push(ticket.record_len() - RECORD_OVERHEAD);
        let start = self.filled;
        self.filled += ticket.record_len();
        self.todo.push((start, ticket));
    }

    /// Adds records of the pieces' next bytes, as many as there is room for. Those of large pieces are encrypted at
    /// once, from where they are, if nobody else is to do it. Gives how many bytes were taken.
    pub fn fill(
        &mut self,
        pieces: &mut Pieces<'_, '_>,
        mut ticket: impl FnMut(usize) -> Ticket,
        at_once: bool,
    ) -> usize {
        let mut taken = 0;
        while self.buffer.len() - self.filled >= RECORD_MAX + RECORD_OVERHEAD {
            let start = self.filled;
            let room = &mut self.buffer[start..];
            if at_once && let Some(piece) = pieces.peek().and_then(<[u8]>::first_chunk::<RECORD_MAX>) {
                ticket(RECORD_MAX).seal_from(piece, &mut room[..RECORD_MAX + RECORD_OVERHEAD]);
                pieces.take(RECORD_MAX);
                self.filled += RECORD_MAX + RECORD_OVERHEAD;
                taken += RECORD_MAX;
                continue;
            }
            let data = &mut room[RECORD_HEADER_LEN..][..RECORD_MAX];
            let mut len = 0;
            while let Some(piece) = pieces.peek().filter(|_| len < data.len()) {
                if piece.len() >= RECORD_MAX && len > 0 {
                    // It begins a record of its own, which can be decrypted to where it belongs.
                    break;
                }
                let part = piece.len().min(data.len() - len);
                data[len..len + part].copy_from_slice(&piece[..part]);
                pieces.take(part);
                len += part;
            }
            if len == 0 {
                break;
            }
            taken += len;
            if at_once {
                ticket(len).seal(&mut room[..len + RECORD_OVERHEAD]);
                self.filled += len + RECORD_OVERHEAD;
            } else {
                self.add(ticket(len));
            }
        }
        taken
    }

    /// Copies decrypted bytes out, as many as there are and have room. Gives how many.
    pub fn take(&mut self, room: &mut [u8]) -> usize {
        let mut done = 0;
        while done < room.len()
            && let Some(&len) = self.lens.get(self.taken.0)
        {
            let from = self.at + RECORD_HEADER_LEN + self.taken.1;
            let part = (len - self.taken.1).min(room.len() - done);
            room[done..done + part].copy_from_slice(&self.buffer[from..from + part]);
            done += part;
            self.taken.1 += part;
            if self.taken.1 == len {
                self.taken = (self.taken.0 + 1, 0);
                self.at += len + RECORD_OVERHEAD;
            }
        }
        done
    }

    /// Whether all was taken.
    pub fn is_used_up(&self) -> bool {
        self.taken.0 == self.lens.len()
    }
}

/// The bytes of a list, from its beginning to its end.
pub struct Pieces<'a, 'b> {
    iov: &'b Iov<'a>,
    index: usize,
    at: usize,
    left: usize,
}

impl<'a, 'b> Pieces<'a, 'b> {
    pub fn new(iov: &'b Iov<'a>) -> Pieces<'a, 'b> {
        Pieces { iov, index: 0, at: 0, left: iov.len_bytes() }
    }

    /// Bytes that were not taken.
    pub fn left(&self) -> usize {
        self.left
    }

    /// What is left of the piece at hand. None is empty.
    fn peek(&self) -> Option<&'a [u8]> {
        self.iov.slice(self.index).map(|piece| &piece[self.at..])
    }

    fn take(&mut self, len: usize) {
        self.at += len;
        self.left -= len;
        if self.iov.slice(self.index).is_some_and(|piece| piece.len() == self.at) {
            self.index += 1;
            self.at = 0;
        }
    }
}
