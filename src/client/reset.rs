//! What a channel does for the bdev's resets; the rules are in [`dst_session::reset`].
//!
//! SPDK freezes what it has queued itself and gives us nothing new until the reset has completed;
//! the rest is ours. What waits for a connection or a credit ends at once, on every channel.

use std::sync::Arc;

use dst_session::reset::Part;
use dst_transport::Broken;

use crate::channel_io::ChannelIo;
use crate::channels::Standing;
use crate::shared::Shared;

/// A channel's part in the bdev's resets.
pub struct Resets {
    shared: Arc<Shared>,
    standing: Arc<Standing>,
    part: Part,
}

impl Resets {
    /// Returns the part of a new channel.
    pub fn new(shared: &Arc<Shared>, standing: &Arc<Standing>) -> Resets {
        let part = Part::new(standing.joined_reset());
        Resets { shared: Arc::clone(shared), standing: Arc::clone(standing), part }
    }

    /// Returns whether a reset waits for answers.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.part.is_draining()
    }

    /// Returns whether what is outstanding has to end without the target.
    pub fn is_aborting(&self) -> bool {
        self.part.is_aborting()
    }

    /// Takes part in the bdev's resets, with a connection. `now_us` is the time of deadlines.
    ///
    /// # Errors
    /// There is no credit for a reset, as what is outstanding hangs: it ends as without a
    /// connection.
    pub fn join(&mut self, io: &mut ChannelIo, now_us: u64) -> Result<(), Broken> {
        let is_new = self.part.hear(self.newest(io), true);
        let sent = if is_new { io.begin_resets(now_us) } else { Ok(()) };
        if self.part.is_draining() && !io.has_sent_other_than_resets() {
            self.ended();
        }
        self.complete(io);
        sent
    }

    /// The same without a connection. `may_fail` says whether what was sent may.
    pub fn join_alone(&mut self, io: &mut ChannelIo, may_fail: bool) {
        let resets = self.shared.resets();
        let waits = self.part.waits_for_connection(self.shared.is_control_up(), io.outstanding() > 0, resets);
        let newest = if waits { resets } else { self.newest(io) };
        if self.part.hear(newest, false) {
            io.hold_resets();
        }
        self.abort(io, may_fail);
        self.complete(io);
    }

    /// Ends what was sent and is to end without the target, if it may fail.
    pub fn abort(&mut self, io: &mut ChannelIo, may_fail: bool) {
        if !self.part.is_aborting() {
            return;
        }
        if may_fail {
            io.abort_sent();
        }
        if io.outstanding() == 0 {
            self.ended();
        }
    }

    /// The connection is lost, with what is outstanding.
    pub fn lost(&mut self, io: &ChannelIo) {
        let again = io.has_sent_reset().then(|| self.shared.count_reset());
        self.part.lost(again);
    }

    /// Returns the bdev's newest reset, one that was submitted to this channel among them.
    fn newest(&self, io: &ChannelIo) -> u64 {
        if io.reset_waits() { self.shared.count_reset() } else { self.shared.resets() }
    }

    fn ended(&mut self) {
        if self.part.ended() {
            self.standing.join_reset(self.part.newest());
        }
    }

    /// Completes the resets that wait for the other channels, if they have joined.
    fn complete(&mut self, io: &mut ChannelIo) {
        if !io.holds_resets() || self.part.is_draining() || self.part.is_aborting() {
            return;
        }
        let standings = self.shared.channels().standings();
        if self.part.may_complete(standings.iter().map(|standing| standing.joined_reset())) {
            io.complete_held();
        }
    }
}
