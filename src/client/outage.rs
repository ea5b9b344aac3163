//! A channel without a connection: I/O waits, expires, is sent again.
//!
//! An I/O that was sent may still be executed, by a target that is only slow to get to it. So it does not
//! fail before that is out of the question: the lease of its last connection is over, or the target has let
//! us in again, which it does only when nothing of that connection is left.
//!
//! No lease covers what the backend has already. So before an I/O fails by a lease alone, the whole session is given
//! up: every channel has to leave it, and the next one is opened when the backend has nothing of this one
//! any more. Whatever a user submits after the failure, on any thread, comes after what failed.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use dst_session::mutation::{self, Mutation};
use dst_session::negotiate::{check_same_device, check_still_usable};
use dst_session::transactions::DigestOf;
use dst_transport::Broken;
use dst_wire::{Digest, InNewSession, Op, RefusalReason, Welcome};
use spdk::backend::IoStatus;
use spdk::bdev_io::BdevIo;

use crate::answers::{Incoming, Pending, digest_of};
use crate::channel::{Inner, Waiting};
use crate::counters::Counters;
use crate::link::{Step, Wanted};

/// Most I/O that expires in one turn, so that a reactor with thousands of them still turns.
const EXPIRE_A_TURN: usize = 64;

impl Inner {
    /// A turn without a connection.
    pub fn outage(&mut self, now: u64, waiting: &Waiting) {
        self.counters.outstanding.store(self.transactions.outstanding() as u64, Relaxed);
        self.counters.waiting.store(waiting.len() as u64, Relaxed);
        self.counters.session_change.store(self.shared.session_changes(), Release);
        let is_fenced = self.may_fail_sent(now);
        self.join_resets_alone(is_fenced, waiting);
        if is_fenced {
            self.expire_outstanding();
        }
        self.expire_waiting(waiting);
        if self.is_over() {
            return;
        }
        let session = self.shared.session();
        let change = self.shared.session_changes();
        if change != self.session_change {
            // There may be another session to join: not after the delay that the old one's refusals made.
            self.session_change = change;
            self.link.retry.restart(now);
        }
        let wanted = session.map_or(Wanted::Nothing, |session| Wanted::Join(session.id));
        match self.link.advance(now, wanted) {
            Step::Nothing => {}
            Step::Up(welcome, _) => self.up(&welcome, now),
            Step::Failed { refused: Some(RefusalReason::NoSession), .. } => {
                if session.is_some() {
                    self.shared.doubted.store(true, Relaxed);
                }
            }
            Step::Failed { why, .. } => {
                self.shared.attempt_failed(format!("connection {}: {why}", self.queue), now);
            }
        }
    }

    /// Whether what was sent may fail. If something has to, whatever stands in the way is seen to.
    fn may_fail_sent(&mut self, now: u64) -> bool {
        if self.fenced_us == 0 || mutation::is_on(Mutation::NoLeaseAtClient) {
            return true;
        }
        let Some(oldest_us) = self.transactions.oldest_us() else { return true };
        let has_to = self.aborting || self.is_over() || self.is_overdue(oldest_us);
        if now < self.fenced_us || !has_to {
            return false;
        }
        if mutation::is_on(Mutation::NoSessionGivenUp) {
            return true;
        }
        let session = self.session.expect("what was sent was sent in a session");
        match self.shared.left_since(session) {
            Some(_) if mutation::is_on(Mutation::NoOthersLeft) => true,
            Some(change) => {
                let has_left = |counters: &Arc<Counters>| counters.session_change.load(Acquire) >= change;
                self.shared.counters().iter().all(has_left)
            }
            None => {
                self.shared.given_up.store(true, Relaxed);
                false
            }
        }
    }

    /// Whether the target is not tried any more: the bdev goes away, or can't be had.
    fn is_over(&self) -> bool {
        self.shared.closing.load(Relaxed) && !mutation::is_on(Mutation::NoRemoval)
            || self.shared.failed.load(Relaxed)
    }

