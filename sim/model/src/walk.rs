//! How a random walk chooses its steps. Faults are rare, so that they are not used up before there
//! is anything to break.

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use stateright::Chooser;

use crate::action::Action;
use crate::model::Checked;
use crate::state::State;

/// One step in this many is a fault, if one is possible.
const FAULT_EACH: u32 = 10;

/// Chooses the steps of a random walk.
#[derive(Clone)]
pub struct RareFaults;

impl Chooser<Checked> for RareFaults {
    type State = StdRng;

    fn new_state(&self, seed: u64) -> StdRng {
        StdRng::seed_from_u64(seed)
    }

    fn choose_initial_state(&self, rng: &mut StdRng, states: &[State]) -> usize {
        rng.random_range(0..states.len())
    }

    fn choose_action(&self, rng: &mut StdRng, _: &State, actions: &[Action]) -> usize {
        let wants_fault = rng.random_ratio(1, FAULT_EACH);
        let wanted = (0..actions.len()).filter(|&at| actions[at].is_fault() == wants_fault);
        let chosen = wanted.choose(rng);
        chosen.unwrap_or_else(|| rng.random_range(0..actions.len()))
    }
}
