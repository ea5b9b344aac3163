//! The receiving half of a connection: the window, and when to acknowledge.

use std::ops::Range;

use crate::clock::is_older;
use crate::config::Config;
use crate::mutation::{Mutation, is_on};
use crate::reassembly::{Arrival, Chunk, Reassembly};
use crate::seq::Seq;

/// How long the newest of the peer's timestamps is good for: 24 days (RFC 7323, 5.5).
const TIMESTAMP_LIFE: u64 = 24 * 86_400 * 1_000_000;

/// The peer's full-sized segment before one was seen.
const SMALLEST_FULL: u64 = 536;

/// ACKs that are sent at once for early segments, at most: three make the peer resend, more let it
/// send more.
const MAX_REPEATED: u32 = 64;

/// Whether an ACK is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckDue {
    No,
    /// At this time, unless something is sent before that.
    At(u64),
    Now,
}

/// The newest of the peer's timestamps (RFC 7323, 4.3).
#[derive(Debug, Clone, Copy)]
struct Recent {
    timestamp: u32,
    at: u64,
}

/// The receiving half of a connection, once the peer's SYN has come.
#[derive(Debug)]
pub(crate) struct Receiver<F> {
    data: Reassembly<F>,
    initial: Seq,
    /// What the user may leave unread.
    capacity: u64,
    /// The position after the window that the peer was told.
    edge: Seq,
    shift: u8,
    /// Where the peer's FIN is.
    fin: Option<Seq>,
    ack: AckDue,
    /// Bytes received since the last ACK.
    unacknowledged: u64,
    last_ack: Seq,
    /// The longest segment.
    full: u64,
    /// The peer reads SACK blocks.
    sack: bool,
    /// Early segments that no ACK has told of: without SACK, the peer counts the ACKs.
    early: u32,
    /// What was received twice, to be reported in the next ACK (RFC 2883).
    duplicate: Option<(Seq, Seq)>,
    recent: Option<Recent>,
    /// The beginning of a round, and the bytes read since: the window is twice that at least.
    round: (u64, u64),
    /// The user knows that there is something to read.
    told: bool,
}

impl<F> Receiver<F> {
    /// Returns one for a peer whose SYN has this sequence number. `shift`: what windows are written
    /// with.
    pub fn new(
        initial: Seq,
        shift: u8,
        sack: bool,
        timestamp: Option<u32>,
        config: &Config,
        now: u64,
    ) -> Receiver<F> {
        let capacity = u64::from(config.initial_receive_window.min(config.max_receive_window));
        Receiver {
            data: Reassembly::new(initial + 1),
            initial,
            capacity,
            // A SYN's window is not scaled.
            edge: initial + 1 + capacity.min(0xffff),
            shift,
            fin: None,
            ack: AckDue::No,
            unacknowledged: 0,
            last_ack: initial,
            full: SMALLEST_FULL,
            sack,
            early: 0,
            duplicate: None,
            recent: timestamp.map(|timestamp| Recent { timestamp, at: now }),
            round: (now, 0),
            told: false,
        }
    }

    pub fn next(&self) -> Seq {
        self.data.next()
    }

    pub fn initial(&self) -> Seq {
        self.initial
    }

    pub fn ack(&self) -> AckDue {
        self.ack
    }

    /// Returns whether the peer's FIN has arrived, and all data before it.
    pub fn is_finished(&self) -> bool {
        self.fin.is_some_and(|fin| self.data.next() > fin)
    }

    /// Returns whether there is data that the user has not read.
    pub fn has_unread(&self) -> bool {
        self.data.unread() > 0
    }

    /// Returns the newest timestamp of the peer.
    pub fn recent(&self) -> Option<u32> {
        self.recent.map(|recent| recent.timestamp)
    }

    /// Returns whether a timestamp is older than the peer's newest: the segment is from the past
    /// (PAWS).
    pub fn is_old(&self, timestamp: u32, now: u64) -> bool {
        self.recent.is_some_and(|recent| {
            now.saturating_sub(recent.at) < TIMESTAMP_LIFE && is_older(timestamp, recent.timestamp)
        }) && !is_on(Mutation::NoPaws)
    }

    /// Takes the timestamp of a segment at `seq` that is in the window.
    pub fn note_timestamp(&mut self, seq: Seq, timestamp: u32, now: u64) {
        if let Some(recent) = &mut self.recent
            && seq <= self.last_ack
            && !is_older(timestamp, recent.timestamp)
        {
            *recent = Recent { timestamp, at: now };
        }
    }

    /// Returns whether a segment lies in the window, if only in part (RFC 9293, 3.10.7.4).
    pub fn accepts(&self, seq: Seq, length: u64) -> bool {
        if is_on(Mutation::NoReceiveWindow) {
            return true;
        }
        let (next, edge) = (self.data.next(), self.edge);
        if length == 0 {
            // A peer that has filled the window, with a gap in it, acknowledges from the window's
            // end, which the RFC's table forgets.
            return next <= seq && seq <= edge.max(next);
        }
        seq < edge && seq + length > next
    }

