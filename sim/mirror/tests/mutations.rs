//! Removes each protection and shows that the simulator notices within 1,000 seeds.
//!
//! The mutation must be the cause: with the protection in place, the same seed must pass.

use dst_mirror::mutation::Mutation;
use dst_mirror_sim::{Plan, run};

const SEEDS: u64 = 1000;

fn is_found(mutation: Mutation) {
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..SEEDS).find_map(|seed| {
        let plan = Plan::new(seed);
        let violation = run(&plan, Some(mutation), false).violation?;
        run(&plan, None, false).violation.is_none().then_some((seed, violation))
    });
    let _ = std::panic::take_hook();
    match found {
        Some((seed, violation)) => println!("{mutation:?}: seed {seed} violates {violation}"),
        None => panic!("{mutation:?} is not noticed within {SEEDS} seeds"),
    }
}

macro_rules! mutations {
    ($($name:ident $mutation:ident,)*) => {
        $(#[test] fn $name() { is_found(Mutation::$mutation) })*

        #[test]
        fn none_is_left_out() {
            let tested = [$(Mutation::$mutation),*];
            assert!(Mutation::ALL.iter().all(|mutation| tested.contains(mutation)));
        }
    };
}

mutations! {
    first_member_is_enough FirstMemberIsEnough,
    complete_before_record CompleteBeforeRecord,
    no_majority NoMajority,
    no_intent_log NoIntentLog,
    no_equalising NoEqualising,
    cool_unflushed CoolUnflushed,
    forget_unflushed_copies ForgetUnflushedCopies,
    no_trees_on_eviction NoTreesOnEviction,
    no_cache_lost NoCacheLost,
    read_unsynced ReadUnsynced,
    copy_unlocked CopyUnlocked,
    repair_unlocked RepairUnlocked,
    writes_unlocked WritesUnlocked,
    no_tree NoTree,
    tree_for_any_generation TreeForAnyGeneration,
    no_new_generation NoNewGeneration,
    overwrite_diverged OverwriteDiverged,
    assemble_anything AssembleAnything,
    go_on_refused GoOnRefused,
    no_member_timeout NoMemberTimeout,
    no_rate NoRate,
    copy_metadata CopyMetadata,
    flush_one FlushOne,
}
