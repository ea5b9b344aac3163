//! A reset of a bdev: all I/O of the bdev, on every thread, ends before the reset does.
//!
//! The bdev's resets are counted. Each channel that hears of a new one ends what it has. With a
//! connection, what is outstanding ends as usual, sooner if the target resets its backend; without
//! one, it ends as soon as nothing of it is executed any more. The channel has then *joined* the
//! reset, and the reset completes when every channel has.
//!
//! A reset goes to the target whenever that can be reached. During an outage it completes without
//! the target, once nothing of the bdev's I/O is outstanding or can be executed any more: that is
//! what a reset promises to the layers above, which would take a failed one for a broken device.

use crate::mutation::{self, Mutation};

/// What a channel does for a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing: what it had has ended.
    Idle,
    /// It waits for the answers to what is outstanding.
    Draining,
    /// What is outstanding is to end without the target: there was no connection, or it was lost.
    Aborting,
}

/// One channel's part in the resets of its bdev.
#[derive(Debug, Clone)]
pub struct Part {
    phase: Phase,
    /// The newest reset that the channel knows of.
    newest: u64,
}

impl Part {
    /// Returns the part of a channel that is opened after `resets` resets of its bdev, all of which
    /// it has joined.
    pub fn new(resets: u64) -> Part {
        Part { phase: Phase::Idle, newest: resets }
    }

    /// Returns the newest reset that the channel knows of.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Hears that the bdev's newest reset is `resets`. Returns whether that is a new one: what
    /// waits to be sent is to be ended.
    pub fn hear(&mut self, resets: u64, has_connection: bool) -> bool {
        if resets == self.newest {
            return false;
        }
        assert!(
            !has_connection || self.phase != Phase::Aborting,
            "a connection begins with nothing to abort"
        );
        self.newest = resets;
        self.phase = if has_connection { Phase::Draining } else { Phase::Aborting };
        true
    }

    /// Returns whether a reset that was submitted without a connection is to wait for one. The
    /// reset goes to the target if that can be reached; otherwise the target would be asked for
    /// less than the user asked for. But what was sent on a lost connection ends first, which needs
    /// the fence, and an outage must not keep the bdev in a reset.
    ///
    /// `resets` is the number of the bdev's newest reset. If that is another channel's and new
    /// here, the reset does not wait: it would be taken for a part of that one, which channels may
    /// have joined before this reset was submitted.
    pub fn waits_for_connection(&self, is_reachable: bool, has_sent: bool, resets: u64) -> bool {
        is_reachable && !has_sent && self.phase == Phase::Idle && resets == self.newest
    }

    /// The connection is lost. A reset that was sent on it is not sent again, but begun anew as the
    /// bdev's reset of the number `again`.
    pub fn lost(&mut self, again: Option<u64>) {
        if self.phase == Phase::Draining || again.is_some() {
            self.phase = Phase::Aborting;
        }
        self.newest = again.unwrap_or(self.newest);
    }

    /// Returns whether answers are waited for.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// Returns whether what is outstanding is to end without the target.
    pub fn is_aborting(&self) -> bool {
        self.phase == Phase::Aborting
    }

    /// Nothing that was outstanding before the reset is left, answered or ended. Returns whether
    /// the channel has joined [`Part::newest`] by that.
    pub fn ended(&mut self) -> bool {
        std::mem::replace(&mut self.phase, Phase::Idle) != Phase::Idle
    }

