//! Both directions of a secured connection.

use dst_security::{Keys, RECORD_HEADER_LEN, record::RecordHeader};
use spdk::iov::{Iov, IovMut};
use spdk::sock::Sock;

use crate::Broken;
use crate::batch::{AT_ONCE, BUFFER, Batch, Pieces, RECORDS_MAX, Work};
use crate::workers::{BatchQueue, DEPTH, HAND_OVER, has_workers};

/// If this many receives fill the buffer in one turn, records are handed over to workers from then
/// on, until a turn in which no receive fills the buffer. One large I/O, or 32 of 4 KiB, fill it
/// only once; they complete sooner if they are decrypted here.
const FILLS_MIN: u32 = 2;

/// The maximum number of records that are decrypted in one turn, so that one connection cannot
/// monopolise a reactor. The 1 MiB that a turn receives are 64 records of full size or this many of
/// 1 KiB, but 50,000 of one byte. A record of one byte that changes the key takes 4 µs, so this
/// many take 4 ms.
const RECORDS_A_TURN: usize = if cfg!(feature = "simulator") { 4 } else { 1024 };

/// Records on their way to the socket.
pub struct OutgoingRecords {
    keys: Keys,
    line: BatchQueue,
    /// How many bytes of the first batch the socket has accepted.
    sent: usize,
    /// How many bytes of all batches the socket has not accepted.
    pub unsent: usize,
}

impl OutgoingRecords {
    pub fn new(keys: Keys) -> OutgoingRecords {
        let mut line = BatchQueue::new();
        line.free.push(Batch::new(Work::Seal));
        OutgoingRecords { keys, line, sent: 0, unsent: 0 }
    }

    /// Encrypts bytes, sends as much as the socket accepts, and returns how many bytes were taken.
    pub fn writev(&mut self, sock: &Sock, iov: &Iov<'_>) -> Result<usize, Broken> {
        let mut taken = 0;
        let mut pieces = Pieces::new(iov);
        loop {
            self.flush(sock)?;
            let is_handed_over = self.hands_over(&pieces);
            // Without workers, more than one batch gains nothing.
            if pieces.left() == 0 || self.line.len() >= if is_handed_over { DEPTH } else { 1 } {
                return Ok(taken);
            }
            let mut batch = self.line.free.pop().unwrap_or_else(|| Batch::new(Work::Seal));
            taken += batch.fill(&mut pieces, |len| self.keys.send(len), !is_handed_over);
            self.unsent += batch.filled;
            if is_handed_over {
                self.line.hand_over(batch);
            } else {
                self.line.push(batch);
            }
        }
    }

    /// Returns whether workers should encrypt the next pieces: if there is more than is sent at
    /// once, or if the pieces have to wait for earlier batches anyway. A single large I/O completes
    /// sooner if this thread encrypts it.
    fn hands_over(&self, pieces: &Pieces<'_, '_>) -> bool {
        let least = if self.line.is_empty() { AT_ONCE + 1 } else { HAND_OVER };
        pieces.left() >= least && has_workers()
    }

    /// Sends finished batches in order, as much as the socket accepts.
    fn flush(&mut self, sock: &Sock) -> Result<(), Broken> {
        while let Some(batch) = self.line.front() {
            let mut iov = Iov::new();
            iov.push(&batch.buffer[self.sent..batch.filled]);
            let sent = sock.writev(&iov).map_err(Broken::Socket)?.unwrap_or(0);
            if sent == 0 {
                return Ok(());
            }
            self.sent += sent;
            self.unsent -= sent;
            if self.sent == batch.filled {
                self.sent = 0;
                self.line.pop();
            }
        }
        Ok(())
    }
}

/// Records received from the socket.
pub struct IncomingRecords {
    keys: Keys,
    buffer: Box<[u8]>,
    /// The part of the buffer that is not decrypted yet.
    sealed: std::ops::Range<usize>,
    /// The part of the buffer that is decrypted and not taken yet. It precedes `sealed`.
    opened: std::ops::Range<usize>,
    /// The batches that were received before the contents of the buffer.
    line: BatchQueue,
    /// The system calls left in this turn.
    calls: usize,
    /// The records that may still be decrypted in this turn.
    records: usize,
    /// How many of this turn's receives have filled the buffer, and whether there was any receive.
    fills: u32,
    has_received: bool,
    /// Whether so much is coming in that workers are worth using.
    is_deep: bool,
    /// Whether the peer has closed.
    has_ended: bool,
}

