//! A channel without a connection: I/O waits, expires, or is sent again.
//!
//! [`dst_session::fence`] decides when I/O that was sent may fail, and [`dst_session::deadline`]
//! what becomes of I/O whose deadline has passed.

use dst_session::deadline::{Availability, Fate};
use dst_session::fence::Sent;
use dst_session::homing::Homing;
use dst_session::large_frames::{PathNews, SMALL};
use dst_session::mutation::{self, Mutation};
use dst_session::negotiate::{check_same_device, check_still_usable};
use dst_session::paths::PathNote;
use dst_session::succession::Ask;
use dst_transport::Broken;
use dst_wire::{Refusal, RefusalReason, Welcome};
use spdk::backend::IoStatus;
use spdk::bdev_io::BdevIo;

use super::Inner;
use crate::counters::Counters;
use crate::link::{LinkProgress, Wanted};

/// The maximum number of I/Os that expire in one turn, so that thousands of them do not hold up the
/// reactor.
const EXPIRE_A_TURN: usize = 64;

impl Inner {
    /// Does a turn without a connection.
    pub(super) fn outage(&mut self, now: u64) {
        self.deadlines.look_at_stop(self.shared.stop(), now);
        self.io.stamp_new(self.deadlines.now_us());
        self.io.count_now();
        self.membership.leave();
        let availability = self.shared.availability();
        let sent = self.what_was_sent(availability);
        let may_fail = self.membership.may_fail(now, sent)
            || availability == Availability::Unreachable && mutation::is_on(Mutation::NoFenceAtFastFail);
        self.resets.join_alone(&mut self.io, may_fail);
        if may_fail {
            self.expire_sent(availability);
        }
        self.expire_waiting(availability, false);
        if availability.is_over() || self.deadlines.is_stop_over(false) {
            return;
        }
        let session = self.shared.session();
        if self.membership.note_change() {
            // The next attempt joins another session, so the delay that refusals of the previous
            // one have caused does not apply.
            self.link.retry_at_once(now);
        }
        let wanted = session.map_or(Wanted::Nothing, |session| Wanted::Session(Ask::Join(session.id), None));
        match self.link.advance(now, wanted) {
            LinkProgress::Nothing => {}
            LinkProgress::Up(welcome, _) => self.up(&welcome, now),
            LinkProgress::Failed {
                refused: Some(Refusal { reason: RefusalReason::NoSession, .. }), ..
            } => {
                if self.shared.places().is_current(self.link.address()) {
                    if session.is_some() {
                        self.shared.doubt_session();
                    }
                } else {
                    // This is the address of another instance, which does not have the session.
                    self.try_other_address(now);
                }
            }
            LinkProgress::Failed { why, .. } => {
                self.shared.attempt_failed(format!("connection {}: {why}", self.queue), now);
                self.try_other_address(now);
            }
        }
    }

    /// Makes the attempt that follows a failed one due at once if it goes to another address.
    fn try_other_address(&mut self, now: u64) {
        if self.shared.places().has_other(self.queue, self.link.address()) {
            self.link.try_next_address(now);
        }
    }

    /// Returns whether the channel has I/O that was sent, and whether any of it has to fail.
    fn what_was_sent(&mut self, availability: Availability) -> Sent {
        let Some(oldest_us) = self.io.oldest_sent_us() else { return Sent::Nothing };
        let has_to =
            self.resets.is_aborting() || self.deadlines.fate(availability, false, oldest_us) != Fate::Keep;
        if has_to { Sent::HasToFail } else { Sent::MayWait }
    }

    /// Fails up to [`EXPIRE_A_TURN`] sent I/Os whose deadlines have passed. The caller has made
    /// sure that the target executes none of them any more. Returns true if more may remain.
    fn expire_sent(&mut self, availability: Availability) -> bool {
        for _ in 0..EXPIRE_A_TURN {
            let Some(since_us) = self.io.oldest_sent_us() else { return false };
            let fate = self.deadlines.fate(availability, false, since_us);
            if fate == Fate::Keep {
                return false;
            }
            if let Some(io) = self.io.take_oldest_sent() {
                self.fail(io, fate, availability);
            }
        }
        true
    }

    /// Fails up to [`EXPIRE_A_TURN`] I/Os that were not sent yet and whose deadlines have passed.
    pub(super) fn expire_waiting(&mut self, availability: Availability, has_connection: bool) {
        for _ in 0..EXPIRE_A_TURN {
            let Some(since_us) = self.io.oldest_waiting_us() else { return };
            let fate = self.deadlines.fate(availability, has_connection, since_us);
            if fate == Fate::Keep {
                return;
            }
            if let Some(io) = self.io.take_oldest_waiting() {
                self.fail(io, fate, availability);
            }
        }
    }

    /// Completes an I/O with an error, without an Answer of the target.
    pub(super) fn fail(&mut self, io: BdevIo, fate: Fate, availability: Availability) {
        Counters::add(&self.standing.counters.errors, 1);
        if fate == Fate::Expired {
            Counters::add(&self.standing.counters.expired, 1);
            if !std::mem::replace(&mut self.has_logged_expiry, true) {
                spdk::error!(
                    "DST bdev {}: I/O fails: not answered by {} in {} ms",
                    self.shared.name(),
                    self.shared.places().shown_at(self.link.address()),
                    self.shared.options().transaction_timeout_ms
                );
            }
        }
        let closing = availability == Availability::Closing;
        io.complete(if closing { IoStatus::Aborted } else { IoStatus::Failed });
    }

