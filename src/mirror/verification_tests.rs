//! Verifications, by scenario.

use crate::extents::Extent;
use crate::handles::Device;
use crate::input::{Input, Op};
use crate::mirror::Mirror;
use crate::options::Options;
use crate::output::{Output, Status};
use crate::report::{Condition, Difference, State, Verification, VerificationState};
use crate::testing::{BLOCKS, Health, World, options};

fn fast() -> Options {
    Options { verify_rate: 0, ..options() }
}

fn shown(mirror: &Mirror) -> Verification {
    mirror.report().verification.expect("a verification was begun")
}

fn verify(world: &mut World, repairs: bool) {
    assert_eq!(world.mirror.may_verify(), Ok(()));
    world.input(Input::Verify { repairs });
    world.run();
}

fn is_done(world: &World) -> bool {
    matches!(shown(&world.mirror).state, VerificationState::Done { .. })
}

fn waits_for(world: &World) -> Option<&'static str> {
    match shown(&world.mirror).state {
        VerificationState::Running { waits_for } => waits_for,
        other => panic!("{other:?}"),
    }
}

/// The blocks that members differ in, that could not be read, and that were repaired.
fn found(world: &World) -> (u64, u64, u64) {
    let Verification { differing, unread, repaired, .. } = shown(&world.mirror);
    (differing, unread, repaired)
}

