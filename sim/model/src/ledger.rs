//! What users and the backend have seen, and which promise of docs/failures.md that breaks.

use std::fmt;

use dst_wire::Op;

/// The number of an I/O in its world's script.
pub type Io = u8;

/// A set of I/Os, one bit each.
type IoSet = u16;

/// An I/O that a user submits once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scripted {
    /// The client.
    pub host: u8,
    /// The queue; at least 1.
    pub queue: u16,
    /// The operation. All I/O concerns one block.
    pub op: Op,
}

/// The progress of an I/O, as its user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Progress {
    /// The I/O was not submitted yet.
    Unsubmitted,
    /// The I/O was submitted and has no outcome yet.
    Pending,
    /// The I/O completed with success.
    Succeeded,
    /// The I/O failed.
    Failed,
    /// The I/O's client died.
    Orphaned,
}

/// What is known of an I/O.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// The I/O's entry in the script.
    pub script: Scripted,
    /// Its progress.
    pub progress: Progress,
    /// The I/Os that had ended when it was submitted.
    after: IoSet,
    /// The sessions in which it was handed to a backend.
    handed: Vec<[u8; 16]>,
    /// Whether the backend has executed it.
    is_executed: bool,
}

/// A broken promise: the promise's number in docs/failures.md, and what happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Violation {
    /// 1 to 11, or 0 for something that must not happen although no promise names it.
    pub promise: u8,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "promise {}: {}", self.promise, self.what)
    }
}

/// All I/O of a world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ledger {
    records: Vec<Record>,
    /// The block's content: the I/O that wrote it last.
    block: Option<Io>,
    /// The number of the newest ownership under which something was executed.
    newest_owner: u64,
    /// The first violation.
    pub violation: Option<Violation>,
}

impl Ledger {
    /// Returns a ledger in which no I/O was submitted yet.
    pub fn new(script: &[Scripted]) -> Ledger {
        let record = |&script| Record {
            script,
            progress: Progress::Unsubmitted,
            after: 0,
            handed: Vec::new(),
            is_executed: false,
        };
        Ledger { records: script.iter().map(record).collect(), block: None, newest_owner: 0, violation: None }
    }

    /// Returns what is known of an I/O.
    pub fn record(&self, io: Io) -> &Record {
        &self.records[usize::from(io)]
    }

    /// Returns a queue's first I/O that was not submitted yet.
    pub fn next(&self, host: u8, queue: u16) -> Option<Io> {
        let is_next = |record: &Record| {
            record.progress == Progress::Unsubmitted
                && (record.script.host, record.script.queue) == (host, queue)
        };
        self.records.iter().position(is_next).map(|io| io as Io)
    }

    /// Returns a queue's first pending I/O whose number is at least `from`.
    pub fn next_pending(&self, host: u8, queue: u16, from: Io) -> Option<Io> {
        let is_one = |&io: &Io| {
            let record = self.record(io);
            record.progress == Progress::Pending && (record.script.host, record.script.queue) == (host, queue)
        };
        (from..self.records.len() as Io).find(is_one)
    }

    /// Returns whether all I/O before this one in the script has ended, or its client has died.
    pub fn have_ended(&self, io: Io) -> bool {
        let is_over = |record: &Record| !matches!(record.progress, Progress::Unsubmitted | Progress::Pending);
        self.records[..usize::from(io)].iter().all(is_over)
    }

    /// Notes a violation, unless there was one before.
    pub fn broken(&mut self, promise: u8, what: impl Into<String>) {
        self.violation.get_or_insert(Violation { promise, what: what.into() });
    }

    fn has_ended(&self, io: Io) -> bool {
        matches!(self.record(io).progress, Progress::Succeeded | Progress::Failed)
    }

    /// Notes that the user submits an I/O.
    pub fn submit(&mut self, io: Io) {
        let host = self.record(io).script.host;
        let ended = (0..self.records.len() as Io)
            .filter(|&other| self.has_ended(other) && self.record(other).script.host == host)
            .fold(0, |set, other| set | 1 << other);
        let record = &mut self.records[usize::from(io)];
        record.progress = Progress::Pending;
        record.after = ended;
    }

