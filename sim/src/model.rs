//! What is known of the users' I/O, for the checkers in [`promises`](crate::promises).
//!
//! The world knows of every block which of the user's writes it is from, since when, and when a
//! store was given each write. So nothing has to be guessed from values: a write that is given to a
//! store after it was reported as ended is wrong at that moment, not when somebody reads it.

use spdk::backend::IoStatus;
use spdk::bdev_io::IoKind;

use crate::contact::Contact;

/// One of the users' I/Os.
#[derive(Debug, Clone)]
pub struct Io {
    /// Whose.
    pub client: usize,
    /// On which bdev.
    pub disk: u64,
    /// On which thread.
    pub thread: u64,
    /// The store that it is for.
    pub store: u32,
    /// What.
    pub kind: IoKind,
    /// First block.
    pub offset: u64,
    /// Blocks.
    pub count: u64,
    /// Its user may not write.
    pub read_only: bool,
    /// When it was submitted.
    pub submitted: Option<Submitted>,
    /// When and how it ended.
    pub completed: Option<(u64, IoStatus)>,
    /// Its process died before it ended.
    pub orphan: bool,
    /// When stores were given it, by the world's stamps.
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
    /// The world's stamp.
    pub at: u64,
    /// The client's running time, µs.
    pub running_us: u64,
    /// The client's active time, µs.
    pub active_us: u64,
}

impl Io {
    /// Returns whether it changes blocks.
    pub fn modifies(&self) -> bool {
        matches!(self.kind, IoKind::Write | IoKind::Unmap | IoKind::WriteZeroes | IoKind::CompareAndWrite)
    }

    /// Returns whether both are for some of the same blocks.
    pub fn overlaps(&self, other: &Io) -> bool {
        self.store == other.store
            && self.offset < other.offset + other.count
            && other.offset < self.offset + self.count
    }

    /// Returns whether all its blocks took effect since it was submitted, at once or in parts.
    pub fn is_executed(&self) -> bool {
        let is_in = |block: u64, e: &Execution| {
            e.at > self.submitted_at() && (e.offset..e.offset + e.count).contains(&block)
        };
        (self.offset..self.offset + self.count).all(|block| self.executed.iter().any(|e| is_in(block, e)))
    }

    /// Returns the stamp of its submission; 0: none.
    pub fn submitted_at(&self) -> u64 {
        self.submitted.map_or(0, |submitted| submitted.at)
    }

    /// Returns the stamp of its end if that was successful.
    pub fn succeeded_at(&self) -> Option<u64> {
        self.completed.filter(|(_, status)| *status == IoStatus::Success).map(|(at, _)| at)
    }
}

/// What the run knows that excuses an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Excuses {
    /// Backends fail I/O in this run.
    pub errors: bool,
    /// I/O is sent again a few times only.
    pub retries: bool,
    /// A reset reaches the backend, and ends compare-and-writes of others.
    pub resets_reach_backend: bool,
    /// Stamp of the newest moment at which a session may have ended.
    pub session_lost: u64,
    /// Stamp of the newest moment at which a target's start may have been lost.
    pub restarted: u64,
}

/// A client, as the model sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientFacts {
    /// Its running time now, µs.
    pub running_us: u64,
    /// The same without the time in which a target was held up and with it all the world, µs.
    pub active_us: u64,
    /// Its bdev is being taken away, or can't be had: all may fail.
    pub may_fail: bool,
    /// Its target has said that it may only read by now.
    pub restricted: bool,
    /// How long its I/O waits, µs.
    pub deadline_us: u64,
    /// How long its I/O waits without a connection, µs; 0: as long as with one.
    pub fast_io_fail_us: u64,
    /// How long it keeps its bdev without a connection, µs; 0: for ever.
    pub loss_us: u64,
    /// Whether it has a connection.
    pub contact: Contact,
    /// Its process was told to stop.
    pub stop: Option<StopFacts>,
}

/// What is known of a client whose process was told to stop.
#[derive(Debug, Clone, Copy)]
pub struct StopFacts {
    /// When, as [`ClientFacts::running_us`].
    pub running_us: u64,
    /// When, as [`ClientFacts::active_us`].
    pub active_us: u64,
    /// Whether all its targets have been dead since.
    pub targets_are_dead: bool,
}

/// The model.
#[derive(Debug, Default)]
pub struct Model {
    /// All I/O, by number less one.
    pub ios: Vec<Io>,
    /// What excuses errors.
    pub excuses: Excuses,
    /// By client.
    pub clients: Vec<ClientFacts>,
    /// Outstanding, by number.
    pub outstanding: Vec<u64>,
    /// Counts I/O that ended.
    pub completed: u64,
    /// Counts those that failed.
    pub failed: u64,
}

impl Model {
    /// Takes an I/O that is about to be submitted. Returns its number.
    pub fn add(&mut self, io: Io) -> u64 {
        self.ios.push(io);
        self.ios.len() as u64
    }

    /// Returns the I/O of this number.
    pub fn io(&self, number: u64) -> Option<&Io> {
        self.ios.get((number as usize).checked_sub(1)?)
    }

    /// Returns the I/O of this number, to be changed.
    pub fn io_mut(&mut self, number: u64) -> Option<&mut Io> {
        self.ios.get_mut((number as usize).checked_sub(1)?)
    }

    /// A user's I/O was submitted.
    pub fn submitted(&mut self, seq: u64, number: u64) {
        let Some(client) = self.io(number).map(|io| io.client) else { return };
        let ClientFacts { running_us, active_us, .. } = self.clients[client];
        if let Some(io) = self.io_mut(number) {
            io.submitted = Some(Submitted { at: seq, running_us, active_us });
        }
        self.outstanding.push(number);
    }

    /// A client's process died.
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
