//! Hosts take the mirror over at once. One of them has it afterwards; without the order, or without the
//! rule by which a device is claimed, there are lives after which none has it.

use dst_mirror::mutation::Mutation;
use dst_mirror_sim::plan::Fault;
use dst_mirror_sim::{Plan, run};

const SEEDS: std::ops::Range<u64> = 0..200;

#[test]
fn one_of_several_takers_has_the_mirror() {
    let mut assemblies = 0;
    for seed in SEEDS {
        let outcome = run(&Plan::taking(seed), None, false);
        assert_eq!(outcome.violation, None, "seed {seed}");
        assemblies += outcome.totals.assemblies;
    }
    // One when the mirror is created, and one for each of the four rounds, most often.
    assert!(assemblies > 3 * SEEDS.end, "{assemblies} assemblies");
}

/// Returns the plan of a seed below 20 in which a host has just taken the witness when it is stopped and cut
/// off from it, and another host takes all.
fn left_behind(seed: u64) -> Plan {
    let mut plan = Plan::fair();
    (plan.seed, plan.hosts, plan.is_orderly, plan.options.degraded_wait_ms) = (seed, 3, true, 1_000);
    let (began, stopped) = (1_000_000, 1_006_000 + seed * 250);
    plan.faults = vec![
        (began, Fault::Crash { host: 0, for_us: 10_000_000 }),
        (began, Fault::Takeover { host: 1 }),
        (stopped, Fault::Stop { host: 1, for_us: 40_000 }),
        (stopped, Fault::Cut { host: 1, member: 2, for_us: 400_000 }),
        (stopped, Fault::Takeover { host: 2 }),
    ];
    plan
}

/// Which of two is first is left to chance, if each has an order of its own.
#[test]
fn takers_with_orders_of_their_own() {
    let found = SEEDS.into_iter().find_map(|seed| {
        let violation = run(&Plan::taking(seed), Some(Mutation::TakeInAnyOrder), false).violation?;
        Some((seed, violation))
    });
    let (seed, violation) = found.expect("it is noticed");
    println!("seed {seed} violates {violation}");
    assert_eq!(violation.rule, "10");
}

/// Whoever is left behind takes nothing from the other one, however late it hears of it.
#[test]
fn takers_that_do_not_know_whether_they_have_lost() {
    let assemblies = |seed: u64, mutation: Option<Mutation>| {
        let outcome = run(&left_behind(seed), mutation, false);
        assert_eq!(outcome.violation, None, "seed {seed}");
        outcome.totals.assemblies
    };
    for seed in 0..20 {
        assert_eq!(assemblies(seed, None), 2, "seed {seed}: by the first owner, and by one of the takers");
    }
    assert!((0..20).any(|seed| assemblies(seed, Some(Mutation::ClaimUnconfirmed)) > 2), "it is noticed");
}