    /// Handles the Welcome of a new connection, which says that nothing of earlier connections is
    /// left.
    fn up(&mut self, welcome: &Welcome, now: u64) {
        // The size is not checked here: the control connection does that, which is told of changes.
        let same = check_same_device(&self.device, &welcome.device);
        if let Err(error) = same
            && !mutation::is_on(Mutation::NoIdentity)
        {
            self.shared.fail(&error.to_string());
            return self.link.unusable(now);
        }
        if let Err(error) = check_still_usable(&self.device, self.shared.max_request_len(), welcome) {
            self.shared.attempt_failed(format!("connection {}: {error}", self.queue), now);
            return self.link.unusable(now);
        }
        let session = self.membership.admitted(&welcome.session.id);
        let old = self.membership.session().filter(|_| mutation::is_on(Mutation::OldWelcome));
        let Some(session) = session.or(old) else {
            // The session was given up while this connection joined it.
            return self.link.unusable(now);
        };
        let before = self.membership.join(session);
        if before.is_some_and(|before| before != session) {
            let failed = self.io.fail_unrepeatable(mutation::is_on(Mutation::RepeatUnrepeatable));
            self.log_failed(
                now,
                failed,
                "their session has ended; a compare-and-write is not sent in another session, nor a flush if writes \
                 may be lost",
            );
        }
        // All overdue I/O fails here: if some were left, the connection would be given up again.
        let availability = self.shared.availability().reached();
        while self.expire_sent(availability) {}
        let most = self.shared.options().max_retries;
        if most > 0 {
            let failed = self.io.fail_repeated(most);
            self.log_failed(now, failed, "they were sent again max_retries times");
        }
        self.resets.abort(&mut self.io, true);
        let Some(again) = self.io.connected(welcome) else {
            if let Some(tail) = self.log.pass(now) {
                spdk::error!(
                    "DST bdev {}: the target grants {} slots, fewer than are in use{tail}",
                    self.shared.name(),
                    welcome.credits
                );
            }
            return self.link.unusable(now);
        };
        if before.is_some() {
            Counters::add(&self.standing.counters.reconnects, 1);
            if let Some(tail) = self.log.pass(now) {
                spdk::notice!(
                    "DST bdev {}: connection {} is back, {again} transactions are sent again{tail}",
                    self.shared.name(),
                    self.queue
                );
            }
        }
        self.shared.channels().connected();
        self.standing.set_address(self.link.address().cloned());
        (self.homing, self.path_change) = (Homing::Home, 0);
        self.has_logged_expiry = false;
        self.check_at_once();
    }

    /// Logs that `count` I/Os have failed for the reason `why`.
    fn log_failed(&mut self, now: u64, count: usize, why: &str) {
        if count > 0
            && let Some(tail) = self.ended_log.pass(now)
        {
            spdk::error!(
                "DST bdev {}: {count} I/Os of connection {} fail: {why}{tail}",
                self.shared.name(),
                self.queue
            );
        }
    }

    /// Notes whether the path of the connection, which is lost, seems to lose large packets, and
    /// logs that if it is new.
    fn note_path(&mut self, now: u64) {
        let Some((path, life)) = self.link.address().zip(self.link.life()) else { return };
        let places = self.shared.places();
        let has_large = self.io.has_larger(SMALL);
        let stuck = match self.large_frames.of(path).lost(life, has_large, now) {
            None => return,
            Some(PathNews::Cleared) => {
                places.note_path(path, PathNote::Unknown, now);
                return;
            }
            Some(PathNews::Suspect(stuck)) => stuck,
        };
        let at = places.shown_at(Some(path));
        let note = format!(
            "small frames to {at} pass, large ones do not: {stuck} connections in a row were admitted and then \
             heard nothing once a frame of more than {SMALL} bytes was outstanding. Check the MTU of all interfaces \
             and routers on the way (ping -M do -s 1472 …), let ICMP \"fragmentation needed\" pass, or set \
             net.ipv4.tcp_mtu_probing=1 at both ends"
        );
        if places.note_path(path, PathNote::Suspect(note.clone()), now) {
            spdk::error!("DST bdev {}: {note}", self.shared.name());
        }
    }

    /// Closes a lost connection.
    pub(super) fn lost(&mut self, why: Broken, now: u64) {
        // The target may have closed the connection before the Goodbye was looked at.
        let why = if self.io.was_told_goodbye() { Broken::Goodbye } else { why };
        if let Some(tail) = self.log.pass(now) {
            spdk::warn!(
                "DST bdev {}: connection {} to {} lost: {why}; {} transactions outstanding{tail}",
                self.shared.name(),
                self.queue,
                self.shared.places().shown_at(self.link.address()),
                self.io.outstanding()
            );
        }
        if let Some((at, life)) = self.link.address().zip(self.link.life()) {
            self.shared.places().lost(at, life, &why, now);
        }
        self.note_path(now);
        self.fail_overdue();
        let (connection, _) = self.link.up().expect("a link that is lost was up");
        let leases_over_us = self.membership.lost(connection.lease.over_us());
        self.io.disconnected();
        self.link.lost(now);
        if matches!(why, Broken::Homing) {
            // The client has closed this connection itself, so it does not count as a failed
            // attempt however short it was.
            self.link.retry_at_once(now);
        }
        self.standing.set_address(None);
        self.shared.channels().lost_connection(leases_over_us);
        Counters::add(&self.standing.counters.lost, 1);
        self.resets.lost(&self.io);
        if mutation::is_on(Mutation::LossAnswers) || mutation::is_on(Mutation::NoPatience) {
            let answered = mutation::is_on(Mutation::LossAnswers);
            self.io.end_sent(if answered { IoStatus::Success } else { IoStatus::Failed });
        }
    }
}
