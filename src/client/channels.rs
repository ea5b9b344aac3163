//! A bdev's channels on all threads, and the state that each channel publishes to other threads.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dst_session::counts::Counts;
use dst_session::durability::{Durability, Written};

use crate::address::Address;
use crate::counters::Counters;

/// Returns the data of a lock, which is valid even if a thread panicked while it held the lock.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state that one channel publishes to other threads. Only the channel's thread writes it.
#[derive(Debug, Default)]
pub struct Standing {
    /// The channel's counters.
    pub counters: Counters,
    /// The channel's newest completed write. Read by the control thread when the target was
    /// restarted; [`Durability`] documents the ordering.
    pub written: Written,
    /// The newest change of the session at which the channel had no connection: it has left all
    /// sessions before that change. Read by channels that want to fail I/O that they sent in such a
    /// session. `Release` and `Acquire`: a thread that reads the number runs after the channel has
    /// closed its connection.
    left: AtomicU64,
    /// The newest reset of the bdev for which the channel has ended all its earlier I/O. Read by
    /// channels that want to complete a reset. `Release` and `Acquire`: a thread that reads the
    /// number runs after the completions of that I/O.
    joined_reset: AtomicU64,
    /// Whether the channel has I/O that has to fail although the backend may have it, so that the
    /// present session has to be given up. Read by the control thread, and cleared by a channel that
    /// joins the session, under the lock of the session: `Relaxed`.
    asks_to_give_up: AtomicBool,
    /// The address of the channel's connection, or `None` without a connection. Read by the control
    /// thread for RPCs. The lock is taken when a connection is made or lost.
    at: Mutex<Option<Address>>,
}

impl Standing {
    /// Publishes the address of the channel's connection, or `None` if it has none.
    pub fn set_address(&self, at: Option<Address>) {
        *lock(&self.at) = at;
    }

    /// Returns true if the channel has a connection to this address.
    pub fn is_at(&self, address: &Address) -> bool {
        lock(&self.at).as_ref() == Some(address)
    }

    /// Publishes that the channel has no connection after `change` changes of the session.
    pub fn leave(&self, change: u64) {
        self.left.store(change, Release);
    }

    /// Returns true if the channel has left the sessions before `change`.
    pub fn has_left(&self, change: u64) -> bool {
        self.left.load(Acquire) >= change
    }

    /// Publishes whether the present session has to be given up for the channel.
    pub fn ask_to_give_up(&self, asks: bool) {
        self.asks_to_give_up.store(asks, Relaxed);
    }

    /// Returns true if the present session has to be given up for the channel.
    pub fn asks_to_give_up(&self) -> bool {
        self.asks_to_give_up.load(Relaxed)
    }

    /// Publishes that the channel has ended all I/O that came before this reset.
    pub fn join_reset(&self, reset: u64) {
        self.joined_reset.store(reset, Release);
    }

    /// Returns the newest reset that the channel has joined.
    pub fn joined_reset(&self) -> u64 {
        self.joined_reset.load(Acquire)
    }
}

/// The channels of a bdev. The lock is taken when a channel is opened or closed, and on the control
/// path; never on the I/O path.
#[derive(Debug, Default)]
pub struct Channels {
    all: Mutex<All>,
    /// The number of channels. Written under the lock, read by the control thread, which only shows
    /// the number: `Relaxed`.
    count: AtomicUsize,
    /// The number of channels with a connection. Written by each channel's thread, read by the
    /// control thread. `Release` and `Acquire`: a thread that reads 0 also sees the
    /// [`Channels::leases_over_us`] of all lost connections.
    connected: AtomicUsize,
    /// The time at which the last lease of the channels' lost connections ends, µs. Raised by each
    /// channel's thread before `connected` falls, read by the control thread after it has read
    /// `connected`, which orders the two.
    leases_over_us: AtomicU64,
    /// The newest write of the closed channels. Written by the threads that close channels, read by
    /// the control thread.
    past_written: Written,
}

#[derive(Debug, Default)]
struct All {
    queues: BTreeSet<u16>,
    last_queue: u16,
    standings: Vec<Arc<Standing>>,
    /// The sum of the counts of closed channels.
    past: Counts,
}

impl Channels {
    /// Adds a channel. Returns the number of its queue, 1 to 65,535, which no other channel has,
    /// and its standing, in which it has joined `resets` resets; or `None` if all numbers are in
    /// use.
    pub fn open(&self, resets: u64) -> Option<(u16, Arc<Standing>)> {
        let all = &mut *lock(&self.all);
        if all.queues.len() >= usize::from(u16::MAX) {
            return None;
        }
        // Numbers are used in turn: the target may not have heard yet that the last channel with a
        // lower number is closed.
        loop {
            all.last_queue = all.last_queue.checked_add(1).unwrap_or(1);
            if all.queues.insert(all.last_queue) {
                break;
            }
        }
        let standing = Arc::new(Standing::default());
        standing.join_reset(resets);
        all.standings.push(Arc::clone(&standing));
        self.count.fetch_add(1, Relaxed);
        Some((all.last_queue, standing))
    }

