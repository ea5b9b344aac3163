//! What was sent and is not acknowledged: what arrived out of order, and what counts as lost
//! (RFC 2018, RFC 6675's accounting, RFC 8985's order of sending).

use std::collections::VecDeque;

use crate::seq::Seq;

/// The maximum number of segments in flight, which bounds what many small ones cost in memory and
/// time.
pub(crate) const MAX_SEGMENTS: usize = 65_536;

/// What is known about a segment that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    InFlight,
    /// The peer has it, out of order.
    Sacked,
    /// Considered lost, and not sent again yet.
    Lost,
}

/// A segment that was sent, as it was sent last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub start: Seq,
    pub end: Seq,
    /// When, in microseconds.
    pub at: u64,
    /// More than once.
    pub resent: bool,
    fate: Fate,
}

impl Sent {
    fn len(&self) -> u64 {
        self.end - self.start
    }
}

/// One transmission. The segment that it carried may have been sent again since.
#[derive(Debug, Clone, Copy)]
struct Transmission {
    start: Seq,
    end: Seq,
    at: u64,
}

/// What the detection of losses found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Bytes that are considered lost from now on.
    pub bytes: u64,
    /// When the next transmission will be considered lost, if nothing is heard of it.
    pub next_at: Option<u64>,
}

/// Segments in flight, sorted by position.
#[derive(Debug)]
pub(crate) struct Scoreboard {
    sent: VecDeque<Sent>,
    /// Transmissions in the order of sending: RACK's list. Some are outdated; they go when they get
    /// to the front.
    order: VecDeque<Transmission>,
    in_flight: u64,
    lost: u64,
    sacked_segments: usize,
    /// No segment below is lost.
    lost_from: Seq,
    /// The blocks of the last ACK, so that only what is new of the next one's is walked over.
    known: [(Seq, Seq); 3],
}

impl Scoreboard {
    pub fn new(first: Seq) -> Scoreboard {
        Scoreboard {
            sent: VecDeque::new(),
            order: VecDeque::new(),
            in_flight: 0,
            lost: 0,
            sacked_segments: 0,
            lost_from: first,
            known: [(first, first); 3],
        }
    }

    /// Returns whether everything sent was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Returns how many segments are remembered.
    pub fn segments(&self) -> usize {
        self.sent.len()
    }

    /// Returns the bytes that are presumably in the network: RFC 6675's pipe.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Returns the bytes that are lost and not sent again yet.
    #[cfg(test)]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns whether something is lost and not sent again yet.
    pub fn has_lost(&self) -> bool {
        self.lost > 0
    }

    /// Returns how many segments the peer has out of order.
    pub fn sacked_segments(&self) -> usize {
        self.sacked_segments
    }

    /// Returns the length of the first segment; 0 if everything was acknowledged.
    pub fn first_len(&self) -> u64 {
        self.sent.front().map_or(0, Sent::len)
    }

    /// Returns whether the peer once had the first segment, by a SACK block, but does not
    /// acknowledge it.
    pub fn is_first_sacked(&self) -> bool {
        self.sent.front().is_some_and(|first| first.fate == Fate::Sacked)
    }

    /// Returns the last segment, if it is in flight.
    pub fn last_in_flight(&self) -> Option<(Seq, Seq)> {
        self.sent.back().filter(|last| last.fate == Fate::InFlight).map(|last| (last.start, last.end))
    }

    /// Notes a segment that was sent for the first time.
    pub fn sent(&mut self, start: Seq, end: Seq, now: u64) {
        self.sent.push_back(Sent { start, end, at: now, resent: false, fate: Fate::InFlight });
        self.in_flight += end - start;
        self.transmitted(start, end, now);
    }

    fn transmitted(&mut self, start: Seq, end: Seq, at: u64) {
        // Outdated ones behind a front that is still valid: more than there are segments only after
        // many retransmissions.
        if self.order.len() > 2 * self.sent.len() + 64 {
            self.sort_order();
        }
        self.order.push_back(Transmission { start, end, at });
    }

    /// Returns the index of the first segment that ends above `at`.
    fn index(&self, at: Seq) -> usize {
        match self.sent.front() {
            Some(first) if first.end > at => 0,
            _ => self.sent.partition_point(|sent| sent.end <= at),
        }
    }

