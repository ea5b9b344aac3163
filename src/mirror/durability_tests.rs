//! Hosts that die between two steps, and what the devices then say.

use crate::generation::HISTORY_MAX;
use crate::handles::Device;
use crate::input::{Input, Op};
use crate::options::Options;
use crate::output::Status;
use crate::report::{Condition, State};
use crate::testing::{Health, World, options, superblock_write};

/// The witness's number.
const WITNESS: u8 = Device::WITNESS.0;

fn is_whole(world: &World) -> bool {
    world.conditions().iter().all(|condition| *condition == Condition::InSync)
}

/// A member comes back and takes no part for long enough that the intent log is empty.
fn quiet(world: &mut World) {
    world.flush();
    world.pass(11_000);
    world.flush();
    world.pass(11_000);
    assert_eq!(world.mirror.report().hot_regions, 0);
}

#[test]
fn equal_members_without_a_witness_go_on_by_their_majority_only() {
    let mut world = World::create(3, false, options());
    world.write(5, 1, 1);
    world.set(1, Health::Failing);
    world.set(2, Health::Failing);
    let io = world.submit(Op::Write, 5, 1, 2);
    assert_eq!(world.done.get(&io), None, "one of three does not know what the others do");
    assert_eq!(world.ended, None);
}

#[test]
fn a_member_of_which_nothing_is_known_is_copied_in_full_although_only_its_own_record_says_so() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 1);
    let old = world.disks[1].clone();
    world.remove(1);
    world.write(5, 1, 2);
    world.set(1, Health::Good);
    world.pass(3000);
    assert!(is_whole(&world));
    world.write(5000, 1, 9);
    quiet(&mut world);
    world.remove(1);
    world.write(100, 1, 3);
    // An older state of the member comes back, and the host dies when only that has the next record.
    world.disks[1] = old;
    world.set(0, Health::MetadataHung);
    world.set(1, Health::Good);
    world.open_all();
    world.set(0, Health::Good);
    let mut world = world.reassemble(options(), None);
    world.pass(20_000);
    assert!(is_whole(&world), "{:?}", world.log);
    assert_eq!(world.disks[1].data[5000], 9);
    assert!(world.disks[0].data == world.disks[1].data);
}

#[test]
fn a_member_that_took_no_part_in_a_record_gets_all_trees_with_the_next_one() {
    let slow = Options { resync_rate: 4096, ..options() };
    let mut world = World::create(4, true, options());
    for at in 0..60 {
        world.write(256 * at, 1, 1);
    }
    quiet(&mut world);
    world.remove(1);
    world.remove(2);
    for at in 0..20 {
        world.write(256 * 40 + 2 * at, 1, 2);
    }
    // The member 1 is resynced, slowly, and loses its cache when no majority is there.
    world.input(Input::SetOptions(slow));
    world.set(1, Health::Good);
    world.open_all();
    assert!(matches!(world.conditions()[1], Condition::Resyncing { .. }), "{:?}", world.log);
    world.remove(3);
    world.remove(WITNESS);
    world.input(Input::CacheLost { device: Device(1) });
    world.run();
    // More regions than the log has room for: what the members 2 and 3 miss there is in the trees alone.
    for at in 0..20 {
        assert_eq!(world.write(256 * at, 1, 3), Some(Status::Success), "{at} {:?}", world.log);
        world.flush();
    }
    quiet(&mut world);
    world.input(Input::SetOptions(options()));
    world.set(WITNESS, Health::Good);
    world.pass(30_000);
    assert_eq!(world.conditions()[1], Condition::InSync, "{:?}", world.log);
    // The host dies with the member 0, and what the member 2 missed is known from the member 1.
    world.set(0, Health::Away);
    world.set(2, Health::Good);
    let mut world = world.reassemble(options(), None);
    world.pass(60_000);
    assert_eq!(world.conditions()[2], Condition::InSync, "{:?}", world.log);
    assert!(world.disks[1].data == world.disks[2].data);
}

