//! A channel's part in the bdev's resets; the rules are in [`dst_session::reset`].
//!
//! SPDK freezes the I/O in its own queues and submits nothing new until the reset has completed.
//! All other I/O is the channels': what waits for a connection or a credit ends at once on every
//! channel.

use std::sync::Arc;

use dst_session::reset::Part;
use dst_transport::Broken;

use crate::channel_io::ChannelIo;
use crate::channels::Standing;
use crate::shared::Shared;

/// A channel's part in the bdev's resets.
pub struct ChannelResets {
    shared: Arc<Shared>,
    standing: Arc<Standing>,
    part: Part,
}

impl ChannelResets {
    /// Returns the part of a new channel.
    pub fn new(shared: &Arc<Shared>, standing: &Arc<Standing>) -> ChannelResets {
        let part = Part::new(standing.joined_reset());
        ChannelResets { shared: Arc::clone(shared), standing: Arc::clone(standing), part }
    }

    /// Returns true if a reset waits for Answers.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.part.is_draining()
    }

    /// Returns true if the outstanding I/O has to end without the target.
    pub fn is_aborting(&self) -> bool {
        self.part.is_aborting()
    }

    /// Takes part in the bdev's resets while the channel has a connection. `now_us` is the time on
    /// the clock of deadlines.
    ///
    /// # Errors
    /// Fails if there is no credit for a reset, because the outstanding I/O hangs. The connection
    /// is then to be closed, and the I/O ends as without a connection.
    pub fn join(&mut self, io: &mut ChannelIo, now_us: u64) -> Result<(), Broken> {
        let is_new = self.part.hear(self.newest(io), true);
        let sent = if is_new { io.begin_resets(now_us) } else { Ok(()) };
        if self.part.is_draining() && !io.has_sent_other_than_resets() {
            self.ended();
        }
        self.complete(io);
        sent
    }

    /// Takes part in the bdev's resets while the channel has no connection. `may_fail` says whether
    /// sent I/O may fail.
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

    /// Ends the sent I/O that has to end without the target, if `may_fail`.
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

    /// Notes that the connection is lost while the I/O in `io` is outstanding.
    pub fn lost(&mut self, io: &ChannelIo) {
        let again = io.has_sent_reset().then(|| self.shared.count_reset());
        self.part.lost(again);
    }

    /// Returns the number of the bdev's newest reset. Gives a number to a reset that was submitted
    /// to this channel.
    fn newest(&self, io: &ChannelIo) -> u64 {
        if io.reset_waits() { self.shared.count_reset() } else { self.shared.resets() }
    }

    fn ended(&mut self) {
        if self.part.ended() {
            self.standing.join_reset(self.part.newest());
        }
    }

    /// Completes the resets that wait for the other channels, if all of those have joined.
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
