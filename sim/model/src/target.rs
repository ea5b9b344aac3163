//! A target process: the real broker, the driver that carries out the broker's decisions, and a
//! group that executes as `src/dst-target` does. The group is this file's own, with the real record
//! of answers, lease, and checks of requests.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use dst_broker::{
    Broker, ConnectionId, Input, Limits, Opening, Order, Output, PreviousProcess, Remains, Rules, Stats,
};
use dst_session::access::{Access, Host};
use dst_session::lease::Granted;
use dst_session::mutation::{Mutation, is_on};
use dst_session::request::{Checked, check};
use dst_session::slots::Arrival;
use dst_session::transactions::slot_of;
use dst_wire::{Device, Header, Hello, Kind, Op, SessionRef, Status};

use crate::channel::BLOCK;
use crate::keeping::{Kept, Storing};
use crate::ledger::Io;
use crate::state::State;
use crate::wire::{Down, End, Key, ServedQueue, ToControl, ToGroup, Up, Wire};
use crate::world::{Threads, World};

/// The name of the only export.
pub const EXPORT: &str = "disk";

/// The maximum number of bytes of a request: a block, and twice that for a compare-and-write.
const MAX_TRANSFER: u32 = 2 * BLOCK as u32;

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
fn instance(target: u8) -> [u8; 16] {
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
                predecessor: None,
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

impl State {
    /// Returns the I/O that a target process has in its backend. The process does not know of other
    /// processes' I/O: see "What is not promised" in docs/failures.md.
    fn in_backend(&self, target: u8) -> Vec<Io> {
        self.owned_in_backend(target).into_iter().map(|(_, io)| io).collect()
    }

    /// Returns the same I/O, each with the number of the ownership under which it was sent.
    fn owned_in_backend(&self, target: u8) -> Vec<(Option<u64>, Io)> {
        let wires = self.wires.iter().filter(|((other, _), _)| *other == target);
        let queues = wires.filter_map(|(_, wire)| wire.queue());
        queues.flat_map(|queue| queue.backend.iter().map(|&(_, io)| (queue.ownership, io))).collect()
    }

    /// A client connects and sends a Hello. Returns the connection if there is room for it.
    pub fn accept(&mut self, target: u8, host: u8, hello: Hello, world: &World) -> Option<Key> {
        let now_us = self.now_us;
        let peer = SocketAddr::from(([192, 0, 2, host], 1));
        let adopted = Arc::make_mut(&mut self.target(target).broker).accepted(now_us, peer);
        self.carry_out(target, world);
        let key = (target, adopted?.connection);
        self.wires.insert(key, Wire::new(host, Arc::new(hello)));
        Some(key)
    }

    /// The group takes the next frame from a connection.
    pub fn group_reads(&mut self, key: Key, world: &World) {
        let now_us = self.now_us;
        let Some(wire) = self.wires.get_mut(&key) else { return };
        let Some(frame) = wire.up.pop_front() else { return };
        match (&mut wire.end, frame) {
            (end @ End::Handshaking, Up::Hello(hello)) => {
                *end = End::Asking;
                self.tell_control(key.0, ToControl::Hello(key.1, hello), world);
            }
            (End::Ready { lease: Some(lease), .. }, Up::KeepAlive { id, has }) => {
                match lease.keep_alive(id, has, now_us) {
                    Ok(()) => wire.down.push_back(Down::KeepAliveAck(id)),
                    Err(violation) => self.client_breaks_protocol(key, &violation.to_string(), world),
                }
            }
            (End::Ready { .. }, Up::Goodbye) => self.shut(key, true, world),
            (End::Ready { queue: Some(_), .. }, Up::Request { header, io }) => {
                self.request(key, &header, io, world);
            }
            (end, frame) => {
                let what = format!("{frame:?} comes on a connection that is {end:?}");
                self.client_breaks_protocol(key, &what, world);
            }
        }
    }

    fn client_breaks_protocol(&mut self, key: Key, what: &str, world: &World) {
        self.ledger.broken(0, format!("the client breaks the protocol: {what}"));
        self.shut(key, false, world);
    }

    /// A Request is complete: hands it to the backend, or sends its Answer.
    fn request(&mut self, key: Key, header: &[u8; dst_wire::HEADER_LEN], io: Io, world: &World) {
        let (now_us, owned_backend) = (self.now_us, self.owned_in_backend(key.0));
        let Some(wire) = self.wires.get_mut(&key) else { return };
        let End::Ready { lease, queue: Some(queue) } = &mut wire.end else { return };
        let header = Header::decode(header).expect("the client's frames are whole");
        let slot = slot_of(header.id);
        let checked = check(&header, &queue.device, MAX_TRANSFER);
        let op = Op::from_code(header.code).expect("the client has asked for an operation");
        let arrival = queue.slots.arrive(header.id, op);
        let answer = match (checked, arrival) {
            (Ok(Checked::Execute(_)), Ok(Arrival::Execute)) => None,
            (Ok(_), Ok(Arrival::Repeat(status))) => Some(status),
            (Ok(Checked::Reject(status)), Ok(Arrival::Execute)) => Some(status),
            (Err(violation), _) | (_, Err(violation)) => {
                return self.client_breaks_protocol(key, &violation.to_string(), world);
            }
        };
        match answer {
            Some(status) => {
                let id = queue.slots.answered(slot, status);
                wire.down.push_back(answer_frame(id, op, status, None));
            }
            None if lease.as_ref().is_some_and(|lease| lease.is_over(now_us))
                && !is_on(Mutation::NoLeaseAtTarget) =>
            {
                queue.slots.withdraw(slot);
                self.shut(key, false, world);
            }
            None => {
                queue.backend.push((slot, io));
                let may_write = world.hosts[usize::from(wire.host)] >= Access::ReadWrite;
                let backend: Vec<Io> = owned_backend.iter().map(|&(_, io)| io).collect();
                self.ledger.owner_executes(io, queue.ownership, &owned_backend);
                self.ledger.hand_over(io, queue.place.id, may_write, &backend);
            }
        }
    }

    /// The backend has executed, or failed, the request in a connection's slot.
    pub fn backend_done(&mut self, key: Key, slot: u16, status: Status, world: &World) {
        let Some(wire) = self.wires.get_mut(&key) else { return };
        let Some(queue) = wire.queue_mut() else { return };
        let Some(at) = queue.backend.iter().position(|&(other, _)| other == slot) else { return };
        let (_, io) = queue.backend.remove(at);
        let found = (status == Status::Success).then(|| self.ledger.execute(io)).flatten();
        let id = queue.slots.answered(slot, status);
        let op = self.ledger.record(io).script.op;
        if wire.is_open_at_target() {
            wire.down.push_back(answer_frame(id, op, status, found));
        }
        self.finish_if_idle(key, world);
    }

    /// The group shuts a connection. Requests in the backend continue.
    pub fn shut(&mut self, key: Key, goodbye: bool, world: &World) {
        let Some(wire) = self.wires.get_mut(&key).filter(|wire| wire.is_open_at_target()) else { return };
        wire.up.clear();
        match std::mem::replace(&mut wire.end, End::Gone) {
            End::Ready { queue: Some(queue), .. } if !queue.backend.is_empty() => {
                wire.end = End::Draining { queue, is_told: false, goodbye };
                self.tell_control(key.0, ToControl::Draining(key.1), world);
            }
            End::Ready { queue, .. } => {
                let slots = queue.map(|queue| queue.slots);
                self.tell_control(key.0, ToControl::Finished(key.1, slots, goodbye), world);
            }
            End::Handshaking | End::Asking | End::Refused | End::Draining { .. } | End::Gone => {
                self.tell_control(key.0, ToControl::Finished(key.1, None, goodbye), world);
            }
        }
        self.forget_if_gone(key);
    }

    fn finish_if_idle(&mut self, key: Key, world: &World) {
        let Some(wire) = self.wires.get_mut(&key) else { return };
        if let End::Draining { queue, .. } = &wire.end
            && queue.backend.is_empty()
            && let End::Draining { queue, goodbye, .. } = std::mem::replace(&mut wire.end, End::Gone)
        {
            self.tell_control(key.0, ToControl::Finished(key.1, Some(queue.slots), goodbye), world);
        }
        self.forget_if_gone(key);
    }

    /// The group takes a message from control.
    pub fn group_hears(&mut self, target: u8, world: &World) {
        let now_us = self.now_us;
        let Some(message) = self.target(target).to_group.pop_front() else { return };
        match message {
            ToGroup::Welcome(id, welcome, join) => {
                let place = welcome.session;
                let wire = self.wires.get_mut(&(target, id)).filter(|wire| wire.is_open_at_target());
                match (wire, join) {
                    (Some(wire), join) => {
                        let lease = world.has_lease(place.queue);
                        let lease = lease.then(|| Granted::new(welcome.keep_alive_ms, now_us));
                        let queue = join.map(|join| ServedQueue {
                            place,
                            ownership: welcome.ownership,
                            device: join.0,
                            slots: join.1,
                            backend: Vec::new(),
                        });
                        wire.end = End::Ready { lease, queue };
                        wire.down.push_back(Down::Welcome(welcome));
                    }
                    (None, Some(join)) => {
                        self.tell_control(target, ToControl::Returned(id, place, join.1), world);
                    }
                    (None, None) => {}
                }
            }
            ToGroup::Refuse(id, refusal) => {
                if let Some(wire) = self.wires.get_mut(&(target, id)).filter(|wire| wire.is_open_at_target())
                {
                    wire.end = End::Refused;
                    wire.down.push_back(Down::Refusal(refusal));
                    self.shut((target, id), false, world);
                }
            }
            ToGroup::Event(id, event) => {
                if let Some(wire) = self.wires.get_mut(&(target, id))
                    && let End::Ready { queue: None, .. } = wire.end
                {
                    wire.down.push_back(Down::Event(event));
                }
            }
            ToGroup::Close(id) => self.shut((target, id), false, world),
        }
    }

    fn tell_control(&mut self, target: u8, message: ToControl, world: &World) {
        self.target(target).to_control.push_back(message);
        if world.threads == Threads::InStep {
            self.control_hears(target, world);
        }
    }

    /// Control takes a message from the group.
    pub fn control_hears(&mut self, target: u8, world: &World) {
        let Some(message) = self.target(target).to_control.pop_front() else { return };
        let asked = match &message {
            ToControl::Hello(connection, hello) => Some((*connection, hello.claim)),
            _ => None,
        };
        let input = match message {
            ToControl::Hello(connection, hello) => {
                let opening = self.opening(target, hello.previous.map(|previous| previous.instance), world);
                Input::Hello { connection, hello: Box::new(Hello::clone(&hello)), opening }
            }
            ToControl::Draining(connection) => {
                if let Some(wire) = self.wires.get_mut(&(target, connection))
                    && let End::Draining { is_told, .. } = &mut wire.end
                {
                    *is_told = true;
                }
                Input::Draining { connection }
            }
            ToControl::Finished(connection, slots, goodbye) => {
                let remains = Remains { slots, goodbye, stats: Stats::default() };
                Input::Finished { connection, remains: Box::new(remains) }
            }
            ToControl::Returned(connection, place, slots) => {
                Input::Returned { connection, session: place.id, queue: place.queue, slots }
            }
        };
        self.broker_handles(target, input);
        if let Some((connection, claim)) = asked {
            self.check_claim(target, connection, claim);
        }
        self.carry_out(target, world);
    }

    /// Returns what the broker cannot know about a Hello that opens a session.
    fn opening(&self, target: u8, previous: Option<[u8; 16]>, world: &World) -> Opening {
        let has_ended =
            |other: u8| world.is_one_machine && other != target && !self.targets[usize::from(other)].is_alive;
        let mut others = 0..self.targets.len() as u8;
        let previous = match previous {
            Some(previous) if previous == instance(target) => PreviousProcess::This,
            Some(previous) if others.any(|other| instance(other) == previous && has_ended(other)) => {
                PreviousProcess::Ended
            }
            _ => PreviousProcess::Unknown,
        };
        Opening { session: [self.next_session; 16], previous }
    }

    /// Passes an input to the broker.
    pub fn broker_handles(&mut self, target: u8, input: Input) {
        let now_us = self.now_us;
        Arc::make_mut(&mut self.target(target).broker).handle(now_us, input);
    }

    /// Carries out the broker's decisions, which puts messages to the group on their way.
    pub fn carry_out(&mut self, target: u8, world: &World) {
        while let Some(output) = Arc::make_mut(&mut self.target(target).broker).poll_output() {
            match output {
                Output::ToGroup { connection, order, .. } => {
                    let message = match order {
                        Order::Welcome(welcome, joining) => {
                            self.check_welcome(target, connection, &welcome.session, world);
                            self.check_owner(target, connection, &welcome);
                            if welcome.session.id == [self.next_session; 16] {
                                self.next_session += 1;
                            }
                            let join = joining.map(|joining| Box::new((joining.device, joining.slots)));
                            ToGroup::Welcome(connection, Arc::new(*welcome), join)
                        }
                        Order::Refuse(refusal) => ToGroup::Refuse(connection, Arc::new(refusal)),
                        Order::Event(event) => ToGroup::Event(connection, event),
                        Order::Close => ToGroup::Close(connection),
                        Order::Reset(_) => unreachable!("no client of these worlds resets"),
                    };
                    self.target(target).to_group.push_back(message);
                }
                Output::AskAgain { connection, instance } => {
                    let opening = self.opening(target, instance, world);
                    self.broker_handles(target, Input::AskedAgain { connection, opening });
                }
                Output::CountInFlight { export, lateness } => {
                    let in_flight = self.in_backend(target).len();
                    self.broker_handles(target, Input::InFlight { export, lateness, in_flight });
                }
                Output::ResetBackend { .. } => {
                    if let Removal::Draining { is_resetting, .. } = &mut self.target(target).removal {
                        *is_resetting = true;
                    }
                }
                Output::StoreOwnership { number, host, .. } => self.store(target, number, host),
                Output::ExportGone { .. } => self.export_gone(target),
                Output::ResetForHosts { .. } => unreachable!("no client of these worlds resets"),
                Output::BackingGone { .. }
                | Output::BackendHangs { .. }
                | Output::ConfirmSize { .. }
                | Output::Log { .. } => {}
                Output::Stopped => {}
            }
        }
        if world.threads == Threads::InStep {
            while !self.target(target).to_group.is_empty() {
                self.group_hears(target, world);
            }
        }
    }

    /// Checks the broker's decision to admit a connection: whatever was there before must have
    /// ended.
    fn check_welcome(&mut self, target: u8, id: ConnectionId, place: &SessionRef, world: &World) {
        let Some(host) = self.wires.get(&(target, id)).map(|wire| wire.host) else { return };
        let broker = &self.targets[usize::from(target)].broker;
        let has_entry = broker
            .export(EXPORT)
            .is_some_and(|export| export.hosts.iter().any(|entry| entry.name == world.host_name(host)));
        if !has_entry {
            self.ledger.broken(8, "a host is let in that has no entry");
        }
        let is_new = place.queue == 0 && place.id == [self.next_session; 16];
        let mut broken = None;
        for (&(other_target, other), wire) in &self.wires {
            let Some(queue) = wire.queue().filter(|_| other_target == target && other != id) else {
                continue;
            };
            if !is_new && (queue.place.id, queue.place.queue) == (place.id, place.queue) {
                broken = Some("a queue's next connection is let in before the one before it has finished");
            }
            let is_told = matches!(wire.end, End::Draining { is_told: true, .. });
            if is_new && is_told && wire.host == host {
                broken = Some(
                    "a session is opened while the backend has something of its host's closed connection",
                );
            }
        }
        if let Some(what) = broken {
            self.ledger.broken(2, what);
        }
    }

    /// Removes a host for an operator: from then on none of the host's connections is admitted.
    pub fn remove_host(&mut self, target: u8, host: u8, world: &World) {
        let now_us = self.now_us;
        let broker = Arc::make_mut(&mut self.target(target).broker);
        broker.remove_host(now_us, EXPORT, &world.host_name(host)).expect("the host is there");
        let broker = Arc::clone(&self.target(target).broker);
        let is_in = |((other, id), wire): (&Key, &Wire)| {
            let is_ready = matches!(wire.end, End::Ready { .. });
            *other == target && wire.host == host && is_ready && broker.group_of_open(*id).is_some()
        };
        if self.wires.iter().any(is_in) {
            self.ledger.broken(8, "a connection of a host that was removed stays");
        }
        self.carry_out(target, world);
    }

    /// Checks the broker's report that nothing of the export is left.
    fn export_gone(&mut self, target: u8) {
        let mut queues =
            self.wires.iter().filter(|((other, _), _)| *other == target).filter_map(|(_, wire)| wire.queue());
        if queues.any(|queue| !queue.backend.is_empty()) {
            self.ledger.broken(10, "the bdev of an export is closed while the backend has requests of it");
        }
        if matches!(self.target(target).removal, Removal::Draining { is_resetting: true, .. }) {
            self.ledger.broken(10, "the bdev of an export is closed while it is being reset");
        }
        self.target(target).removal = Removal::Gone;
    }
}

fn answer_frame(id: u64, op: Op, status: Status, found: Option<Io>) -> Down {
    let mut header = Header::new(Kind::Answer);
    header.code = status as u8;
    header.id = id;
    header.data_len = if status == Status::Success { op.answer_data(BLOCK) as u32 } else { 0 };
    Down::Answer { header: header.encode(), found }
}
