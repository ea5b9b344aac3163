//! Whole frames that are to be sent: answers, and those that waited or still wait for a
//! neighbour's address. All buffers are allocated at the beginning.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{EthernetAddress as MacAddress, EthernetFrame};

use crate::config::Config;

/// What a frame counts as, until it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Answer,
    Waited,
}

#[derive(Debug)]
struct Ready {
    slot: usize,
    len: usize,
    kind: Kind,
}

#[derive(Debug)]
struct Waiting {
    slot: usize,
    len: usize,
    next_hop: IpAddr,
    /// The connection that it belongs to.
    ends: (SocketAddr, SocketAddr),
}

/// Frames that are to be sent.
#[derive(Debug)]
pub(crate) struct Outbox {
    buffers: Vec<Box<[u8]>>,
    free: Vec<usize>,
    ready: VecDeque<Ready>,
    waiting: VecDeque<Waiting>,
    /// Answers among those that are ready.
    answers: usize,
    max_answers: usize,
    max_waiting: usize,
    max_waiting_each: usize,
}

impl Outbox {
    /// Returns an empty outbox for frames of up to so many bytes.
    pub fn new(longest: usize, config: &Config) -> Outbox {
        let slots = config.max_answers + config.max_waiting;
        Outbox {
            buffers: (0..slots).map(|_| vec![0; longest].into_boxed_slice()).collect(),
            free: (0..slots).collect(),
            ready: VecDeque::with_capacity(slots),
            waiting: VecDeque::with_capacity(config.max_waiting),
            answers: 0,
            max_answers: config.max_answers,
            max_waiting: config.max_waiting,
            max_waiting_each: config.max_waiting_each,
        }
    }

    /// Returns the length of the longest frame that fits.
    pub fn longest(&self) -> usize {
        self.buffers.first().map_or(0, |buffer| buffer.len())
    }

    /// Returns whether no frame can be sent.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Adds an answer of `len` bytes, which `write` writes. Returns false if there are too many.
    pub fn answer(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> bool {
        if self.answers >= self.max_answers || len > self.longest() {
            return false;
        }
        let Some(slot) = self.free.pop() else { return false };
        write(&mut self.buffers[slot][..len]);
        self.answers += 1;
        self.ready.push_back(Ready { slot, len, kind: Kind::Answer });
        true
    }

    /// Returns how many frames waited or wait for neighbours.
    fn waited(&self) -> usize {
        self.waiting.len() + self.ready.len() - self.answers
    }

    /// Adds a frame that waits for the address of its next hop. The oldest frame for the same one
    /// is dropped if there are too many. Returns false if the new one is dropped, because there are
    /// too many for all together.
    pub fn wait(
        &mut self,
        next_hop: IpAddr,
        ends: (SocketAddr, SocketAddr),
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> bool {
        let is_for = |waiting: &&Waiting| waiting.next_hop == next_hop;
        if self.waiting.iter().filter(is_for).count() >= self.max_waiting_each
            && let Some(oldest) = self.waiting.iter().position(|waiting| waiting.next_hop == next_hop)
            && let Some(oldest) = self.waiting.remove(oldest)
        {
            self.free.push(oldest.slot);
        }
        if self.waited() >= self.max_waiting {
            return false;
        }
        let Some(slot) = self.free.pop() else { return false };
        write(&mut self.buffers[slot][..len]);
        self.waiting.push_back(Waiting { slot, len, next_hop, ends });
        true
    }

    /// Takes the link-layer address of a next hop: what has waited for it can be sent.
    pub fn resolved(&mut self, next_hop: IpAddr, mac: MacAddress) {
        while let Some(waiting) = self.take(next_hop) {
            EthernetFrame::new_unchecked(&mut self.buffers[waiting.slot][..waiting.len]).set_dst_addr(mac);
            self.ready.push_back(Ready { slot: waiting.slot, len: waiting.len, kind: Kind::Waited });
        }
    }

    /// Drops a frame whose next hop does not answer. Returns the connection that it belongs to.
    pub fn failed(&mut self, next_hop: IpAddr) -> Option<(SocketAddr, SocketAddr)> {
        let waiting = self.take(next_hop)?;
        self.free.push(waiting.slot);
        Some(waiting.ends)
    }

    /// Takes out the oldest frame that waits for a next hop.
    fn take(&mut self, next_hop: IpAddr) -> Option<Waiting> {
        let oldest = self.waiting.iter().position(|waiting| waiting.next_hop == next_hop)?;
        self.waiting.remove(oldest)
    }

    /// Hands the next frame to `sink`. Returns its length.
    pub fn send(&mut self, sink: impl FnOnce(&[u8])) -> Option<usize> {
        let Ready { slot, len, kind } = self.ready.pop_front()?;
        sink(&self.buffers[slot][..len]);
        self.free.push(slot);
        self.answers -= usize::from(kind == Kind::Answer);
        Some(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        let config = Config {
            max_answers: 2,
            max_waiting: 4,
            max_waiting_each: 3,
            ..Config::new(MacAddress([2; 6]), Vec::new())
        };
        Outbox::new(64, &config)
    }

    fn hop(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn ends(port: u16) -> (SocketAddr, SocketAddr) {
        (SocketAddr::new(hop(1), port), SocketAddr::new(hop(2), 1))
    }

    fn wait(outbox: &mut Outbox, next_hop: IpAddr, number: u8) -> bool {
        outbox.wait(next_hop, ends(number.into()), 20, |buffer| buffer[19] = number)
    }

    fn sent(outbox: &mut Outbox) -> Vec<u8> {
        let mut sent = Vec::new();
        while outbox.send(|frame| sent.push(frame[19])).is_some() {}
        sent
    }

    #[test]
    fn both_kinds_have_room_of_their_own() {
        let mut outbox = outbox();
        for number in 0..5 {
            assert_eq!(wait(&mut outbox, hop(number), number), number < 4);
        }
        assert!(outbox.answer(20, |buffer| buffer[19] = 8) && outbox.answer(20, |buffer| buffer[19] = 9));
        assert!(!outbox.answer(20, |_| panic!("there is no room")));
        (0..4).for_each(|number| outbox.resolved(hop(number), MacAddress([3; 6])));
        assert!(!wait(&mut outbox, hop(0), 0), "those that are ready count until they are sent");
        assert_eq!(sent(&mut outbox), [8, 9, 0, 1, 2, 3]);
        assert!(wait(&mut outbox, hop(0), 0));
    }

    #[test]
    fn frames_wait_in_order_and_the_oldest_goes() {
        let mut outbox = outbox();
        (0..5).for_each(|number| assert!(wait(&mut outbox, hop(1), number)));
        assert!(outbox.is_empty());
        outbox.resolved(hop(2), MacAddress([3; 6]));
        assert!(outbox.is_empty());
        outbox.resolved(hop(1), MacAddress([3; 6]));
        assert_eq!(sent(&mut outbox), [2, 3, 4]);
        (0..2).for_each(|number| assert!(wait(&mut outbox, hop(1), number)));
        assert_eq!(outbox.failed(hop(1)), Some(ends(0)));
        assert_eq!(outbox.failed(hop(1)), Some(ends(1)));
        assert_eq!(outbox.failed(hop(1)), None);
        assert_eq!(outbox.free.len(), outbox.buffers.len());
    }
}