    /// Returns true if a segment with this much data is the next one, fits into the window, and
    /// fills no gap; and no FIN has come.
    pub fn is_next(&self, seq: u32, length: u64) -> bool {
        let next = self.data.next();
        next.wire() == seq && next + length <= self.edge && !self.data.has_gap() && self.fin.is_none()
    }

    /// Returns whether the peer may send nothing.
    pub fn is_window_closed(&self) -> bool {
        self.edge <= self.data.next()
    }

    /// Returns whether a reset at `seq` lies in the window, and whether it is exactly the next
    /// position.
    pub fn reset_position(&self, seq: Seq) -> (bool, bool) {
        let next = self.data.next();
        (next <= seq && seq < self.edge.max(next + 1), seq == next)
    }

    /// Asks for an ACK at once.
    pub fn ack_now(&mut self) {
        self.ack = AckDue::Now;
    }

    /// Reports a segment that had been received before.
    pub fn note_duplicate(&mut self, seq: Seq, length: u64) {
        self.duplicate = Some((seq, seq + length)).filter(|_| !is_on(Mutation::NoDuplicateReport));
        self.ack = AckDue::Now;
    }

    /// Takes the data and the FIN of a segment that is in the window. Returns whether the user is
    /// to be told that there is something to read.
    pub fn on_segment(
        &mut self,
        seq: Seq,
        payload: Range<usize>,
        fin: bool,
        frame: F,
        config: &Config,
        now: u64,
    ) -> bool {
        let was_finished = self.is_finished();
        let length = payload.len() as u64;
        if fin && self.fin.is_none() && seq + length <= self.edge {
            self.fin = Some(seq + length);
        }
        if length > 0 {
            self.on_data(seq, payload, frame, config, now);
        } else if fin {
            self.ack = AckDue::Now;
        }
        if self.fin == Some(self.data.next()) {
            self.data.pass_fin();
            self.ack = AckDue::Now;
        }
        let tell = !self.told && (self.has_unread() || (self.is_finished() && !was_finished));
        self.told |= tell;
        tell
    }

    fn on_data(&mut self, seq: Seq, mut range: Range<usize>, frame: F, config: &Config, now: u64) {
        let length = range.len() as u64;
        self.full = self.full.max(length.min(u64::from(config.mss)));
        // Nothing beyond the window is taken, and nothing beyond the FIN.
        let end = self.fin.map_or(self.edge, |fin| fin.min(self.edge));
        let beyond = (seq + length).above(if is_on(Mutation::NoReceiveWindow) { seq + length } else { end });
        if beyond >= length {
            self.ack = AckDue::Now;
            return;
        }
        range.end -= beyond as usize;
        match self.data.insert(seq, Chunk { frame, range }, config.max_held_frames) {
            Arrival::InOrder { bytes, filled } => {
                self.unacknowledged += bytes;
                // RFC 9293, 3.8.6.3: every second full segment; RFC 5681, 4.2: at once while there
                // is a gap.
                if filled || self.data.has_gap() || self.unacknowledged >= 2 * self.full {
                    self.ack = AckDue::Now;
                } else if self.ack == AckDue::No && !is_on(Mutation::NoDelayedAck) {
                    self.ack = AckDue::At(now + config.ack_delay);
                }
            }
            Arrival::Early => {
                self.early = (self.early + 1).min(MAX_REPEATED);
                self.ack = AckDue::Now;
            }
            Arrival::NoRoom => self.ack = AckDue::Now,
            Arrival::Duplicate => self.note_duplicate(seq, length - beyond),
        }
    }

    /// Takes data for the user, the oldest first. `rtt`: the round-trip time, if it is known.
    pub fn read(&mut self, rtt: u64, config: &Config, now: u64) -> Option<Chunk<F>> {
        let Some(chunk) = self.data.read() else {
            self.told = false;
            return None;
        };
        self.round.1 += chunk.range.len() as u64;
        if now.saturating_sub(self.round.0) >= rtt {
            if 2 * self.round.1 > self.capacity {
                self.capacity = (2 * self.capacity).min(u64::from(config.max_receive_window));
            }
            self.round = (now, 0);
        }
        // Tell the peer if it may be waiting: less than half of the window is left, and there are
        // two segments' more (RFC 9293, 3.8.6.2.2).
        let left = if self.is_told_closed() { 0 } else { self.edge.above(self.data.next()) };
        if 2 * left < self.capacity
            && self.may_step_by(self.possible_edge(config), 2 * self.full)
            && !is_on(Mutation::NoWindowUpdate)
        {
            self.ack = AckDue::Now;
        }
        Some(chunk)
    }

    /// Drops all data, which nobody will read.
    pub fn discard(&mut self) {
        self.data.clear();
    }

