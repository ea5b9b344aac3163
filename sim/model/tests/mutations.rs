//! Removes each rule and shows that the model checker notices in one of the worlds.

use dst_model::{Search, check, large, small};
use dst_session::mutation::Mutation;

/// Removes a rule in a world and expects one of these promises to be broken, and no other.
fn is_found(rule: Mutation, world: &str, promises: &[u8]) {
    let found = small().into_iter().find(|other| other.name == world);
    let world = found.unwrap_or_else(|| panic!("there is no world {world:?}"));
    let found = check(world, Some(rule), Search::Shortest, 1);
    let broken: Vec<u8> = found.broken.iter().map(|(violation, _)| violation.promise).collect();
    assert!(!broken.is_empty(), "nothing is found in {} states without {rule:?}", found.states);
    assert!(broken.iter().all(|promise| promises.contains(promise)), "{rule:?} breaks {broken:?}");
}

#[test]
fn the_fence_of_a_queue() {
    is_found(Mutation::NoFence, "fence", &[2]);
}

#[test]
fn the_record_of_answers() {
    is_found(Mutation::NoRecord, "fence", &[2, 3]);
}

#[test]
fn a_loss_is_no_answer() {
    is_found(Mutation::LossAnswers, "fence", &[1]);
}

#[test]
fn the_lease_at_the_target() {
    is_found(Mutation::NoLeaseAtTarget, "lease", &[2]);
    is_found(Mutation::NoLeaseAtTarget, "renewal", &[2]);
}

#[test]
fn the_lease_at_the_client() {
    is_found(Mutation::NoLeaseAtClient, "lease", &[2]);
}

#[test]
fn the_lease_at_a_failover() {
    is_found(Mutation::NoLeaseAtFailover, "failover", &[2]);
}

#[test]
fn the_fence_of_a_session() {
    is_found(Mutation::NoSessionFence, "session", &[2]);
    is_found(Mutation::NoSessionFence, "client-restart", &[2]);
}

#[test]
fn a_session_is_given_up() {
    is_found(Mutation::NoSessionGivenUp, "session", &[2]);
}

#[test]
fn all_channels_leave_a_session() {
    is_found(Mutation::NoOthersLeft, "session", &[2]);
}

#[test]
fn an_attempt_ends_with_its_session() {
    is_found(Mutation::AttemptGoesOn, "late-attempt", &[2]);
}

#[test]
fn a_welcome_to_an_old_session_is_not_taken() {
    is_found(Mutation::OldWelcome, "late-welcome", &[2]);
}

#[test]
fn what_must_not_be_repeated_is_not() {
    is_found(Mutation::RepeatUnrepeatable, "target-restart", &[3]);
}

#[test]
fn access() {
    is_found(Mutation::NoAccess, "rights", &[8]);
}

#[test]
fn credits() {
    is_found(Mutation::NoCredits, "rights", &[0]);
}

#[test]
fn the_removal_of_a_bdev() {
    is_found(Mutation::NoRemoval, "bdev", &[10]);
}

#[test]
fn a_takeover_ends_other_sessions() {
    is_found(Mutation::NoTakeoverEnd, "takeover", &[11]);
}

#[test]
fn a_takeover_waits_for_the_backend() {
    is_found(Mutation::NoTakeoverFence, "takeover", &[11]);
}

#[test]
fn an_owner_is_durable() {
    is_found(Mutation::OwnerNotDurable, "takeover-restart", &[11]);
}

#[test]
fn a_former_owner_is_refused() {
    is_found(Mutation::OldOwner, "copy", &[11]);
}

#[test]
fn a_late_claim_is_not_granted() {
    is_found(Mutation::StaleClaim, "late-claim", &[11]);
}

#[test]
fn an_ownership_in_doubt_is_written_again() {
    is_found(Mutation::OwnerInDoubt, "takeover-restart", &[11]);
}

/// Random walks through a world that is too large to visit in full find a removed rule as well.
#[test]
fn walks() {
    let world = large().into_iter().find(|world| world.name == "two-clients").expect("there is such a world");
    let found = check(world, Some(Mutation::NoRecord), Search::Walks(1, 300_000), 1);
    assert_eq!(found.broken.first().map(|(violation, _)| violation.promise), Some(3));
}