    /// Cuts the segment in two, `at` being within it.
    fn split(&mut self, index: usize, at: Seq) {
        let mut second = self.sent[index];
        second.start = at;
        self.sent[index].end = at;
        if second.fate == Fate::Sacked {
            self.sacked_segments += 1;
        }
        self.sent.insert(index + 1, second);
    }

    /// Returns whether this position is within a segment that the peer is not known to have.
    fn splits(&self, at: Seq) -> bool {
        self.sent.get(self.index(at)).is_some_and(|sent| sent.start < at && sent.fate != Fate::Sacked)
    }

    /// Takes out what lies below `una`, and calls `delivered` for what had not been known to have
    /// arrived.
    pub fn ack(&mut self, una: Seq, mut delivered: impl FnMut(&Sent)) {
        if self.sent.front().is_some_and(|first| first.start < una) {
            let index = self.index(una);
            if self.sent.get(index).is_some_and(|sent| sent.start < una) {
                self.split(index, una);
            }
        }
        while let Some(sent) = self.sent.pop_front_if(|sent| sent.end <= una) {
            match sent.fate {
                Fate::InFlight => self.in_flight -= sent.len(),
                Fate::Lost => self.lost -= sent.len(),
                Fate::Sacked => {
                    self.sacked_segments -= 1;
                    continue;
                }
            }
            delivered(&sent);
        }
        while self.order.pop_front_if(|transmission| transmission.end <= una).is_some() {}
        self.lost_from = self.lost_from.max(una);
    }

    /// Takes a SACK block within what was sent, and calls `delivered` for what is new in it. With
    /// [`MAX_SEGMENTS`] segments, it ignores a block that would split one.
    pub fn sack(&mut self, block: (Seq, Seq), mut delivered: impl FnMut(&Sent)) {
        let (mut start, mut end) = block;
        for known in self.known {
            if known.0 <= start && start < known.1 {
                start = known.1;
            }
            if known.0 < end && end <= known.1 {
                end = known.0;
            }
        }
        // Only a peer that reports single bytes of segments makes them so many.
        if self.sent.len() >= MAX_SEGMENTS && start < end && (self.splits(start) || self.splits(end)) {
            return;
        }
        let mut index = if start < end { self.index(start) } else { self.sent.len() };
        while let Some(&sent) = self.sent.get(index)
            && sent.start < end
        {
            if sent.fate == Fate::Sacked {
                index += 1;
                continue;
            }
            if sent.start < start {
                self.split(index, start);
                index += 1;
                continue;
            }
            if sent.end > end {
                self.split(index, end);
            }
            let sent = &mut self.sent[index];
            match sent.fate {
                Fate::InFlight => self.in_flight -= sent.len(),
                Fate::Lost => self.lost -= sent.len(),
                Fate::Sacked => {}
            }
            sent.fate = Fate::Sacked;
            self.sacked_segments += 1;
            delivered(sent);
            index += 1;
        }
        if !self.known.contains(&block) {
            self.known.rotate_right(1);
            self.known[0] = block;
        }
    }

    /// Goes through the transmissions in the order of sending. `lost_at` returns when one counts as
    /// lost, or `None` if it was sent after what has arrived, so that nothing can be said yet.
    pub fn detect(&mut self, now: u64, lost_at: impl Fn(u64, Seq) -> Option<u64>) -> Losses {
        let mut losses = Losses::default();
        while let Some(&transmission) = self.order.front() {
            if self.is_outdated(&transmission) {
                self.order.pop_front();
                continue;
            }
            match lost_at(transmission.at, transmission.end) {
                None => break,
                Some(at) if at > now => {
                    losses.next_at = Some(at);
                    break;
                }
                Some(_) => {
                    self.order.pop_front();
                    losses.bytes += self.lose(&transmission);
                }
            }
        }
        losses
    }

    fn is_outdated(&self, transmission: &Transmission) -> bool {
        let segments = self.sent.range(self.index(transmission.start)..);
        !segments
            .take_while(|sent| sent.start < transmission.end)
            .any(|sent| sent.fate == Fate::InFlight && sent.at == transmission.at)
    }

    fn lose(&mut self, transmission: &Transmission) -> u64 {
        let mut bytes = 0;
        let index = self.index(transmission.start);
        for sent in self.sent.range_mut(index..).take_while(|sent| sent.start < transmission.end) {
            if sent.fate == Fate::InFlight && sent.at == transmission.at {
                sent.fate = Fate::Lost;
                bytes += sent.len();
                self.lost_from = self.lost_from.min(sent.start);
            }
        }
        self.in_flight -= bytes;
        self.lost += bytes;
        bytes
    }

