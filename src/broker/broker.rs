//! The broker's state, and the dispatch of each input to the code that decides about it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use dst_session::negotiate::refuse;
use dst_wire::{Refusal, RefusalReason};

use crate::connection::{Connection, Stage};
use crate::export::Export;
use crate::ids::{ClientId, ConnectionId, SessionId};
use crate::input::Input;
use crate::limits::Limits;
use crate::output::{Order, Output, Topic};
use crate::resets::ClientResets;
use crate::room::{Room, Vacancy};
use crate::sessions::Sessions;
use crate::stats::Stats;

/// An accepted connection, with the group that is to be given its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adopted {
    /// The number by which the connection is known from now on.
    pub connection: ConnectionId,
    /// The group that is to be given the socket.
    pub group: usize,
}

/// The target's decisions. See the crate's documentation.
#[derive(Debug, Clone)]
pub struct Broker {
    pub(crate) limits: Limits,
    pub(crate) groups: usize,
    pub(crate) next_group: usize,
    pub(crate) last_connection: ConnectionId,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    pub(crate) sessions: Sessions,
    pub(crate) room: Room,
    pub(crate) exports: BTreeMap<String, Export>,
    pub(crate) resets: ClientResets,
    /// The number of refused hellos and refused attempts to prove a key, since the start.
    pub(crate) refused_hellos: u64,
    /// The number of these refusals that were [`RefusalReason::Busy`]: the client may try again.
    pub(crate) refused_busy: u64,
    /// The number of sessions that timed out because no client came back to them, since the start.
    pub(crate) sessions_timed_out: u64,
    /// The counts of sessions and connections that no longer exist.
    pub(crate) past: Stats,
    pub(crate) now_us: u64,
    pub(crate) is_stopping: bool,
    pub(crate) is_stopped: bool,
    pub(crate) outputs: VecDeque<Output>,
}

impl Broker {
    /// Returns a broker without groups and exports.
    pub fn new(limits: Limits) -> Broker {
        Broker {
            limits,
            groups: 0,
            next_group: 0,
            last_connection: 0,
            connections: BTreeMap::new(),
            sessions: Sessions::default(),
            room: Room::default(),
            exports: BTreeMap::new(),
            resets: ClientResets::default(),
            refused_hellos: 0,
            refused_busy: 0,
            sessions_timed_out: 0,
            past: Stats::default(),
            now_us: 0,
            is_stopping: false,
            is_stopped: false,
            outputs: VecDeque::new(),
        }
    }

    /// Returns the limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the number of sessions that timed out, since the start, because no client came back
    /// to them.
    pub fn sessions_timed_out(&self) -> u64 {
        self.sessions_timed_out
    }

    /// Sets the limits. To be called before the first connection is accepted.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Returns the next decision for the driver to carry out, or `None` if there is no more.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Handles an event that happened at `now_us`.
    pub fn handle(&mut self, now_us: u64, input: Input) {
        self.now_us = now_us;
        match input {
            Input::GroupsStarted(groups) => self.groups = groups,
            Input::NotAdopted { connection } => self.not_adopted(connection),
            Input::Hello { connection, hello, opening } => self.hello(connection, hello, opening),
            Input::AskedAgain { connection, opening } => self.asked_again(connection, opening),
            Input::KeyShown { connection, proof } => self.key_shown(connection, proof),
            Input::KeyRefused { connection, client, why, refusal } => {
                self.key_refused(connection, &client, &why, refusal);
            }
            Input::Malformed { connection } => self.close(connection),
            Input::Draining { connection } => self.draining(connection),
            Input::Finished { connection, remains } => self.finished(connection, remains),
            Input::Returned { connection, session, queue, slots } => {
                self.returned(connection, &session, queue, slots);
            }
            Input::Online { export, device, instance, predecessors } => {
                self.online(&export, device, instance, predecessors);
            }
            Input::Offline { export } => self.offline(&export),
            Input::Resized { export, device } => self.resized(&export, device),
            Input::SizeConfirmed { export, num_blocks } => self.size_confirmed(&export, num_blocks),
            Input::DrainTimeout { export } => self.drain_timeout(export),
            Input::InFlight { export, lateness, in_flight } => {
                self.counted_in_flight(export, lateness, in_flight);
            }
            Input::OwnershipStored { export, since_s } => self.ownership_stored(&export, since_s),
            Input::OwnershipNotStored { export, why, is_in_doubt } => {
                self.ownership_not_stored(&export, &why, is_in_doubt);
            }
            Input::ResetEnded { export } => self.reset_ended(&export),
            Input::Reset { connection, slot } => self.reset_asked(connection, slot),
            Input::Quiesced { connection, round } => self.quiesced(connection, round),
            Input::HostsResetEnded { export, has_succeeded } => {
                self.hosts_reset_ended(&export, has_succeeded);
            }
            Input::Tick => self.tick(),
            Input::Stop => self.stop(),
        }
        self.stop_if_idle();
    }

    /// Ends the stop when the last connection and export are gone.
    pub(crate) fn stop_if_idle(&mut self) {
        if self.is_stopping && !self.is_stopped && self.connections.is_empty() && self.exports.is_empty() {
            self.is_stopped = true;
            self.output(Output::Stopped);
        }
    }