impl IncomingRecords {
    pub fn new(keys: Keys) -> IncomingRecords {
        let buffer = vec![0; BUFFER].into();
        IncomingRecords {
            keys,
            buffer,
            sealed: 0..0,
            opened: 0..0,
            line: BatchQueue::new(),
            calls: 0,
            records: 0,
            fills: 0,
            has_received: false,
            is_deep: false,
            has_ended: false,
        }
    }

    /// Begins a turn of at most `calls` system calls.
    pub fn begin_turn(&mut self, calls: usize) {
        self.calls = calls;
        self.records = RECORDS_A_TURN;
        self.is_deep &= self.fills > 0 || !self.has_received;
        (self.fills, self.has_received) = (0, false);
    }

    /// Returns the header of the next record, if the whole record is there.
    fn next(&self) -> Result<Option<RecordHeader>, Broken> {
        self.record_at(self.sealed.start)
    }

    fn record_at(&self, start: usize) -> Result<Option<RecordHeader>, Broken> {
        let sealed = &self.buffer[start..self.sealed.end];
        let Some(&bytes) = sealed.first_chunk::<RECORD_HEADER_LEN>() else { return Ok(None) };
        let header = RecordHeader::decode(bytes)?;
        Ok((sealed.len() >= header.record_len()).then_some(header))
    }

    /// Returns whether bytes can be read without receiving any.
    pub fn holds_bytes(&self) -> bool {
        // An invalid record has to be read, too, so that the error is reported.
        let may_open = self.line.is_empty() && self.records > 0;
        !self.opened.is_empty() || may_open && !matches!(self.next(), Ok(None))
    }

    /// Returns whether workers have records, or records are left over from a turn that reached its
    /// limit.
    pub fn is_with_workers(&self) -> bool {
        !self.line.is_empty() || self.records == 0 && !matches!(self.next(), Ok(None))
    }

    /// Reads into the pieces of `iov`.
    pub fn readv(&mut self, sock: &Sock, iov: &mut IovMut<'_>) -> Result<Option<usize>, Broken> {
        self.read(|buffer| sock.recv(buffer), iov)
    }

    fn read(
        &mut self,
        mut recv: impl FnMut(&mut [u8]) -> spdk::Result<Option<usize>>,
        iov: &mut IovMut<'_>,
    ) -> Result<Option<usize>, Broken> {
        let (mut index, mut at, mut got) = (0, 0, 0);
        while let Some(room) = iov.slice_mut(index) {
            let room = &mut room[at..];
            let len = if !self.line.is_empty() {
                self.take_first(room)?
            } else if !self.opened.is_empty() {
                self.take_opened(room)
            } else if let Some(header) = self.next()? {
                if self.records == 0 {
                    break;
                }
                if self.is_deep && has_workers() && self.hand_over()? {
                    continue;
                }
                self.open(header, room)?
            } else {
                0
            };
            got += len;
            at += len;
            if len == room.len() {
                index += 1;
                at = 0;
            }
            if len == 0 && !self.more(&mut recv)? {
                break;
            }
        }
        Ok(if got == 0 && self.has_ended && self.line.is_empty() {
            Some(0)
        } else {
            (got > 0).then_some(got)
        })
    }

    /// Takes bytes from the first batch of the line, if its records are decrypted. Returns how
    /// many.
    fn take_first(&mut self, room: &mut [u8]) -> Result<usize, Broken> {
        let Some(batch) = self.line.front() else { return Ok(0) };
        if let Some(error) = batch.error {
            return Err(error.into());
        }
        let len = batch.take(room);
        if batch.is_used_up() {
            self.line.pop();
        }
        Ok(len)
    }

    fn take_opened(&mut self, room: &mut [u8]) -> usize {
        let len = room.len().min(self.opened.len());
        let from = self.opened.start;
        room[..len].copy_from_slice(&self.buffer[from..from + len]);
        self.opened.start += len;
        len
    }

