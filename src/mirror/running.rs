//! A mirror whose members are known: its state, and who takes part in what.
//!
//! The rules are in the files for each subject, as methods of [`Running`]: `writes.rs`, `reads.rs`,
//! `flushes.rs` (users' I/O), `recording.rs` (what has to be durable before what), `departures.rs`
//! and `joining.rs` (members that go and come), `changes.rs` (members that are added and removed),
//! `witness.rs` (the witness that is), `resync.rs` (members that are brought up to date),
//! `verification.rs` (members that are compared), `stopping.rs` (the end).

use std::collections::VecDeque;

use crate::change::Change;
use crate::configuration::{Configuration, MEMBERS_MAX, MemberState, WitnessState};
use crate::copying::Copying;
use crate::extents::{Extent, Extents};
use crate::handles::{Device, IoId};
use crate::ids::{MemberId, MirrorId};
use crate::input::Op;
use crate::locks::{Holder, Locks};
use crate::metadata::Record;
pub(crate) use crate::missed::Missed;
use crate::output::Status;
pub(crate) use crate::ports::{Places, Port, Up, WITNESS};
use crate::regions::{FlushTicket, RecordTicket, Regions};
use crate::report::Counts;
pub(crate) use crate::roles::in_sync;
use crate::roles::{KnownRoles, Roles, Watched};
use crate::shared::Shared;
use crate::verifying::Verifying;

/// A user's I/O.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Io {
    pub(crate) op: Op,
    pub(crate) range: Extent,
    pub(crate) state: IoState,
}

/// What a user's I/O is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IoState {
    /// There is no I/O of this number.
    Free,
    /// A write waits for its range.
    Locking,
    /// A write waits until writes may begin, or for room in the intent log.
    Held,
    /// A write is counted in the intent log, and waits until that is recorded.
    Recording,
    /// Members have the write.
    Writing,
    /// A write or flush has ended on the members, and waits until it is recorded which ones missed
    /// it.
    Settling,
    /// A member has the read.
    Reading {
        /// The member.
        from: usize,
        /// Its lost caches when it was asked.
        lost_caches: u32,
        /// The members that have failed it.
        failed: Places,
    },
    /// A read that one member has answered waits for a lock on its range, to repair the others.
    RepairLocking {
        /// The members that have failed it.
        failed: Places,
    },
    /// The blocks are read again while the range is locked.
    RepairReading {
        /// The member.
        from: usize,
        /// Its lost caches when it was asked.
        lost_caches: u32,
        /// The members that have failed the read.
        failed: Places,
    },
    /// The blocks are written back to a member.
    Repairing {
        /// The other members that have failed the read.
        failed: Places,
        /// The member.
        to: usize,
    },
    /// A flush waits until the one that is under way has ended.
    FlushWaiting,
    /// Members are being flushed.
    Flushing,
}

/// Whose word decides whether a record counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authority {
    /// The majority's.
    Majority,
    /// The operator's, until a first generation was begun: the assembly is forced.
    Operator,
    /// All devices': the mirror is being created.
    All,
}

/// How far it is recorded that this host owns the mirror now ([`crate::quorum`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// A majority is to know that there is a new owner. The record repeats what was found, and
    /// ranks as the record that was found.
    Announcing,
    /// A majority knows. What was found is to be on a majority as a record of this owner.
    Adopting,
    /// A majority has that record.
    Over,
}

/// What the mirror has tried to record since the last record that counts: some device may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftovers {
    /// Nothing.
    None,
    /// Changes that leave the voters as they are recorded.
    SameVoters,
    /// A change of the voters: a majority of the new ones may go on from it.
    OtherVoters,
}

/// What the mirror is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// I/O is carried out.
    Serving,
    /// The mirror was told to stop, and is stopped at `until` in any case.
    Stopping {
        /// The time in µs.
        until: u64,
        /// Whether the metadata are overwritten.
        wipes: bool,
        /// Whether all members were flushed.
        is_flushed: bool,
    },
    /// The metadata are overwritten.
    Wiping {
        /// The time in µs at which the mirror is stopped in any case.
        until: u64,
        /// The number of requests that are left.
        left: u32,
        /// The places whose requests have failed.
        failed: Places,
        /// Whether these are the flushes that follow the writes.
        is_flushing: bool,
    },
    /// The mirror can't be used, as the driver was told.
    Ended,
    /// The driver was told that the mirror has stopped.
    Stopped,
}

