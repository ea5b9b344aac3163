//! What may happen in a world, for the checker: from each state every action that is possible there.

use std::sync::Arc;

use dst_broker::Input;
use dst_session::mutation::{self, Mutation};
use dst_wire::Status;
use stateright::{Model, Property};

use crate::client::{Client, Link};
use crate::ledger::Io;
use crate::state::State;
use crate::target::{EXPORT, Removal, Target};
use crate::wire::{End, Key, Up, Wire};
use crate::world::{TICK, World};

/// One thing that happens. What its fields are is in their names.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A client connects a queue and says hello.
    Connect { host: u8, queue: u16 },
    /// A user submits the next I/O of a queue.
    Submit(Io),
    /// The time of a queue's next I/O is up.
    Deadline { host: u8, queue: u16, io: Io },
    /// A client's thread looks at what no frame tells it.
    Turn { host: u8, queue: u16 },
    /// A client takes the next frame of a connection.
    ClientReads(Key),
    /// A client sees that the target's end of a connection is closed. What it has not read is lost.
    ClientSeesEnd(Key),
    /// A client loses a connection, and so many of the last frames on their way to the target are lost.
    ClientLoses { host: u8, queue: u16, frames: u8 },
    /// A client sends a keep-alive.
    KeepAlive { host: u8, queue: u16 },
    /// A client ends a connection on purpose.
    Goodbye { host: u8, queue: u16 },
    /// A group takes the next frame of a connection.
    GroupReads(Key),
    /// A group sees that the client's end of a connection is closed.
    GroupSeesEnd(Key),
    /// A group loses a connection that its client still has.
    GroupLoses(Key),
    /// The last frame under way on a connection of a client that has died is lost.
    FrameLost(Key),
    /// A group sees that a connection's lease is over.
    LeaseOver(Key),
    /// The backend finishes what it has of a slot.
    BackendDone(Key, u16),
    /// Control hears the group's next message.
    ControlHears(u8),
    /// The group hears control's next message.
    GroupHears(u8),
    /// The broker looks for sessions that nobody came back to.
    BrokerTick(u8),
    /// A client process dies and starts again.
    ClientDies(u8),
    /// A target process dies and starts again.
    TargetDies(u8),
    /// A client loses all its connections, though none of the frames under way, and goes to its next address.
    FailsOver(u8),
    /// An operator deletes the export.
    DeleteExport(u8),
    /// The deletion's drain time-out passes.
    DrainTimeout(u8),
    /// The reset of the bdev ends.
    ResetEnded(u8),
    /// An operator deletes a client's bdev.
    DeleteBdev(u8),
    /// Time passes.
    Tick,
}

impl Action {
    /// Returns true for what happens by itself sooner or later, as nothing can stop it: neither a fault nor
    /// something that a user does.
    fn is_inevitable(self) -> bool {
        match self {
            Action::Turn { .. }
            | Action::ClientReads(_)
            | Action::ClientSeesEnd(_)
            | Action::Goodbye { .. }
            | Action::GroupReads(_)
            | Action::GroupSeesEnd(_)
            | Action::LeaseOver(_)
            | Action::BackendDone(..)
            | Action::ControlHears(_)
            | Action::GroupHears(_)
            | Action::DrainTimeout(_)
            | Action::ResetEnded(_) => true,
            Action::Connect { .. }
            | Action::Submit(_)
            | Action::Deadline { .. }
            | Action::ClientLoses { .. }
            | Action::KeepAlive { .. }
            | Action::GroupLoses(_)
            | Action::FrameLost(_)
            | Action::BrokerTick(_)
            | Action::ClientDies(_)
            | Action::TargetDies(_)
            | Action::FailsOver(_)
            | Action::DeleteExport(_)
            | Action::DeleteBdev(_)
            | Action::Tick => false,
        }
    }
}

/// A world with one protection taken away, or none.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The world.
    pub world: Arc<World>,
    /// What is taken away.
    pub without: Option<Mutation>,
}