    /// Removes a channel, whose I/O has all completed. Its counts stay in the sum.
    pub fn close(&self, queue: u16, gone: &Arc<Standing>) {
        let Standing { counters, written, left: _, joined_reset: _, asks_to_give_up: _, at: _ } = &**gone;
        // These two are not counts since the start, but amounts at this moment.
        counters.outstanding.store(0, Relaxed);
        counters.waiting.store(0, Relaxed);
        let all = &mut *lock(&self.all);
        all.queues.remove(&queue);
        counters.add_to(&mut all.past);
        self.past_written.inherit(written);
        all.standings.retain(|standing| !Arc::ptr_eq(standing, gone));
        self.count.fetch_sub(1, Relaxed);
    }

    /// Returns the standings of all channels.
    pub fn standings(&self) -> Vec<Arc<Standing>> {
        lock(&self.all).standings.clone()
    }

    /// Returns the number of channels.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Counts a channel's new connection.
    pub fn connected(&self) {
        self.connected.fetch_add(1, Release);
    }

    /// Counts the end of a connection that its channel has closed with nothing outstanding.
    pub fn closed_connection(&self) {
        self.connected.fetch_sub(1, Release);
    }

    /// Counts the end of a lost connection. The target may execute requests of it until
    /// `lease_over_us`.
    pub fn lost_connection(&self, lease_over_us: u64) {
        self.leases_over_us.fetch_max(lease_over_us, Release);
        self.connected.fetch_sub(1, Release);
    }

    /// Returns the number of channels that have a connection.
    pub fn connections(&self) -> usize {
        self.connected.load(Acquire)
    }

    /// Returns the time after which the target executes no request sent on a lost connection, or
    /// `None` while a channel has a connection.
    pub fn leases_over_us(&self) -> Option<u64> {
        (self.connections() == 0).then(|| self.leases_over_us.load(Acquire))
    }

    /// Returns the sum of all channels' counters, including closed channels.
    pub fn sum(&self) -> Counts {
        let all = lock(&self.all);
        let mut sum = all.past;
        all.standings.iter().for_each(|standing| standing.counters.add_to(&mut sum));
        sum
    }

    /// Notes that the target was restarted. Returns true if completed writes may be lost.
    pub fn restarted(&self, durability: &Durability) -> bool {
        let all = lock(&self.all);
        let written = all.standings.iter().map(|standing| &standing.written);
        durability.restarted(written.chain([&self.past_written]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_was_just_closed_is_not_the_next_one() {
        let channels = Channels::default();
        let (first, standing) = channels.open(0).unwrap();
        let (second, _) = channels.open(0).unwrap();
        channels.close(first, &standing);
        let (third, _) = channels.open(0).unwrap();
        assert_eq!((first, second, third), (1, 2, 3));
    }

    #[test]
    fn every_queue_number_is_used_once_before_there_is_none() {
        let channels = Channels::default();
        let mut open: Vec<_> = (0..u16::MAX).map(|_| channels.open(0).unwrap()).collect();
        assert!(channels.open(0).is_none() && channels.count() == usize::from(u16::MAX));
        let (queue, standing) = open.swap_remove(77);
        channels.close(queue, &standing);
        assert_eq!(channels.open(0).map(|(again, _)| again), Some(queue));
    }

    #[test]
    fn counts_outlive_their_channel_and_what_is_now_does_not() {
        let channels = Channels::default();
        let (queue, standing) = channels.open(0).unwrap();
        let counters = &standing.counters;
        for (counter, count) in [(&counters.resent, 3), (&counters.outstanding, 2), (&counters.waiting, 1)] {
            Counters::add(counter, count);
        }
        let sums = || {
            let sum = channels.sum();
            [sum.resent, sum.outstanding, sum.waiting]
        };
        assert_eq!(sums(), [3, 2, 1]);
        channels.close(queue, &standing);
        assert_eq!((sums(), channels.standings().len(), channels.count()), ([3, 0, 0], 0, 0));
    }

    #[test]
    fn writes_of_a_channel_that_is_gone_may_be_lost_too() {
        let (channels, durability) = (Channels::default(), Durability::default());
        let (queue, standing) = channels.open(0).unwrap();
        durability.wrote(&standing.written, durability.start());
        channels.close(queue, &standing);
        assert!(channels.restarted(&durability) && !channels.restarted(&durability));
    }

    #[test]
    fn leases_are_over_with_the_last_one_and_only_without_a_connection() {
        let channels = Channels::default();
        assert_eq!(channels.leases_over_us(), Some(0));
        channels.connected();
        channels.connected();
        channels.lost_connection(70);
        assert_eq!(channels.leases_over_us(), None);
        channels.lost_connection(30);
        assert_eq!(channels.leases_over_us(), Some(70));
    }

    #[test]
    fn a_channel_has_joined_the_resets_before_it_was_opened() {
        let (_, standing) = Channels::default().open(5).unwrap();
        assert_eq!(standing.joined_reset(), 5);
        assert!(standing.has_left(0) && !standing.has_left(1));
        standing.leave(2);
        assert!(standing.has_left(1) && standing.has_left(2) && !standing.has_left(3));
    }
}
