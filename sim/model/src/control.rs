//! A target's control thread, which carries out the broker's decisions, and the checks of these
//! decisions.

use std::sync::Arc;

use dst_broker::{ConnectionId, Input, Opening, Order, Output, PreviousProcess, Remains, Stats};
use dst_wire::{Hello, SessionRef};

use crate::state::State;
use crate::target::{EXPORT, Removal, instance};
use crate::wire::{End, Key, ToControl, ToGroup, Wire};
use crate::world::{Threads, World};

impl State {
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
                        Order::Leave => unreachable!("no target of these worlds stops in order"),
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