impl Mode {
    /// Returns whether nothing is recorded any more, so that no I/O succeeds.
    #[inline]
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Mode::Ended | Mode::Stopped)
    }
}

/// A flush of all members.
pub(crate) struct FlushRound {
    /// The number of the flush: an answer to an earlier one may come late.
    pub(crate) number: u32,
    pub(crate) ticket: FlushTicket,
    /// The members that have not answered.
    pub(crate) pending: Places,
    /// The members that have failed it, and were not given up.
    pub(crate) failed: Places,
}

/// How far a device is with a record.
pub(crate) enum Progress {
    /// The device does not get the record.
    None,
    /// Trees are being written, so many of them.
    Trees { left: usize, superblock: crate::metadata::Write },
    /// The device gets the record once all members in sync have it.
    Waiting,
    /// The trees are being flushed.
    TreesFlush { superblock: crate::metadata::Write },
    /// The superblock is being written.
    Superblock,
    /// The superblock is being flushed.
    SuperblockFlush,
    /// The device has the record.
    Durable,
    /// The device has failed, or was given up.
    Failed,
}

/// A record that is being written.
pub(crate) struct Round {
    pub(crate) record: Record,
    /// What the trees are, if any device needs them, and whether each has changed.
    pub(crate) trees: Vec<(Extents, bool)>,
    pub(crate) config: Configuration,
    /// Whether the configuration is another one than the recorded one.
    pub(crate) is_change: bool,
    pub(crate) ticket: RecordTicket,
    pub(crate) has_trees: bool,
    /// The versions of the trees.
    pub(crate) versions: [u64; MEMBERS_MAX],
    pub(crate) progress: Vec<Progress>,
}

impl Round {
    /// Returns whether a device may have the record, and it calls this member in sync.
    pub(crate) fn calls_in_sync(&self, who: usize) -> bool {
        in_sync(&self.config) & 1 << who != 0
            && self.progress.iter().any(|progress| !matches!(progress, Progress::None | Progress::Waiting))
    }
}

/// A mirror whose members are known.
pub(crate) struct Running {
    pub(crate) mirror: MirrorId,
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
    /// The configuration as it is to be.
    pub(crate) config: Watched<Configuration>,
    /// The configuration that is recorded: the last one that counts.
    pub(crate) recorded: Watched<Configuration>,
    /// The members that some record on some device may call in sync.
    pub(crate) claimed: Places,
    pub(crate) beginning: Beginning,
    /// Whether it is recorded that members missed something, but the new generation is not recorded
    /// yet.
    pub(crate) is_renewal_due: bool,
    pub(crate) authority: Authority,
    /// The members whose data may be overwritten, whatever these are: the operator has said so.
    pub(crate) overwritten: Places,
    pub(crate) ports: Watched<Vec<Port>>,
    pub(crate) known_roles: KnownRoles,
    pub(crate) missed: Vec<Missed>,
    /// The number of times that each member has lost its cache. A read that the member was asked
    /// for before the newest loss is not trusted.
    pub(crate) lost_caches: [u32; MEMBERS_MAX],
    pub(crate) regions: Regions,
    /// The regions that were hot when the mirror was assembled: they stay in its records until it
    /// is recorded who may differ there.
    pub(crate) found_hot: Vec<u16>,
    pub(crate) locks: Locks,
    pub(crate) granted: VecDeque<Holder>,
    pub(crate) ios: Vec<Io>,
    /// The writes in [`IoState::Held`].
    pub(crate) held: VecDeque<IoId>,
    /// The writes in [`IoState::Recording`].
    pub(crate) recording: VecDeque<IoId>,
    /// The I/O in [`IoState::Settling`].
    pub(crate) settling: VecDeque<IoId>,
    /// The flushes in [`IoState::Flushing`].
    pub(crate) flushing: Vec<IoId>,
    /// The flushes in [`IoState::FlushWaiting`].
    pub(crate) flush_waiting: Vec<IoId>,
    pub(crate) flush: Option<FlushRound>,
    /// The number of the last flush.
    pub(crate) flushes: u32,
    /// Whether the last member in sync was away, or has lost its cache, while writes were not
    /// flushed. They may be lost: the next flush of a user fails.
    pub(crate) has_lost: bool,
    /// Whether the mirror flushes by itself as soon as it can.
    pub(crate) wants_flush: bool,
    /// Whether regions cool after the next flush.
    pub(crate) wants_cool: bool,
    pub(crate) next_flush: u64,
    /// The time before which no request is late, in µs: computed now and then, as that is a walk
    /// over all requests. Those that come meanwhile are younger.
    pub(crate) next_late: u64,
    pub(crate) round: Option<Round>,
    pub(crate) leftovers: Leftovers,
    /// The change of the members or the witness that is going on.
    pub(crate) change: Change,
    /// Whether the next record has the trees.
    pub(crate) wants_trees: bool,
    /// Whether a record is due, whatever else is.
    pub(crate) wants_record: bool,
    /// Whether a record is due that cannot reach a majority.
    pub(crate) is_stalled: bool,
    pub(crate) copying: Copying,
    pub(crate) verifying: Verifying,
    pub(crate) rotation: usize,
    pub(crate) mode: Mode,
    pub(crate) is_registered: bool,
    /// Whether something has changed for which other I/O than the one at hand may have waited.
    pub(crate) is_stirred: bool,
    pub(crate) counts: Counts,
}

