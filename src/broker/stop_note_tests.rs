//! Tests of what clients are told after an orderly stop.

use super::*;

#[test]
fn a_target_that_stopped_in_order_has_kept_everything() {
    let mut world = World::new();
    world.previous = PreviousProcess::Unknown;
    world.broker.exports.get_mut("disk").unwrap().rules.cache_outlives_target = false;
    world.handle(offline());
    world.handle(online_after(10, &[9, 7]));
    let welcomed = |world: &mut World, previous: Option<u8>| {
        let previous = previous.map(|instance| Previous { session: [99; 16], instance: [instance; 16] });
        let id = world.session_of("a", previous);
        let welcome = &world.welcomes[&id];
        let told = (welcome.previous_ended, welcome.cache_kept);
        world.finish(id, true);
        told
    };
    assert_eq!(welcomed(&mut world, Some(9)), (true, true));
    assert_eq!(welcomed(&mut world, Some(9)), (true, true), "it has many clients");
    assert_eq!(welcomed(&mut world, Some(7)), (true, true), "its client has missed a start");
    assert_eq!(welcomed(&mut world, Some(8)), (false, false), "the note is about other starts");
    assert_eq!(welcomed(&mut world, None), (false, false));
    world.previous = PreviousProcess::Ended;
    assert_eq!(welcomed(&mut world, Some(8)), (true, false), "the crash of another one");
    // What happens to the bdev while no export has it, nobody knows.
    world.handle(offline());
    world.handle(online(11));
    assert_eq!(welcomed(&mut world, Some(9)), (true, false));
}
