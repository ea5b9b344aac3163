//! Resets that clients ask for.
//!
//! A reset ends a host's own I/O, not that of others. By default it never reaches the backend: it is
//! done when all requests that the session had at the target are answered, on all its queues. With
//! [`ResetReach::Backend`] the export's bdev is reset; what that ends of other sessions' I/O the groups
//! execute again.
//!
//! Resets go in *rounds*: one at a time for each session, or for each export whose backend is reset,
//! and at most one in [`PERIOD_US`]. Those that come meanwhile wait, and share the next round. A round
//! that takes longer than [`crate::Limits::drain_timeout_ms`] fails its resets. A backend that hangs in
//! a reset is not reset again before that one has ended.

use std::collections::{BTreeMap, BTreeSet};

use dst_session::mutation::{Mutation, is_on};
use dst_wire::Status;

use crate::broker::Broker;
use crate::connection::Stage;
use crate::export::ResetReach;
use crate::ids::{ConnectionId, SessionId};
use crate::output::{Order, Output, ResetStep};

/// The time from the beginning of a round to that of the next one, µs: as long as a tick of the driver,
/// since a round that has to wait begins with a tick. A reset of a device takes up to seconds, so more
/// would be of no use to anybody who means well.
pub const PERIOD_US: u64 = 500_000;

/// Whose resets share rounds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Scope {
    /// Those of a session.
    Session(SessionId),
    /// Those of all sessions of an export.
    Export(String),
}

/// A request that asks for a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Asker {
    connection: ConnectionId,
    slot: u16,
}

/// The resets of one scope.
#[derive(Debug, Clone, Default)]
struct Rounds {
    /// Resets for the next round. Each occupies a slot of its queue, which bounds them.
    waiting: Vec<Asker>,
    running: Option<Round>,
    /// When the next round may begin.
    next_us: u64,
}

/// A round that is under way.
#[derive(Debug, Clone, Hash)]
struct Round {
    /// The resets that end with it. None once they were told that it takes too long.
    askers: Vec<Asker>,
    began_us: u64,
    step: Step,
}

/// What a round waits for.
#[derive(Debug, Clone, Hash)]
enum Step {
    /// For these connections, to have answered what they had when the round `number` began.
    Quiescing { number: u64, left: BTreeSet<ConnectionId> },
    /// For the reset of the backend. These connections know that it is their session's own.
    Resetting { told: Vec<ConnectionId> },
}

/// All rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resets {
    scopes: BTreeMap<Scope, Rounds>,
    /// The number of the newest round in which connections are asked.
    last_round: u64,
}

impl Resets {
    /// Returns whether the bdev of an export is being reset for its clients.
    pub fn is_resetting(&self, export: &str) -> bool {
        let rounds = self.scopes.get(&Scope::Export(export.to_owned()));
        rounds.is_some_and(|rounds| rounds.running.is_some())
    }

    /// Feeds what decides from `now_us` on to the hash.
    #[cfg(feature = "model")]
    pub fn canonical(&self, now_us: u64, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        self.last_round.hash(hasher);
        for (scope, Rounds { waiting, running, next_us }) in &self.scopes {
            (scope, waiting, running, next_us.saturating_sub(now_us)).hash(hasher);
        }
    }
}

impl Broker {
    /// A client asks for a reset, with the request in this slot.
    pub(crate) fn reset_asked(&mut self, connection: ConnectionId, slot: u16) {
        let Some(Stage::Ready(queue)) = self.connections.get(&connection).map(|entry| &entry.stage) else {
            return;
        };
        let Some(export) = self.exports.get(&queue.owner.export) else { return };
        let reach =
            if is_on(Mutation::ResetsReachBackend) { ResetReach::Backend } else { export.rules.reset };
        let scope = match reach {
            ResetReach::Host => Scope::Session(queue.session.id),
            ResetReach::Backend => Scope::Export(queue.owner.export.clone()),
        };
        let rounds = self.resets.scopes.entry(scope.clone()).or_default();
        rounds.waiting.push(Asker { connection, slot });
        self.begin_round(scope);
    }

    /// Begins a round if there is something for it, and it is time.
    fn begin_round(&mut self, scope: Scope) {
        let now_us = self.now_us;
        let Some(rounds) = self.resets.scopes.get_mut(&scope) else { return };
        if rounds.waiting.is_empty() || rounds.running.is_some() || now_us < rounds.next_us {
            return;
        }
        rounds.next_us = now_us + PERIOD_US;
        let askers = std::mem::take(&mut rounds.waiting);
        let step = match &scope {
            Scope::Session(session) => self.quiesce(session),
            Scope::Export(export) => self.reset_for_hosts(export.clone(), &askers),
        };
        let has_ended = matches!(&step, Step::Quiescing { left, .. } if left.is_empty());
        if let Some(rounds) = self.resets.scopes.get_mut(&scope) {
            rounds.running = Some(Round { askers, began_us: now_us, step });
        }
        if has_ended {
            self.end_round(&scope, Status::Success);
        }
    }

