//! An operator has members compared. What has decayed is found and repaired, and nothing else is
//! found; without each protection, something is.

mod found;

use dst_mirror::mutation::Mutation;
use dst_mirror_sim::plan::Fault;
use dst_mirror_sim::{Plan, run};

/// The blocks of the fair plan that have decayed: regions that no user writes to.
const DECAYED: [u64; 3] = [3_000, 3_001, 5_000];

/// Returns the fair plan with blocks of a member that decay, and a verification.
fn decaying(member: usize, repairs: bool) -> Plan {
    let mut plan = Plan::fair();
    plan.faults = DECAYED.map(|block| (100_000, Fault::Decay { member, block })).to_vec();
    plan.faults.push((200_000, Fault::Verify { repairs }));
    plan
}

#[test]
fn verifications_raise_no_false_alarm() {
    let (mut verifications, mut repaired) = (0, 0);
    for seed in 0..100 {
        let outcome = run(&Plan::verifying(seed), None, false);
        assert_eq!(outcome.violation, None, "seed {seed}");
        verifications += outcome.totals.verifications;
        repaired += outcome.totals.repaired;
    }
    assert!(verifications > 100, "{verifications} verifications in 100 seeds");
    assert!(repaired > 20, "{repaired} blocks were repaired in 100 seeds");
}

/// In this life a member can't read a range, and the one with which it is to be repaired can't read it
/// then, either: nobody knows whether they differ.
#[test]
fn what_nobody_could_read_does_not_differ() {
    assert_eq!(run(&Plan::verifying(51_870), None, false).violation, None);
}

#[test]
fn what_has_decayed_is_found() {
    for member in [0, 1] {
        let outcome = run(&decaying(member, false), None, false);
        assert_eq!(outcome.violation, None);
        let totals = outcome.totals;
        assert_eq!((totals.verifications, totals.differing, totals.repaired), (1, 3, 0));
    }
}

#[test]
fn what_has_decayed_is_repaired_and_stays_so() {
    for member in [0, 1] {
        let mut plan = decaying(member, true);
        plan.faults.push((5_000_000, Fault::Verify { repairs: false }));
        let outcome = run(&plan, None, false);
        assert_eq!(outcome.violation, None);
        let totals = outcome.totals;
        assert_eq!((totals.verifications, totals.differing, totals.repaired), (2, 3, 3));
    }
}

#[test]
fn a_verification_locks_its_range() {
    found::in_plans(Mutation::VerifyUnlocked, |seed| {
        let mut plan = Plan::fair();
        (plan.depth, plan.think_us, plan.ios) = (8, 1_000, 4_000);
        // One member has each write long before the other one.
        plan.latency_us[1] = (1_000, 3_000);
        plan.options.verify_rate = 0;
        plan.faults = (1..8).map(|at| (at * 300_000 + seed, Fault::Verify { repairs: false })).collect();
        plan
    });
}

/// The member that was repaired loses its power before anybody has flushed it.
#[test]
fn a_repair_is_in_the_intent_log() {
    found::in_plans(Mutation::RepairUnlogged, |seed| {
        let mut plan = decaying(1, true);
        (plan.flushes, plan.options.flush_interval_ms) = (0, 60_000);
        // By then all blocks were compared.
        let at = 900_000 + seed * 5_000;
        plan.faults.push((at, Fault::Power { member: 1, for_us: 10_000 }));
        plan
    });
}