#[test]
fn equal_members_are_read_once_and_not_written() {
    let mut world = World::create(3, true, fast());
    world.write(5, 3, 7);
    world.sent.clear();
    verify(&mut world, true);
    assert!(is_done(&world));
    assert_eq!((shown(&world.mirror).compared, found(&world)), (BLOCKS, (0, 0, 0)));
    let mut read = [0; 3];
    for output in &world.sent {
        match output {
            Output::CopyRead { device, range, .. } | Output::CompareRead { device, range, .. } => {
                read[device.index()] += range.count;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read, [BLOCKS; 3]);
    assert_eq!(world.mirror.may_verify(), Ok(()));
}

#[test]
fn what_differs_is_found_and_left_as_it_is() {
    let mut world = World::create(2, false, fast());
    world.disks[1].data[300..303].fill(9);
    world.disks[0].data[BLOCKS as usize - 1] = 9;
    verify(&mut world, false);
    assert!(is_done(&world));
    let member = world.mirror.report().members[1].id;
    let of = |start, count| Difference { member, range: Extent::new(start, count) };
    assert_eq!(shown(&world.mirror).first, [of(300, 3), of(BLOCKS - 1, 1)]);
    assert_eq!(found(&world), (4, 0, 0));
    assert_eq!(world.disks[1].data[299..304], [0, 9, 9, 9, 0]);
    assert!(world.log.iter().any(|line| line.contains("m1 holds block 300")), "{:?}", world.log);
}

#[test]
fn what_differs_is_repaired_from_the_lowest_place() {
    let mut world = World::create(3, true, fast());
    world.disks[0].data[10] = 5;
    world.disks[2].data[11] = 6;
    world.disks[2].data[20] = 7;
    verify(&mut world, true);
    assert_eq!(found(&world), (4, 0, 4));
    assert_eq!(world.disks[0].data, world.disks[1].data);
    assert_eq!(world.disks[0].data, world.disks[2].data);
    assert_eq!(world.disks[0].data[10..12], [5, 0]);
    // The repair may be in a cache only.
    assert_eq!(world.mirror.report().hot_regions, 1);
    verify(&mut world, true);
    assert_eq!(found(&world), (0, 0, 0));
}

#[test]
fn only_some_differences_are_shown_and_all_are_counted() {
    let mut world = World::create(2, false, fast());
    for at in (0..40).step_by(2) {
        world.disks[1].data[at] = 1;
    }
    verify(&mut world, true);
    let Verification { first, differing, repaired, .. } = shown(&world.mirror);
    assert_eq!((first.len(), differing, repaired), (Verification::FIRST_MAX, 20, 20));
}

#[test]
fn a_range_is_shown_whole_although_it_is_compared_in_parts() {
    let mut world = World::create(3, false, fast());
    world.disks[1].data.fill(9);
    world.disks[2].data[..100].fill(9);
    verify(&mut world, false);
    let compared = |output: &&Output| matches!(output, Output::CompareRead { .. });
    assert!(world.sent.iter().filter(compared).count() > 4, "it was compared in parts");
    let members = world.mirror.report().members;
    let of = |who: usize, count| Difference { member: members[who].id, range: Extent::new(0, count) };
    assert_eq!(shown(&world.mirror).first, [of(1, BLOCKS), of(2, 100)]);
}

#[test]
fn a_repair_waits_until_the_intent_log_has_it() {
    let mut world = World::create(2, true, fast());
    world.disks[1].data[300] = 9;
    world.set(1, Health::MetadataHung);
    verify(&mut world, true);
    assert_eq!((is_done(&world), world.disks[1].data[300]), (false, 9));
    world.mend(1);
    assert_eq!((is_done(&world), world.disks[1].data[300]), (true, 0));
}

/// Eight regions may be hot, and all are. A repair waits as a write does.
#[test]
fn a_repair_waits_for_room_in_the_intent_log() {
    let mut world = World::create(2, true, fast());
    for region in 0..8 {
        world.write(region * 256, 1, 7);
    }
    world.disks[1].data[5000] = 9;
    world.set(0, Health::FlushHung);
    verify(&mut world, true);
    assert_eq!((is_done(&world), world.disks[1].data[5000]), (false, 9));
    world.mend(0);
    assert_eq!((is_done(&world), world.disks[1].data[5000]), (true, 0));
}

#[test]
fn a_write_waits_for_the_window_and_the_window_for_a_write() {
    let mut world = World::create(2, false, fast());
    world.set(1, Health::WritesHung);
    let first = world.submit(Op::Write, 3, 1, 7);
    verify(&mut world, false);
    assert_eq!((is_done(&world), shown(&world.mirror).compared), (false, 0), "the members differ just now");
    world.mend(1);
    assert_eq!((is_done(&world), found(&world)), (true, (0, 0, 0)));
    assert_eq!(world.done.get(&first), Some(&Status::Success));

    world.set(0, Health::Hung);
    verify(&mut world, false);
    world.set(0, Health::Good);
    let inside = world.submit(Op::Write, 3, 1, 8);
    let outside = world.submit(Op::Write, 100, 1, 8);
    assert_eq!((world.done.get(&inside), world.done.get(&outside)), (None, Some(&Status::Success)));
    world.mend(0);
    assert_eq!((is_done(&world), found(&world)), (true, (0, 0, 0)));
    assert_eq!(world.done.get(&inside), Some(&Status::Success));
}

#[test]
fn a_member_that_cannot_read_is_counted_and_written_if_wanted() {
    let mut world = World::create(2, true, fast());
    for device in [0, 1] {
        world.set(device, Health::Unreadable(Extent::new(70, 1)));
        verify(&mut world, false);
        assert_eq!(found(&world), (0, 64, 0));
        world.sent.clear();
        verify(&mut world, true);
        assert_eq!(found(&world), (0, 64, 64));
        let is_write = |output: &&Output| matches!(output, Output::CopyWrite { .. });
        let writes: Vec<&Output> = world.sent.iter().filter(is_write).collect();
        let [Output::CopyWrite { device: to, range, .. }] = writes[..] else { panic!("{writes:?}") };
        assert_eq!((*to, *range), (Device(device), Extent::new(64, 64)));
        world.set(device, Health::Good);
    }
    world.set(0, Health::Unreadable(Extent::new(70, 1)));
    world.set(1, Health::Unreadable(Extent::new(70, 1)));
    verify(&mut world, true);
    assert_eq!((is_done(&world), found(&world)), (true, (0, 128, 0)), "nobody can read it");
}

#[test]
fn a_member_that_falls_out_is_waited_for_and_its_window_begun_again() {
    let mut world = World::create(2, true, fast());
    world.write(5, 1, 1);
    world.disks[1].data[6] = 9;
    world.set(1, Health::Hung);
    verify(&mut world, false);
    world.remove(1);
    assert_eq!(waits_for(&world), Some("a second member in sync"));
    assert_eq!(world.write(5, 1, 2), Some(Status::Success));
    world.set(1, Health::Good);
    world.pass(3000);
    assert_eq!(world.conditions(), [Condition::InSync, Condition::InSync]);
    // The region was hot: it was copied.
    assert_eq!((is_done(&world), found(&world)), (true, (0, 0, 0)));
}

/// What was read from a member before it has lost its cache says nothing.
#[test]
fn a_window_is_begun_again_after_a_lost_cache() {
    let mut world = World::create(2, true, fast());
    world.disks[1].data[6] = 9;
    world.set(1, Health::Hung);
    verify(&mut world, true);
    world.input(Input::CacheLost { device: Device(1) });
    world.run();
    world.mend(1);
    world.pass(3000);
    assert_eq!((is_done(&world), found(&world)), (true, (1, 0, 1)));
}

/// Also in a hot region that only the repair has made hot: the repair may be lost with the cache.
#[test]
fn a_repair_that_was_not_flushed_counts_as_missed_after_a_lost_cache() {
    let mut world = World::create(2, true, fast());
    world.disks[1].data[6] = 9;
    verify(&mut world, true);
    world.disks[1].data[6] = 9;
    world.input(Input::CacheLost { device: Device(1) });
    world.run();
    world.pass(1000);
    assert_eq!(world.disks[1].data[6], 0);
}

#[test]
fn a_member_that_cannot_be_written_falls_out() {
    let mut world = World::create(2, true, fast());
    world.disks[1].data[6] = 9;
    world.set(1, Health::CopiesHung);
    verify(&mut world, true);
    world.set(1, Health::Failing);
    world.pass(31_000);
    assert_eq!(world.state(), State::Degraded);
    world.set(1, Health::Good);
    world.pass(31_000);
    assert_eq!((is_done(&world), world.disks[1].data[6]), (true, 0));
}

/// Also if the verification was stopped meanwhile: the block may hold anything.
#[test]
fn a_member_whose_repair_fails_after_a_stop_falls_out() {
    let mut world = World::create(2, true, fast());
    world.disks[1].data[6] = 9;
    world.set(1, Health::CopiesHung);
    verify(&mut world, true);
    world.input(Input::StopVerification);
    world.lose(1);
    assert_eq!(world.state(), State::Degraded);
}

/// A member that is away gets what was repaired meanwhile, whatever it held.
#[test]
fn a_member_that_is_not_in_sync_misses_a_repair() {
    let mut world = World::create(3, false, fast());
    world.disks[1].data[6] = 9;
    world.disks[2].data[6] = 9;
    world.remove(2);
    world.write(1000, 1, 1);
    verify(&mut world, true);
    assert_eq!((is_done(&world), found(&world)), (true, (1, 0, 1)));
    world.set(2, Health::Good);
    world.pass(1000);
    assert_eq!(world.conditions(), vec![Condition::InSync; 3]);
    assert_eq!(world.disks[2].data[6], 0);
}

#[test]
fn resync_has_precedence() {
    let mut world = World::create(2, true, fast());
    world.remove(1);
    world.write(5, 64, 1);
    world.set(1, Health::CopiesHung);
    world.pass(100);
    world.input(Input::Verify { repairs: false });
    world.run();
    assert_eq!(waits_for(&world), Some("a member that is brought up to date"));
    world.mend(1);
    world.pass(100);
    assert_eq!((is_done(&world), found(&world)), (true, (0, 0, 0)));
}

/// A member joins while a window has all slots.
#[test]
fn resync_waits_for_the_slots_of_a_window() {
    let mut world = World::create(3, false, fast());
    world.remove(2);
    world.write(5, 64, 1);
    world.set(1, Health::Hung);
    verify(&mut world, false);
    world.set(2, Health::Good);
    world.open_all();
    world.mend(1);
    world.pass(100);
    assert_eq!(world.conditions(), vec![Condition::InSync; 3]);
    assert!(is_done(&world));
}

#[test]
fn a_verification_keeps_to_its_rate() {
    // Of 64 windows of 64 blocks of 4 KiB, four in a second.
    let mut world = World::create(2, false, Options { verify_rate: 1 << 20, ..options() });
    verify(&mut world, false);
    world.pass(10_000);
    let compared = shown(&world.mirror).compared / 64;
    assert!((38..=42).contains(&compared), "{compared} windows");
    world.input(Input::SetOptions(fast()));
    world.pass(200);
    assert!(is_done(&world));
}

/// One that waits for a member does not ask for a turn again and again.
#[test]
fn a_verification_that_waits_for_a_member_waits_for_no_time() {
    let mut world = World::create(2, false, Options { verify_rate: 1 << 20, ..options() });
    verify(&mut world, false);
    world.remove(1);
    world.pass(1000);
    assert_eq!(waits_for(&world), Some("a second member in sync"));
    assert!(
        world.mirror.next_deadline().is_none_or(|at| at > world.now),
        "{:?}",
        world.mirror.next_deadline()
    );
}

#[test]
fn a_verification_is_stopped() {
    let mut world = World::create(2, false, fast());
    world.set(1, Health::Hung);
    verify(&mut world, false);
    assert!(world.mirror.may_verify().unwrap_err().contains("under way"));
    world.input(Input::StopVerification);
    world.run();
    assert!(matches!(shown(&world.mirror).state, VerificationState::Stopped { .. }));
    // The member still has its request.
    assert!(world.mirror.may_verify().is_err());
    let io = world.submit(Op::Write, 5, 1, 7);
    assert_eq!(world.done.get(&io), None);
    world.mend(1);
    assert_eq!(world.done.get(&io), Some(&Status::Success));
    assert_eq!(shown(&world.mirror).compared, 0);
    verify(&mut world, false);
    assert!(is_done(&world));
}

#[test]
fn a_verification_that_waits_is_stopped() {
    let mut world = World::create(2, true, fast());
    world.remove(1);
    verify(&mut world, false);
    world.input(Input::StopVerification);
    assert_eq!(world.mirror.may_verify(), Ok(()));
    // One that waits for its range, too.
    world.set(1, Health::Good);
    world.pass(1000);
    world.set(1, Health::WritesHung);
    let io = world.submit(Op::Write, 5, 1, 7);
    verify(&mut world, false);
    world.input(Input::StopVerification);
    assert_eq!(world.mirror.may_verify(), Ok(()));
    world.mend(1);
    assert_eq!(world.done.get(&io), Some(&Status::Success));
}

#[test]
fn a_mirror_stops_during_a_verification() {
    for health in [Health::Good, Health::Hung, Health::WritesHung, Health::MetadataHung] {
        let mut world = World::create(2, true, fast());
        world.disks[1].data[6] = 9;
        world.set(1, health);
        let io = (health == Health::WritesHung).then(|| world.submit(Op::Write, 5, 1, 7));
        verify(&mut world, true);
        world.mend(1);
        assert!(io.is_none_or(|io| world.done.get(&io) == Some(&Status::Success)));
        world.set(1, health);
        verify(&mut world, true);
        world.input(Input::Stop { wipe: false });
        world.run();
        world.mend(1);
        assert!(world.is_stopped, "{health:?}");
    }
}

/// Whatever else is done, and although the flush comes before the answer.
#[test]
fn a_mirror_that_stops_waits_for_a_repair() {
    let mut world = World::create(2, true, fast());
    world.disks[1].data[6] = 9;
    world.set(1, Health::CopiesHung);
    verify(&mut world, true);
    world.input(Input::Stop { wipe: false });
    world.run();
    assert!(!world.is_stopped);
    world.mend(1);
    assert!(world.is_stopped);
}

#[test]
fn a_mirror_is_taken_over_during_a_verification() {
    let mut world = World::create(2, true, fast());
    world.set(1, Health::Hung);
    verify(&mut world, true);
    world.input(Input::Refused { device: Device(0) });
    world.run();
    assert!(matches!(shown(&world.mirror).state, VerificationState::Stopped { .. }));
    assert_eq!(world.mirror.may_verify(), Err("it does not run"));
}

#[test]
fn one_member_is_not_compared() {
    let mut world = World::create(1, false, fast());
    assert!(world.mirror.may_verify().unwrap_err().contains("one member"));
    world.input(Input::Verify { repairs: false });
    assert_eq!(world.mirror.report().verification, None);
}