    /// Notes that the target hands an I/O of this ownership to the backend, which already has these
    /// others.
    pub fn owner_executes(&mut self, io: Io, ownership: Option<u64>, backend: &[(Option<u64>, Io)]) {
        let Some(number) = ownership else { return };
        if number < self.newest_owner {
            let newest = self.newest_owner;
            self.broken(
                11,
                format!("I/O {io} of owner {number} is executed, after the first one of owner {newest}"),
            );
        }
        self.newest_owner = self.newest_owner.max(number);
        if let Some((other, late)) = backend.iter().find(|&&(other, _)| other != ownership) {
            self.broken(
                11,
                format!("I/O {io} of owner {number} is executed beside I/O {late}, whose owner is {other:?}"),
            );
        }
    }

    /// Notes that the target hands an I/O of a session to the backend, which already has the I/Os
    /// in `backend`.
    pub fn hand_over(&mut self, io: Io, session: [u8; 16], may_write: bool, backend: &[Io]) {
        let record = self.record(io).clone();
        let op = record.script.op;
        if !op.modifies() {
            return;
        }
        if !may_write {
            self.broken(8, format!("write {io} of a host that may only read is handed to the backend"));
        }
        if self.has_ended(io) {
            self.broken(2, format!("write {io} has ended, and a copy of it is handed to the backend"));
        }
        let older = |&&other: &&Io| other != io && self.record(other).script.op.modifies();
        if let Some(other) = backend.iter().filter(older).find(|&&other| record.after & 1 << other != 0) {
            self.broken(
                2,
                format!(
                    "write {io} is handed to the backend, which still has write {other} that had ended before"
                ),
            );
        }
        if record.handed.contains(&session) {
            self.broken(3, format!("write {io} is handed to the backend twice in one session"));
        }
        if op == Op::CompareAndWrite && !record.handed.is_empty() {
            self.broken(3, format!("compare-and-write {io} is handed to the backend twice"));
        }
        let handed = &mut self.records[usize::from(io)].handed;
        if !handed.contains(&session) {
            handed.push(session);
        }
    }

    /// Executes an I/O. Returns what a read finds.
    pub fn execute(&mut self, io: Io) -> Option<Io> {
        let record = &mut self.records[usize::from(io)];
        record.is_executed = true;
        if record.script.op.modifies() {
            self.block = Some(io);
        }
        self.block
    }

    /// Notes that the user sees the outcome of an I/O; `found` is what a read returns.
    pub fn complete(&mut self, io: Io, is_success: bool, found: Option<Io>) {
        let record = self.record(io).clone();
        if record.progress != Progress::Pending {
            return self.broken(5, format!("I/O {io} completes when it is {:?}", record.progress));
        }
        if is_success && !record.is_executed {
            self.broken(1, format!("I/O {io} completes with success, and the backend has never executed it"));
        }
        if is_success && record.script.op == Op::Read {
            let is_newer = |write: Io| {
                let newer = self.record(write);
                record.after & 1 << write != 0
                    && newer.script.op.modifies()
                    && newer.progress == Progress::Succeeded
                    && found.is_none_or(|found| newer.after & 1 << found != 0)
            };
            if let Some(newer) = (0..self.records.len() as Io).find(|&write| is_newer(write)) {
                self.broken(4, format!("read {io} finds {found:?}, which is older than write {newer}"));
            }
        }
        self.records[usize::from(io)].progress =
            if is_success { Progress::Succeeded } else { Progress::Failed };
    }

    /// Notes that a client has died: nobody will see the outcome of its I/O.
    pub fn orphan(&mut self, host: u8) {
        for record in &mut self.records {
            if record.script.host == host && record.progress == Progress::Pending {
                record.progress = Progress::Orphaned;
            }
        }
    }
}
