//! A target that is told to stop ends in a bounded time, whatever hangs.

use dst_sim::Plan;
use dst_sim::fleet::{TargetSide, new_store};
use dst_sim::stops::note_file;
use dst_sim::until;
use spdk::durable_file;
use std::path::Path;

/// Returns a target that leaves notes.
fn target() -> TargetSide {
    world::begin(1, false);
    let mut plan = Plan::new(1);
    (plan.targets, plan.failover, plan.errors, plan.hiccups) = (1, false, 0, 0);
    (plan.notes, plan.write_cache, plan.cipher) = (true, true, None);
    let store = new_store(&plan, 0);
    TargetSide::new(&plan, 0, store)
}

fn stop(target: &mut TargetSide) -> bool {
    for _ in 0..100 {
        world::step();
    }
    target.end();
    until("the end of the target", || target.has_ended().then_some(()));
    let note = durable_file::read(Path::new(&note_file(0)), 4096).unwrap().is_some();
    world::end();
    note
}

#[test]
fn a_stop_leaves_a_note() {
    assert!(stop(&mut target()));
}

#[test]
fn a_disk_that_never_writes_the_note_does_not_keep_the_target_from_stopping() {
    let mut target = target();
    durable_file::hang();
    assert!(!stop(&mut target));
}
