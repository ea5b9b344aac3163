//! A target process: the real broker, and what is on its way between control and the group.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dst_broker::{Broker, Input, Limits, Rules};
use dst_session::access::{Access, Host};
use dst_wire::{Device, Op};

use crate::channel::BLOCK;
use crate::kept::{Kept, Storing};
use crate::wire::{ToControl, ToGroup};
use crate::world::World;

/// The name of the only export.
pub const EXPORT: &str = "disk";

/// The maximum number of bytes of a request: a block, and twice that for a compare-and-write.
pub const MAX_TRANSFER: u32 = 2 * BLOCK as u32;

/// The progress of the export's deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Removal {
    /// Nobody has asked for the deletion.
    NotAsked,
    /// Sessions end, and the target waits for the backend.
    Draining {
        /// How often the drain timeout has passed; at most twice.
        timeouts: u8,
        /// Whether the backend is being reset.
        is_resetting: bool,
    },
    /// The backend is closed.
    Gone,
}

/// A target process.
#[derive(Debug, Clone)]
pub struct Target {
    /// The broker, shared by the states between which it does not change.
    pub broker: Arc<Broker>,
    /// Messages on their way from control to the group.
    pub to_group: VecDeque<ToGroup>,
    /// Messages on their way from the group to control.
    pub to_control: VecDeque<ToControl>,
    /// The deletion of the export.
    pub removal: Removal,
    /// A change of the ownership that is being stored.
    pub storing: Option<Storing>,
    /// Whether the process runs.
    pub is_alive: bool,
}

/// Returns the instance of a target process.
pub fn instance(target: u8) -> [u8; 16] {
    [100 + target; 16]
}

impl Target {
    /// Returns a process that has just started, with its export.
    pub fn new(number: u8, world: &World, kept: &Kept) -> Target {
        let limits = Limits {
            max_connections: 16,
            max_queues: 16,
            max_handshakes: 16,
            max_handshakes_per_address: 16,
            max_connections_per_host: 16,
            max_sessions: world.max_sessions,
            session_timeout_ms: world.session_timeout_ms,
            max_keep_alive_ms: world.keep_alive_ms,
            drain_timeout_ms: 1,
            queue_depth: world.credits,
            max_transfer: MAX_TRANSFER,
        };
        let mut broker = Broker::new(limits);
        broker.handle(0, Input::GroupsStarted(1));
        let device = Device {
            uuid: [1; 16],
            num_blocks: 1,
            block_size: BLOCK as u32,
            write_unit_size: 1,
            optimal_io_boundary: 0,
            compare_and_write_max: 1,
            write_cache: false,
            read_only: false,
            ops: Op::ALL.into_iter().collect(),
        };
        broker.create_export(EXPORT, Rules::default()).expect("it is the first export");
        broker.handle(
            0,
            Input::Online {
                export: EXPORT.to_owned(),
                device,
                instance: instance(number),
                predecessors: Vec::new(),
            },
        );
        if world.owners.is_some() {
            broker.keep_ownership(0, EXPORT, kept.read()).expect("the export is there");
        }
        for (host, &access) in world.hosts.iter().enumerate() {
            let entry = entry(world.host_name(host as u8), access);
            // Hosts of the same name share one entry.
            if host == 0 || entry.name != world.host_name(0) {
                broker.add_host(0, EXPORT, entry).expect("there is room for the host");
            }
        }
        while broker.poll_output().is_some() {}
        Target {
            broker: Arc::new(broker),
            to_group: VecDeque::new(),
            to_control: VecDeque::new(),
            removal: Removal::NotAsked,
            storing: None,
            is_alive: true,
        }
    }

    /// Adds to the hash whatever determines the behaviour from `now_us` on.
    pub fn canonical(&self, now_us: u64, hasher: &mut impl Hasher) {
        let Target { broker, to_group, to_control, removal, storing, is_alive } = self;
        is_alive.hash(hasher);
        if *is_alive {
            broker.canonical(now_us, hasher);
            (to_group, to_control, removal, storing).hash(hasher);
        }
    }
}

/// Returns the access-list entry of a host.
pub fn entry(name: String, access: Access) -> Host {
    Host { name, access, addresses: Vec::new(), keys: None }
}
