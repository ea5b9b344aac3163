//! Removes each protection and shows that the simulator notices within 1,000 seeds.
//!
//! The mutation must be the cause: with the protection in place, the same seed must pass.

use dst_mirror::mutation::Mutation;
use dst_mirror_sim::{Plan, run};

/// A thousand seeds. FirstMemberIsEnough is found by seed 1,042.
const SEEDS: std::ops::Range<u64> = 100..1100;

/// Mutations that are tested in tests/pairs.rs, since random faults seldom come so close together, in
/// tests/changes.rs and tests/verification.rs, where members are added and removed, and compared,
/// in tests/takers.rs, where hosts take over at once, or in tests/foreground.rs, where devices take time.
const ELSEWHERE: [Mutation; 12] = [
    Mutation::CompleteBeforeRecord,
    Mutation::CoolUnflushed,
    Mutation::RepairUnlocked,
    Mutation::OverwriteDiverged,
    Mutation::DetachAtOnce,
    Mutation::VoteAtOnce,
    Mutation::NoFullCopy,
    Mutation::VerifyUnlocked,
    Mutation::RepairUnlogged,
    Mutation::TakeInAnyOrder,
    Mutation::ClaimUnconfirmed,
    Mutation::NoYielding,
];

fn is_found(mutation: Mutation) {
    std::panic::set_hook(Box::new(|_| {}));
    let found = SEEDS.into_iter().find_map(|seed| {
        let plan = Plan::new(seed);
        let violation = run(&plan, Some(mutation), false).violation?;
        run(&plan, None, false).violation.is_none().then_some((seed, violation))
    });
    let _ = std::panic::take_hook();
    match found {
        Some((seed, violation)) => println!("{mutation:?}: seed {seed} violates {violation}"),
        None => panic!("{mutation:?} is not noticed within the seeds {SEEDS:?}"),
    }
}

macro_rules! mutations {
    ($($name:ident $mutation:ident,)*) => {
        $(#[test] fn $name() { is_found(Mutation::$mutation) })*

        #[test]
        fn none_is_left_out() {
            let tested = [$(Mutation::$mutation),*];
            let is_tested = |mutation| tested.contains(mutation) || ELSEWHERE.contains(mutation);
            assert!(Mutation::ALL.iter().all(is_tested));
        }
    };
}

mutations! {
    first_member_is_enough FirstMemberIsEnough,
    no_majority NoMajority,
    no_intent_log NoIntentLog,
    no_equalising NoEqualising,
    no_trees_on_eviction NoTreesOnEviction,
    no_cache_lost NoCacheLost,
    read_unsynced ReadUnsynced,
    copy_unlocked CopyUnlocked,
    writes_unlocked WritesUnlocked,
    no_tree NoTree,
    no_new_generation NoNewGeneration,
    assemble_anything AssembleAnything,
    go_on_refused GoOnRefused,
    no_member_timeout NoMemberTimeout,
    no_rate NoRate,
    flush_one FlushOne,
}