    /// Whether the time of an I/O that was submitted then is up.
    pub fn is_overdue(&mut self, since_us: u64) -> bool {
        let now = self.patience.now_us();
        let options = &self.shared.options;
        let closing = self.shared.closing.load(Relaxed) && !mutation::is_on(Mutation::NoRemoval);
        if closing {
            // A target that answers may finish what it has; one that hangs has no longer than this.
            let patient_us = u64::from(options.keep_alive_timeout_ms) * 1000;
            if now >= *self.closing_since_us.get_or_insert(now) + patient_us {
                return true;
            }
        }
        if mutation::is_on(Mutation::NoDeadline) {
            return false;
        }
        now >= since_us + u64::from(options.transaction_timeout_ms) * 1000
    }

    /// Fails what was sent and whose time is up, so many of them. Nothing of it is executed any more. Whether there may be
    /// more.
    fn expire_outstanding(&mut self) -> bool {
        for _ in 0..EXPIRE_A_TURN {
            let Some(since_us) = self.transactions.oldest_us() else { return false };
            let is_over = self.is_over();
            if !is_over && !self.is_overdue(since_us) {
                return false;
            }
            if let Some(pending) = self.transactions.abandon_oldest() {
                self.fail(pending.io, !is_over);
            }
        }
        true
    }

    /// Fails what was not sent yet and whose time is up.
    pub fn expire_waiting(&mut self, waiting: &Waiting) {
        for _ in 0..EXPIRE_A_TURN {
            let Some(since_us) = waiting.oldest_us() else { return };
            let is_over = self.is_over() && !self.link.is_up();
            if !is_over && !self.is_overdue(since_us) {
                return;
            }
            if let Some(io) = waiting.pop() {
                self.fail(io, !is_over);
            }
        }
    }

    /// Ends an I/O without the target.
    fn fail(&mut self, io: BdevIo, has_expired: bool) {
        Counters::add(&self.counters.errors, 1);
        if has_expired {
            Counters::add(&self.counters.expired, 1);
            if !std::mem::replace(&mut self.told_expired, true) {
                spdk::error!(
                    "DST bdev {}: I/O fails: not answered by {} port {} in {} ms",
                    self.shared.name,
                    self.shared.address(),
                    self.shared.peer.port,
                    self.shared.options.transaction_timeout_ms
                );
            }
        }
        let closing = self.shared.closing.load(Relaxed);
        io.complete(if closing { IoStatus::Aborted } else { IoStatus::Failed });
    }

    /// The target let us in: nothing of the connections before is left.
    fn up(&mut self, welcome: &Welcome, now: u64) {
        // Whether the size will do is for the control connection to say, which hears of its changes.
        let same = check_same_device(&self.device, &welcome.device);
        if let Err(error) = same
            && !mutation::is_on(Mutation::NoIdentity)
        {
            self.shared.fail(&error.to_string());
            return self.link.unusable(now);
        }
        let longest = self.shared.longest.load(Relaxed);
        if let Err(error) = check_still_usable(&self.device, longest, welcome) {
            self.shared.attempt_failed(format!("connection {}: {error}", self.queue), now);
            return self.link.unusable(now);
        }
        let session = self.shared.session().filter(|session| session.id == welcome.session.id);
        let old = self.session.filter(|_| mutation::is_on(Mutation::OldWelcome));
        let Some(session) = session.or(old) else {
            // It was given up while we joined it.
            return self.link.unusable(now);
        };
        self.fenced_us = 0;
        let before = self.session.replace(session);
        if before.is_some_and(|before| before != session) {
            self.end_unrepeatable(now);
        }
        // All that is overdue: with one left the connection would be given up again.
        while self.expire_outstanding() {}
        self.end_too_often_repeated(now);
        self.abort(true);
        let again = self.transactions.outstanding();
        let digest = |pending: &Pending, len: usize| digest_of(&pending.io, len);
        let digest: Option<DigestOf<'_, Pending>> =
            if welcome.digest == Digest::Crc32c { Some(&digest) } else { None };
        if !self.transactions.grant(welcome.credits, digest) {
            if let Some(tail) = self.log.pass(now) {
                spdk::error!(
                    "DST bdev {}: the target grants {} slots, fewer than are in use{tail}",
                    self.shared.name,
                    welcome.credits
                );
            }
            return self.link.unusable(now);
        }
        Counters::add(&self.counters.resent, again as u64);
        if before.is_some() {
            Counters::add(&self.counters.reconnects, 1);
            if let Some(tail) = self.log.pass(now) {
                spdk::notice!(
                    "DST bdev {}: connection {} is back, {again} transactions are sent again{tail}",
                    self.shared.name,
                    self.queue
                );
            }
        }
        self.shared.connected.fetch_add(1, Release);
        self.told_expired = false;
        self.incoming = Incoming::default();
        self.look_at_once();
    }

