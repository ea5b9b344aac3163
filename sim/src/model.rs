//! What is known of the users' I/O, for the checkers in [`promises`](crate::promises).
//!
//! The world knows for every block which user's write it holds and since when, and it knows when
//! each write was handed to a store. So nothing has to be guessed from values: a write that is
//! handed to a store after it was reported as ended is a violation at that moment, not when
//! somebody reads the block.

use spdk::backend::IoStatus;
use spdk::bdev_io::IoKind;

use crate::contact::Contact;

/// One of the users' I/Os.
#[derive(Debug, Clone)]
pub struct Io {
    /// The client that submitted the I/O.
    pub client: usize,
    /// The bdev it was submitted to.
    pub disk: u64,
    /// The thread it was submitted on.
    pub thread: u64,
    /// The store that it is meant for.
    pub store: u32,
    /// Its kind.
    pub kind: IoKind,
    /// Its first block.
    pub offset: u64,
    /// Its number of blocks.
    pub count: u64,
    /// Whether its user has only read access.
    pub read_only: bool,
    /// When it was submitted.
    pub submitted: Option<Submitted>,
    /// When and how it ended.
    pub completed: Option<(u64, IoStatus)>,
    /// Whether its process died before it ended.
    pub orphan: bool,
    /// The stamps at which it was handed to a store.
    pub handed: Vec<u64>,
    /// What of it took effect.
    pub executed: Vec<Execution>,
}

/// An I/O, or a part of it, took effect.
#[derive(Debug, Clone, Copy)]
pub struct Execution {
    /// The world's stamp.
    pub at: u64,
    /// First block.
    pub offset: u64,
    /// Blocks.
    pub count: u64,
}

/// When an I/O was submitted.
#[derive(Debug, Clone, Copy)]
pub struct Submitted {
    /// The world's stamp at that time.
    pub at: u64,
    /// The client's running time, in µs.
    pub running_us: u64,
    /// The client's active time, in µs.
    pub active_us: u64,
}

impl Io {
    /// Returns whether the I/O changes blocks.
    pub fn modifies(&self) -> bool {
        matches!(self.kind, IoKind::Write | IoKind::Unmap | IoKind::WriteZeroes | IoKind::CompareAndWrite)
    }

    /// Returns whether both I/Os concern some of the same blocks.
    pub fn overlaps(&self, other: &Io) -> bool {
        self.store == other.store && self.touches(other.offset, other.count)
    }

    /// Returns whether the I/O concerns some of these blocks.
    pub fn touches(&self, offset: u64, count: u64) -> bool {
        self.offset < offset + count && offset < self.offset + self.count
    }

    /// Returns whether all its blocks took effect since it was submitted, at once or in parts.
    pub fn is_executed(&self) -> bool {
        let is_in = |block: u64, e: &Execution| {
            e.at > self.submitted_at() && (e.offset..e.offset + e.count).contains(&block)
        };
        (self.offset..self.offset + self.count).all(|block| self.executed.iter().any(|e| is_in(block, e)))
    }

    /// Returns the stamp of the I/O's submission, or 0 if it was not submitted.
    pub fn submitted_at(&self) -> u64 {
        self.submitted.map_or(0, |submitted| submitted.at)
    }

    /// Returns the stamp of the I/O's completion if it succeeded.
    pub fn succeeded_at(&self) -> Option<u64> {
        self.completed.filter(|(_, status)| *status == IoStatus::Success).map(|(at, _)| at)
    }
}

/// Circumstances of the run that excuse an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Excuses {
    /// Whether backends fail I/O in this run.
    pub errors: bool,
    /// Whether the number of times an I/O is sent again is limited.
    pub retries: bool,
    /// Whether a reset reaches the backend, where it ends other hosts' compare-and-writes.
    pub resets_reach_backend: bool,
    /// Whether clients may use either of two targets.
    pub fails_over: bool,
    /// Stamp of the latest moment at which a fault may have ended a session, or at which a client
    /// may not have noticed the fault yet.
    pub session_lost: u64,
    /// Stamp of the latest moment at which the instance of a target may have changed.
    pub restarted: u64,
}

