//! Resets that clients ask for.
//!
//! A reset ends the I/O of the session that asked for it, not that of others. By default it never
//! reaches the backend: it is done once all requests that the session had at the target are
//! answered, on all its queues. With [`ResetReach::Backend`] the export's bdev is reset, and the
//! groups execute again the I/O of other sessions that this ends.
//!
//! Resets are carried out in *rounds*: one at a time for each session, or for each export whose
//! backend is reset, and at most one in each [`PERIOD_US`]. Resets that come meanwhile wait, and
//! share the next round. A round that takes longer than [`crate::Limits::drain_timeout_ms`] fails
//! its resets. A backend that hangs in a reset is not reset again before that reset has ended.

use std::collections::BTreeSet;

use dst_session::mutation::{Mutation, is_on};
use dst_wire::Status;

use crate::broker::Broker;
use crate::connection::{QueueRef, Stage};
use crate::export::ResetReach;
use crate::ids::{ConnectionId, SessionId};
use crate::output::{Order, Output, ResetStep};
use crate::resets::{Asker, PERIOD_US, ResetRound, ResetRounds, RoundStep, Scope};

impl Broker {
    /// Adds a client's reset, requested in this slot, to the next round.
    pub(crate) fn reset_asked(&mut self, connection: ConnectionId, slot: u16) {
        let Some(Stage::Ready(queue)) = self.connections.get(&connection).map(|entry| &entry.stage) else {
            return;
        };
        let Some(export) = self.exports.get(&queue.client.export) else { return };
        let reach =
            if is_on(Mutation::ResetsReachBackend) { ResetReach::Backend } else { export.rules.reset };
        let scope = match reach {
            ResetReach::Host => Scope::Session(queue.session.id),
            ResetReach::Backend => Scope::Export(queue.client.export.clone()),
        };
        let rounds = self.resets.scopes.entry(scope.clone()).or_default();
        rounds.waiting.push(Asker { connection, slot });
        self.begin_round(scope);
    }

