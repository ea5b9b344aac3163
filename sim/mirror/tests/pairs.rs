//! Protections that take two events at once to be missed.

mod found;

use dst_mirror::mutation::Mutation;
use dst_mirror_sim::Plan;
use dst_mirror_sim::plan::Fault;

/// A member vanishes, the owner dies at once, and only the one that vanished is there afterwards.
#[test]
fn what_only_one_member_has_is_not_completed() {
    found::in_plans(Mutation::CompleteBeforeRecord, |seed| {
        let mut plan = Plan::fair();
        (plan.depth, plan.think_us, plan.ios) = (8, 2_000, 2_000);
        plan.latency_us[2] = (3_000, 5_000);
        let after_us = 200 + seed * 20;
        plan.faults =
            vec![(100_000, Fault::Swap { host: 0, member: 0, all: false, after_us, for_us: 9_000_000 })];
        plan
    });
}

/// A block that one member can't read is written while it is being repaired.
#[test]
fn a_repair_does_not_overwrite_a_write() {
    found::in_plans(Mutation::RepairUnlocked, |seed| {
        let mut plan = Plan::fair();
        (plan.depth, plan.think_us, plan.ios) = (12, 2_000, 3_000);
        plan.hot.truncate(4);
        plan.latency_us[1] = (1_000, 2_000);
        plan.faults = (1..20).map(|at| (at * 20_000 + seed, Fault::BadBlocks { member: 0 })).collect();
        plan
    });
}

/// The owner and a member lose power while nobody has flushed, and regions have cooled.
#[test]
fn what_was_not_flushed_on_all_members_stays_in_the_log() {
    found::in_plans(Mutation::CoolUnflushed, |seed| {
        let mut plan = Plan::fair();
        (plan.flushes, plan.options.hot_max, plan.options.region_shift) = (0, 4, Some(6));
        plan.hot = (0..16).map(|spot| spot * 1_000).collect();
        plan.options.flush_interval_ms = 50;
        // Its record, whose flush makes all durable, comes long after the other member's.
        plan.latency_us[1] = (4_000, 8_000);
        plan.faults = vec![(500_000 + seed * 9_000, Fault::Blackout { host: 0, members: 2, for_us: 1_000 })];
        plan
    });
}

/// The operator decides for a member that lacks writes; the one that has them comes back later.
#[test]
fn what_has_diverged_is_not_overwritten() {
    found::in_plans(Mutation::OverwriteDiverged, |seed| {
        let mut plan = Plan::fair();
        (plan.forces, plan.ios) = (true, 3_000);
        let after_us = 300_000 + seed * 1_000;
        plan.faults =
            vec![(1_000_000, Fault::Swap { host: 0, member: 0, all: false, after_us, for_us: 8_000_000 })];
        plan
    });
}