    /// Decrypts the next record, straight into `room` if all of it fits. Returns how many bytes are
    /// in `room`.
    fn open(&mut self, header: RecordHeader, room: &mut [u8]) -> Result<usize, Broken> {
        let record = self.sealed.start..self.sealed.start + header.record_len();
        let ticket = self.keys.receive(header)?;
        self.records -= 1;
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

    /// Hands the received records over to workers, if they are worth it. Returns whether it did.
    /// Nothing else in the buffer may be in use.
    fn hand_over(&mut self) -> Result<bool, Broken> {
        let (mut end, mut records) = (self.sealed.start, 0);

        while records < RECORDS_MAX.min(self.records)
            && let Some(header) = self.record_at(end)?
        {
            end += header.record_len();
            records += 1;
        }
        if end - self.sealed.start < HAND_OVER || self.line.len() >= DEPTH {
            return Ok(false);
        }
        self.records -= records;
        let mut batch = self.line.free.pop().unwrap_or_else(|| Batch::new(Work::Open));
        std::mem::swap(&mut batch.buffer, &mut self.buffer);
        batch.begin_at(self.sealed.start);
        while batch.filled < end {
            let bytes = *batch.buffer[batch.filled..].first_chunk().expect("it was looked at");
            batch.add(self.keys.receive(RecordHeader::decode(bytes)?)?);
        }
        let rest = &batch.buffer[end..self.sealed.end];
        self.buffer[..rest.len()].copy_from_slice(rest);
        self.sealed = 0..rest.len();
        self.line.hand_over(batch);
        Ok(true)
    }

    /// Receives more, because nothing can be read from what is there. Returns whether reading again
    /// may succeed.
    fn more(
        &mut self,
        recv: &mut impl FnMut(&mut [u8]) -> spdk::Result<Option<usize>>,
    ) -> Result<bool, Broken> {
        if self.calls == 0 || self.line.len() >= DEPTH {
            return Ok(false);
        }
        if self.sealed.start > 0 {
            self.buffer.copy_within(self.sealed.clone(), 0);
            self.sealed = 0..self.sealed.len();
        }
        if self.sealed.end == self.buffer.len() {
            return Ok(false);
        }
        self.calls -= 1;
        match recv(&mut self.buffer[self.sealed.end..]).map_err(Broken::Socket)? {
            None => Ok(false),
            Some(0) => {
                self.has_ended = true;
                Ok(false)
            }
            Some(got) => {
                self.sealed.end += got;
                self.has_received = true;
                self.fills += u32::from(self.sealed.end == self.buffer.len());
                self.is_deep |= self.fills >= FILLS_MIN;
                if !self.line.is_empty() && has_workers() {
                    self.hand_over()?;
                }
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dst_security::{Initiator, accept, psk};
    use dst_wire::Cipher;
    use dst_wire::secure::{Offer, Secure};

    /// Returns the keys with which a client sends and its target receives.
    fn keys() -> (Keys, Keys) {
        let psks = psk::parse(format!("DST-PSK-1\n{}\n", "5a".repeat(32)).as_bytes()).unwrap();
        let ciphers = vec![Cipher::Aes128Gcm as u8];
        let offer = Offer { versions: (1, 1), export: "disk".into(), host: "me".into(), ciphers };
        let (initiator, message) = Initiator::begin(&psks[0], &offer, &[1; 32]);
        let (answer, target) = accept(&psks, &Secure::decode(&message).unwrap(), &[2; 32]).unwrap();
        (initiator.finish(&answer).unwrap().send, target.receive)
    }

    /// Returns a record of one byte for each byte of `data`.
    fn seal(keys: &mut Keys, data: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        for &byte in data {
            let mut record = [0; 1 + RECORD_HEADER_LEN + 16];
            record[RECORD_HEADER_LEN] = byte;
            keys.send(1).seal(&mut record);
            sealed.extend_from_slice(&record);
        }
        sealed
    }

    #[test]
    fn many_small_records_take_several_turns_and_none_is_forgotten() {
        let (mut client, target) = keys();
        let data: Vec<u8> = (0..2 * RECORDS_A_TURN + 100).map(|i| i as u8).collect();
        let sealed = seal(&mut client, &data);
        let mut incoming = IncomingRecords::new(target);
        // A socket that has all the records at once and reports nothing afterwards.
        let mut at = 0;
        let mut recv = |buffer: &mut [u8]| {
            let len = buffer.len().min(sealed.len() - at);
            buffer[..len].copy_from_slice(&sealed[at..at + len]);
            at += len;
            Ok((len > 0).then_some(len))
        };
        let (mut received, mut turns) = (Vec::new(), 0);
        loop {
            incoming.begin_turn(8);
            turns += 1;
            let before = received.len();
            // Like a receiver, for whose frames one read may be too little.
            loop {
                let mut buffer = [0; 1000];
                let mut iov = IovMut::new();
                iov.push(&mut buffer);
                let got = incoming.read(&mut recv, &mut iov).unwrap();
                received.extend_from_slice(&buffer[..got.unwrap_or(0)]);
                if got.is_none() && !incoming.holds_bytes() {
                    break;
                }
            }
            assert!(received.len() - before <= RECORDS_A_TURN, "{} in one turn", received.len() - before);
            if !incoming.is_with_workers() {
                break;
            }
        }
        assert!(received == data, "{} of {} bytes", received.len(), data.len());
        assert_eq!(turns, data.len().div_ceil(RECORDS_A_TURN));
    }
}