impl Checked {
    /// Connects all queues of all clients, one after the other.
    fn attached(&self) -> State {
        let mut state = State::new(&self.world);
        for host in 0..self.world.hosts.len() as u8 {
            for queue in 0..=self.world.attached {
                self.apply(&mut state, Action::Connect { host, queue });
                let mut actions = Vec::new();
                loop {
                    actions.clear();
                    self.each(&state, &mut actions);
                    let Some(&next) = actions.iter().find(|action| action.is_inevitable()) else { break };
                    self.apply(&mut state, next);
                }
                assert!(state.clients[usize::from(host)].link(queue).is_up(), "queue {queue} is let in");
            }
        }
        state.left = self.world.faults;
        state
    }

    /// Returns every action that is possible.
    fn each(&self, state: &State, actions: &mut Vec<Action>) {
        let world = &*self.world;
        for (host, client) in state.clients.iter().enumerate() {
            each_of_client(state, host as u8, client, world, actions);
        }
        for (&key, wire) in &state.wires {
            each_of_wire(state, key, wire, world, actions);
        }
        for (number, target) in state.targets.iter().enumerate().filter(|(_, target)| target.is_alive) {
            each_of_target(state, number as u8, target, actions);
        }
        if world.has_time {
            actions.push(Action::Tick);
        }
    }

