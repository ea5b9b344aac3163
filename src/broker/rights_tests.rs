//! Changes of what hosts may do at an export.

use super::*;
use dst_session::access::KeySource;

#[test]
fn rights_withdrawn_end_sessions() {
    let mut world = World::new();
    let (a, b) = (world.session("a"), world.session("b"));
    world.broker.add_host(5, "disk", host("a", Access::ReadOnly)).unwrap();
    world.carry_out();
    assert_eq!((world.last(a), world.last(b)), (Some("close"), Some("welcome")));
    assert_eq!(world.told[&a], ["welcome", "close"], "it may come back, and only read");
    world.broker.remove_host(6, "disk", "*").unwrap();
    world.carry_out();
    assert_eq!(world.last(b), Some("close"));
    let late = world.accept(1).unwrap();
    world.hello(late, "b", None);
    assert_eq!(world.last(late), Some("refuse"));
}

#[test]
fn a_host_that_gets_an_entry_of_its_own_goes_on_under_it() {
    let told = |own: Host| {
        let mut world = World::new();
        let a = world.session("a");
        world.broker.add_host(5, "disk", own).unwrap();
        world.carry_out();
        world.told[&a].clone()
    };
    let with_key = Host { keys: Some(KeySource::File("/key".to_owned())), ..host("a", Access::ReadWrite) };
    let addresses = vec!["198.51.100.0/24".parse().unwrap()];
    let elsewhere = Host { addresses, ..host("a", Access::ReadWrite) };
    assert_eq!(told(host("a", Access::ReadWrite)), ["welcome"], "the entry says the same");
    assert_eq!(told(host("a", Access::TakeOver)), ["welcome", "close"]);
    assert_eq!(told(with_key), ["welcome", "close"], "it has to show the key");
    assert_eq!(told(elsewhere), ["welcome", "event", "close"], "it is to stay away");
    assert_eq!(told(host("b", Access::ReadOnly)), ["welcome"], "another host's");
}

#[test]
fn a_session_stays_when_its_hosts_rights_change() {
    let mut world = World::new();
    let control = world.session("a");
    let place = world.sessions[&control];
    let queue = world.join("a", control, 1, 1);
    assert!(!world.welcomes[&queue].device.read_only);
    // A further prefix changes nothing for the connections that are admitted.
    let more = Host { addresses: vec!["0.0.0.0/0".parse().unwrap()], ..host("*", Access::ReadWrite) };
    world.set_host(more);
    assert_eq!((world.last(control), world.last(queue)), (Some("welcome"), Some("welcome")));

    world.set_host(host("*", Access::ReadOnly));
    for id in [control, queue] {
        assert_eq!(world.told[&id], ["welcome", "close"], "the client is not told to stay away");
    }
    // The record of what was executed waits for the queue's next connection, which may only read.
    let again = world.accept(1).unwrap();
    world.hello(again, "a", Some(SessionRef { queue: 1, epoch: 2, ..place }));
    assert_eq!(world.last(again), None, "the fence");
    world.finish(queue, false);
    assert_eq!(world.last(again), Some("welcome"));
    assert!(world.welcomes[&again].device.read_only);
    assert_eq!(world.welcomes[&again].session.id, place.id);

    // A host that is no longer admitted from its address is told to stay away.
    let none = Host { addresses: vec!["198.51.100.0/24".parse().unwrap()], ..host("*", Access::ReadOnly) };
    world.finish(control, false);
    let control = world.accept(1).unwrap();
    world.hello(control, "a", Some(SessionRef { queue: 0, epoch: 3, ..place }));
    world.set_host(none);
    assert_eq!(world.told[&control], ["welcome", "event", "close"]);
    assert_eq!(world.last(again), Some("close"));
}

#[test]
fn an_entry_is_replaced_only_where_there_is_one() {
    let mut world = World::new();
    let rejected = |error: Result<(), crate::Rejection>| error.unwrap_err().to_string();
    let entry = || host("a", Access::ReadOnly);
    assert!(rejected(world.broker.set_host(1, "disk", entry())).contains("no entry for host `a`"));
    assert!(rejected(world.broker.set_host(1, "other", entry())).contains("no export named `other`"));
    let rules = Rules { require_cipher: true, ..Rules::default() };
    world.broker.create_export("secret", rules).unwrap();
    assert!(rejected(world.broker.set_host(1, "secret", entry())).contains("demands a cipher"));
    // The export is created with all its hosts, or not at all.
    let twice = vec![entry(), host("b", Access::ReadOnly), entry()];
    let made = world.broker.create_export_for("new", Rules::default(), twice);
    assert!(rejected(made).contains("already has an entry for host `a`"));
    assert!(world.broker.export("new").is_none());
}
