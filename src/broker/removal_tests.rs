//! The end of exports and of their bdevs, which may come back, and of the target.

use super::*;

#[test]
fn removal_ends() {
    let mut world = World::new();
    let a = world.session("a");
    world.broker.delete_export(7, "disk").unwrap();
    world.carry_out();
    assert_eq!(world.last(a), Some("close"));
    let export = || "disk".to_owned();
    world.handle(Input::DrainTimeout { export: export() });
    let lateness = crate::Lateness::Once;
    world.handle(Input::InFlight { export: export(), lateness, in_flight: 1 });
    world.finish(a, false);
    assert_eq!(world.others, ["count", "reset"], "the reset goes on");
    world.handle(Input::ResetEnded { export: export() });
    assert_eq!(world.others, ["count", "reset", "gone"]);
    world.handle(Input::Stop);
    assert_eq!(world.others.last(), Some(&"stopped"));
}

#[test]
fn a_bdev_that_comes_back_is_another_start() {
    let mut world = World::new();
    let first = world.session("a");
    let before = world.sessions[&first].id;
    world.handle(offline());
    assert_eq!(world.told[&first], ["welcome", "close"], "the client is not told to stay away");
    assert_eq!(world.others, [""; 0], "the backend has something left");
    world.finish(first, false);
    assert_eq!(world.others, ["released"]);
    let early = world.session_of("a", None);
    assert_eq!(world.last(early), Some("refuse"));
    world.handle(online(10));
    // The client's hello names its previous session. That session has ended, and what the bdev
    // cached may be lost.
    let late = world.session_of("a", Some(Previous { session: before, instance: [9; 16] }));
    assert_eq!(world.last(late), Some("welcome"));
    let welcome = &world.welcomes[&late];
    assert_eq!((welcome.instance, welcome.previous_ended, welcome.cache_kept), ([10; 16], true, false));
    // The bdev has been present ever since that session.
    let (session, instance) = (welcome.session.id, welcome.instance);
    world.finish(late, false);
    let again = world.session_of("a", Some(Previous { session, instance }));
    let welcome = &world.welcomes[&again];
    assert_eq!((welcome.previous_ended, welcome.cache_kept), (true, true));
}

#[test]
fn an_export_that_is_created_anew_is_another_start() {
    let mut world = World::new();
    let first = world.session("a");
    let session = world.sessions[&first].id;
    world.broker.delete_export(world.now_us, "disk").unwrap();
    world.carry_out();
    world.finish(first, false);
    let rules = Rules { cache_outlives_target: true, ..Rules::default() };
    let hosts = vec![host("*", Access::ReadWrite)];
    world.broker.create_export_for("disk", rules, hosts).unwrap();
    world.handle(online(10));
    let late = world.session_of("a", Some(Previous { session, instance: [9; 16] }));
    let welcome = &world.welcomes[&late];
    assert_eq!((welcome.instance, welcome.previous_ended, welcome.cache_kept), ([10; 16], true, false));
}

#[test]
fn nothing_new_keeps_a_stop_from_ending() {
    let mut world = World::new();
    let a = world.session("a");
    world.handle(Input::Stop);
    // A caller may have waited for the bdev until now.
    let made = world.broker.create_export("new", Rules::default());
    assert_eq!(made, Err(crate::Rejection::Stopping));
    world.broker.delete_export(7, "disk").unwrap();
    world.carry_out();
    world.finish(a, false);
    assert_eq!(world.others, ["gone", "stopped"]);
}

#[test]
fn a_bdev_that_hangs_is_reset_whoever_ends_it() {
    let mut world = World::new();
    let a = world.session("a");
    world.handle(offline());
    world.handle(Input::DrainTimeout { export: "disk".to_owned() });
    let export = || "disk".to_owned();
    world.handle(Input::InFlight { export: export(), lateness: crate::Lateness::Once, in_flight: 1 });
    world.finish(a, false);
    assert_eq!(world.others, ["count", "reset"]);
    world.broker.delete_export(9, "disk").unwrap();
    world.carry_out();
    assert_eq!(world.others, ["count", "reset"], "the reset goes on");
    assert!(world.broker.delete_export(9, "disk").is_err());
    world.handle(Input::ResetEnded { export: export() });
    assert_eq!(world.others, ["count", "reset", "gone"]);
}

#[test]
fn a_stop_lets_connections_with_requests_say_what_they_have_not_executed() {
    let mut world = World::new();
    let control = world.session("a");
    let queue = world.join("a", control, 1, 1);
    let waits = world.join("a", control, 1, 2);
    assert_eq!((world.last(queue), world.last(waits)), (Some("close"), None));
    let other = world.join("a", control, 2, 1);
    world.handle(Input::Stop);
    let told = [control, queue, other].map(|id| world.last(id));
    assert_eq!(told, [Some("close"), Some("close"), Some("leave")]);
    assert_eq!(world.last(waits), Some("close"), "it has not executed anything");
}
