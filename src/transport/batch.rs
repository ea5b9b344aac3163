//! Records in one buffer that are encrypted or decrypted together, on the I/O thread or by a
//! worker.

use dst_security::{RECORD_HEADER_LEN, RECORD_MAX, RECORD_OVERHEAD, RecordError, Ticket};
use dst_wire::HEADER_LEN;
use dst_workers::Job;
use spdk::iov::Iov;

/// The number of records of full size that a buffer holds: 128 KiB of data, about as much as is
/// worth a system call.
const FULL_RECORDS: usize = if cfg!(feature = "simulator") { 2 } else { 8 };

/// The size of a buffer in bytes.
pub const BUFFER: usize = FULL_RECORDS * (RECORD_MAX + RECORD_OVERHEAD);

/// The size of one large I/O with its header, in bytes: about what a buffer holds, and what a
/// socket accepts at once.
pub const AT_ONCE: usize = FULL_RECORDS * RECORD_MAX + HEADER_LEN;

/// The maximum number of records in a batch that is handed over. A batch of small records therefore
/// has fewer bytes.
pub const RECORDS_MAX: usize = 64;

/// What to do with the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Encrypt.
    Seal,
    /// Decrypt.
    Open,
}

/// Records, back to back.
pub struct Batch {
    /// The batch's number, counted in the order of its direction's batches.
    pub number: u64,
    pub buffer: Box<[u8]>,
    /// The end of the records in the buffer.
    pub filled: usize,
    /// The start of each record that is still to be encrypted or decrypted, with its ticket.
    todo: Vec<(usize, Ticket)>,
    /// The size of the data in each record, in bytes.
    lens: Vec<usize>,
    /// The number of records that were taken completely, and of bytes taken of the next one.
    taken: (usize, usize),
    /// The start of that next record.
    at: usize,
    work: Work,
    /// The error of the first record that could not be decrypted.
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

    /// Empties the batch.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.todo.clear();
        self.lens.clear();
        self.taken = (0, 0);
        self.at = 0;
    }

    /// Sets the position in the buffer at which the records begin.
    pub fn begin_at(&mut self, start: usize) {
        self.filled = start;
        self.at = start;
    }

    /// Adds a record that is already in the buffer, after those added before.
    pub fn add(&mut self, ticket: Ticket) {
        self.lens.push(ticket.record_len() - RECORD_OVERHEAD);
        let start = self.filled;
        self.filled += ticket.record_len();
        self.todo.push((start, ticket));
    }

    /// Fills the buffer with records made of the next bytes of `pieces`, and returns how many bytes
    /// were taken. With `at_once`, the records are encrypted here, those of large pieces straight
    /// from their source; without it, a worker encrypts them later.
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
                    // The large piece begins a record of its own, which can be decrypted straight
                    // to its destination.
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

    /// Copies decrypted bytes into `room`, as many as there are and fit, and returns how many.
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

    /// Returns whether all bytes were taken.
    pub fn is_used_up(&self) -> bool {
        self.taken.0 == self.lens.len()
    }
}

/// A cursor over the bytes of an I/O vector.
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

    /// Returns how many bytes were not taken.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Returns the rest of the current piece, which is never empty.
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
