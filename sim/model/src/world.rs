//! What a world consists of, and how much may happen in it.

use std::time::Duration;

use dst_session::access::Access;
use dst_session::tenure::Tenure;

use crate::ledger::Scripted;

/// How soon the target's threads receive each other's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// Immediately.
    InStep,
    /// At any later time, in the order of sending.
    Apart,
}

/// Which of a client's connections may be lost by a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Losable {
    /// The connections of its channels.
    Channels,
    /// The control connection.
    Control,
}

/// How often each kind of fault or optional event may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Attempts to connect.
    pub connects: u8,
    /// Connections lost at one end. The other end may notice at any later time, or never.
    pub losses: u8,
    /// Deaths of a client's process, which starts again.
    pub client_deaths: u8,
    /// Deaths of a target's process, which starts again.
    pub target_deaths: u8,
    /// Times that a client loses all its connections at once and connects to the next target
    /// process.
    pub failovers: u8,
    /// Deletions of the export.
    pub export_deletions: u8,
    /// Removals of the last client's host from the export.
    pub host_removals: u8,
    /// Deletions of a client's bdev.
    pub bdev_deletions: u8,
    /// Times that the broker looks for sessions to which no client has come back.
    pub broker_ticks: u8,
    /// Changes of the ownership that cannot be made durable.
    pub failed_stores: u8,
    /// Times that the stored ownership is lost.
    pub lost_stores: u8,
    /// Releases of the export by an operator.
    pub releases: u8,
}

impl Faults {
    /// Nothing happens.
    pub const NONE: Faults = Faults {
        connects: 0,
        losses: 0,
        client_deaths: 0,
        target_deaths: 0,
        failovers: 0,
        export_deletions: 0,
        host_removals: 0,
        bdev_deletions: 0,
        broker_ticks: 0,
        failed_stores: 0,
        lost_stores: 0,
        releases: 0,
    };
}

/// A world to be checked.
#[derive(Debug, Clone)]
pub struct World {
    /// Its name.
    pub name: &'static str,
    /// What the world shows.
    pub about: &'static str,
    /// The access of each client's host; one client each.
    pub hosts: Vec<Access>,
    /// The channels of each client, and so its highest queue.
    pub queues: u16,
    /// The highest queue that is connected at the beginning.
    pub attached: u16,
    /// The transactions for which a client's channel has room.
    pub slab: u16,
    /// The transactions that the target lets a queue have outstanding.
    pub credits: u16,
    /// The users' I/O. A queue's I/O is submitted in this order.
    pub script: Vec<Scripted>,
    /// Whether an I/O is submitted only after all I/O before it in the script has ended.
    pub is_in_turn: bool,
    /// How many of the first I/Os have a deadline, which may come at any time.
    pub deadlines: u8,
    /// How often each kind of fault may happen.
    pub faults: Faults,
    /// How soon the target's threads receive each other's messages.
    pub threads: Threads,
    /// The number of target processes at the beginning.
    pub targets: u8,
    /// Whether all target processes are on one machine, where each can tell whether the others have
    /// ended.
    pub is_one_machine: bool,
    /// Whether time passes; otherwise no lease ends.
    pub has_time: bool,
    /// Which connections may be lost by a fault.
    pub losable: Losable,
    /// The number of keep-alives that a client sends on one connection.
    pub keep_alives: u64,
    /// The keep-alive time, in ms.
    pub keep_alive_ms: u32,
    /// How long the target remembers a session, in ms.
    pub session_timeout_ms: u32,
    /// The maximum number of sessions at once.
    pub max_sessions: u32,
    /// How clients own the export; `None`: it has no owner.
    pub owners: Option<Owners>,
}

/// How the clients of a world own its export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owners {
    /// The number of clients that are connected at the beginning, in order. The others take over.
    pub attached: u8,
    /// Whether all clients have the same host name, as copies of one machine have.
    pub is_one_name: bool,
}

impl World {
    /// Returns the host name of a client.
    pub fn host_name(&self, host: u8) -> String {
        let is_one_name = self.owners.is_some_and(|owners| owners.is_one_name);
        char::from(b'a' + if is_one_name { 0 } else { host }).to_string()
    }

    /// Returns what a client that has just started claims. With `is_first`, the client has not run
    /// before; if it takes over, it has asked for the export already.
    pub fn tenure(&self, host: u8, is_first: bool) -> Tenure {
        match self.owners {
            Some(owners) if is_first && host >= owners.attached => {
                Tenure::Claimed { after: owners.attached.into(), takeover: true }
            }
            owners => Tenure::new(owners.is_some(), false),
        }
    }

    /// Returns how many clients are connected at the beginning.
    pub fn attached_hosts(&self) -> u8 {
        self.owners.map_or(self.hosts.len() as u8, |owners| owners.attached)
    }

    /// Returns whether a queue's leases end. That of the control connection matters to no request.
    pub fn has_lease(&self, queue: u16) -> bool {
        self.has_time && queue > 0
    }

    /// Returns whether a queue's connections may be lost by a fault.
    pub fn may_lose(&self, queue: u16) -> bool {
        (queue == 0) == (self.losable == Losable::Control)
    }
}

/// The time between two readings of the clock. Two make the keep-alive time. The client's lease is
/// 5 % longer, so it has ended at the third reading.
pub const TICK: Duration = Duration::from_millis(50);
