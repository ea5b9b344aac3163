//! What there is in a world, and how much may happen in it.

use std::time::Duration;

use dst_session::access::Access;
use dst_session::tenure::Tenure;

use crate::ledger::Scripted;

/// Whether the target's threads hear of each other at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// At once.
    InStep,
    /// At any later time, in the order in which they speak.
    Apart,
}

/// Which connections of a client may be lost by a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Losable {
    /// Those of its channels.
    Channels,
    /// The control connection.
    Control,
}

/// How often something may happen that nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Attempts to connect.
    pub connects: u8,
    /// Connections lost at one end; the other end may notice at any later time, or never.
    pub losses: u8,
    /// Deaths of a client process, which starts again.
    pub client_deaths: u8,
    /// Deaths of a target process, which starts again.
    pub target_deaths: u8,
    /// Times at which a client loses all its connections at once, and connects to the next target process.
    pub failovers: u8,
    /// Deletions of the export.
    pub export_deletions: u8,
    /// Removals of the last client's host from the export.
    pub host_removals: u8,
    /// Deletions of a client's bdev.
    pub bdev_deletions: u8,
    /// Times at which the broker looks for sessions that nobody came back to.
    pub broker_ticks: u8,
    /// Changes of the ownership that can't be made durable.
    pub failed_stores: u8,
    /// Times at which what is kept of the ownership is lost.
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

/// A world.
#[derive(Debug, Clone)]
pub struct World {
    /// Its name.
    pub name: &'static str,
    /// What there is to see in it.
    pub about: &'static str,
    /// One client each, and what it may do.
    pub hosts: Vec<Access>,
    /// Channels of each client, and so its highest queue.
    pub queues: u16,
    /// The highest queue that is connected at the beginning.
    pub attached: u16,
    /// Transactions for which a client's channel has room.
    pub slab: u16,
    /// Transactions that the target lets a queue have outstanding.
    pub credits: u16,
    /// What the users do. The I/O of a queue is submitted in this order.
    pub script: Vec<Scripted>,
    /// Whether an I/O is submitted only when all before it in the script have ended.
    pub is_in_turn: bool,
    /// So many of the first of them have a deadline, which may come at any time.
    pub deadlines: u8,
    /// What may happen.
    pub faults: Faults,
    /// Whether the target's threads hear of each other at once.
    pub threads: Threads,
    /// Target processes at the beginning.
    pub targets: u8,
    /// Whether all target processes are on one machine, where each knows of the others' ends.
    pub is_one_machine: bool,
    /// Whether time passes; else no lease ends.
    pub has_time: bool,
    /// Which connections may be lost by a fault.
    pub losable: Losable,
    /// Keep-alives that a client sends on one connection.
    pub keep_alives: u64,
    /// The keep-alive time, ms.
    pub keep_alive_ms: u32,
    /// How long the target remembers a session, ms.
    pub session_timeout_ms: u32,
    /// Most sessions at once.
    pub max_sessions: u32,
    /// Who owns the export; `None`: the ownership is not kept.
    pub owners: Option<Owners>,
}

/// How the clients of a world own its export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owners {
    /// The first clients, which are connected at the beginning, in this order. Those that follow take over.
    pub attached: u8,
    /// Whether all clients have the same host name, as copies of one machine have.
    pub is_one_name: bool,
}

impl World {
    /// Returns the name of a client's host.
    pub fn host_name(&self, host: u8) -> String {
        let is_one_name = self.owners.is_some_and(|owners| owners.is_one_name);
        char::from(b'a' + if is_one_name { 0 } else { host }).to_string()
    }

    /// Returns what a client that was just started claims; `is_first`: it was not started before. One that
    /// takes over has asked already.
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

    /// Returns whether a queue's leases end. No request depends on the control connection's.
    pub fn has_lease(&self, queue: u16) -> bool {
        self.has_time && queue > 0
    }

    /// Returns whether a queue's connections may be lost by a fault.
    pub fn may_lose(&self, queue: u16) -> bool {
        (queue == 0) == (self.losable == Losable::Control)
    }
}

/// The time between two looks at the clock: two make the keep-alive time, and the client's lease, which is
/// 5 % longer, is over at the third.
pub const TICK: Duration = Duration::from_millis(50);