    fn apply(&self, state: &mut State, action: Action) {
        let world = &*self.world;
        match action {
            Action::Connect { host, queue } => {
                state.left.connects = state.left.connects.saturating_sub(1);
                let client = &mut state.clients[usize::from(host)];
                let target = client.address;
                let Some(hello) = client.hello(host, queue, world) else { return };
                if let Some(key) = state.accept(target, host, hello.clone(), world) {
                    let link = Link::Greeting { key, hello: Box::new(hello) };
                    *state.clients[usize::from(host)].link_mut(queue) = link;
                }
            }
            Action::Submit(io) => {
                let script = state.ledger.record(io).script;
                state.ledger.submit(io);
                let channel = state.clients[usize::from(script.host)].channel(script.queue);
                channel.waiting.push_back(io);
                if let Link::Up { key, .. } = channel.link
                    && let Some(wire) = state.wires.get_mut(&key)
                {
                    channel.begin(&state.ledger, wire);
                }
            }
            Action::Deadline { host, queue, io } => {
                state.clients[usize::from(host)].overdue(queue, io, &mut state.ledger);
            }
            Action::Turn { host, queue: 0 } => {
                state.clients[usize::from(host)].control_turn(state.now_us);
                state.release_dropped(host);
            }
            Action::Turn { host, queue } => {
                state.clients[usize::from(host)].channel_turn(queue, state.now_us, &mut state.ledger);
                state.release_dropped(host);
            }
            Action::ClientReads(key) => self.client_reads(state, key),
            Action::ClientSeesEnd(key) => {
                let Some(host) = state.wires.get(&key).map(|wire| wire.host) else { return };
                match state.clients[usize::from(host)].queue_of(key) {
                    Some(queue) => state.client_loses(host, queue),
                    None => state.release(key),
                }
            }
            Action::ClientLoses { host, queue, frames } => {
                state.left.losses -= 1;
                let key = state.clients[usize::from(host)].link(queue).key();
                if let Some(wire) = key.and_then(|key| state.wires.get_mut(&key)) {
                    wire.up.truncate(wire.up.len() - usize::from(frames));
                }
                state.client_loses(host, queue);
            }
            Action::KeepAlive { host, queue } => {
                let now_us = state.now_us;
                if let Link::Up { key, lease: Some(lease) } = state.clients[usize::from(host)].link_mut(queue)
                    && let Some((id, has)) = lease.ask(now_us)
                    && let Some(wire) = state.wires.get_mut(key)
                {
                    wire.up.push_back(Up::KeepAlive { id, has });
                }
            }
            Action::Goodbye { host, queue } => {
                let link = state.clients[usize::from(host)].link_mut(queue);
                let key = link.key();
                *link = Link::Down;
                if let Some(key) = key {
                    if let Some(wire) = state.wires.get_mut(&key) {
                        wire.up.push_back(Up::Goodbye);
                    }
                    state.release(key);
                }
            }
            Action::GroupReads(key) => state.group_reads(key, world),
            Action::GroupSeesEnd(key) => state.shut(key, false, world),
            Action::GroupLoses(key) => {
                state.left.losses -= 1;
                state.shut(key, false, world);
            }
            Action::FrameLost(key) => {
                if let Some(wire) = state.wires.get_mut(&key) {
                    wire.up.pop_back();
                }
            }
            Action::LeaseOver(key) => state.shut(key, false, world),
            Action::BackendDone(key, slot) => state.backend_done(key, slot, Status::Success, world),
            Action::ControlHears(target) => state.control_hears(target, world),
            Action::GroupHears(target) => state.group_hears(target, world),
            Action::BrokerTick(target) => {
                state.left.broker_ticks -= 1;
                state.broker_handles(target, Input::Tick);
                state.carry_out(target, world);
            }
            Action::ClientDies(host) => {
                state.left.client_deaths -= 1;
                state.ledger.orphan(host);
                state.clients[usize::from(host)] = Client::new(world);
                state.release_dropped(host);
            }
            Action::TargetDies(number) => target_dies(state, number, world),
            Action::FailsOver(host) => {
                state.left.failovers -= 1;
                for queue in 0..=world.queues {
                    state.client_loses(host, queue);
                }
                let next = (state.clients[usize::from(host)].address + 1) % state.targets.len() as u8;
                state.clients[usize::from(host)].address = next;
            }
            Action::DeleteExport(number) => {
                state.left.export_deletions -= 1;
                let now_us = state.now_us;
                let target = state.target(number);
                target.removal = Removal::Draining { timeouts: 0, is_resetting: false };
                let deleted = Arc::make_mut(&mut target.broker).delete_export(now_us, EXPORT);
                deleted.expect("the export is there");
                state.carry_out(number, world);
            }
            Action::DrainTimeout(number) => {
                if let Removal::Draining { timeouts, .. } = &mut state.target(number).removal {
                    *timeouts += 1;
                }
                state.broker_handles(number, Input::DrainTimeout { export: EXPORT.to_owned() });
                state.carry_out(number, world);
            }
            Action::ResetEnded(number) => {
                if let Removal::Draining { is_resetting, .. } = &mut state.target(number).removal {
                    *is_resetting = false;
                }
                state.broker_handles(number, Input::ResetEnded { export: EXPORT.to_owned() });
                state.carry_out(number, world);
            }
            Action::DeleteBdev(host) => {
                state.left.bdev_deletions -= 1;
                state.clients[usize::from(host)].is_closing = true;
            }
            Action::Tick => state.now_us += TICK.as_micros() as u64,
        }
    }

    fn client_reads(&self, state: &mut State, key: Key) {
        let now_us = state.now_us;
        let Some(wire) = state.wires.get_mut(&key) else { return };
        let host = wire.host;
        let Some(frame) = wire.down.pop_front() else { return };
        let client = &mut state.clients[usize::from(host)];
        let Some(queue) = client.queue_of(key) else { return };
        let closes = client.read(queue, frame, now_us, &mut state.ledger, wire, &self.world);
        if closes {
            state.client_loses(host, queue);
        }
        state.release_dropped(host);
    }

    /// Whether nothing happens any more by itself, whatever time passes.
    fn is_at_rest(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.each(state, &mut actions);
        if actions.iter().any(|action| action.is_inevitable()) {
            return false;
        }
        let mut later = state.clone();
        later.now_us += TICK.as_micros() as u64;
        !self.world.has_time || later == *state
    }

