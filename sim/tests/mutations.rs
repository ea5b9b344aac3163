//! Removes each protection and shows that the simulator notices within 2,000 seeds.
//!
//! The mutation must be the cause: with the protection in place, the same seed must pass.

use dst_session::mutation::Mutation;
use dst_sim::{Plan, run};

const SEEDS: u64 = 2000;

/// Mutations that are tested in sim/model/tests/mutations.rs: no host here has two clients, no
/// state file is written after an owner is admitted, and a channel leaves its session in the first
/// turn after that was given up, in which no other thread of its client has a turn.
const ELSEWHERE: [Mutation; 5] = [
    Mutation::OwnerNotDurable,
    Mutation::OldOwner,
    Mutation::StaleClaim,
    Mutation::OwnerInDoubt,
    Mutation::NoOthersLeft,
];

fn is_found(mutation: Mutation) {
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..SEEDS).find_map(|seed| {
        let plan = Plan::new(seed);
        let violation = run(&plan, Some(mutation), false).violation?;
        run(&plan, None, false).violation.is_none().then_some((seed, violation))
    });
    let _ = std::panic::take_hook();
    match found {
        Some((seed, violation)) => {
            println!("{mutation:?}: seed {seed} violates {}: {}", violation.property, violation.text);
        }
        None => panic!("{mutation:?} is not noticed within {SEEDS} seeds"),
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
    no_fence NoFence,
    no_session_fence NoSessionFence,
    no_lease_at_target NoLeaseAtTarget,
    no_lease_at_client NoLeaseAtClient,
    no_session_given_up NoSessionGivenUp,
    attempt_goes_on AttemptGoesOn,
    old_welcome OldWelcome,
    no_lease_at_failover NoLeaseAtFailover,
    no_record NoRecord,
    repeat_unrepeatable RepeatUnrepeatable,
    loss_answers LossAnswers,
    removal_answers RemovalAnswers,
    no_lost_cache_rule NoLostCacheRule,
    no_identity NoIdentity,
    no_access NoAccess,
    keep_rights KeepRights,
    no_patience NoPatience,
    no_deadline NoDeadline,
    old_time OldTime,
    no_credits NoCredits,
    stale_read StaleRead,
    no_removal NoRemoval,
    reset_alone ResetAlone,
    first_part_only FirstPartOnly,
    no_holding NoHolding,
    held_too_early HeldTooEarly,
    abort_is_enough AbortIsEnough,
    stop_is_impatient StopIsImpatient,
    stop_waits_for_each StopWaitsForEach,
    resets_reach_backend ResetsReachBackend,
    resets_end_others ResetsEndOthers,
    execute_unrepeatable_again ExecuteUnrepeatableAgain,
    fails_too_fast FailsTooFast,
    no_fence_at_fast_fail NoFenceAtFastFail,
    no_fast_fail NoFastFail,
    no_loss_timeout NoLossTimeout,
    use_other_instance UseOtherInstance,
    receive_over_writes ReceiveOverWrites,
    no_takeover_end NoTakeoverEnd,
    no_takeover_fence NoTakeoverFence,
    note_despite_failed_flush NoteDespiteFailedFlush,
    note_stays NoteStays,
    goodbye_too_early GoodbyeTooEarly,
}
