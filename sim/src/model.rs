//! What must hold: checks all that the world records against the promises of docs/failures.md.
//!
//! The world knows of every block which of the user's writes it is from, since when, and when the backend was
//! given each write. So nothing has to be guessed from values: a write that is given to a backend
//! after it was reported as ended is wrong at that moment, not when somebody reads it.

use std::collections::BTreeMap;

use spdk::backend::IoStatus;
use spdk::bdev_io::IoKind;
use spdk::promise;
use spdk::store;
use spdk::user::Record;
use spdk::world;

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
    /// When it was submitted: the world's stamp, and the client's running time.
    pub submitted: Option<(u64, u64)>,
    /// The client's active time at that moment.
    pub submitted_active_us: u64,
    /// When and how it ended.
    pub completed: Option<(u64, IoStatus)>,
    /// Its process died before it ended.
    pub orphan: bool,
    /// How often, and when first, a backend was given it.
    pub handed: Vec<u64>,
    /// When it took effect, and on how many blocks.
    pub executed: Vec<(u64, u64)>,
}

/// What the run knows that excuses an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Excuses {
    /// Backends fail I/O in this run.
    pub errors: bool,
    /// I/O is sent again a few times only.
    pub retries: bool,
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
    /// How long its I/O waits, µs.
    pub deadline_us: u64,
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
    /// Writes that were acknowledged, then lost and not yet reported, by client.
    pub(crate) losses: BTreeMap<usize, Vec<(u64, u64)>>,
    /// Up to which moment's writes a client was told that they may be lost, before they were.
    pub(crate) told: BTreeMap<usize, u64>,
    /// Outstanding, by number.
    pub outstanding: Vec<u64>,
    /// Counts by how it ended.
    pub completed: u64,
    /// Counts those that failed.
    pub failed: u64,
}

fn modifies(kind: IoKind) -> bool {
    matches!(kind, IoKind::Write | IoKind::Unmap | IoKind::WriteZeroes | IoKind::CompareAndWrite)
}

impl Io {
    fn overlaps(&self, other: &Io) -> bool {
        self.store == other.store
            && self.offset < other.offset + other.count
            && other.offset < self.offset + self.count
    }
}

impl Model {
    /// Takes an I/O that is about to be submitted. Gives its number.
    pub fn add(&mut self, io: Io) -> u64 {
        self.ios.push(io);
        self.ios.len() as u64
    }

    /// The I/O of this number.
    pub fn io(&mut self, number: u64) -> Option<&mut Io> {
        self.ios.get_mut((number as usize).checked_sub(1)?)
    }

    /// Checks one record. Gives the number of an I/O that ended by it.
    pub fn check(&mut self, record: &Record) -> Option<u64> {
        match *record {
            Record::Submitted { seq, io } => {
                let client = self.io(io)?.client;
                let ClientFacts { running_us, active_us, .. } = self.clients[client];
                let submitted = self.io(io)?;
                submitted.submitted = Some((seq, running_us));
                submitted.submitted_active_us = active_us;
                self.outstanding.push(io);
            }
            Record::Completed { seq, io, status, ref data, by_layer } => {
                self.completed(seq, io, status, data, by_layer);
                return Some(io);
            }
            Record::Handed { seq, store, kind, offset, count, write, .. } if write != 0 => {
                self.handed(seq, store, (kind, offset, count), write);
            }
            Record::Executed { seq, count, write, .. } => self.executed(seq, count, write),
            Record::Lost { seq, write, .. } => {
                if let Some(io) = self.io(write)
                    && io.completed.is_some_and(|(_, status)| status == IoStatus::Success)
                    && !io.orphan
                {
                    let client = io.client;
                    let ended = io.completed.map_or(0, |(at, _)| at);
                    if self.told.get(&client).is_some_and(|told| ended < *told) {
                        return None;
                    }
                    self.losses.entry(client).or_default().push((seq, write));
                }
            }
            _ => {}
        }
        None
    }

    /// A client's process died, or its bdev was taken away: nobody is left to be told of losses.
    pub fn forget_losses(&mut self, client: usize) {
        self.losses.remove(&client);
        self.told.remove(&client);
    }

    /// A client's process died.
    pub fn client_died(&mut self, client: usize) {
        self.forget_losses(client);
        for number in std::mem::take(&mut self.outstanding) {
            let Some(io) = self.io(number) else { continue };
            if io.client == client {
                io.orphan = true;
            } else {
                self.outstanding.push(number);
            }
        }
    }

