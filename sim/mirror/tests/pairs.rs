//! Protections that take two events at once to be missed.

use dst_mirror::mutation::Mutation;
use dst_mirror_sim::plan::Fault;
use dst_mirror_sim::{Plan, run};

/// Returns the first of some plans that fails without a protection, and with which violation. All
/// are good with it.
fn found(mutation: Mutation, plan: impl Fn(u64) -> Plan) -> Option<String> {
    (0..200).find_map(|seed| {
        let plan = Plan { seed, ..plan(seed) };
        let violation = run(&plan, Some(mutation), false).violation?;
        assert_eq!(run(&plan, None, false).violation, None, "seed {seed}");
        Some(format!("seed {seed} violates {violation}"))
    })
}

/// A member vanishes, the owner dies at once, and only the one that vanished is there afterwards.
#[test]
fn what_only_one_member_has_is_not_completed() {
    let text = found(Mutation::CompleteBeforeRecord, |seed| {
        let mut plan = Plan::fair();
        (plan.depth, plan.think_us, plan.ios) = (8, 2_000, 2_000);
        plan.latency_us[2] = (3_000, 5_000);
        let after_us = 200 + seed * 20;
        plan.faults =
            vec![(100_000, Fault::Swap { host: 0, member: 0, all: false, after_us, for_us: 9_000_000 })];
        plan
    });
    println!("{}", text.expect("it is noticed"));
}