#[test]
fn a_copy_of_what_its_source_has_lost_is_made_again() {
    for is_removed in [false, true] {
        let mut world = World::create(2, false, options());
        world.remove(1);
        world.write(5, 1, 7);
        world.set(1, Health::CopiesHung);
        world.open_all();
        // The write was not flushed, and is on its way to the member 1.
        world.disks[0].data[5] = 0;
        if is_removed {
            world.remove(0);
            world.set(0, Health::Good);
            world.open_all();
        } else {
            world.input(Input::CacheLost { device: Device(0) });
            world.run();
        }
        world.mend(1);
        world.pass(3000);
        assert!(is_whole(&world), "{:?}", world.log);
        assert!(world.disks[0].data == world.disks[1].data, "{is_removed}");
        assert_eq!(world.flush(), Some(Status::Failed), "what is lost is not kept secret");
    }
}

/// Two members, of which the second one is being resynced, slowly. Two regions are hot, of which the
/// second one is up to date on both members.
fn one_of_two_is_resynced() -> World {
    let mut world = World::create(2, false, options());
    world.remove(1);
    world.write(5, 200, 7);
    world.input(Input::SetOptions(Options { resync_rate: 4096, ..options() }));
    world.write(5000, 1, 7);
    world.set(1, Health::Good);
    world.open_all();
    assert!(matches!(world.conditions()[1], Condition::Resyncing { .. }), "{:?}", world.conditions());
    world
}

#[test]
fn a_write_that_fails_on_the_last_member_while_another_one_is_promoted_is_on_neither_or_both() {
    let mut world = one_of_two_is_resynced();
    world.set(0, Health::MetadataHung);
    world.input(Input::SetOptions(options()));
    world.pass(200);
    // Nothing is missing any more, and the record that says so hangs.
    assert_eq!(world.conditions()[1], Condition::Resyncing { left: 0 }, "{:?}", world.log);
    world.set(0, Health::Failing);
    assert_eq!(world.write(5001, 1, 9), Some(Status::Failed));
    assert_eq!((world.disks[0].data[5001], world.disks[1].data[5001]), (0, 9));
    world.mend(0);
    // What could not be read is tried again after ten seconds.
    world.pass(15_000);
    assert!(is_whole(&world), "{:?}", world.log);
    assert!(world.disks[0].data == world.disks[1].data);
}

#[test]
fn a_write_that_has_failed_on_the_last_member_before_another_one_is_in_sync_is_on_both() {
    let mut world = one_of_two_is_resynced();
    world.set(0, Health::Failing);
    world.set(1, Health::WritesHung);
    let io = world.submit(Op::Write, 5001, 1, 9);
    world.set(0, Health::Good);
    world.input(Input::SetOptions(options()));
    world.pass(1000);
    assert!(is_whole(&world), "{:?}", world.log);
    world.mend(1);
    world.pass(5000);
    assert_eq!(world.done.get(&io), Some(&Status::Success));
    assert!(is_whole(&world), "{:?}", world.log);
    assert!(world.disks[0].data == world.disks[1].data);
}

#[test]
fn a_witness_that_was_away_for_long_is_taken_back() {
    let mut world = World::create(2, true, options());
    world.remove(WITNESS);
    for _ in 0..=HISTORY_MAX {
        world.remove(1);
        assert_eq!(world.write(5, 1, 1), Some(Status::Success));
        world.set(1, Health::Good);
        world.pass(3000);
        assert!(is_whole(&world), "{:?}", world.log);
    }
    // It is lost again before it has its first record.
    world.set(WITNESS, Health::MetadataHung);
    world.open_all();
    world.remove(WITNESS);
    world.remove(1);
    world.write(5, 1, 1);
    world.set(1, Health::Good);
    world.pass(3000);
    let disks = world.disks.clone();
    world.set(WITNESS, Health::Good);
    world.open_all();
    assert!(world.mirror.report().witness.is_some_and(|witness| witness.is_current()), "{:?}", world.log);
    world.disks = disks;
    let mut world = world.reassemble(options(), None);
    assert_eq!(world.registered, 1, "{:?} {:?}", world.state(), world.log);
    assert!(world.mirror.report().witness.is_some_and(|witness| witness.is_current()), "{:?}", world.log);
    assert_eq!(world.write(5, 1, 2), Some(Status::Success));
}