impl Running {
    /// Returns the members' places.
    pub(crate) fn members(&self) -> std::ops::Range<usize> {
        0..self.config.members.len()
    }

    /// Returns a device that is in use.
    #[inline]
    pub(crate) fn up(&self, who: usize) -> Option<&Up> {
        match &self.ports[who] {
            Port::Up(up) => Some(up),
            Port::Down { .. } => None,
        }
    }

    pub(crate) fn up_mut(&mut self, who: usize) -> Option<&mut Up> {
        match &mut self.ports[who] {
            Port::Up(up) => Some(up),
            Port::Down { .. } => None,
        }
    }

    /// Returns the device of a member that gets data.
    #[inline]
    pub(crate) fn active(&self, who: usize) -> Option<Device> {
        self.up(who).filter(|up| up.is_active).map(|up| up.device)
    }

    #[inline]
    pub(crate) fn is_in_sync(&self, who: usize) -> bool {
        self.config.members[who].state == MemberState::InSync
    }

    #[inline]
    pub(crate) fn is_resyncing(&self, who: usize) -> bool {
        matches!(self.config.members[who].state, MemberState::Resyncing { .. })
    }

    /// Returns the members that are there and recorded as in sync.
    #[inline]
    pub(crate) fn sources(&self) -> Places {
        self.roles().sources
    }

    /// Returns what the members take part in.
    #[inline]
    pub(crate) fn roles(&self) -> Roles {
        self.known_roles.get(&self.config, &self.recorded, &self.ports)
    }