    fn handed(&mut self, seq: u64, store: u32, what: (IoKind, u64, u64), write: u64) {
        let Some(io) = self.io(write) else {
            return world::violation(
                promise::DATA,
                format!("a backend is given write {write}, which nobody made"),
            );
        };
        let twice = io.kind == IoKind::CompareAndWrite && !io.handed.is_empty();
        io.handed.push(seq);
        let io = io.clone();
        if (io.kind, io.offset, io.count) != what {
            let text = format!("write {write} is {:?} {}+{}, not {what:?}", io.kind, io.offset, io.count);
            return world::violation(promise::DATA, text);
        }
        if io.store != store {
            let text = format!("write {write} for store {} is given to store {store}", io.store);
            world::violation(promise::DEVICE, text);
        }
        if io.read_only {
            world::violation(promise::RIGHTS, format!("write {write} is of a host that may only read"));
        }
        if twice {
            let text = format!("compare-and-write {write} is given to a backend again");
            world::violation(promise::ONCE, text);
        }
        if let Some((ended, status)) = io.completed.filter(|(ended, _)| *ended < seq) {
            let text =
                format!("write {write} ended with {status:?} at {ended}, a backend is given it at {seq}");
            world::violation(promise::OLD, text);
        }
    }

    fn executed(&mut self, seq: u64, count: u64, write: u64) {
        let Some(io) = self.io(write) else { return };
        io.executed.push((seq, count));
        let io = io.clone();
        let Some((ended, status)) = io.completed.filter(|(ended, _)| *ended < seq) else { return };
        if count == 0 {
            return;
        }
        if status == IoStatus::Success {
            let text = format!("write {write} ended at {ended}, it is executed at {seq}");
            return world::violation(promise::OLD, text);
        }
        // It failed while the backend had it. That may come late, but not after a newer one.
        let newer = self.ios.iter().zip(1..).find(|(other, _)| {
            let done = other.completed.is_some_and(|(at, status)| at < seq && status == IoStatus::Success);
            // Of another host's I/O nothing is fenced: what is not promised in docs/failures.md.
            done && other.client == io.client
                && modifies(other.kind)
                && other.overlaps(&io)
                && other.submitted.is_some_and(|(at, _)| at > ended)
        });
        if let Some((_, newer)) = newer {
            let text =
                format!("write {write} failed at {ended} and is executed at {seq}, after write {newer}");
            world::violation(promise::OLD, text);
        }
    }

    fn completed(&mut self, seq: u64, number: u64, status: IoStatus, data: &[u8], by_layer: bool) {
        self.outstanding.retain(|other| *other != number);
        self.completed += 1;
        let Some(io) = self.io(number) else {
            return world::violation(promise::ONE_COMPLETION, format!("I/O {number} was never submitted"));
        };
        if io.orphan {
            return;
        }
        if io.completed.replace((seq, status)).is_some() {
            return world::violation(promise::ONE_COMPLETION, format!("I/O {number} is completed twice"));
        }
        let io = io.clone();
        let Some(submitted) = io.submitted else {
            return world::violation(promise::ONE_COMPLETION, format!("I/O {number} was never submitted"));
        };
        match (status, io.kind) {
            (IoStatus::Success, IoKind::Read) => self.read(seq, number, &io, data),
            (IoStatus::Success, IoKind::Flush) => self.flushed(seq, number, &io),
            (IoStatus::Success, IoKind::Reset) => self.reset(number, &io),
            (IoStatus::Success, _) => {
                if !io.executed.iter().any(|&(at, count)| at > submitted.0 && count == io.count) {
                    let text = format!("write {number} is acknowledged, it is in no backend");
                    world::violation(promise::LOST, text);
                }
            }
            (IoStatus::Miscompare, IoKind::CompareAndWrite) => {
                if io.executed.iter().any(|&(_, count)| count > 0) {
                    let text = format!("compare-and-write {number} found other blocks, and wrote");
                    world::violation(promise::ONCE, text);
                }
                if io.executed.is_empty() {
                    let text = format!("compare-and-write {number} found other blocks without looking");
                    world::violation(promise::ONCE, text);
                }
            }
            _ => {
                self.failed += 1;
                if io.kind == IoKind::Flush {
                    // It was said aloud.
                    self.losses.remove(&io.client);
                    if status == IoStatus::Failed && self.excuses.restarted > 0 {
                        self.told.insert(io.client, self.excuses.restarted);
                    }
                }
                if !by_layer {
                    self.excused(seq, number, &io, status);
                }
            }
        }
    }