    /// Returns whether the channel's resets may complete. `joined` is the newest reset that each of
    /// the bdev's channels has joined.
    pub fn may_complete(&self, mut joined: impl Iterator<Item = u64>) -> bool {
        let alone = mutation::is_on(Mutation::ResetAlone);
        self.phase == Phase::Idle && (alone || joined.all(|joined| joined >= self.newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reset_is_heard_of_once_and_ended_once() {
        let mut part = Part::new(3);
        assert!(!part.hear(3, true) && !part.ended());
        assert!(part.hear(4, true) && !part.hear(4, true));
        assert!(part.is_draining() && !part.may_complete([4].into_iter()));
        assert!(part.ended() && !part.ended());
        assert!(part.may_complete([4, 5].into_iter()) && !part.may_complete([4, 3].into_iter()));
    }

    #[test]
    fn a_reset_waits_for_the_first_connection_and_not_through_an_outage() {
        let mut part = Part::new(0);
        assert!(part.waits_for_connection(true, false, 0));
        assert!(!part.waits_for_connection(false, false, 0), "the target can't be reached");
        assert!(!part.waits_for_connection(true, true, 0), "what was sent has to end");
        assert!(!part.waits_for_connection(true, false, 1), "another channel's reset is not this one");
        part.hear(1, false);
        assert!(!part.waits_for_connection(true, false, 1), "another channel's reset ends all");
    }

    #[test]
    fn a_loss_ends_the_waiting_for_answers() {
        let mut part = Part::new(0);
        part.lost(None);
        assert!(!part.is_aborting(), "nothing was to end");
        part.hear(1, true);
        part.lost(None);
        assert!(part.is_aborting() && part.newest() == 1);
        assert!(part.ended());
        part.lost(Some(2));
        assert!(part.is_aborting() && part.newest() == 2, "a reset that was sent begins anew");
    }

    /// A channel as the client has it, with I/O that is told apart by when it was submitted.
    struct TestChannel {
        part: Part,
        joined: u64,
        has_connection: bool,
        /// Of reads and writes.
        outstanding: Vec<u64>,
        /// Resets that were submitted and not heard of yet; that the target has; that wait to
        /// complete.
        new: Vec<u64>,
        sent: Vec<u64>,
        held: Vec<u64>,
    }

    struct World {
        channels: Vec<TestChannel>,
        /// The control connection is up.
        is_reachable: bool,
        resets: u64,
        time: u64,
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Submit,
        Reset,
        Turn,
        Answer,
        Lose,
        Connect,
        /// The fence lets fail what was sent.
        Abort,
        /// The control connection is lost, or back.
        Reachable(bool),
    }

    const STEPS: [Step; 9] = [
        Step::Submit,
        Step::Reset,
        Step::Turn,
        Step::Answer,
        Step::Lose,
        Step::Connect,
        Step::Abort,
        Step::Reachable(false),
        Step::Reachable(true),
    ];

    impl World {
        fn new(channels: usize) -> World {
            let channel = || TestChannel {
                part: Part::new(0),
                joined: 0,
                has_connection: true,
                outstanding: Vec::new(),
                new: Vec::new(),
                sent: Vec::new(),
                held: Vec::new(),
            };
            World {
                channels: (0..channels).map(|_| channel()).collect(),
                is_reachable: true,
                resets: 0,
                time: 0,
            }
        }

        fn step(&mut self, at: usize, step: Step) {
            self.time += 1;
            let channel = &mut self.channels[at];
            match step {
                Step::Submit => channel.outstanding.push(self.time),
                Step::Reset => channel.new.push(self.time),
                Step::Answer if channel.has_connection => {
                    if channel.outstanding.pop().is_none() {
                        channel.held.append(&mut channel.sent);
                    }
                }
                Step::Lose if channel.has_connection => {
                    channel.has_connection = false;
                    let again = (!channel.sent.is_empty()).then(|| {
                        self.resets += 1;
                        self.resets
                    });
                    channel.part.lost(again);
                }
                Step::Connect => {
                    channel.abort();
                    channel.has_connection = true;
                }
                Step::Abort if !channel.has_connection => channel.abort(),
                Step::Turn => self.turn(at),
                Step::Reachable(is_reachable) => self.is_reachable = is_reachable,
                Step::Answer | Step::Lose | Step::Abort => {}
            }
        }

        fn turn(&mut self, at: usize) {
            let channel = &mut self.channels[at];
            let has_sent = !channel.outstanding.is_empty() || !channel.sent.is_empty();
            let waits = !channel.has_connection
                && channel.part.waits_for_connection(self.is_reachable, has_sent, self.resets);
            self.resets += u64::from(!waits && !channel.new.is_empty());
            if channel.part.hear(self.resets, channel.has_connection) {
                let to = if channel.has_connection { &mut channel.sent } else { &mut channel.held };
                to.append(&mut channel.new);
            }
            if channel.part.is_draining() && channel.outstanding.is_empty() && channel.part.ended() {
                channel.joined = channel.part.newest();
            }
            let joined = || self.channels.iter().map(|channel| channel.joined);
            if self.channels[at].part.may_complete(joined()) {
                for reset in std::mem::take(&mut self.channels[at].held) {
                    let before = self.channels.iter().flat_map(|channel| &channel.outstanding);
                    let left = before.filter(|&&io| io < reset).count();
                    assert_eq!(left, 0, "I/O from before a reset that has completed");
                }
            }
        }
    }

    impl TestChannel {
        fn abort(&mut self) {
            if self.part.is_aborting() {
                self.outstanding.clear();
                self.held.append(&mut self.sent);
                if self.part.ended() {
                    self.joined = self.part.newest();
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_reset_completes_after_all_io_before_it_and_always_completes(
            channels in 1usize..4,
            steps in proptest::collection::vec((0usize..4, proptest::sample::select(&STEPS[..])), 0..120),
        ) {
            let mut world = World::new(channels);
            for (at, step) in steps {
                world.step(at % channels, step);
            }
            for step in [Step::Connect, Step::Turn].into_iter().chain([Step::Answer; 121]).chain([Step::Turn; 2]) {
                (0..channels).for_each(|at| world.step(at, step));
            }
            for channel in &world.channels {
                let left = channel.new.len() + channel.sent.len() + channel.held.len();
                prop_assert_eq!(left, 0, "resets that never complete");
            }
        }
    }
}