    /// What does not end where nothing happens any more.
    fn never_ends(&self, state: &State) -> Option<&'static str> {
        let is_waited_for = |wire: &Wire| matches!(wire.end, End::Asking);
        let deletes_bdev = |client: &Client| {
            // Without time no lease ends.
            self.world.has_time
                && client.is_closing
                && client
                    .channels
                    .iter()
                    .any(|channel| channel.transactions.outstanding() > 0 || !channel.waiting.is_empty())
        };
        let deletes_export = |target: &Target| matches!(target.removal, Removal::Draining { .. });
        let found = if state.targets.iter().any(deletes_export) {
            "the deletion of the export never ends"
        } else if state.clients.iter().any(deletes_bdev) {
            "the deletion of the bdev never ends"
        } else if state.wires.values().any(is_waited_for) {
            "a hello is never answered"
        } else {
            return None;
        };
        self.is_at_rest(state).then_some(found)
    }
}

fn each_of_client(state: &State, host: u8, client: &Client, world: &World, actions: &mut Vec<Action>) {
    for queue in 0..=client.channels.len() as u16 {
        let link = client.link(queue);
        let may_connect =
            link.key().is_none() && !client.is_over() && (queue == 0 || client.session.is_some());
        if may_connect && state.left.connects > 0 && state.targets[usize::from(client.address)].is_alive {
            actions.push(Action::Connect { host, queue });
        }
        if let Some(key) = link.key()
            && state.left.losses > 0
            && world.may_lose(queue)
        {
            let under_way = state.wires.get(&key).map_or(0, |wire| wire.up.len() as u8);
            actions.extend((0..=under_way).map(|frames| Action::ClientLoses { host, queue, frames }));
        }
        if let Link::Up { lease: Some(lease), .. } = link
            && let Some((id, _)) = lease.clone().ask(state.now_us)
            && id <= world.keep_alives
        {
            actions.push(Action::KeepAlive { host, queue });
        }
        let wants_turn = match queue {
            0 => client.control_wants_turn(state.now_us),
            queue => client.channel_wants_turn(queue, state.now_us),
        };
        if wants_turn {
            actions.push(Action::Turn { host, queue });
        }
        if client.is_over() && link.is_up() && client.is_done(queue) {
            actions.push(Action::Goodbye { host, queue });
        }
        if queue == 0 {
            continue;
        }
        if !client.is_closing
            && let Some(io) = state.ledger.next(host, queue)
        {
            actions.push(Action::Submit(io));
        }
        let overdue = client.channels[usize::from(queue) - 1].overdue;
        if let Some(io) = state.ledger.next_pending(host, queue, overdue)
            && io < world.deadlines
        {
            actions.push(Action::Deadline { host, queue, io });
        }
    }
    if state.left.client_deaths > 0 {
        actions.push(Action::ClientDies(host));
    }
    if state.left.failovers > 0 {
        actions.push(Action::FailsOver(host));
    }
    if state.left.bdev_deletions > 0 && !client.is_closing {
        actions.push(Action::DeleteBdev(host));
    }
}

fn each_of_wire(state: &State, key: Key, wire: &Wire, world: &World, actions: &mut Vec<Action>) {
    let is_open = wire.is_open_at_target();
    if wire.is_held {
        if !wire.down.is_empty() {
            actions.push(Action::ClientReads(key));
        }
        if !is_open {
            actions.push(Action::ClientSeesEnd(key));
        }
    }
    if is_open {
        if !wire.up.is_empty() && matches!(wire.end, End::Handshaking | End::Ready { .. }) {
            actions.push(Action::GroupReads(key));
        }
        if !wire.is_held && wire.up.is_empty() {
            actions.push(Action::GroupSeesEnd(key));
        } else if !wire.is_held && state.left.client_deaths < world.faults.client_deaths {
            actions.push(Action::FrameLost(key));
        }
        let queue = wire.queue().map_or(0, |queue| queue.place.queue);
        if wire.is_held && state.left.losses > 0 && world.may_lose(queue) {
            actions.push(Action::GroupLoses(key));
        }
        if let End::Ready { lease: Some(lease), .. } = &wire.end
            && lease.is_over(state.now_us)
        {
            actions.push(Action::LeaseOver(key));
        }
    }
    let backend = wire.queue().map(|queue| &queue.backend[..]).unwrap_or_default();
    actions.extend(backend.iter().map(|&(slot, _)| Action::BackendDone(key, slot)));
}

