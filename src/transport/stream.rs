//! A connection's bytes: as they are, or, once it is secured, in records.
//!
//! Whoever uses it sees bytes in both cases. Securing a connection changes what the socket carries, and where
//! copies are made: of small pieces, which travel together in one record, one on each side; of large ones none, they are
//! encrypted from where they are and decrypted to where they belong.

use dst_security::{Keys, RECORD_HEADER_LEN, RECORD_MAX, RECORD_OVERHEAD, Secured, record::RecordHeader};
use dst_wire::Cipher;
use spdk::iov::{Iov, IovMut};
use spdk::sock::Sock;

use crate::Broken;

/// Records that a buffer has room for: 128 KiB of data, about as much as is worth a system call.
const RECORDS: usize = if cfg!(feature = "simulator") { 2 } else { 8 };

/// Bytes of each of a secured connection's two buffers.
const BUFFER: usize = RECORDS * (RECORD_MAX + RECORD_OVERHEAD);

/// A connection's socket.
pub struct Stream {
    sock: Sock,
    secured: Option<Box<Records>>,
}

/// Both directions of a secured connection.
struct Records {
    cipher: Cipher,
    outgoing: Outgoing,
    incoming: Incoming,
}

/// Records on their way to the socket.
struct Outgoing {
    keys: Keys,
    buffer: Box<[u8]>,
    sent: usize,
    filled: usize,
}

/// Records that came from the socket.
struct Incoming {
    keys: Keys,
    buffer: Box<[u8]>,
    /// What of the buffer is not decrypted yet.
    sealed: std::ops::Range<usize>,
    /// What is decrypted and was not taken yet. In front of `sealed`.
    opened: std::ops::Range<usize>,
    /// System calls that it may make yet.
    calls: usize,
}

impl Stream {
    /// A socket whose bytes are what they are.
    pub fn new(sock: Sock) -> Stream {
        Stream { sock, secured: None }
    }

    /// From the next byte on, in both directions, there are records. Allocates their buffers.
    pub fn secure(&mut self, secured: Secured) {
        let buffer = || vec![0; BUFFER].into_boxed_slice();
        self.secured = Some(Box::new(Records {
            cipher: secured.cipher,
            outgoing: Outgoing { keys: secured.send, buffer: buffer(), sent: 0, filled: 0 },
            incoming: Incoming {
                keys: secured.receive,
                buffer: buffer(),
                sealed: 0..0,
                opened: 0..0,
                calls: 0,
            },
        }));
    }

    /// How it is secured.
    pub fn cipher(&self) -> Cipher {
        self.secured.as_ref().map_or(Cipher::None, |records| records.cipher)
    }

    /// Bytes on the wire's side that were taken and wait for the socket.
    pub fn unsent(&self) -> usize {
        self.secured.as_ref().map_or(0, |records| records.outgoing.filled - records.outgoing.sent)
    }

    /// Sends; gives how many bytes were taken, which need not be kept any more. 0: the socket takes nothing now.
    /// An empty list sends what was taken before.
    ///
    /// # Errors
    /// The connection is over.
    pub fn writev(&mut self, iov: &Iov<'_>) -> Result<usize, Broken> {
        match &mut self.secured {
            None if iov.is_empty() => Ok(0),
            None => Ok(self.sock.writev(iov).map_err(Broken::Socket)?.unwrap_or(0)),
            Some(records) => records.outgoing.writev(&self.sock, iov),
        }
    }

    /// Begins a turn, in which records are received with so many system calls at most.
    pub fn begin_turn(&mut self, calls: usize) {
        if let Some(records) = &mut self.secured {
            records.incoming.calls = calls;
        }
    }

    /// Receives into the pieces of `iov`, in their order. `None`: nothing is there; 0: the peer has closed.
    /// Fewer bytes than there is room for: that was all.
    ///
    /// # Errors
    /// The connection is over.
    pub fn readv(&mut self, iov: &mut IovMut<'_>) -> Result<Option<usize>, Broken> {
        match &mut self.secured {
            None => self.sock.readv(iov).map_err(Broken::Socket),
            Some(records) => records.incoming.readv(&self.sock, iov),
        }
    }

    /// Receives into `buf`; otherwise as [`Stream::readv`].
    ///
    /// # Errors
    /// The connection is over.
    pub fn recv(&mut self, buf: &mut [u8]) -> Result<Option<usize>, Broken> {
        match &mut self.secured {
            None => self.sock.recv(buf).map_err(Broken::Socket),
            Some(records) => {
                let mut iov = IovMut::new();
                iov.push(buf);
                records.incoming.readv(&self.sock, &mut iov)
            }
        }
    }

    /// Whether bytes are there that the socket will not tell of any more.
    pub fn holds_bytes(&self) -> bool {
        self.secured.as_ref().is_some_and(|records| records.incoming.holds_bytes())
    }
}

impl Outgoing {
    fn writev(&mut self, sock: &Sock, iov: &Iov<'_>) -> Result<usize, Broken> {
        let mut taken = 0;
        let mut pieces = Pieces::new(iov);
        while self.flush(sock)? {
            let filled = self.fill(&mut pieces);
            if filled == 0 {
                break;
            }
            taken += filled;
        }
        Ok(taken)
    }

