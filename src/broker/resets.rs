//! The resets that clients ask for, and the rounds that carry them out. See `reset_rounds.rs`.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{ClientId, ConnectionId, SessionId};

/// The time from the beginning of a round to that of the next one, µs. It is as long as a tick of
/// the driver, since a round that has to wait begins with a tick. A reset of a device can take
/// seconds, so more frequent rounds would be of no use to a well-meaning client.
pub const PERIOD_US: u64 = 500_000;

/// The clients whose resets share rounds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scope {
    /// The client of one session.
    Session(SessionId),
    /// The clients of all sessions of an export.
    Export(String),
}

/// A request that asks for a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Asker {
    pub connection: ConnectionId,
    pub slot: u16,
}

/// The resets of one scope.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResetRounds {
    /// The resets for the next round. Each occupies a slot of its queue, which bounds their number.
    pub waiting: Vec<Asker>,
    pub running: Option<ResetRound>,
    /// The time at which the next round may begin, µs.
    pub next_us: u64,
}

/// A round that is under way.
#[derive(Debug, Clone, Hash)]
pub(crate) struct ResetRound {
    /// The resets that the end of the round answers. Empty once they were failed because the round
    /// takes too long.
    pub askers: Vec<Asker>,
    pub began_us: u64,
    pub step: RoundStep,
}

/// What a running round waits for.
#[derive(Debug, Clone, Hash)]
pub(crate) enum RoundStep {
    /// The round waits until the connections `left` have answered the requests that they had when
    /// round `number` began.
    Quiescing { number: u64, left: BTreeSet<ConnectionId> },
    /// The round waits for the reset of the backend.
    Resetting {
        /// The connections that know that the reset is their own session's.
        told: Vec<ConnectionId>,
        /// The clients whose sessions asked for it. A session that one of them opens meanwhile
        /// would not expect the reset to end its I/O.
        clients: BTreeSet<ClientId>,
    },
}

/// The rounds of all scopes.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientResets {
    pub scopes: BTreeMap<Scope, ResetRounds>,
    /// The number of the newest round that asked connections to quiesce.
    pub last_round: u64,
}

impl ClientResets {
    /// Returns true if the bdev of an export is being reset for its clients.
    pub fn is_resetting(&self, export: &str) -> bool {
        let rounds = self.scopes.get(&Scope::Export(export.to_owned()));
        rounds.is_some_and(|rounds| rounds.running.is_some())
    }

    /// Returns true if the bdev of a client's export is being reset because the client asked for it.
    pub fn is_resetting_for(&self, client: &ClientId) -> bool {
        let rounds = self.scopes.get(&Scope::Export(client.export.clone()));
        let step = rounds.and_then(|rounds| rounds.running.as_ref()).map(|round| &round.step);
        matches!(step, Some(RoundStep::Resetting { clients, .. }) if clients.contains(client))
    }

    /// Feeds the state that decisions from `now_us` on depend on to a model checker's hash.
    #[cfg(feature = "model")]
    pub fn canonical(&self, now_us: u64, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        self.last_round.hash(hasher);
        for (scope, ResetRounds { waiting, running, next_us }) in &self.scopes {
            (scope, waiting, running, next_us.saturating_sub(now_us)).hash(hasher);
        }
    }
}
