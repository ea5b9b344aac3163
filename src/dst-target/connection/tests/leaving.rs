//! Connections that end because their target stops.

use super::*;

const UNTIL_MS: u64 = 1000;

fn write(sequence: u64, slot: u16) -> Header {
    Header { code: Op::Write as u8, ..read(sequence, slot) }
}

fn leaves(rig: &Rig) -> bool {
    rig.connection.borrow_mut().leave(&rig.pools, rig.began_us + UNTIL_MS * 1000)
}

/// What the client receives: the kinds of the frames, and the flags of the last one.
fn told(rig: &Rig) -> (Vec<Kind>, Flags) {
    rig.connection.borrow_mut().flush(&rig.pools, rig.began_us).unwrap();
    let bytes = rig.client_bytes();
    let last = bytes.last_chunk().map_or(Flags::NONE, |last| Header::decode(last).unwrap().flags);
    (kinds(&bytes), last)
}

#[test]
fn what_the_backend_has_is_answered_before_the_goodbye() {
    let rig = Rig::ready(true, 0);
    rig.sends(write(1, 0), &[0; BLOCK as usize]);
    rig.receive().unwrap();
    assert_eq!(rig.in_backend(), 1);
    // Half of a request has come, and a whole one comes later.
    rig.sends_bytes(&Header { data_len: BLOCK, ..write(1, 1) }.encode());
    rig.receive().unwrap();
    assert!(leaves(&rig));
    assert_eq!(told(&rig), (vec![], Flags::NONE));
    rig.sends(write(1, 2), &[0; BLOCK as usize]);
    rig.receive().unwrap();
    assert_eq!(rig.in_backend(), 1, "a leaving connection begins a request");
    assert!(rig.backend_finishes().is_none());
    assert!(rig.connection.borrow().wants_to_send());
    assert_eq!(told(&rig), (vec![Kind::Answer, Kind::Goodbye], Flags::NOT_EXECUTED));
    assert!(!rig.connection.borrow().wants_to_send());
    rig.sends(write(1, 3), &[0; BLOCK as usize]);
    rig.receive().unwrap();
    assert_eq!((rig.in_backend(), told(&rig)), (0, (vec![], Flags::NONE)), "a Goodbye is the last frame");
    let Rig { connection, pools, client, .. } = rig;
    drop(client);
    for _ in 0..20 {
        world::step();
    }
    assert_eq!(connection.borrow_mut().discard(&pools).map(|_| ()), Err(Broken::Closed));
    assert_eq!(connection.borrow_mut().over(&Broken::Closed), Ending::Expected);
    let Shut::Finished(remains) = connection.borrow_mut().shut(&pools) else { panic!("nothing is left") };
    let mut slots = remains.slots.unwrap();
    let repeat = dst_session::slots::Arrival::Repeat(Status::Success);
    assert_eq!(slots.arrive(write(1, 0).id, Op::Write), Ok(repeat));
    let execute = dst_session::slots::Arrival::Execute;
    assert_eq!(slots.arrive(write(1, 1).id, Op::Write), Ok(execute));
}

/// Has the backend fail a request of a connection that leaves, and returns what remains of that.
fn fails_while_leaving(header: Header, data: &[u8]) -> Stats {
    let rig = Rig::ready(true, 0);
    store::set_errors(rig.store, 1000);
    rig.sends(header, data);
    rig.receive().unwrap();
    assert!(leaves(&rig));
    while store::is_busy(rig.store) {
        world::step();
    }
    let completions = Rc::clone(&rig.completions);
    on(rig.thread, move || completions.collect());
    let (io, status) = rig.recorder.0.borrow_mut().pop().unwrap();
    assert_eq!(status, Status::Failed);
    let (connection, pools) = (Rc::clone(&rig.connection), Rc::clone(&rig.pools));
    let (recorder, now_us) = (Rc::clone(&rig.recorder), rig.began_us);
    let completed = move || connection.borrow_mut().completed(io, status, now_us, &pools, &recorder);
    let Completed::Over(why) = on(rig.thread, completed) else { panic!("the connection goes on") };
    assert_eq!(rig.over(&why), Ending::Unexpected);
    assert_eq!(told(&rig), (vec![], Flags::NONE));
    let Shut::Finished(remains) = rig.shut() else { panic!("something is left") };
    remains.stats
}

#[test]
fn a_failure_of_the_backend_leaves_no_goodbye() {
    let stats = fails_while_leaving(write(1, 0), &[0; BLOCK as usize]);
    assert_eq!((stats.errors, stats.failed_flushes), (1, 0));
}

/// The kernel tells of an error once, so the last flush of the stop may succeed: there is no note then.
#[test]
fn a_flush_that_fails_then_counts() {
    let flush = Header { code: Op::Flush as u8, count: 0, ..read(1, 0) };
    let stats = fails_while_leaving(flush, &[]);
    assert_eq!((stats.errors, stats.failed_flushes), (1, 1));
}

#[test]
fn a_leaving_connection_ends_in_time_and_gives_signs_of_life_meanwhile() {
    let rig = Rig::ready(true, 0);
    rig.sends(read(1, 0), &[]);
    rig.receive().unwrap();
    assert!(leaves(&rig));
    assert_eq!(rig.tick(false, 0), Ok(()));
    assert_eq!(told(&rig).0, []);
    let third = u64::from(KEEP_ALIVE_MS) / 3;
    assert!(third <= UNTIL_MS);
    assert_eq!(rig.tick(false, UNTIL_MS - 1), Ok(()));
    assert_eq!(rig.tick(false, UNTIL_MS), Err(Broken::Stopping));
    assert_eq!(rig.over(&Broken::Stopping), Ending::Unexpected);
    assert!(matches!(rig.shut(), Shut::Draining));
    assert!(rig.backend_finishes().is_some());
}

#[test]
fn a_client_that_does_not_close_is_not_waited_for() {
    let rig = Rig::ready(true, 0);
    assert!(leaves(&rig));
    assert_eq!(told(&rig), (vec![Kind::Goodbye], Flags::NOT_EXECUTED));
    let (before, after) = (499, 500);
    assert_eq!(rig.tick(false, before), Ok(()));
    assert_eq!(rig.tick(false, after), Err(Broken::Stopping));
    assert_eq!(rig.over(&Broken::Stopping), Ending::Expected);
}

#[test]
fn a_connection_leaves_only_if_it_has_requests_and_a_bdev() {
    let control = Rig::ready(false, 0);
    assert!(!leaves(&control));
    let rig = Rig::ready(true, 0);
    spdk::bdev::remove(rig.process, "disk");
    for _ in 0..20 {
        world::step();
    }
    assert!(!leaves(&rig), "what a removed bdev has failed may have been executed");
    assert!(matches!(rig.shut(), Shut::Finished(_)));
    assert!(!leaves(&rig), "it is closed");
}
