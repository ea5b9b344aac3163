//! The I/O of a mirror's users: what the rules have, and what waits until they can take it.

use std::collections::VecDeque;

use dst_mirror::IoId;
use dst_session::histogram::Histogram;
use spdk::bdev::IoStatus;
use spdk::bdev_io::IoKind;
use spdk::forwarded_io::{ForwardedIo, ForwardedIoQueue};

/// How long resets have waited for the I/O under way.
#[derive(Debug, PartialEq, Eq)]
enum Patience {
    /// No reset waits.
    NotNeeded,
    /// Resets have waited since this time, in µs.
    Since(u64),
    /// Resets have waited too long, and that was reported.
    Lost,
}

impl Patience {
    fn begin(&mut self, now: u64) {
        if *self == Patience::NotNeeded {
            *self = Patience::Since(now);
        }
    }

    fn ends(&mut self, now: u64, limit_us: u64) -> bool {
        match *self {
            Patience::Since(since) if now.saturating_sub(since) >= limit_us => {
                *self = Patience::Lost;
                true
            }
            _ => false,
        }
    }
}

/// How long users' I/O took from its arrival on the mirror's thread, µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// Reads.
    pub reads: Histogram,
    /// Writes.
    pub writes: Histogram,
    /// Everything else, except for resets.
    pub others: Histogram,
}

impl Latency {
    /// HOT.
    fn record(&mut self, kind: IoKind, latency_us: u64) {
        let histogram = match kind {
            IoKind::Read => &mut self.reads,
            IoKind::Write => &mut self.writes,
            _ => &mut self.others,
        };
        histogram.record(latency_us);
    }
}

/// The I/O of a mirror's users. Its stamps are the times of its arrival, µs.
pub struct Users {
    /// The I/O that the rules have, by its number.
    slots: Vec<Option<ForwardedIo>>,
    free: Vec<u32>,
    /// For each of them, the blocks that are zeroed after those that the rules have; 0 for all other I/O.
    left: Vec<u64>,
    /// I/O that waits for a number, in the order in which it arrived.
    waiting: ForwardedIoQueue,
    /// Resets that wait until no other I/O is left.
    resets: ForwardedIoQueue,
    patience: Patience,
    /// I/O that has ended, but waits because SPDK was short of messages.
    unsent: VecDeque<(ForwardedIo, IoStatus)>,
    latency: Latency,
}

impl Users {
    /// Creates room for as many I/Os at once.
    pub fn new(max: u32) -> Users {
        Users {
            slots: (0..max).map(|_| None).collect(),
            free: (0..max).rev().collect(),
            left: vec![0; max as usize],
            waiting: ForwardedIoQueue::new(),
            resets: ForwardedIoQueue::new(),
            patience: Patience::NotNeeded,
            unsent: VecDeque::with_capacity(max as usize),
            latency: Latency::default(),
        }
    }

    /// Takes an I/O, or lets it wait if others have to be taken first or all numbers are in use.
    /// HOT.
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
        self.left[number as usize] = 0;
        self.slots[number as usize] = Some(io);
        Some(IoId(number))
    }

    /// Returns an I/O that the rules have. HOT.
    pub fn get(&mut self, io: IoId) -> Option<&mut ForwardedIo> {
        self.slots.get_mut(io.0 as usize)?.as_mut()
    }

    /// Notes how many blocks of an I/O are zeroed later. It is 0 when the I/O gets its number.
    pub fn set_left(&mut self, io: IoId, left: u64) {
        self.left[io.0 as usize] = left;
    }

    /// Returns how many blocks of an I/O are zeroed later. HOT.
    pub fn left(&self, io: IoId) -> u64 {
        self.left[io.0 as usize]
    }

    /// Returns whether a reset waits.
    pub fn has_resets(&self) -> bool {
        !self.resets.is_empty()
    }

    /// Removes an I/O that the rules are done with. HOT.
    pub fn remove(&mut self, io: IoId) -> Option<ForwardedIo> {
        let ended = self.slots.get_mut(io.0 as usize)?.take()?;
        self.free.push(io.0);
        Some(ended)
    }

    /// Counts how long an I/O took that was removed. HOT.
    pub fn took(&mut self, ended: &ForwardedIo, now: u64) {
        self.latency.record(ended.kind(), now.saturating_sub(ended.stamp()));
    }

    /// Returns how long the I/O took that has ended.
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// Removes an I/O that waits.
    pub fn remove_waiting(&mut self) -> Option<ForwardedIo> {
        self.waiting.pop_front()
    }

    /// Takes a reset, which ends when no other I/O is left.
    pub fn add_reset(&mut self, io: ForwardedIo, now: u64) {
        self.resets.push_back(io);
        self.patience.begin(now);
    }

    /// Returns a reset that ends now.
    pub fn ended_reset(&mut self) -> Option<ForwardedIo> {
        if !self.is_idle() {
            return None;
        }
        let reset = self.resets.pop_front()?;
        if self.resets.is_empty() {
            self.patience = Patience::NotNeeded;
        }
        Some(reset)
    }

    /// Returns true, once, when a reset has waited for this time, in µs.
    pub fn is_reset_late(&mut self, now: u64, limit_us: u64) -> bool {
        self.patience.ends(now, limit_us)
    }

    /// Returns whether no I/O is there but resets. HOT.
    pub fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len() && self.waiting.is_empty()
    }

    /// Returns the number of I/Os that the rules have, and of those that wait for a number.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_told_apart_by_kind() {
        let mut latency = Latency::default();
        let kinds =
            [IoKind::Read, IoKind::Write, IoKind::Write, IoKind::Flush, IoKind::WriteZeroes, IoKind::Unmap];
        kinds.into_iter().for_each(|kind| latency.record(kind, 3));
        let counts =
            [latency.reads, latency.writes, latency.others].map(|of| of.buckets().collect::<Vec<_>>());
        assert_eq!(counts, [[(4, 1)], [(4, 2)], [(4, 3)]]);
    }

    #[test]
    fn patience_ends_once_and_counts_from_the_first_reset() {
        let mut patience = Patience::NotNeeded;
        assert!(!patience.ends(1000, 10));
        patience.begin(1000);
        patience.begin(1009);
        assert!(!patience.ends(1009, 10));
        assert!(patience.ends(1010, 10));
        patience.begin(1011);
        assert!(!patience.ends(2000, 10));
    }
}
