//! The I/O of a mirror's users: what the rules have, and what waits until they can take it.

use std::collections::VecDeque;

use dst_mirror::IoId;
use spdk::bdev::IoStatus;
use spdk::forwarded_io::{ForwardedIo, ForwardedIoQueue};

/// The I/O of a mirror's users.
pub struct Users {
    /// The I/O that the rules have, by its number.
    slots: Vec<Option<ForwardedIo>>,
    free: Vec<u32>,
    /// I/O that waits for a number, in the order in which it arrived.
    waiting: ForwardedIoQueue,
    /// Resets that wait until no other I/O is left.
    resets: ForwardedIoQueue,
    /// I/O that has ended, and that SPDK had no message for.
    unsent: VecDeque<(ForwardedIo, IoStatus)>,
}

impl Users {
    /// Creates room for as many I/Os at once.
    pub fn new(max: u32) -> Users {
        Users {
            slots: (0..max).map(|_| None).collect(),
            free: (0..max).rev().collect(),
            waiting: ForwardedIoQueue::new(),
            resets: ForwardedIoQueue::new(),
            unsent: VecDeque::with_capacity(max as usize),
        }
    }

    /// Takes an I/O, unless others have to be taken first or all numbers are taken: then it waits. HOT.
    pub fn take(&mut self, io: ForwardedIo) -> Option<IoId> {
        if !self.waiting.is_empty() || self.free.is_empty() {
            self.waiting.push_back(io);
            return None;
        }
        self.number(io)
    }

    /// Takes the next I/O that waits, if there is a number. HOT.
    pub fn next(&mut self) -> Option<IoId> {
        if self.free.is_empty() {
            return None;
        }
        let io = self.waiting.pop_front()?;
        self.number(io)
    }

    fn number(&mut self, io: ForwardedIo) -> Option<IoId> {
        let number = self.free.pop()?;
        self.slots[number as usize] = Some(io);
        Some(IoId(number))
    }

    /// Returns an I/O that the rules have. HOT.
    pub fn get(&mut self, io: IoId) -> Option<&mut ForwardedIo> {
        self.slots.get_mut(io.0 as usize)?.as_mut()
    }

    /// Removes an I/O that the rules are done with. HOT.
    pub fn remove(&mut self, io: IoId) -> Option<ForwardedIo> {
        let ended = self.slots.get_mut(io.0 as usize)?.take()?;
        self.free.push(io.0);
        Some(ended)
    }

    /// Removes an I/O that waits.
    pub fn remove_waiting(&mut self) -> Option<ForwardedIo> {
        self.waiting.pop_front()
    }

    /// Takes a reset, which ends when no other I/O is left.
    pub fn add_reset(&mut self, io: ForwardedIo) {
        self.resets.push_back(io);
    }

    /// Returns a reset that ends now.
    pub fn ended_reset(&mut self) -> Option<ForwardedIo> {
        if self.is_idle() { self.resets.pop_front() } else { None }
    }

    /// Returns whether no I/O is there but resets. HOT.
    pub fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len() && self.waiting.is_empty()
    }

    /// Returns how many I/Os the rules have, and how many wait for that.
    pub fn counts(&self) -> (usize, usize) {
        (self.slots.len() - self.free.len(), self.waiting.len())
    }

    /// Keeps an I/O that could not be sent back.
    #[cold]
    pub fn keep_unsent(&mut self, io: ForwardedIo, status: IoStatus) {
        self.unsent.push_back((io, status));
    }

    /// Returns the next I/O that could not be sent back.
    pub fn pop_unsent(&mut self) -> Option<(ForwardedIo, IoStatus)> {
        self.unsent.pop_front()
    }
}
