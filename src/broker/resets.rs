//! The resets that clients ask for, and the rounds in which they go: see `reset_rounds.rs`.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{ConnectionId, SessionId};

/// The time from the beginning of a round to that of the next one, µs: as long as a tick of the driver,
/// since a round that has to wait begins with a tick. A reset of a device takes up to seconds, so more
/// would be of no use to anybody who means well.
pub const PERIOD_US: u64 = 500_000;

/// Whose resets share rounds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scope {
    /// Those of a session.
    Session(SessionId),
    /// Those of all sessions of an export.
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
pub(crate) struct Rounds {
    /// Resets for the next round. Each occupies a slot of its queue, which bounds them.
    pub waiting: Vec<Asker>,
    pub running: Option<Round>,
    /// When the next round may begin.
    pub next_us: u64,
}

/// A round that is under way.
#[derive(Debug, Clone, Hash)]
pub(crate) struct Round {
    /// The resets that end with it. None once they were told that it takes too long.
    pub askers: Vec<Asker>,
    pub began_us: u64,
    pub step: Step,
}

/// What a round waits for.
#[derive(Debug, Clone, Hash)]
pub(crate) enum Step {
    /// For these connections, to have answered what they had when the round `number` began.
    Quiescing { number: u64, left: BTreeSet<ConnectionId> },
    /// For the reset of the backend. These connections know that it is their session's own.
    Resetting { told: Vec<ConnectionId> },
}

/// All rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resets {
    pub scopes: BTreeMap<Scope, Rounds>,
    /// The number of the newest round in which connections are asked.
    pub last_round: u64,
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
