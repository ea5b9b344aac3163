//! An operator adds and removes members. Some seeds are good; without each protection, one is not.

mod found;

use dst_mirror::mutation::Mutation;
use dst_mirror_sim::plan::Fault;
use dst_mirror_sim::{Plan, run};

/// Returns the first seed that fails without a protection, and is good with it.
fn is_found(mutation: Mutation) {
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..1000).find_map(|seed| {
        let plan = Plan::changing(seed);
        let violation = run(&plan, Some(mutation), false).violation?;
        run(&plan, None, false).violation.is_none().then_some((seed, violation))
    });
    let _ = std::panic::take_hook();
    match found {
        Some((seed, violation)) => println!("{mutation:?}: seed {seed} violates {violation}"),
        None => panic!("{mutation:?} is not noticed within 1,000 seeds"),
    }
}

#[test]
fn the_witness_changes() {
    let mut changes = 0;
    for seed in 0..50 {
        let outcome = run(&Plan::changing_witness(seed), None, false);
        assert_eq!(outcome.violation, None, "seed {seed}");
        changes += outcome.totals.changes;
    }
    assert!(changes > 100, "{changes} changes in 50 seeds");
}

/// The links to the others are lost just before the witness is removed. The member that is left goes on
/// alone; later it is cut off, and the others, which know nothing of that, lack what was written meanwhile.
#[test]
fn a_witness_has_its_vote_until_that_is_recorded() {
    found::in_plans(Mutation::VoteAtOnce, |seed| {
        let mut plan = Plan::fair();
        (plan.changes, plan.depth, plan.think_us, plan.ios) = (true, 8, 5_000, 8_000);
        (plan.options.member_timeout_ms, plan.options.degraded_wait_ms) = (100, 10);
        let at = 1_000_000 + seed * 1_000;
        let cut = |member, for_us| Fault::Cut { host: 0, member, for_us };
        plan.faults = vec![
            (at, cut(1, 2_000_000)),
            (at, cut(2, 2_000_000)),
            (at + 100, Fault::RemoveWitness),
            (at + 1_900_000, cut(0, 6_000_000)),
            (at + 1_900_001, Fault::Crash { host: 0, for_us: 1_000 }),
        ];
        plan
    });
}

#[test]
fn members_change() {
    let mut changes = 0;
    for seed in 0..100 {
        let outcome = run(&Plan::changing(seed), None, false);
        assert_eq!(outcome.violation, None, "seed {seed}");
        changes += outcome.totals.changes;
    }
    assert!(changes > 100, "{changes} changes in 100 seeds");
}

/// A new member whose record only it and the witness had was copied in part, and called in sync.
#[test]
fn a_new_member_that_no_member_in_sync_knows_is_copied_in_full() {
    let outcome = run(&Plan::changing(12_781), None, false);
    assert_eq!(outcome.violation, None);
}

/// The last member in sync failed the record that began a generation twice, and was said to be older than
/// the witness's record.
#[test]
fn a_generation_that_no_member_was_told_of_is_begun_again() {
    let outcome = run(&Plan::changing(31_348), None, false);
    assert_eq!(outcome.violation, None);
}

/// The operator forced one of three members while the others were away, and the next host found these only,
/// which went on: they can't know. The simulator took that for a member being overwritten.
#[test]
fn two_of_three_go_on_that_the_operator_has_decided_against() {
    let outcome = run(&Plan::changing(13_698), None, false);
    assert_eq!(outcome.violation, None);
}

/// Returns a plan of three members without faults, in which an operator removes the last one.
fn three() -> Plan {
    let mut plan = Plan::fair();
    (plan.members, plan.witness, plan.changes) = (3, false, true);
    (plan.caches, plan.latency_us) = (vec![true; 3], vec![(100, 200); 4]);
    (plan.depth, plan.think_us, plan.ios) = (8, 5_000, 8_000);
    plan.options.degraded_wait_ms = 10;
    plan
}

/// One of two members in sync is being removed when the host dies; the other one has the record, and goes
/// on alone. The third member is out of date.
#[test]
fn a_member_in_sync_falls_out_before_it_is_detached() {
    found::in_plans(Mutation::DetachAtOnce, |seed| {
        let mut plan = three();
        // The record is there late.
        plan.latency_us[2] = (400, 800);
        let (after_us, for_us) = (200 + seed * 20, 1_500_000);
        plan.faults = vec![
            (500_000, Fault::Vanish { host: 0, member: 1, for_us: 8_000_000 }),
            (1_000_000, Fault::RemoveAndCrash { host: 0, member: 2, after_us, members: 0b110, for_us }),
            (2_300_000, Fault::Cut { host: 0, member: 0, for_us: 6_000_000 }),
            (2_300_001, Fault::Crash { host: 0, for_us: 1_000 }),
        ];
        plan
    });
}

#[test]
fn a_new_member_is_copied_in_full() {
    is_found(Mutation::NoFullCopy);
}
