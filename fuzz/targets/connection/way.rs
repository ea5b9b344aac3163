//! One direction between the two ends.

use std::collections::VecDeque;
use std::rc::Rc;

use spdk::iov::Iov;
use spdk::sock::Sock;

/// The bits of a record's first word that hold the length of its data.
const RECORD_LEN: u32 = (1 << 31) - 1;

/// The number of bytes that a record adds to its data.
const RECORD_OVERHEAD: usize = 20;

/// The size of a frame's header, in which the length of the data is at offset 4.
const HEADER: usize = 48;

/// One direction of a connection.
pub struct Way {
    from: Rc<Sock>,
    to: Rc<Sock>,
    /// The received part of an incomplete frame or record.
    part: Vec<u8>,
    /// Whether the one frame in clear was received.
    is_sealed: bool,
    /// The pieces to be forwarded, one for each frame or record unless the attacker changed them.
    /// None is empty.
    pub queue: VecDeque<Vec<u8>>,
    /// Everything that was received.
    pub heard: Vec<Vec<u8>>,
    /// The number of forwarded bytes.
    pub forwarded: usize,
}

impl Way {
    pub fn new(from: Rc<Sock>, to: Rc<Sock>) -> Way {
        let (part, queue) = (Vec::new(), VecDeque::new());
        Way { from, to, part, is_sealed: false, queue, heard: Vec::new(), forwarded: 0 }
    }

    /// Receives what has come.
    pub fn hear(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(Some(got @ 1..)) = self.from.recv(&mut buffer) {
            self.part.extend_from_slice(&buffer[..got]);
        }
        while let Some(len) = self.next().filter(|&len| len <= self.part.len()) {
            let rest = self.part.split_off(len);
            let one = std::mem::replace(&mut self.part, rest);
            self.heard.push(one.clone());
            self.queue.push_back(one);
            self.is_sealed = true;
        }
    }

    /// Returns the length of the next frame or record.
    fn next(&self) -> Option<usize> {
        let word = |at: usize| Some(u32::from_le_bytes(*self.part.get(at..)?.first_chunk()?));
        if self.is_sealed {
            Some((word(0)? & RECORD_LEN) as usize + RECORD_OVERHEAD)
        } else {
            Some(word(4)? as usize + HEADER)
        }
    }

    /// Splits a piece in two.
    pub fn split(&mut self, which: usize, at: usize) {
        if let Some(one) = self.queue.get_mut(which)
            && (1..one.len()).contains(&at)
        {
            let rest = one.split_off(at);
            self.queue.insert(which + 1, rest);
        }
    }

    /// Forwards as much of the first piece as the socket accepts.
    pub fn forward_one(&mut self) {
        let Some(first) = self.queue.front_mut() else { return };
        let mut iov = Iov::new();
        iov.push(first);
        // A piece for a closed socket is dropped.
        let taken = match self.to.writev(&iov) {
            Ok(taken) => taken.unwrap_or(0),
            Err(_) => first.len(),
        };
        self.forwarded += taken;
        first.drain(..taken);
        if first.is_empty() {
            self.queue.pop_front();
        }
    }

    /// Forwards as much as the socket accepts.
    pub fn forward(&mut self) {
        let mut before = usize::MAX;
        while self.forwarded != before {
            before = self.forwarded;
            self.forward_one();
        }
    }
}