/// What the model knows of a client.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientFacts {
    /// The time on its process's clock now, in µs.
    pub clock_us: u64,
    /// The client's running time now, in µs.
    pub running_us: u64,
    /// The running time without the periods in which a target was held up and the whole world with
    /// it, in µs.
    pub active_us: u64,
    /// Whether all I/O may fail, because the bdev is being removed or its device is not available.
    pub may_fail: bool,
    /// Whether the target has confirmed by now that the client has only read access.
    pub restricted: bool,
    /// How long the client's I/O may take, in µs.
    pub deadline_us: u64,
    /// How long the client's I/O waits without a connection, in µs; 0: as long as with one.
    pub fast_io_fail_us: u64,
    /// How long the client keeps its bdev without a connection, in µs; 0: for ever.
    pub loss_us: u64,
    /// What is known of the client's connections.
    pub contact: Contact,
    /// The stop of the client's process, if the process was told to stop.
    pub stop: Option<StopFacts>,
    /// Stamp of the latest moment at which an I/O of the client was late, so that the client may
    /// have given its session up.
    pub was_late: u64,
}

/// What is known of a client whose process was told to stop.
#[derive(Debug, Clone, Copy)]
pub struct StopFacts {
    /// When the process was told, in [`ClientFacts::running_us`].
    pub running_us: u64,
    /// When the process was told, in [`ClientFacts::active_us`].
    pub active_us: u64,
    /// Whether all targets of the client have been dead ever since.
    pub targets_are_dead: bool,
}

/// Everything that the checkers know of the users' I/O.
#[derive(Debug, Default)]
pub struct Model {
    /// All I/O. An I/O's number is its index plus one.
    pub ios: Vec<Io>,
    /// What excuses errors.
    pub excuses: Excuses,
    /// What is known of each client.
    pub clients: Vec<ClientFacts>,
    /// Numbers of the I/Os that are outstanding.
    pub outstanding: Vec<u64>,
    /// Counts I/Os that ended.
    pub completed: u64,
    /// Counts I/Os that failed.
    pub failed: u64,
}

impl Model {
    /// Adds an I/O that is about to be submitted. Returns its number.
    pub fn add(&mut self, io: Io) -> u64 {
        self.ios.push(io);
        self.ios.len() as u64
    }

    /// Returns the I/O with this number.
    pub fn io(&self, number: u64) -> Option<&Io> {
        self.ios.get((number as usize).checked_sub(1)?)
    }

    /// Returns the I/O with this number, for changing it.
    pub fn io_mut(&mut self, number: u64) -> Option<&mut Io> {
        self.ios.get_mut((number as usize).checked_sub(1)?)
    }

    /// Notes that a user's I/O was submitted, at `clock_us` on its process's clock.
    pub fn submitted(&mut self, seq: u64, number: u64, clock_us: u64) {
        let Some(client) = self.io(number).map(|io| io.client) else { return };
        let ClientFacts { running_us, active_us, .. } = self.clients[client];
        // The process may have been held up later in the same turn.
        let running_us = running_us - self.clients[client].clock_us.saturating_sub(clock_us);
        if let Some(io) = self.io_mut(number) {
            io.submitted = Some(Submitted { at: seq, running_us, active_us });
        }
        self.outstanding.push(number);
    }

    /// Notes that a client's process died: its outstanding I/O is orphaned.
    pub fn client_died(&mut self, client: usize) {
        for number in std::mem::take(&mut self.outstanding) {
            let Some(io) = self.io_mut(number) else { continue };
            if io.client == client {
                io.orphan = true;
            } else {
                self.outstanding.push(number);
            }
        }
    }
}