    fn read(&self, seq: u64, number: u64, io: &Io, data: &[u8]) {
        let size = data.len() / io.count.max(1) as usize;
        let from = io.submitted.map_or(0, |(at, _)| at);
        for (bytes, block) in data.chunks_exact(size).zip(io.offset..) {
            let allowed = store::versions(io.store, block, from, seq);
            let fits =
                |write: u64| allowed.iter().any(|c| if c.zero { write == 0 } else { c.write == write });
            match store::write_of(bytes, block) {
                Some(write) if fits(write) => {}
                found => {
                    let text =
                        format!("read {number} finds {found:?} in block {block}, which has had {allowed:?}");
                    world::violation(promise::CURRENT, text);
                }
            }
        }
    }

    /// SPDK demands that nothing of the bdev is outstanding any more: what is submitted meanwhile it ends itself.
    fn reset(&self, number: u64, io: &Io) {
        let left = self.outstanding.iter().find(|&&other| {
            let other = &self.ios[other as usize - 1];
            other.disk == io.disk && other.client == io.client && !other.orphan
        });
        if let Some(left) = left {
            world::violation(promise::RESET, format!("reset {number} has ended, I/O {left} has not"));
        }
    }

    fn flushed(&self, seq: u64, number: u64, io: &Io) {
        let submitted = io.submitted.map_or(0, |(at, _)| at);
        let covers = |write: u64| {
            self.ios.get((write as usize).wrapping_sub(1)).is_some_and(|w| {
                !w.orphan && w.completed.is_some_and(|(at, s)| at < submitted && s == IoStatus::Success)
            })
        };
        // Who had another bdev, or was another process, can't be told.
        let of_disk = |write: u64| self.ios[write as usize - 1].disk == io.disk;
        if let Some((_, write)) = self
            .losses
            .get(&io.client)
            .into_iter()
            .flatten()
            .find(|(at, w)| *at < seq && covers(*w) && of_disk(*w))
        {
            let text = format!("flush {number} succeeds, write {write} was lost and nobody was told");
            world::violation(promise::FLUSH, text);
        }
        for (block, write) in store::not_durable(io.store) {
            if covers(write) {
                let text = format!("flush {number} succeeds, write {write} in block {block} is not durable");
                world::violation(promise::FLUSH, text);
            }
        }
    }

    /// Whether an error has a reason.
    fn excused(&self, seq: u64, number: u64, io: &Io, status: IoStatus) {
        let (submitted, began_us) = io.submitted.unwrap_or_default();
        let client = &self.clients[io.client];
        // A clock of the client's own thread is coarse by one of its turns.
        let waited_us = client.running_us.saturating_sub(began_us) + 25_000;
        let deadline = waited_us >= client.deadline_us;
        let taken_away = client.may_fail;
        let reset = self.ios.iter().any(|other| {
            other.kind == IoKind::Reset
                && other.store == io.store
                && other.submitted.is_some_and(|(at, _)| at < seq)
                // One that ended without its connection may still come in the backend; of the client's own nothing
                // is begun before that.
                && (other.orphan
                    || other.client != io.client
                    // One whose own time was up may still be noticed by another thread's channel.
                    || other.completed.is_none_or(|(at, s)| at > submitted || s != IoStatus::Success))
        });
        // A session is given up when an I/O fails whose time is up.
        let gave_up = self.ios.iter().any(|other| {
            other.client == io.client
                && other.completed.is_some_and(|(at, status)| at < seq && status != IoStatus::Success)
        });
        let unknown = io.kind == IoKind::CompareAndWrite && (self.excuses.session_lost > 0 || gave_up);
        let lost = io.kind == IoKind::Flush && self.excuses.restarted > 0;
        // Lost connections need no fault: a slow network outlasts a short lease.
        let retried = self.excuses.retries;
        let denied = io.read_only && modifies(io.kind);
        let failed = deadline || taken_away || self.excuses.errors || unknown || lost || denied || retried;
        let excused = match status {
            IoStatus::Failed => failed || reset,
            IoStatus::Aborted => reset || taken_away,
            _ => false,
        };
        if !excused {
            let text = format!(
                "{:?} {number} ends with {status:?} after {waited_us} us of {}, for no reason",
                io.kind, client.deadline_us
            );
            world::violation(promise::SHORT, text);
        }
    }

    /// Finds I/O that should have ended long ago: `grace_us` after its deadline.
    pub fn check_deadlines(&self, grace_us: u64) {
        for &number in &self.outstanding {
            let io = &self.ios[number as usize - 1];
            let client = &self.clients[io.client];
            let waited = client.active_us.saturating_sub(io.submitted_active_us);
            if waited > client.deadline_us + grace_us {
                let text = format!(
                    "{:?} {number} is outstanding for {waited} us, its deadline was {}",
                    io.kind, client.deadline_us
                );
                return world::violation(promise::DEADLINE, text);
            }
        }
    }
}
