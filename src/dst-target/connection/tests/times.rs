//! Leases, keep-alives, and clients that receive nothing.

use super::*;

#[test]
fn a_lease_that_is_over_ends_the_connection_before_the_request_is_executed() {
    let rig = Rig::ready(true, u64::from(KEEP_ALIVE_MS) * 1000);
    rig.sends(read(1, 0), &[]);
    rig.sends(read(1, 1), &[]);
    let why = rig.fails();
    assert!(matches!(why, Broken::LeaseOver(ms) if ms >= KEEP_ALIVE_MS.into()), "{why:?}");
    rig.over(&why);
    let stats = rig.stats();
    assert_eq!((stats.lease_expiries, stats.dropped, stats.reads), (1, 1, 0));
    let Shut::Finished(remains) = rig.shut() else { panic!("the backend has something") };
    let mut slots = remains.slots.expect("the record returns");
    let arrival = slots.arrive(read(1, 0).id, Op::Write);
    assert_eq!(arrival, Ok(dst_session::slots::Arrival::Execute), "it counts as executed");
}

#[test]
fn a_lease_lasts_its_time_and_is_renewed_by_keep_alives() {
    let rig = Rig::ready(false, 0);
    let (before, after) = edge(KEEP_ALIVE_MS);
    assert_eq!(rig.tick(false, before), Ok(()));
    assert_eq!(rig.tick(false, after), Err(Broken::LeaseOver(after)));
    rig.sends(keep_alive(1, 0), &[]);
    rig.sends(keep_alive(2, 1), &[]);
    rig.receive().unwrap();
    rig.flush();
    assert_eq!(rig.tick(false, after), Ok(()), "it was renewed");
    rig.sends(keep_alive(2, 1), &[]);
    assert_eq!(rig.fails(), Violation::KeepAlive { id: 2, last: 2 }.into());
}

#[test]
fn a_client_that_takes_nothing_is_closed() {
    let rig = Rig::ready(false, 0);
    let (before, after) = edge(KEEP_ALIVE_MS);
    rig.connection.borrow_mut().event(Event::Removed);
    assert_eq!(rig.tick(false, before), Ok(()));
    assert_eq!(rig.tick(false, after), Err(Broken::NotTaking(after)));
}

#[test]
fn a_client_has_its_time_to_take_something_from_when_it_waits() {
    let rig = Rig::ready(false, 0);
    rig.sends(keep_alive(1, 0), &[]);
    rig.sends(keep_alive(2, 1), &[]);
    rig.receive().unwrap();
    rig.flush();
    assert_eq!(rig.tick(false, 1), Ok(()), "nothing waits");
    rig.connection.borrow_mut().event(Event::Removed);
    assert_eq!(rig.tick(false, KEEP_ALIVE_MS.into()), Ok(()));
    assert_eq!(rig.tick(false, u64::from(KEEP_ALIVE_MS) + 1), Err(Broken::NotTaking(KEEP_ALIVE_MS.into())));
}

#[test]
fn keep_alives_that_nobody_takes_the_acknowledgements_of_are_not_acknowledged() {
    let rig = Rig::ready(false, 0);
    for id in 1..=200 {
        rig.sends(keep_alive(id, 0), &[]);
    }
    rig.receive().unwrap();
    let acknowledged = rig.flush();
    assert_eq!(acknowledged, vec![Kind::KeepAliveAck; 4096_usize.div_ceil(HEADER_LEN)]);
}

#[test]
fn a_client_that_is_not_heard_gets_a_sign_of_life_now_and_then() {
    let rig = Rig::ready(true, 0);
    let third = u64::from(KEEP_ALIVE_MS) / 3;
    for (is_stalled, after_ms, signs) in [
        (false, third, 0),
        (true, third - 1, 0),
        (true, third, 1),
        (true, 2 * third - 1, 0),
        (true, 2 * third, 1),
    ] {
        assert_eq!(rig.tick(is_stalled, after_ms), Ok(()));
        assert_eq!(rig.flush(), vec![Kind::KeepAliveAck; signs], "{after_ms} ms");
    }
}
