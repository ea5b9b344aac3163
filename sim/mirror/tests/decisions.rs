//! The operator decides whose data count while others are away.

use dst_mirror::mutation::Mutation;
use dst_mirror_sim::plan::Fault;
use dst_mirror_sim::{Plan, run};

/// Returns a plan in which the operator forces the last of three members, after which a host finds the other
/// two only.
fn reversed(seed: u64) -> Plan {
    let mut plan = Plan { seed, ..Plan::fair() };
    (plan.members, plan.witness, plan.forces) = (3, false, true);
    (plan.caches, plan.latency_us) = (vec![true; 3], vec![(100, 200); 4]);
    (plan.depth, plan.think_us, plan.options.degraded_wait_ms) = (2, 100_000, 10);
    let cut = |member| Fault::Cut { host: 0, member, for_us: 9_000_000 };
    let crash = Fault::Crash { host: 0, for_us: 1_000 };
    plan.faults = vec![
        (500_000, Fault::Cut { host: 0, member: 2, for_us: 990_000 }),
        (1_500_000, crash),
        (1_500_001, cut(0)),
        (1_500_002, cut(1)),
        (10_400_000, cut(2)),
        (10_400_001, crash),
    ];
    plan
}

#[test]
fn a_member_whose_data_the_operator_has_forced_is_not_overwritten_either() {
    let (mut reversed_ones, mut found) = (0, None);
    for seed in 0..40 {
        let plan = reversed(seed);
        let good = run(&plan, None, true);
        assert_eq!(good.violation, None, "seed {seed}");
        // In the others, no host finds the last member alone in time.
        if good.history.iter().any(|line| line.contains("goes on without the operator's decision")) {
            reversed_ones += 1;
            found = found.or_else(|| run(&plan, Some(Mutation::OverwriteDiverged), false).violation);
        }
    }
    assert!(reversed_ones >= 5, "{reversed_ones}");
    let violation = found.expect("it is noticed");
    assert_eq!(violation.rule, "8", "{violation}");
}