    /// Considers segments in flight lost that `is_lost` picks. Returns their bytes.
    pub fn lose_if(&mut self, is_lost: impl Fn(&Sent) -> bool) -> u64 {
        let mut bytes = 0;
        for sent in self.sent.iter_mut().filter(|sent| sent.fate == Fate::InFlight) {
            if is_lost(sent) {
                sent.fate = Fate::Lost;
                bytes += sent.len();
                self.lost_from = self.lost_from.min(sent.start);
            }
        }
        self.in_flight -= bytes;
        self.lost += bytes;
        bytes
    }

    /// Considers the first segment lost if it is in flight, or its first `most` bytes if it is
    /// longer. Returns how many bytes.
    pub fn lose_first(&mut self, most: u64) -> u64 {
        let Some(&Sent { start, end, fate, .. }) = self.sent.front() else { return 0 };
        if fate == Fate::InFlight && end - start > most {
            self.split(0, start + most);
        }
        self.lose_if(|sent| sent.start == start)
    }

    /// The peer has dropped what it had out of order (it may, RFC 2018, 8): all of that is lost.
    pub fn forget_sacks(&mut self) {
        for sent in self.sent.iter_mut().filter(|sent| sent.fate == Fate::Sacked) {
            sent.fate = Fate::Lost;
            self.lost += sent.len();
            self.lost_from = self.lost_from.min(sent.start);
        }
        self.sacked_segments = 0;
        let at = self.sent.front().map_or(self.lost_from, |first| first.start);
        self.known = [(at, at); 3];
    }

    /// What counted as lost and was not sent again yet is in flight after all.
    pub fn spare_lost(&mut self) {
        for sent in self.sent.iter_mut().filter(|sent| sent.fate == Fate::Lost) {
            sent.fate = Fate::InFlight;
        }
        self.in_flight += self.lost;
        self.lost = 0;
        self.sort_order();
    }

    /// Makes the list of transmissions anew.
    fn sort_order(&mut self) {
        self.order.clear();
        let in_flight = self.sent.iter().filter(|sent| sent.fate == Fate::InFlight);
        self.order.extend(in_flight.map(|s| Transmission { start: s.start, end: s.end, at: s.at }));
        self.order.make_contiguous().sort_by_key(|transmission| transmission.at);
    }

    /// Returns the first segment that is lost and not sent again yet.
    pub fn next_lost(&mut self) -> Option<(Seq, Seq)> {
        if self.lost == 0 {
            return None;
        }
        let index = self.index(self.lost_from);
        let found = self.sent.range(index..).find(|sent| sent.fate == Fate::Lost)?;
        self.lost_from = found.start;
        Some((found.start, found.end))
    }

    /// Notes that the bytes from `start` to `end`, all within one segment, were sent again.
    pub fn resent(&mut self, start: Seq, end: Seq, now: u64) {
        let mut index = self.index(start);
        if self.sent[index].start < start {
            self.split(index, start);
            index += 1;
        }
        if self.sent[index].end > end {
            self.split(index, end);
        }
        let sent = &mut self.sent[index];
        if sent.fate == Fate::Lost {
            self.lost -= sent.len();
            self.in_flight += sent.len();
        }
        (sent.fate, sent.at, sent.resent) = (Fate::InFlight, now, true);
        self.transmitted(start, end, now);
    }

    /// Panics if the counters do not match the segments.
    #[cfg(any(test, debug_assertions))]
    pub fn check(&self) {
        let sum = |fate| self.sent.iter().filter(|s| s.fate == fate).map(Sent::len).sum::<u64>();
        assert_eq!(self.in_flight, sum(Fate::InFlight));
        assert_eq!(self.lost, sum(Fate::Lost));
        assert_eq!(self.sacked_segments, self.sent.iter().filter(|s| s.fate == Fate::Sacked).count());
        assert!(self.sent.iter().zip(self.sent.iter().skip(1)).all(|(a, b)| a.end == b.start));
        assert!(self.sent.iter().all(|s| s.fate != Fate::Lost || s.start >= self.lost_from));
    }
}

#[cfg(test)]
#[path = "scoreboard_tests.rs"]
mod tests;