    /// In another session the target does not know any more what it has executed: what must not be done
    /// twice fails, and so does a flush of what was lost.
    fn end_unrepeatable(&mut self, now: u64) {
        // Without a flush here the next one that begins reports it.
        let lost_writes = self.device.write_cache
            && self.transactions.any(|request| request.op == Op::Flush)
            && self.shared.durability.must_report(&mut self.losses_seen);
        let repeats = mutation::is_on(Mutation::RepeatUnrepeatable);
        let counters = &self.counters;
        let mut ended = 0;
        self.transactions.abandon(
            |request, _| match request.op.describe().in_new_session {
                InNewSession::SentAgain => false,
                InNewSession::SentAgainUnlessWritesWereLost => lost_writes,
                InNewSession::Fails => !repeats,
            },
            |pending| {
                ended += 1;
                Counters::add(&counters.errors, 1);
                pending.io.complete(IoStatus::Failed);
            },
        );
        self.tell_ended(
            now,
            ended,
            "their session is over, and a compare-and-write is not done twice, a flush may cover lost writes",
        );
    }

    fn end_too_often_repeated(&mut self, now: u64) {
        let most = self.shared.options.max_retries;
        if most == 0 {
            return;
        }
        let counters = &self.counters;
        let mut ended = 0;
        let fail = |pending: Pending| {
            ended += 1;
            Counters::add(&counters.errors, 1);
            Counters::add(&counters.expired, 1);
            pending.io.complete(IoStatus::Failed);
        };
        self.transactions.abandon(|_, resends| resends >= most, fail);
        self.tell_ended(now, ended, "they were sent again max_retries times");
    }

    fn tell_ended(&mut self, now: u64, count: usize, why: &str) {
        if count > 0
            && let Some(tail) = self.ended_log.pass(now)
        {
            spdk::error!(
                "DST bdev {}: {count} I/Os of connection {} fail: {why}{tail}",
                self.shared.name,
                self.queue
            );
        }
    }

    /// The connection is over.
    pub fn lost(&mut self, why: Broken, now: u64) {
        if let Some(tail) = self.log.pass(now) {
            spdk::warn!(
                "DST bdev {}: connection {} to {} port {} lost: {why}; {} transactions outstanding{tail}",
                self.shared.name,
                self.queue,
                self.shared.address(),
                self.shared.peer.port,
                self.transactions.outstanding()
            );
        }
        if let Some((connection, _)) = self.link.up() {
            self.fenced_us = self.fenced_us.max(connection.lease.over_us());
        }
        self.transactions.disconnected();
        self.link.lost(now);
        self.shared.lease_until(self.fenced_us);
        self.shared.connected.fetch_sub(1, Release);
        Counters::add(&self.counters.lost, 1);
        self.lost_in_reset();
        if mutation::is_on(Mutation::LossAnswers) || mutation::is_on(Mutation::NoPatience) {
            let answered = mutation::is_on(Mutation::LossAnswers);
            let status = if answered { IoStatus::Success } else { IoStatus::Failed };
            self.transactions.abandon(|_, _| true, |pending| pending.io.complete(status));
        }
    }
}