    /// Returns where the window could end.
    fn possible_edge(&self, config: &Config) -> Seq {
        let frames = config.max_held_frames.saturating_sub(self.data.frames()) as u64;
        let free = self.capacity.saturating_sub(self.data.unread()).min(frames * self.full);
        self.data.next() + free.min(0xffff << self.shift)
    }

    /// Returns whether what is left of the window is nothing when it is written, in units of the scale.
    fn is_told_closed(&self) -> bool {
        self.edge.above(self.data.next()) >> self.shift == 0
    }

    /// Returns whether the window can move by `least` bytes, or half of the capacity. From a closed window
    /// on, its steps are measured as the peer sees them, in units of the scale: it would stay closed for
    /// ever if it moved by less than that.
    fn may_step_by(&self, possible: Seq, least: u64) -> bool {
        let gain = if self.is_told_closed() {
            possible.above(self.data.next()) >> self.shift << self.shift
        } else {
            possible.above(self.edge)
        };
        gain >= least.min(self.capacity / 2).max(1)
    }

    /// Returns the window to write into a segment, and notes that the peer will know it.
    pub fn window(&mut self, config: &Config) -> u16 {
        let possible = self.possible_edge(config);
        // Small steps are not worth telling: the peer would send small segments.
        if self.may_step_by(possible, self.full) {
            self.edge = possible;
        }
        (self.edge.above(self.data.next()) >> self.shift).min(0xffff) as u16
    }

    /// Returns the window to write into a SYN, which is not scaled.
    pub fn syn_window(&self) -> u16 {
        self.edge.above(self.data.next()).min(0xffff) as u16
    }

    /// Returns whether the next ACK has SACK blocks.
    pub fn has_blocks(&self) -> bool {
        self.data.has_gap() || self.duplicate.is_some()
    }

    /// Returns the SACK blocks for the next ACK: a duplicate first (RFC 2883), then what is held.
    pub fn blocks(&mut self) -> [Option<(u32, u32)>; 3] {
        if is_on(Mutation::NoSackBlocks) || (!self.data.has_gap() && self.duplicate.is_none()) {
            return [None; 3];
        }
        let wire = |block: Option<(Seq, Seq)>| block.map(|(start, end)| (start.wire(), end.wire()));
        match self.duplicate {
            None => self.data.blocks::<3>().map(wire),
            duplicate => {
                let [first, second] = self.data.blocks::<2>();
                [wire(duplicate), wire(first), wire(second)]
            }
        }
    }

    /// Notes that an ACK was sent. Another one is due if it could not tell everything.
    pub fn acknowledged(&mut self) {
        self.early = if self.data.has_gap() { self.early.saturating_sub(1) } else { 0 };
        let more = if self.sack {
            self.data.has_unreported() && !is_on(Mutation::NoSackBlocks)
        } else {
            self.early > 0
        };
        self.ack = if more { AckDue::Now } else { AckDue::No };
        self.unacknowledged = 0;
        self.duplicate = None;
        self.last_ack = self.data.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver() -> Receiver<Vec<u8>> {
        let config = Config { initial_receive_window: 1_000, ..Config::default() };
        Receiver::new(Seq::initial(99), 0, true, Some(0), &config, 0)
    }

    #[test]
    fn a_window_that_the_scale_has_rounded_to_nothing_opens_again() {
        let config = Config { initial_receive_window: 1_000, ..Config::default() };
        let mut receiver: Receiver<Vec<u8>> = Receiver::new(Seq::initial(99), 9, true, Some(0), &config, 0);
        assert_eq!(receiver.window(&config), 1);
        take(&mut receiver, 100, 494, false);
        assert_eq!(receiver.window(&config), 0, "18 bytes are left of the 512");
        while receiver.read(100, &config, 0).is_some() {}
        assert_eq!(receiver.ack, AckDue::Now, "the peer waits");
        assert_eq!(receiver.window(&config), 1);
    }

    fn take(receiver: &mut Receiver<Vec<u8>>, seq: u32, length: usize, fin: bool) {
        let seq = receiver.next().near(seq);
        receiver.on_segment(seq, 0..length, fin, vec![0; length], &Config::default(), 0);
    }

    /// Header prediction takes only what needs no more than to be appended.
    #[test]
    fn only_plain_next_data_is_next() {
        let mut plain = receiver();
        assert!(plain.is_next(100, 10) && plain.is_next(100, 1_000));
        assert!(!plain.is_next(101, 10), "data before it is missing");
        assert!(!plain.is_next(99, 10), "some of it is old");
        assert!(!plain.is_next(100, 1_001), "it does not fit into the window");
        take(&mut plain, 100, 10, false);
        assert!(plain.is_next(110, 10) && !plain.is_next(100, 10));
        take(&mut plain, 120, 10, false);
        assert!(!plain.is_next(110, 10), "it would fill a gap");
        let mut ended = receiver();
        take(&mut ended, 110, 0, true);
        assert!(!ended.is_next(100, 10), "a FIN has come");
    }
}