    /// Returns whether no member has missed a write without that being recorded: writes may begin,
    /// and complete.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        !self.is_renewal_due && self.claimed & !self.roles().in_sync == 0
    }

    /// Returns the places of the members that were not removed.
    pub(crate) fn voting_members(&self) -> impl Iterator<Item = usize> {
        self.members().filter(|&who| self.config.members[who].state != MemberState::Detached)
    }

    /// Returns the place of a member or the witness.
    pub(crate) fn place(&self, id: MemberId) -> Option<usize> {
        let member = self.config.members.iter().position(|member| member.id == id);
        member.or_else(|| self.config.witness.as_ref().filter(|witness| witness.id == id).map(|_| WITNESS))
    }

    /// Returns the name at a place.
    pub(crate) fn name(&self, who: usize) -> &str {
        match who {
            WITNESS => "the witness",
            _ => &self.config.members[who].name,
        }
    }

    #[inline]
    pub(crate) fn io(&mut self, io: IoId) -> &mut Io {
        &mut self.ios[io.0 as usize]
    }

    /// Completes a user's I/O.
    #[inline(always)]
    pub(crate) fn complete(&mut self, s: &mut Shared, io: IoId, status: Status) {
        let op = self.io(io).op;
        self.io(io).state = IoState::Free;
        match op {
            Op::Read => self.counts.reads += 1,
            Op::Write | Op::WriteZeroes => self.counts.writes += 1,
            Op::Flush => self.counts.flushes += 1,
        }
        s.requests.complete(io, status);
    }

    /// A user's I/O.
    pub(crate) fn submit(&mut self, s: &mut Shared, id: IoId, op: Op, range: Extent) {
        let io = self.io(id);
        assert!(io.state == IoState::Free, "{id:?} is used twice");
        (io.op, io.range) = (op, range);
        let is_beyond = range.count > self.blocks || range.start > self.blocks - range.count;
        let is_write = matches!(op, Op::Write | Op::WriteZeroes);
        let is_long = || is_write && self.regions.limit(range) != range;
        let is_wrong = op != Op::Flush && (range.count == 0 || is_beyond || is_long());
        if self.mode != Mode::Serving || !self.is_registered || is_wrong {
            return self.complete(s, id, Status::Failed);
        }
        self.copying.users_at = Some(s.now());
        match op {
            Op::Read => self.read(s, id, 0),
            Op::Write | Op::WriteZeroes => self.write(s, id),
            Op::Flush => self.user_flush(s, id),
        }
    }

    /// Continues what waited for locks, and for changes, until nothing goes on.
    #[inline]
    pub(crate) fn settle(&mut self, s: &mut Shared) {
        if self.is_stirred || !self.granted.is_empty() {
            self.settle_all(s);
        }
    }

    #[inline(never)]
    fn settle_all(&mut self, s: &mut Shared) {
        while self.is_stirred || !self.granted.is_empty() {
            self.settle_once(s);
        }
    }

    fn settle_once(&mut self, s: &mut Shared) {
        while let Some(holder) = self.granted.pop_front() {
            match holder {
                Holder::Io(io) => match self.io(io).state {
                    IoState::Locking => self.begin_write(s, io),
                    IoState::RepairLocking { failed } => self.repair_locked(s, io, failed),
                    other => unreachable!("a lock is granted to {other:?}"),
                },
                Holder::Slot(slot) => self.slot_locked(s, slot),
                Holder::Verification => self.window_locked(s),
            }
        }
        if std::mem::take(&mut self.is_stirred) {
            self.continue_change(s);
            self.begin_round(s);
            self.continue_settling(s);
            self.continue_recording(s);
            self.continue_held(s);
            self.continue_verification(s);
            self.begin_flush(s);
            self.continue_resync(s);
            self.continue_stopping(s);
        }
    }

    /// Gives up a lock.
    #[inline]
    pub(crate) fn unlock(&mut self, holder: Holder) {
        self.locks.unlock(holder, &mut self.granted);
    }

    /// Adds all hot regions to what the members out of sync missed: those in sync may have lost
    /// writes there that others have. Copies that are under way are made again.
    pub(crate) fn miss_hot_elsewhere(&mut self) {
        self.copying.distrust();
        for who in self.members() {
            if self.keeps_tree(who) {
                self.miss_hot(who);
            }
        }
    }

    /// Adds all hot regions to what a member missed: any of their blocks may differ there.
    pub(crate) fn miss_hot(&mut self, who: usize) {
        let (size, blocks) = (self.regions.size(), self.blocks);
        for region in self.regions.hot() {
            self.missed[who].insert(size.extent(region, blocks));
        }
    }
}

/// Returns whether members and witness have the same states in two configurations.
pub(crate) fn says_the_same(one: &Configuration, other: &Configuration) -> bool {
    let members = |config: &Configuration| config.members.iter().map(|m| m.state).collect::<Vec<_>>();
    let witness =
        |config: &Configuration| -> Option<WitnessState> { config.witness.as_ref().map(|w| w.state) };
    members(one) == members(other) && witness(one) == witness(other)
}