    /// Whether everything is with the socket.
    fn flush(&mut self, sock: &Sock) -> Result<bool, Broken> {
        while self.sent < self.filled {
            let mut iov = Iov::new();
            iov.push(&self.buffer[self.sent..self.filled]);
            match sock.writev(&iov).map_err(Broken::Socket)? {
                None | Some(0) => return Ok(false),
                Some(sent) => self.sent += sent,
            }
        }
        self.sent = 0;
        self.filled = 0;
        Ok(true)
    }

    /// Fills the buffer with records of the pieces' next bytes, as many as it takes. The buffer was empty.
    fn fill(&mut self, pieces: &mut Pieces<'_, '_>) -> usize {
        let mut taken = 0;
        while self.buffer.len() - self.filled >= RECORD_MAX + RECORD_OVERHEAD {
            let room = &mut self.buffer[self.filled..];
            let data = &mut room[RECORD_HEADER_LEN..][..RECORD_MAX];
            let mut len = 0;
            let mut large = None;
            while let Some(piece) = pieces.peek() {
                if piece.len() >= RECORD_MAX {
                    large = (len == 0).then_some(piece);
                    break;
                }
                let part = piece.len().min(data.len() - len);
                data[len..len + part].copy_from_slice(&piece[..part]);
                pieces.take(part);
                len += part;
                if len == data.len() {
                    break;
                }
            }
            if let Some(piece) = large {
                len = RECORD_MAX;
                let record = &mut room[..len + RECORD_OVERHEAD];
                self.keys.send(len).seal_from(&piece[..len], record);
                pieces.take(len);
            } else if len > 0 {
                self.keys.send(len).seal(&mut room[..len + RECORD_OVERHEAD]);
            } else {
                break;
            }
            self.filled += len + RECORD_OVERHEAD;
            taken += len;
        }
        taken
    }
}

/// The bytes of a list, from its beginning to its end.
struct Pieces<'a, 'b> {
    iov: &'b Iov<'a>,
    index: usize,
    at: usize,
}

impl<'a, 'b> Pieces<'a, 'b> {
    fn new(iov: &'b Iov<'a>) -> Pieces<'a, 'b> {
        Pieces { iov, index: 0, at: 0 }
    }

    /// What is left of the piece at hand. None is empty.
    fn peek(&self) -> Option<&'b [u8]> {
        self.iov.slice(self.index).map(|piece| &piece[self.at..])
    }

    fn take(&mut self, len: usize) {
        self.at += len;
        if self.iov.slice(self.index).is_some_and(|piece| piece.len() == self.at) {
            self.index += 1;
            self.at = 0;
        }
    }
}

impl Incoming {
    /// The next record, if all of it is there.
    fn next(&self) -> Result<Option<RecordHeader>, Broken> {
        let sealed = &self.buffer[self.sealed.clone()];
        let Some(&bytes) = sealed.first_chunk::<RECORD_HEADER_LEN>() else { return Ok(None) };
        let header = RecordHeader::decode(bytes)?;
        Ok((sealed.len() >= header.record_len()).then_some(header))
    }

    fn holds_bytes(&self) -> bool {
        // One that is none has to be looked at, too.
        !self.opened.is_empty() || !matches!(self.next(), Ok(None))
    }

    fn readv(&mut self, sock: &Sock, iov: &mut IovMut<'_>) -> Result<Option<usize>, Broken> {
        let (mut index, mut at, mut got) = (0, 0, 0);
        while let Some(room) = iov.slice_mut(index) {
            let room = &mut room[at..];
            let len = if !self.opened.is_empty() {
                self.take_opened(room)
            } else if let Some(header) = self.next()? {
                self.open(header, room)?
            } else {
                match self.receive(sock)? {
                    Some(0) if got == 0 => return Ok(Some(0)),
                    // The end is there the next time, too.
                    None | Some(0) => break,
                    Some(_) => continue,
                }
            };
            got += len;
            at += len;
            if len == room.len() {
                index += 1;
                at = 0;
            }
        }
        Ok((got > 0).then_some(got))
    }

    fn take_opened(&mut self, room: &mut [u8]) -> usize {
        let len = room.len().min(self.opened.len());
        let from = self.opened.start;
        room[..len].copy_from_slice(&self.buffer[from..from + len]);
        self.opened.start += len;
        len
    }

    /// Decrypts the next record: to where it belongs if all of it does. Gives how many bytes are there.
    fn open(&mut self, header: RecordHeader, room: &mut [u8]) -> Result<usize, Broken> {
        let record = self.sealed.start..self.sealed.start + header.record_len();
        let ticket = self.keys.receive(header)?;
        self.sealed.start = record.end;
        if header.len <= room.len() {
            ticket.open_to(&self.buffer[record], &mut room[..header.len])?;
            return Ok(header.len);
        }
        let from = record.start + RECORD_HEADER_LEN;
        ticket.open(&mut self.buffer[record])?;
        self.opened = from..from + header.len;
        Ok(self.take_opened(room))
    }

    /// One system call, behind what is there. Nothing of it is decrypted, and no whole record is there.
    fn receive(&mut self, sock: &Sock) -> Result<Option<usize>, Broken> {
        if self.calls == 0 {
            return Ok(None);
        }
        self.calls -= 1;
        if self.sealed.start > 0 {
            self.buffer.copy_within(self.sealed.clone(), 0);
            self.sealed = 0..self.sealed.len();
        }
        let got = sock.recv(&mut self.buffer[self.sealed.end..]).map_err(Broken::Socket)?;
        self.sealed.end += got.unwrap_or(0);
        Ok(got)
    }
}
