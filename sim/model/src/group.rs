//! A target's group, which executes as `src/dst-target` does: this file's own code, with the real
//! record of answers, lease, and checks of requests.

use std::net::SocketAddr;
use std::sync::Arc;

use dst_session::access::Access;
use dst_session::lease::Granted;
use dst_session::mutation::{Mutation, is_on};
use dst_session::request::{Checked, check};
use dst_session::slots::Arrival;
use dst_session::transactions::slot_of;
use dst_wire::{Header, Hello, Kind, Op, Status};

use crate::channel::BLOCK;
use crate::ledger::Io;
use crate::state::State;
use crate::target::MAX_TRANSFER;
use crate::wire::{Down, End, Key, ServedQueue, ToControl, ToGroup, Up, Wire};
use crate::world::{Threads, World};

impl State {
    /// Returns the I/O that a target process has in its backend. The process does not know of other
    /// processes' I/O: see "What is not promised" in docs/failures.md.
    pub fn in_backend(&self, target: u8) -> Vec<Io> {
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
        let adopted = Arc::make_mut(&mut self.target(target).broker).accepted(now_us, peer, None);
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
}

fn answer_frame(id: u64, op: Op, status: Status, found: Option<Io>) -> Down {
    let mut header = Header::new(Kind::Answer);
    header.code = status as u8;
    header.id = id;
    header.data_len = if status == Status::Success { op.answer_data(BLOCK) as u32 } else { 0 };
    Down::Answer { header: header.encode(), found }
}