    /// Asks all connections of a session to answer what they have. Those that are closed and have
    /// something in the backend are waited for.
    fn quiesce(&mut self, session: &SessionId) -> Step {
        let is_its = |stage: &Stage| match stage {
            Stage::Ready(queue) | Stage::Closing { queue: Some(queue), .. } => {
                queue.session.id == *session && queue.session.queue != 0
            }
            _ => false,
        };
        let found = self.connections.iter().filter(|(_, entry)| is_its(&entry.stage));
        let left: BTreeSet<ConnectionId> = found.map(|(&id, _)| id).collect();
        self.resets.last_round += 1;
        let number = self.resets.last_round;
        for &connection in &left {
            self.order(connection, Order::Reset(ResetStep::Quiesce(number)));
        }
        Step::Quiescing { number, left }
    }

    /// Has the backend reset. The groups hear before whose reset it is.
    fn reset_for_hosts(&mut self, export: String, askers: &[Asker]) -> Step {
        let sessions: BTreeSet<SessionId> =
            askers.iter().filter_map(|asker| self.session_of_ready(asker.connection)).collect();
        let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
        let of_askers =
            |&id: &ConnectionId| self.session_of_ready(id).is_some_and(|id| sessions.contains(&id));
        let told: Vec<ConnectionId> = all.into_iter().filter(of_askers).collect();
        for &connection in &told {
            self.order(connection, Order::Reset(ResetStep::Begins));
        }
        self.output(Output::ResetForHosts { export });
        Step::Resetting { told }
    }

    fn session_of_ready(&self, connection: ConnectionId) -> Option<SessionId> {
        match &self.connections.get(&connection)?.stage {
            Stage::Ready(queue) => Some(queue.session.id),
            _ => None,
        }
    }

    /// A connection has answered all that it had when a round began.
    pub(crate) fn quiesced(&mut self, connection: ConnectionId, number: u64) {
        self.no_longer_left(connection, |other| other == number);
    }

    /// A connection is gone, with what it asked for.
    pub(crate) fn asker_gone(&mut self, connection: ConnectionId) {
        for rounds in self.resets.scopes.values_mut() {
            let round = rounds.running.iter_mut().map(|round| &mut round.askers);
            for askers in round.chain([&mut rounds.waiting]) {
                askers.retain(|asker| asker.connection != connection);
            }
        }
        self.no_longer_left(connection, |_| true);
    }

    /// The rounds of these numbers need not wait for a connection any more.
    fn no_longer_left(&mut self, connection: ConnectionId, which: impl Fn(u64) -> bool) {
        let mut ended = Vec::new();
        for (scope, rounds) in &mut self.resets.scopes {
            if let Some(Round { step: Step::Quiescing { number, left }, .. }) = &mut rounds.running
                && which(*number)
                && left.remove(&connection)
                && left.is_empty()
            {
                ended.push(scope.clone());
            }
        }
        for scope in &ended {
            self.end_round(scope, Status::Success);
        }
    }

    /// The reset of an export's bdev for its clients has ended.
    pub(crate) fn hosts_reset_ended(&mut self, export: &str, has_succeeded: bool) {
        let status = if has_succeeded { Status::Success } else { Status::Failed };
        self.end_round(&Scope::Export(export.to_owned()), status);
        self.drained(export);
    }

    /// Ends the round that is under way, and answers its resets.
    fn end_round(&mut self, scope: &Scope, status: Status) {
        let round = self.resets.scopes.get_mut(scope).and_then(|rounds| rounds.running.take());
        let Some(Round { askers, step, .. }) = round else { return };
        if let Step::Resetting { told } = step {
            for connection in told {
                self.order(connection, Order::Reset(ResetStep::Ends));
            }
        }
        self.answer_resets(askers, status);
        self.begin_round(scope.clone());
    }

    fn answer_resets(&mut self, askers: Vec<Asker>, status: Status) {
        for Asker { connection, slot } in askers {
            self.order(connection, Order::Reset(ResetStep::Answer { slot, status }));
        }
    }

    /// Some time has passed: fails rounds that take too long, begins those that had to wait, and forgets
    /// who has asked for nothing lately.
    pub(crate) fn tick_resets(&mut self) {
        let (now_us, timeout_us) = (self.now_us, u64::from(self.limits.drain_timeout_ms) * 1000);
        let is_late = |round: &Round| now_us.saturating_sub(round.began_us) >= timeout_us;
        let scopes: Vec<Scope> = self.resets.scopes.keys().cloned().collect();
        for scope in scopes {
            let Some(rounds) = self.resets.scopes.get_mut(&scope) else { continue };
            match rounds.running.as_mut().filter(|round| is_late(round)) {
                Some(Round { step: Step::Quiescing { .. }, .. }) => self.end_round(&scope, Status::Failed),
                // The backend is still busy with it: there is no other reset before it has ended.
                Some(round) => {
                    let askers = std::mem::take(&mut round.askers);
                    self.answer_resets(askers, Status::Failed);
                }
                None => self.begin_round(scope.clone()),
            }
            let is_idle = |rounds: &mut Rounds| {
                rounds.running.is_none() && rounds.waiting.is_empty() && rounds.next_us <= now_us
            };
            if self.resets.scopes.get_mut(&scope).is_some_and(is_idle) {
                self.resets.scopes.remove(&scope);
            }
        }
    }
}