    /// Handles a new connection of a listener. Returns the connection's number and the group that
    /// gets its socket, or `None` if the connection must be closed: there is no room for it, there
    /// is no group yet, or the target is stopping. Connections with the same `placement` have the same
    /// group; the others have them in turn.
    pub fn accepted(&mut self, now_us: u64, peer: SocketAddr, placement: Option<usize>) -> Option<Adopted> {
        self.now_us = now_us;
        if self.is_stopping || self.groups == 0 {
            return None;
        }
        match self.room.look(peer.ip(), self.connections.len(), &self.limits) {
            Vacancy::Free => {}
            Vacancy::InsteadOf(oldest) => self.evict(oldest),
            Vacancy::None => {
                self.room.refused += 1;
                let connections = self.connections.len();
                self.warn(Topic::Flood, || {
                    format!(
                        "DST connection from {peer} closed: there are already {connections}, and none may be evicted for it"
                    )
                });
                return None;
            }
        }
        let group = placement.unwrap_or(self.next_group) % self.groups;
        if placement.is_none() {
            self.next_group = group + 1;
        }
        self.last_connection += 1;
        let connection = self.last_connection;
        self.connections.insert(connection, Connection::new(group, peer, now_us));
        self.room.enter(connection, peer.ip());
        Some(Adopted { connection, group })
    }

    /// Returns true if listeners should accept connections: the groups have started, and fewer than
    /// [`EVICTIONS_MAX`](crate::EVICTIONS_MAX) evicted connections are still being closed.
    pub fn may_accept(&self) -> bool {
        self.groups > 0 && !self.room.is_clearing()
    }

    /// Returns the group of a connection, or `None` if the connection is closed and must not be
    /// answered.
    pub fn group_of_open(&self, connection: ConnectionId) -> Option<usize> {
        self.connections.get(&connection).filter(|entry| entry.is_open()).map(|entry| entry.group)
    }

    /// Closes a connection that is not admitted yet, to make room for a newer one.
    fn evict(&mut self, oldest: ConnectionId) {
        self.room.evict(oldest);
        let handshakes = self.room.handshakes();
        let Some(peer) = self.connections.get(&oldest).map(|entry| entry.peer) else { return };
        self.warn(Topic::Flood, || {
            format!(
                "DST connection from {peer} evicted for a newer one before it was admitted: {handshakes} others are in their handshake"
            )
        });
        self.close(oldest);
    }

    fn not_adopted(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.room.leave(connection);
    }

    /// Handles all time-outs: of rounds of resets, of hellos that wait, of queues without a
    /// connection, and of sessions whose clients did not come back.
    fn tick(&mut self) {
        self.tick_resets();
        self.refuse_waiting();
        let timeout_us = u64::from(self.limits.session_timeout_ms) * 1000;
        let Some(before) = self.now_us.checked_sub(timeout_us) else { return };
        self.sessions.give_up_queues(before);
        let abandoned = self.sessions.abandoned(before);
        self.sessions_timed_out += abandoned.len() as u64;
        for id in &abandoned {
            self.close_session(id, "its client did not come back in time");
        }
    }

    /// Ends all sessions and connections. The driver deletes the exports only after that; otherwise
    /// clients would be told that the exports are gone for good. To the clients, the stop looks
    /// like the death of the process: another process may take its place.
    fn stop(&mut self) {
        self.is_stopping = true;
        let sessions: Vec<SessionId> = self.sessions.iter().map(|(id, _)| *id).collect();
        for id in &sessions {
            self.close_session(id, "the target stops");
        }
        let connections: Vec<ConnectionId> = self.connections.keys().copied().collect();
        connections.into_iter().for_each(|id| self.close(id));
    }

    /// Sends an order to a connection's group. A closed connection is sent nothing.
    pub(crate) fn order(&mut self, connection: ConnectionId, order: Order) {
        if let Some(group) = self.group_of_open(connection) {
            self.output(Output::ToGroup { group, connection, order });
        }
    }

    /// Refuses a connection. From then on the connection is neither admitted nor waiting to be.
    pub(crate) fn refuse(
        &mut self,
        connection: ConnectionId,
        client: &ClientId,
        why: &str,
        refusal: Refusal,
    ) {
        let Some(entry) = self.connections.get_mut(&connection).filter(|entry| entry.is_open()) else {
            return;
        };
        let peer = entry.peer;
        self.past.fences += u64::from(entry.waited_to_open());
        entry.stage = Stage::Refused;
        self.refused_hellos += 1;
        self.refused_busy += u64::from(refusal.reason == RefusalReason::Busy);
        self.warn(Topic::Refusals, || {
            format!("DST host {:?} from {peer} refused at export {:?}: {why}", client.host, client.export)
        });
        let told = match refusal.reason {
            // The client must not learn what exists; only the log gives the reason.
            RefusalReason::NotAllowed => refuse(refusal.reason, "not allowed"),
            _ => refusal,
        };
        self.order(connection, Order::Refuse(told));
    }

    pub(crate) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn warn(&mut self, topic: Topic, text: impl FnOnce() -> String) {
        self.output(Output::Log { is_warning: true, topic, text: text() });
    }

    pub(crate) fn notice(&mut self, topic: Topic, text: impl FnOnce() -> String) {
        self.output(Output::Log { is_warning: false, topic, text: text() });
    }
}
