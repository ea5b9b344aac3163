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
use dst_session::negotiate::check_same_device;
use dst_session::transactions::DigestOf;
use dst_transport::Broken;
use dst_wire::{Digest, Op, RefusalReason, Welcome};
use spdk::backend::IoStatus;
use spdk::bdev_io::{BdevIo, IoKind};

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
        self.join_abort(waiting);
        let is_fenced = self.may_fail_sent(now);
        if self.aborting {
            self.abort(is_fenced, waiting);
        }
        self.complete_resets();
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
            Step::Up(welcome, _) => self.up(&welcome, now, waiting),
            Step::Failed { refused, .. } => {
                if refused == Some(RefusalReason::NoSession) && session.is_some() {
                    self.shared.doubted.store(true, Relaxed);
                }
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

    /// Fails what was sent and whose time is up. Nothing of it is executed any more.
    fn expire_outstanding(&mut self) {
        for _ in 0..EXPIRE_A_TURN {
            let Some(since_us) = self.transactions.oldest_us() else { return };
            let is_over = self.is_over();
            if !is_over && !self.is_overdue(since_us) {
                return;
            }
            if let Some(pending) = self.transactions.abandon_oldest() {
                self.fail(pending.io, !is_over);
            }
        }
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

    /// A reset while there is no connection: everything of the bdev's that has none ends, then the reset.
    fn join_abort(&mut self, waiting: &Waiting) {
        if waiting.has_reset() {
            self.begin_abort();
        }
        let aborts = self.shared.aborts.load(Relaxed);
        if std::mem::replace(&mut self.aborts_seen, aborts) != aborts {
            self.aborting = true;
            self.aborting_waiting = true;
        }
    }

    fn begin_abort(&mut self) {
        self.aborting = true;
        self.aborting_waiting = true;
        self.aborts_seen = self.shared.aborts.fetch_add(1, Relaxed) + 1;
    }

    /// A channel with a connection has nothing to end: its reset would go to the target.
    pub fn pass_aborts(&mut self) {
        self.aborts_seen = self.shared.aborts.load(Relaxed);
        self.counters.aborts_done.store(self.aborts_seen, Relaxed);
        self.complete_resets();
    }

    /// The resets complete when every channel has ended what it had: what is submitted after that is not
    /// meant by them.
    fn complete_resets(&mut self) {
        if self.resets.is_empty() || self.aborting {
            return;
        }
        let done = |counters: &Arc<Counters>| counters.aborts_done.load(Relaxed) >= self.aborts_seen;
        if self.shared.counters().iter().all(done) {
            while let Some(reset) = self.resets.pop_front() {
                reset.complete(IoStatus::Success);
            }
        }
    }

    /// Ends all that can end, and keeps the resets for then.
    fn abort(&mut self, is_fenced: bool, waiting: &Waiting) {
        let counters = &self.counters;
        let resets = &mut self.resets;
        let mut end = |io: BdevIo| {
            if io.kind() == IoKind::Reset {
                return resets.push_back(io);
            }
            Counters::add(&counters.errors, 1);
            io.complete(IoStatus::Aborted);
        };
        // Not more than there is now: a user may submit again at once.
        let count = if std::mem::take(&mut self.aborting_waiting) { waiting.len() } else { 0 };
        for _ in 0..count {
            let Some(io) = waiting.pop() else { break };
            end(io);
        }
        if is_fenced {
            self.transactions.abandon(|_, _| true, |pending| end(pending.io));
        }
        if self.transactions.outstanding() == 0 {
            self.aborting = false;
            self.counters.aborts_done.store(self.aborts_seen, Relaxed);
        }
    }

    /// The target let us in: nothing of the connections before is left.
    fn up(&mut self, welcome: &Welcome, now: u64, waiting: &Waiting) {
        let same = check_same_device(&self.device, &welcome.device);
        if let Err(error) = same
            && !mutation::is_on(Mutation::NoIdentity)
        {
            spdk::error!("DST bdev {}: {error}; its I/O fails", self.shared.name);
            self.shared.failed.store(true, Relaxed);
            return self.link.unusable(now);
        }
        if welcome.max_transfer < self.shared.longest.load(Relaxed) {
            // Control, which is refused the same, says so.
            return self.link.unusable(now);
        }
        let Some(session) = self.shared.session().filter(|session| session.id == welcome.session.id) else {
            // It was given up while we joined it.
            return self.link.unusable(now);
        };
        self.fenced_us = 0;
        let before = self.session.replace(session);
        if before.is_some_and(|before| before != session) {
            self.end_unrepeatable();
        }
        self.expire_outstanding();
        self.end_too_often_repeated();
        if self.aborting {
            self.abort(true, waiting);
        }
        let again = self.transactions.outstanding();
        let digest = |pending: &Pending, len: usize| digest_of(&pending.io, len);
        let digest: Option<DigestOf<'_, Pending>> =
            if welcome.digest == Digest::Crc32c as u8 { Some(&digest) } else { None };
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
    fn end_unrepeatable(&mut self) {
        // Without a flush here the next one that begins reports it.
        let lost_writes = self.device.write_cache
            && self.transactions.any(|request| request.op == Op::Flush)
            && self.shared.durability.must_report(&mut self.losses_seen);
        let repeats = mutation::is_on(Mutation::RepeatUnrepeatable);
        let counters = &self.counters;
        self.transactions.abandon(
            |request, _| match request.op {
                Op::CompareAndWrite => !repeats,
                Op::Flush => lost_writes,
                _ => false,
            },
            |pending| {
                Counters::add(&counters.errors, 1);
                pending.io.complete(IoStatus::Failed);
            },
        );
    }

    fn end_too_often_repeated(&mut self) {
        let most = self.shared.options.max_retries;
        if most == 0 {
            return;
        }
        let counters = &self.counters;
        let fail = |pending: Pending| {
            Counters::add(&counters.errors, 1);
            Counters::add(&counters.expired, 1);
            pending.io.complete(IoStatus::Failed);
        };
        self.transactions.abandon(|_, resends| resends >= most, fail);
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
        if self.transactions.any(|request| request.op == Op::Reset) {
            self.begin_abort();
        }
        if mutation::is_on(Mutation::LossAnswers) || mutation::is_on(Mutation::NoPatience) {
            let answered = mutation::is_on(Mutation::LossAnswers);
            let status = if answered { IoStatus::Success } else { IoStatus::Failed };
            self.transactions.abandon(|_, _| true, |pending| pending.io.complete(status));
        }
    }
}