    /// Begins a round if resets wait for one and it is time.
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
        let has_ended = matches!(&step, RoundStep::Quiescing { left, .. } if left.is_empty());
        if let Some(rounds) = self.resets.scopes.get_mut(&scope) {
            rounds.running = Some(ResetRound { askers, began_us: now_us, step });
        }
        if has_ended {
            self.end_round(&scope, Status::Success);
        }
    }

    /// Asks all connections of a session to answer the requests that they have. The round also
    /// waits for closed connections of which the backend still holds requests.
    fn quiesce(&mut self, session: &SessionId) -> RoundStep {
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
        RoundStep::Quiescing { number, left }
    }

    /// Has the backend reset. The groups are told first which sessions have asked for the reset.
    fn reset_for_hosts(&mut self, export: String, askers: &[Asker]) -> RoundStep {
        let queues: Vec<&QueueRef> =
            askers.iter().filter_map(|asker| self.queue_of_ready(asker.connection)).collect();
        let sessions: BTreeSet<SessionId> = queues.iter().map(|queue| queue.session.id).collect();
        let clients = queues.iter().map(|queue| queue.client.clone()).collect();
        let of_askers = |id: &ConnectionId| {
            self.queue_of_ready(*id).is_some_and(|queue| sessions.contains(&queue.session.id))
        };
        let told: Vec<ConnectionId> = self.connections.keys().copied().filter(of_askers).collect();
        for &connection in &told {
            self.order(connection, Order::Reset(ResetStep::Begins));
        }
        self.output(Output::ResetForHosts { export });
        RoundStep::Resetting { told, clients }
    }

    /// Has the backend reset for an operator, in a round that answers no client's reset. The
    /// previous round must have ended.
    pub(crate) fn reset_for_operator(&mut self, export: &str) {
        let scope = Scope::Export(export.to_owned());
        let round = ResetRound {
            askers: Vec::new(),
            began_us: self.now_us,
            step: self.reset_for_hosts(export.to_owned(), &[]),
        };
        let rounds = self.resets.scopes.entry(scope).or_default();
        rounds.next_us = self.now_us + PERIOD_US;
        rounds.running = Some(round);
    }

    fn queue_of_ready(&self, connection: ConnectionId) -> Option<&QueueRef> {
        match &self.connections.get(&connection)?.stage {
            Stage::Ready(queue) => Some(queue),
            _ => None,
        }
    }

    /// Notes that a connection has answered all requests that it had when round `number` began.
    pub(crate) fn quiesced(&mut self, connection: ConnectionId, number: u64) {
        self.no_longer_left(connection, |other| other == number);
    }

    /// Forgets a connection that is gone, and the resets that it asked for.
    pub(crate) fn asker_gone(&mut self, connection: ConnectionId) {
        for rounds in self.resets.scopes.values_mut() {
            let round = rounds.running.iter_mut().map(|round| &mut round.askers);
            for askers in round.chain([&mut rounds.waiting]) {
                askers.retain(|asker| asker.connection != connection);
            }
        }
        self.no_longer_left(connection, |_| true);
    }

    /// Notes that the rounds whose numbers satisfy `which` need not wait for a connection any more.
    fn no_longer_left(&mut self, connection: ConnectionId, which: impl Fn(u64) -> bool) {
        let mut ended = Vec::new();
        for (scope, rounds) in &mut self.resets.scopes {
            if let Some(ResetRound { step: RoundStep::Quiescing { number, left }, .. }) = &mut rounds.running
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

    /// Ends the round of an export, whose bdev has been reset for its clients.
    pub(crate) fn hosts_reset_ended(&mut self, export: &str, has_succeeded: bool) {
        let status = if has_succeeded { Status::Success } else { Status::Failed };
        self.end_round(&Scope::Export(export.to_owned()), status);
        self.drained(export);
        self.ask_after_reset(export);
    }

    /// Ends the running round of a scope, answers its resets, and begins the next round if it is
    /// time.
    fn end_round(&mut self, scope: &Scope, status: Status) {
        let round = self.resets.scopes.get_mut(scope).and_then(|rounds| rounds.running.take());
        let Some(ResetRound { askers, step, .. }) = round else { return };
        match step {
            RoundStep::Resetting { told, clients: _ } => {
                for connection in told {
                    self.order(connection, Order::Reset(ResetStep::Ends));
                }
            }
            // None is left unless the round has failed. A group looks in each turn at what a round
            // waits for, so it must not do so for as long as the backend hangs.
            RoundStep::Quiescing { number, left } => {
                for connection in left {
                    self.order(connection, Order::Reset(ResetStep::Abandon(number)));
                }
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

    /// Does what is due at a tick: fails rounds that take too long, begins rounds that had to wait,
    /// and forgets scopes without a recent reset.
    pub(crate) fn tick_resets(&mut self) {
        let (now_us, timeout_us) = (self.now_us, u64::from(self.limits.drain_timeout_ms) * 1000);
        let is_late = |round: &ResetRound| now_us.saturating_sub(round.began_us) >= timeout_us;
        let scopes: Vec<Scope> = self.resets.scopes.keys().cloned().collect();
        for scope in scopes {
            let Some(rounds) = self.resets.scopes.get_mut(&scope) else { continue };
            match rounds.running.as_mut().filter(|round| is_late(round)) {
                Some(ResetRound { step: RoundStep::Quiescing { .. }, .. }) => {
                    self.end_round(&scope, Status::Failed)
                }
                // The backend is still busy with the reset, and is not reset again before that has
                // ended.
                Some(round) => {
                    let askers = std::mem::take(&mut round.askers);
                    self.answer_resets(askers, Status::Failed);
                }
                None => self.begin_round(scope.clone()),
            }
            let is_idle = |rounds: &mut ResetRounds| {
                rounds.running.is_none() && rounds.waiting.is_empty() && rounds.next_us <= now_us
            };
            if self.resets.scopes.get_mut(&scope).is_some_and(is_idle) {
                self.resets.scopes.remove(&scope);
            }
        }
    }
}
