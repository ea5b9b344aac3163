//! Detecting losses by time (RACK, RFC 8985): a segment is lost if one that was sent later has
//! arrived, and a tolerance for reordering has passed.

use crate::mutation::{Mutation, is_on};
use crate::rtt::Rtt;
use crate::scoreboard::Sent;
use crate::seq::Seq;

/// Segments out of order after which reordering is no longer considered (RFC 8985, 2; DupThresh of
/// RFC 5681).
const DUP_THRESHOLD: usize = 3;

/// Recoveries without a duplicate after which the tolerance is small again (RFC 8985, 6.2).
const PERSIST: u32 = 16;

/// The state of RACK for one connection.
#[derive(Debug)]
pub(crate) struct Rack {
    /// When the segment that was sent last, of those that have arrived, was sent; and its end.
    newest: Option<(u64, Seq)>,
    /// Its round-trip time.
    rtt: u64,
    /// The highest position that has arrived.
    forward: Seq,
    reordering: bool,
    /// The tolerance in quarters of the smallest round-trip time.
    quarters: u64,
    persist: u32,
    /// Until this is acknowledged, further duplicates belong to a round that was counted.
    round: Option<Seq>,
}

impl Rack {
    pub fn new(first: Seq) -> Rack {
        Rack { newest: None, rtt: 0, forward: first, reordering: false, quarters: 1, persist: 0, round: None }
    }

    /// Takes a segment that has arrived. `echo_is_older`: by the echoed timestamp, the peer
    /// acknowledges an earlier transmission of it.
    pub fn delivered(&mut self, sent: &Sent, now: u64, min_rtt: u64, echo_is_older: bool) {
        if sent.end > self.forward {
            self.forward = sent.end;
        } else if !sent.resent {
            self.reordering = true;
        }
        let rtt = now.saturating_sub(sent.at);
        if sent.resent && (echo_is_older || rtt < min_rtt) {
            return;
        }
        if self.newest.is_none_or(|newest| newest < (sent.at, sent.end)) {
            self.newest = Some((sent.at, sent.end));
            self.rtt = rtt;
        }
    }

    /// Takes the peer's report that it received something twice: the tolerance was too small.
    pub fn duplicate(&mut self, una: Seq, next: Seq) {
        if self.round.is_some_and(|round| una < round) {
            return;
        }
        self.round = Some(next);
        self.reordering = true;
        self.quarters += 1;
        self.persist = PERSIST;
    }

    /// Takes the end of a recovery.
    pub fn recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.quarters = 1;
        }
    }

    /// Returns how much later than its round-trip time a segment may arrive.
    fn tolerance(&self, rtt: &Rtt, recovering: bool, sacked_segments: usize) -> u64 {
        if !self.reordering && (recovering || sacked_segments >= DUP_THRESHOLD) {
            return 0;
        }
        if is_on(Mutation::NoReorderingTolerance) {
            return 0;
        }
        let quarter = rtt.min().unwrap_or(0) / 4;
        quarter.saturating_mul(self.quarters).min(rtt.smoothed().unwrap_or(0))
    }

    /// Returns when a segment counts as lost: a function of when it was sent, and its end. That
    /// returns `None` for one that was sent after everything that has arrived.
    pub fn rule(
        &self,
        rtt: &Rtt,
        recovering: bool,
        sacked: usize,
    ) -> impl Fn(u64, Seq) -> Option<u64> + use<> {
        let (newest, patience) = (self.newest, self.rtt + self.tolerance(rtt, recovering, sacked));
        move |sent_at, end| {
            let newest = newest.filter(|_| !is_on(Mutation::NoRack))?;
            ((sent_at, end) < newest).then_some(sent_at + patience)
        }
    }
}
