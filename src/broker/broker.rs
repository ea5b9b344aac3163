//! The broker: what it knows, and which part of it decides about which input.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use dst_session::negotiate::refuse;
use dst_wire::{Refusal, RefusalReason};

use crate::connection::{Connection, Stage};
use crate::export::Export;
use crate::ids::{ConnectionId, Owner, SessionId};
use crate::input::Input;
use crate::limits::Limits;
use crate::output::{Order, Output, Topic};
use crate::resets::Resets;
use crate::room::{Room, Vacancy};
use crate::sessions::Sessions;
use crate::stats::Stats;

/// A connection that was accepted: the group that is to be given its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adopted {
    /// Its number from now on.
    pub connection: ConnectionId,
    /// The group.
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
    pub(crate) resets: Resets,
    /// Since the start: hellos, and attempts to show a key, that were refused.
    pub(crate) refused_hellos: u64,
    /// Those of them that may come again later.
    pub(crate) refused_busy: u64,
    /// Since the start: sessions that nobody came back to.
    pub(crate) sessions_timed_out: u64,
    /// Counts of sessions that are gone.
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
            resets: Resets::default(),
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

    /// Returns how many sessions, since the start, nobody came back to.
    pub fn sessions_timed_out(&self) -> u64 {
        self.sessions_timed_out
    }

    /// Sets the limits. Before the first connection.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Returns the next thing to be done, if there is any.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Something has happened.
    pub fn handle(&mut self, now_us: u64, input: Input) {
        self.now_us = now_us;
        match input {
            Input::GroupsStarted(groups) => self.groups = groups,
            Input::NotAdopted { connection } => self.not_adopted(connection),
            Input::Hello { connection, hello, opening } => self.hello(connection, hello, opening),
            Input::AskedAgain { connection, opening } => self.asked_again(connection, opening),
            Input::KeyShown { connection, proof } => self.key_shown(connection, proof),
            Input::KeyRefused { connection, owner, why, refusal } => {
                self.key_refused(connection, &owner, &why, refusal);
            }
            Input::Malformed { connection } => self.close(connection),
            Input::Draining { connection } => self.draining(connection),
            Input::Finished { connection, remains } => self.finished(connection, remains),
            Input::Returned { connection, session, queue, slots } => {
                self.returned(connection, &session, queue, slots);
            }
            Input::Online { export, device, instance } => self.online(&export, device, instance),
            Input::Offline { export } => self.offline(&export),
            Input::Resized { export, device } => self.resized(&export, device),
            Input::SizeConfirmed { export, num_blocks } => self.size_confirmed(&export, num_blocks),
            Input::DrainTimeout { export } => self.drain_timeout(export),
            Input::InFlight { export, lateness, in_flight } => {
                self.counted_in_flight(export, lateness, in_flight);
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

    /// A listener has a new connection. Returns the group that gets it; `None`: there is no room for it.
    pub fn accepted(&mut self, now_us: u64, peer: SocketAddr) -> Option<Adopted> {
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
                        "DST connection from {peer} closed: there are {connections}, none of which can go for it"
                    )
                });
                return None;
            }
        }
        let group = self.next_group % self.groups;
        self.next_group = group + 1;
        self.last_connection += 1;
        let connection = self.last_connection;
        self.connections.insert(connection, Connection::new(group, peer, now_us));
        self.room.enter(connection, peer.ip());
        Some(Adopted { connection, group })
    }

    /// Returns true if listeners should accept: there are groups, and few evicted connections are still
    /// to be closed.
    pub fn may_accept(&self) -> bool {
        self.groups > 0 && !self.room.is_clearing()
    }

    /// Returns the group of a connection that may be answered; `None`: it is closed.
    pub fn group_of_open(&self, connection: ConnectionId) -> Option<usize> {
        self.connections.get(&connection).filter(|entry| entry.is_open()).map(|entry| entry.group)
    }

    /// Closes a connection that was not let in yet, for a newer one.
    fn evict(&mut self, oldest: ConnectionId) {
        self.room.evict(oldest);
        let handshakes = self.room.handshakes();
        let Some(peer) = self.connections.get(&oldest).map(|entry| entry.peer) else { return };
        self.warn(Topic::Flood, || {
            format!(
                "DST connection from {peer} closed for a newer one before it was let in: {handshakes} others are not either"
            )
        });
        self.close(oldest);
    }

    fn not_adopted(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.room.leave(connection);
    }

    /// Ends sessions that nobody came back to, and queues.
    fn tick(&mut self) {
        self.tick_resets();
        let timeout_us = u64::from(self.limits.session_timeout_ms) * 1000;
        let Some(before) = self.now_us.checked_sub(timeout_us) else { return };
        self.sessions.give_up_queues(before);
        let abandoned = self.sessions.abandoned(before);
        self.sessions_timed_out += abandoned.len() as u64;
        for id in &abandoned {
            self.close_session(id, "nobody came back to it in time");
        }
    }

    /// Ends all sessions and connections. The driver deletes the exports after that, or their clients
    /// would be told that they are gone for good. For the clients this is as a death of the process:
    /// another one may come.
    fn stop(&mut self) {
        self.is_stopping = true;
        let sessions: Vec<SessionId> = self.sessions.iter().map(|(id, _)| *id).collect();
        for id in &sessions {
            self.close_session(id, "the target stops");
        }
        let connections: Vec<ConnectionId> = self.connections.keys().copied().collect();
        connections.into_iter().for_each(|id| self.close(id));
    }

    /// Tells a connection's group to do something. A connection that is closed gets nothing.
    pub(crate) fn order(&mut self, connection: ConnectionId, order: Order) {
        if let Some(group) = self.group_of_open(connection) {
            self.output(Output::ToGroup { group, connection, order });
        }
    }

    /// Refuses a connection, which is neither let in nor waits to be from now on.
    pub(crate) fn refuse(&mut self, connection: ConnectionId, owner: &Owner, why: &str, refusal: Refusal) {
        let Some(entry) = self.connections.get_mut(&connection).filter(|entry| entry.is_open()) else {
            return;
        };
        let peer = entry.peer;
        self.past.fences += u64::from(entry.waited_to_open());
        entry.stage = Stage::Refused;
        self.refused_hellos += 1;
        self.refused_busy += u64::from(refusal.reason == RefusalReason::Busy);
        self.warn(Topic::Refusals, || {
            format!("DST host {:?} from {peer} refused at export {:?}: {why}", owner.host, owner.export)
        });
        let told = match refusal.reason {
            // Nothing about what exists, whatever the log says.
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