#[test]
fn one_of_two_members_does_not_go_on_from_a_record_that_never_counted() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 1);
    quiet(&mut world);
    // The host dies when only the member 0 knows that the witness is away.
    world.set(1, Health::MetadataHung);
    world.remove(WITNESS);
    let mut world = world.reassemble(options(), None);
    // The next one assembles both members, and loses the member 1 before that has its first record.
    world.pass(6000);
    world.remove(1);
    world.pass(6000);
    assert_eq!(world.registered, 0, "{:?}", world.log);
    assert!(matches!(world.state(), State::Starting { .. }), "{:?}", world.state());
    // A standby goes on with the member 1 and the witness.
    let disks = world.disks.clone();
    let first = world;
    let mut world = World::create(2, true, options());
    world.disks = disks;
    world.set(0, Health::Away);
    let mut world = world.reassemble(options(), None);
    world.pass(6000);
    assert_eq!((world.registered, world.write(5, 1, 2)), (1, Some(Status::Success)), "{:?}", world.log);
    // If the member 1 comes back instead, the first one goes on.
    let mut world = first;
    world.set(1, Health::Good);
    world.pass(6000);
    assert_eq!((world.registered, world.write(5, 1, 2)), (1, Some(Status::Success)), "{:?}", world.log);
    assert!(is_whole(&world));
}

#[test]
fn a_mirror_is_assembled_again_if_a_newer_record_comes_before_a_majority_knows_of_it() {
    let mut world = World::create(3, false, options());
    world.write(5, 1, 1);
    quiet(&mut world);
    // The host dies when only the member 2 has a record.
    world.set(0, Health::MetadataHung);
    world.set(1, Health::MetadataHung);
    world.submit(Op::Write, 5, 1, 2);
    world.set(0, Health::Good);
    world.set(2, Health::Away);
    // The next one assembles the others, and the member 2 comes when the member 1 has no record yet.
    let mut world = world.reassemble(options(), None);
    world.pass(6000);
    assert_eq!(world.registered, 0, "{:?}", world.log);
    world.set(2, Health::Good);
    world.open_all();
    assert!(world.log.iter().any(|line| line.contains("assembled again")), "{:?}", world.log);
    world.mend(1);
    world.pass(1000);
    assert_eq!((world.registered, world.write(5, 1, 3)), (1, Some(Status::Success)), "{:?}", world.log);
    assert!(is_whole(&world), "{:?}", world.log);
}

#[test]
fn announcements_that_never_counted_do_not_outrank_what_others_recorded() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 1);
    quiet(&mut world);
    let before = world.mirror.report().generation.expect("it runs").0;
    // Two hosts in a row die when only the member 0 has their announcement.
    world.set(1, Health::MetadataHung);
    world.set(WITNESS, Health::MetadataHung);
    let world = world.reassemble(options(), None);
    let mut world = world.reassemble(options(), None);
    // The third one goes on without that member, and dies when all but the witness has the new
    // generation.
    world.set(0, Health::Away);
    world.set(1, Health::Good);
    world.set(WITNESS, Health::Good);
    let mut world = world.reassemble(options(), None);
    world.now += 6_000_000;
    world.input(Input::Tick);
    let mut is_held = false;
    while let Some(output) = world.mirror.poll_output() {
        match superblock_write(&output) {
            Some((Device::WITNESS, bytes)) if bytes[80..96] != before.to_le_bytes() => is_held = true,
            _ => world.perform(output),
        }
    }
    assert!(is_held && world.registered == 0, "{:?}", world.log);
    // The member 0 alone does not know, and the witness does.
    world.set(0, Health::Good);
    world.set(1, Health::Away);
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!(world.registered, 0, "{:?}", world.log);
    world.set(1, Health::Good);
    world.pass(10_000);
    assert_eq!((world.registered, world.write(5, 1, 2)), (1, Some(Status::Success)), "{:?}", world.log);
    assert!(is_whole(&world), "{:?}", world.log);
}
