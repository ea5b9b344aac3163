//! What each action does to a state, for the model checker.

use std::sync::Arc;

use dst_broker::Input;
use dst_session::mutation::{self, Mutation};
use dst_wire::Status;
use stateright::{Model, Property};

use crate::action::Action;
use crate::channel::Link;
use crate::client::Client;
use crate::possible::each;
use crate::state::State;
use crate::target::{EXPORT, Removal, Target};
use crate::wire::{End, Key, Up, Wire};
use crate::world::{TICK, World};

/// A world with at most one protection removed.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The world.
    pub world: Arc<World>,
    /// The protection that is removed.
    pub without: Option<Mutation>,
}

impl Checked {
    /// Returns the state in which the clients that are attached at the beginning have connected
    /// their queues.
    fn attached(&self) -> State {
        let mut state = State::new(&self.world);
        for host in 0..self.world.attached_hosts() {
            for queue in 0..=self.world.attached {
                self.connect(&mut state, host, queue);
                if self.world.owners.is_some() && !state.clients[usize::from(host)].link(queue).is_up() {
                    // The client knows now who owns the export, and claims it.
                    self.connect(&mut state, host, queue);
                }
                assert!(state.clients[usize::from(host)].link(queue).is_up(), "queue {queue} is let in");
            }
        }
        state.left = self.world.faults;
        state
    }

    /// Connects a queue and takes all steps that follow from that.
    fn connect(&self, state: &mut State, host: u8, queue: u16) {
        self.apply(state, Action::Connect { host, queue });
        let mut actions = Vec::new();
        loop {
            actions.clear();
            each(state, &self.world, &mut actions);
            let Some(&next) = actions.iter().find(|action| action.is_inevitable()) else { break };
            self.apply(state, next);
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
                state.clients[usize::from(host)] = Client::new(world, world.tenure(host, false));
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
            Action::RemoveHost { target, host } => {
                state.left.host_removals -= 1;
                state.remove_host(target, host, world);
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
            Action::Written(target) => state.written(target),
            Action::Stored(target) => state.stored(target, world),
            Action::NotStored(target) | Action::StoredInDoubt(target) => {
                state.left.failed_stores -= 1;
                state.not_stored(target, matches!(action, Action::StoredInDoubt(_)), world);
            }
            Action::StoreLost => {
                state.left.lost_stores -= 1;
                state.kept.lose();
            }
            Action::Release(target) => {
                state.left.releases -= 1;
                state.release_export(target, world);
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

    /// Returns whether nothing happens by itself any more, however much time passes.
    fn is_at_rest(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        each(state, &self.world, &mut actions);
        if actions.iter().any(|action| action.is_inevitable()) {
            return false;
        }
        let mut later = state.clone();
        later.now_us += TICK.as_micros() as u64;
        !self.world.has_time || later == *state
    }

    /// Returns what is left waiting in a state in which nothing happens any more.
    fn never_ends(&self, state: &State) -> Option<&'static str> {
        let is_waited_for = |wire: &Wire| matches!(wire.end, End::Asking);
        let deletes_bdev = |client: &Client| {
            // Without time, no lease ends.
            self.world.has_time
                && client.is_closing
                && client
                    .channels
                    .iter()
                    .any(|channel| channel.transactions.outstanding() > 0 || !channel.waiting.is_empty())
        };
        let deletes_export =
            |target: &Target| target.is_alive && matches!(target.removal, Removal::Draining { .. });
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

/// Kills a target process: its kernel closes the sockets, and its backend I/O is gone. Another
/// process starts, to which clients connect from then on.
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
    state.targets.push(Target::new(next, world, &state.kept));
    for client in &mut state.clients {
        if client.address == number {
            client.address = next;
        }
    }
}

/// The names of the properties: the promises of docs/failures.md, with their numbers.
const PROMISES: [(u8, &str); 9] = [
    (0, "0: the protocol is kept, and nothing waits for ever"),
    (1, "1: nothing acknowledged is lost"),
    (2, "2: nothing old comes back, a welcome comes only after the fence"),
    (3, "3: at most once"),
    (4, "4: reads are current"),
    (5, "5: an I/O completes once"),
    (8, "8: nobody writes without a right"),
    (10, "10: removal ends"),
    (11, "11: one owner at a time"),
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
            each(state, &self.world, actions);
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
    // The model checker takes plain functions, so each promise has one.
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
        11 => Property::always(name, keeps!(11)),
        other => unreachable!("promise {other} has no check"),
    }
}
