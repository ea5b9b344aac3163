//! Visits the states of a world and reports what it finds.

use std::time::{Duration, Instant};

use dst_session::mutation::Mutation;
use stateright::{Checker, HasDiscoveries, Model};

use crate::action::Action;
use crate::ledger::Violation;
use crate::model::Checked;
use crate::walk::RareFaults;
use crate::world::World;

/// The order in which the states of a world are visited, and when to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// Depth first, all states. This uses the least memory.
    All,
    /// Breadth first, until a broken promise is found by a shortest way.
    Shortest,
    /// Depth first for this long. States that are not visited by then remain unknown.
    For(Duration),
    /// By random walks from this seed, until this many states were visited. A single thread always
    /// takes the same walks.
    Walks(u64, usize),
}

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// The number of different states; for walks, of all visited states, some of them more than
    /// once.
    pub states: usize,
    /// The length of the longest way to a state.
    pub depth: usize,
    /// Whether these are all states of the world.
    pub is_all: bool,
    /// The duration of the search.
    pub took: Duration,
    /// Broken promises, with a way to each.
    pub broken: Vec<(Violation, Vec<Action>)>,
}

/// Visits the states of a world, with one protection removed if a mutation is given.
pub fn check(world: World, without: Option<Mutation>, search: Search, threads: usize) -> Found {
    let begun = Instant::now();
    let builder = Checked { world: world.into(), without }.checker().threads(threads);
    match search {
        Search::All => found(builder.spawn_dfs().join(), begun, true),
        Search::Shortest => {
            found(builder.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join(), begun, true)
        }
        Search::For(time) => {
            let checker = builder.timeout(time).spawn_dfs().join();
            let is_all = begun.elapsed() < time;
            found(checker, begun, is_all)
        }
        Search::Walks(seed, states) => {
            let checker = builder.target_state_count(states).spawn_simulation(seed, RareFaults);
            found(checker.join(), begun, false)
        }
    }
}

fn found(checker: impl Checker<Checked>, begun: Instant, is_all: bool) -> Found {
    let mut broken = Vec::new();
    for path in checker.discoveries().into_values() {
        if let Some(violation) = path.last_state().ledger.violation.clone() {
            broken.push((violation, path.into_actions()));
        }
    }
    Found {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        is_all: is_all && broken.is_empty(),
        took: begun.elapsed(),
        broken,
    }
}
