//! An operator adds and removes members. Some seeds are good; without each protection, one is not.

use dst_mirror::mutation::Mutation;
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
fn members_change() {
    let mut changes = 0;
    for seed in 0..100 {
        let outcome = run(&Plan::changing(seed), None, false);
        assert_eq!(outcome.violation, None, "seed {seed}");
        changes += outcome.totals.changes;
    }
    assert!(changes > 100, "{changes} changes in 100 seeds");
}

#[test]
fn new_majority_only() {
    is_found(Mutation::NewMajorityOnly);
}

#[test]
fn detach_at_once() {
    is_found(Mutation::DetachAtOnce);
}

#[test]
fn drop_tree_early() {
    is_found(Mutation::DropTreeEarly);
}

#[test]
fn no_full_copy() {
    is_found(Mutation::NoFullCopy);
}
