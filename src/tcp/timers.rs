//! When connections have to be looked at again: a heap in which a deadline that moves back costs nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::event::ConnectionId;

/// The deadlines of all connections. One that was replaced by an earlier one is passed over when its time comes.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, ConnectionId)>>,
}

impl Timers {
    /// Looks at the connection at that time, in microseconds.
    pub fn add(&mut self, at: u64, id: ConnectionId) {
        self.heap.push(Reverse((at, id)));
    }

    /// Returns the earliest time.
    pub fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out a connection whose time has come, and that time.
    pub fn due(&mut self, now: u64) -> Option<(u64, ConnectionId)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }
}
