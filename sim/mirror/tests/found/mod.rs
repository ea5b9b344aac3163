//! The search for a plan that shows why a protection is needed.

use dst_mirror::mutation::Mutation;
use dst_mirror_sim::{Plan, run};

/// Looks for the first of 200 plans that fails without a protection. It, and all before it, are good with
/// the protection.
///
/// # Panics
/// None fails, or one fails with the protection.
pub fn in_plans(mutation: Mutation, plan: impl Fn(u64) -> Plan) {
    let found = (0..200).find_map(|seed| {
        let plan = Plan { seed, ..plan(seed) };
        let violation = run(&plan, Some(mutation), false).violation?;
        assert_eq!(run(&plan, None, false).violation, None, "seed {seed}");
        Some(format!("seed {seed} violates {violation}"))
    });
    println!("{mutation:?}: {}", found.expect("it is noticed"));
}