fn each_of_target(state: &State, number: u8, target: &Target, actions: &mut Vec<Action>) {
    if !target.to_control.is_empty() {
        actions.push(Action::ControlHears(number));
    }
    if !target.to_group.is_empty() {
        actions.push(Action::GroupHears(number));
    }
    if state.left.broker_ticks > 0 {
        actions.push(Action::BrokerTick(number));
    }
    if state.left.target_deaths > 0 {
        actions.push(Action::TargetDies(number));
    }
    match target.removal {
        Removal::NotAsked if state.left.export_deletions > 0 => actions.push(Action::DeleteExport(number)),
        Removal::Draining { is_resetting: true, .. } => actions.push(Action::ResetEnded(number)),
        Removal::Draining { timeouts: 0..2, .. } => actions.push(Action::DrainTimeout(number)),
        Removal::Draining { .. } | Removal::NotAsked | Removal::Gone => {}
    }
}

/// A target process dies: its kernel closes the sockets, what it had in the backend is gone with it. Another
/// one starts, to which clients connect from now on.
fn target_dies(state: &mut State, number: u8, world: &World) {
    state.left.target_deaths -= 1;
    state.target(number).is_alive = false;
    let keys: Vec<Key> = state.wires.keys().copied().filter(|key| key.0 == number).collect();
    for key in keys {
        if let Some(wire) = state.wires.get_mut(&key) {
            wire.up.clear();
            wire.end = End::Gone;
        }
        state.forget_if_gone(key);
    }
    let next = state.targets.len() as u8;
    state.targets.push(Target::new(next, world));
    for client in &mut state.clients {
        if client.address == number {
            client.address = next;
        }
    }
}

/// The names of the properties, which are the promises of docs/failures.md with their numbers.
const PROMISES: [(u8, &str); 8] = [
    (0, "0: the protocol is kept, and nothing waits for ever"),
    (1, "1: nothing acknowledged is lost"),
    (2, "2: nothing old comes back, a welcome comes only after the fence"),
    (3, "3: at most once"),
    (4, "4: reads are current"),
    (5, "5: an I/O completes once"),
    (8, "8: nobody writes without a right"),
    (10, "10: removal ends"),
];

impl Model for Checked {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        mutation::set(self.without);
        vec![self.attached()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        mutation::set(self.without);
        if state.ledger.violation.is_none() {
            self.each(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        mutation::set(self.without);
        let mut next = state.clone();
        self.apply(&mut next, action);
        if next.ledger.violation.is_none()
            && let Some(what) = self.never_ends(&next)
        {
            next.ledger.broken(if what.starts_with("the deletion") { 10 } else { 0 }, what);
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        PROMISES.iter().map(|&(number, name)| property(number, name)).collect()
    }
}

fn property(number: u8, name: &'static str) -> Property<Checked> {
    // The checker wants plain functions, so each promise has one.
    macro_rules! keeps {
        ($number:literal) => {
            |_: &Checked, state: &State| {
                state.ledger.violation.as_ref().is_none_or(|violation| violation.promise != $number)
            }
        };
    }
    match number {
        0 => Property::always(name, keeps!(0)),
        1 => Property::always(name, keeps!(1)),
        2 => Property::always(name, keeps!(2)),
        3 => Property::always(name, keeps!(3)),
        4 => Property::always(name, keeps!(4)),
        5 => Property::always(name, keeps!(5)),
        8 => Property::always(name, keeps!(8)),
        10 => Property::always(name, keeps!(10)),
        other => unreachable!("promise {other} has no check"),
    }
}
