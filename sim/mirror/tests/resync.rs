//! What is copied to a member that was away, and which members are not thrown out.

use dst_mirror_sim::plan::Fault;
use dst_mirror_sim::{Plan, Totals, run};

const MIB: u64 = 1 << 20;

fn totals(plan: &Plan) -> Totals {
    let outcome = run(plan, None, false);
    assert_eq!(outcome.violation, None, "{:?}", outcome.history.last());
    outcome.totals
}

/// Bytes copied are at most the regions that the users wrote to, of which there are three.
#[test]
fn a_member_that_was_away_is_copied_what_it_missed() {
    for for_us in [10_000, 1_000_000, 5_000_000] {
        let mut plan = Plan::fair();
        plan.faults = vec![(2_000_000, Fault::Vanish { host: 0, member: 1, for_us })];
        let copied = totals(&plan).copied;
        assert!(copied > 0, "the member has missed something");
        assert!(copied <= 3 * MIB, "{copied} bytes copied");
    }
}

#[test]
fn nothing_is_copied_without_a_reason() {
    assert_eq!(totals(&Plan::fair()).copied, 0);
}

#[test]
fn members_with_other_data_are_copied_in_full() {
    let plan = Plan { dirty: true, ..Plan::fair() };
    let copied = totals(&plan).copied;
    assert!((64 * MIB..72 * MIB).contains(&copied), "{copied} bytes copied");
}

#[test]
fn after_a_crash_the_hot_regions_are_copied() {
    let mut plan = Plan::fair();
    plan.faults = vec![(2_000_000, Fault::Crash { host: 0, for_us: 1_000 })];
    let copied = totals(&plan).copied;
    assert!(copied > 0 && copied <= 3 * MIB, "{copied} bytes copied");
}

/// Slow, but within the member's timeout.
#[test]
fn a_slow_member_is_not_thrown_out() {
    let mut plan = Plan::fair();
    plan.faults = vec![(2_000_000, Fault::Slow { member: 1, factor: 50, for_us: 3_000_000 })];
    assert_eq!(totals(&plan).departures, 0);
}

#[test]
fn a_member_whose_cache_is_lost_is_copied_what_was_not_flushed() {
    let mut plan = Plan::fair();
    plan.faults = vec![(2_000_000, Fault::Power { member: 1, for_us: 10_000 })];
    let copied = totals(&plan).copied;
    assert!(copied > 0 && copied <= 3 * MIB, "{copied} bytes copied");
}
