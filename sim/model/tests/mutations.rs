//! Each rule taken away is found in one of the worlds: the checker would notice.

use dst_model::{Search, check, small};
use dst_session::mutation::Mutation;

/// Takes a rule away in a world, and expects these promises to be broken, or some of them.
fn is_found(rule: Mutation, world: &str, promises: &[u8]) {
    let found = small().into_iter().find(|other| other.name == world);
    let world = found.unwrap_or_else(|| panic!("there is no world {world:?}"));
    let found = check(world, Some(rule), Search::Shortest, 1);
    let broken: Vec<u8> = found.broken.iter().map(|(violation, _)| violation.promise).collect();
    assert!(!broken.is_empty(), "nothing is found in {} states without {rule:?}", found.states);
    assert!(broken.iter().all(|promise| promises.contains(promise)), "{rule:?} breaks {broken:?}");
}

#[test]
fn without_the_fence_of_a_queue_old_requests_come_back() {
    is_found(Mutation::NoFence, "fence", &[2]);
}

#[test]
fn without_the_record_requests_are_executed_twice() {
    is_found(Mutation::NoRecord, "fence", &[2, 3]);
}
