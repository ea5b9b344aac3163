//! A reset: all I/O of the bdev, on every thread, ends before it does.
//!
//! SPDK freezes what it has queued itself and gives us nothing new until the reset has completed; the rest is ours. What
//! waits for a connection or a credit ends at once, on every channel. What is outstanding ends as ever where there
//! is a connection, the sooner as the target resets its backend; where there is none, as soon as nothing of it is executed
//! any more. Each channel says so, and then the reset completes.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use dst_session::mutation::{self, Mutation};
use dst_transport::Broken;
use dst_wire::Op;
use spdk::backend::IoStatus;
use spdk::bdev_io::{BdevIo, IoKind};

use crate::answers::Pending;
use crate::channel::{Inner, Waiting};
use crate::counters::Counters;

impl Inner {
    /// Takes part in the bdev's resets, with a connection.
    ///
    /// # Errors
    /// There is no credit for a reset, as what is outstanding hangs: it ends as without a connection.
    pub fn join_resets(&mut self, waiting: &Waiting) -> Result<(), Broken> {
        let sent = if self.hears_of_reset(waiting) { self.begin_resets(waiting) } else { Ok(()) };
        if self.draining && !self.transactions.any(|request| request.op != Op::Reset) {
            self.draining = false;
            self.ended_all();
        }
        self.complete_resets();
        sent
    }

    /// The same without one.
    pub fn join_resets_alone(&mut self, is_fenced: bool, waiting: &Waiting) {
        if self.hears_of_reset(waiting) {
            self.aborting = true;
            while let Some(reset) = self.end_waiting(waiting) {
                self.resets.push_back(reset);
            }
        }
        self.abort(is_fenced);
        self.complete_resets();
    }

    /// Whether a reset came since the last time, to this channel or to another one.
    fn hears_of_reset(&mut self, waiting: &Waiting) -> bool {
        let told = &self.shared.resets;
        let resets = if waiting.has_reset() { told.fetch_add(1, AcqRel) + 1 } else { told.load(Acquire) };
        std::mem::replace(&mut self.resets_seen, resets) != resets
    }

    fn begin_resets(&mut self, waiting: &Waiting) -> Result<(), Broken> {
        self.draining = true;
        waiting.look(self.patience.now_us());
        let mut sent = Ok(());
        while let Some(reset) = self.end_waiting(waiting) {
            if self.transactions.has_credit() {
                self.begin(reset);
            } else {
                self.resets.push_back(reset);
                sent = Err(Broken::ResetWaits);
            }
        }
        sent
    }

    /// Ends what waits, up to the next reset, which is given back.
    fn end_waiting(&mut self, waiting: &Waiting) -> Option<BdevIo> {
        // What a user submits inside a completion comes to where it has no stamp yet: it is not meant.
        while let Some(io) = waiting.pop() {
            if io.kind() == IoKind::Reset {
                return Some(io);
            }
            Counters::add(&self.counters.errors, 1);
            io.complete(IoStatus::Aborted);
        }
        None
    }

    /// Ends what was sent, once nothing of it is executed any more; the resets among it are kept for when all has ended.
    pub fn abort(&mut self, is_fenced: bool) {
        if !self.aborting {
            return;
        }
        if is_fenced {
            let (counters, resets) = (&self.counters, &mut self.resets);
            let end = |Pending { io, .. }: Pending| {
                if io.kind() == IoKind::Reset {
                    return resets.push_back(io);
                }
                Counters::add(&counters.errors, 1);
                io.complete(IoStatus::Aborted);
            };
            self.transactions.abandon(|_, _| true, end);
        }
        if self.transactions.outstanding() == 0 {
            self.aborting = false;
            self.ended_all();
        }
    }

    /// The connection is lost: what was to be waited for is to end, and a reset that was sent is not sent again.
    pub fn lost_in_reset(&mut self) {
        self.aborting |= std::mem::take(&mut self.draining);
        if self.transactions.any(|request| request.op == Op::Reset) {
            self.resets_seen = self.shared.resets.fetch_add(1, AcqRel) + 1;
            self.aborting = true;
        }
    }

    fn ended_all(&self) {
        self.counters.resets_joined.store(self.resets_seen, Release);
    }

    /// The resets complete when every channel has ended what it had.
    fn complete_resets(&mut self) {
        if self.resets.is_empty() || self.aborting || self.draining {
            return;
        }
        let has_ended = |counters: &Arc<Counters>| counters.resets_joined.load(Acquire) >= self.resets_seen;
        if self.shared.counters().iter().all(has_ended) || mutation::is_on(Mutation::ResetAlone) {
            while let Some(reset) = self.resets.pop_front() {
                reset.complete(IoStatus::Success);
            }
        }
    }
}
