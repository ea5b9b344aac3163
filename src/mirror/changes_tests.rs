//! Members that are added and removed.

use crate::generation::HISTORY_MAX;
use crate::handles::Device;
use crate::output::{Output, Status};
use crate::report::{Condition, State};
use crate::testing::{BLOCKS, Health, World, options};

/// Returns a mirror of two equal members whose first blocks are written.
fn two(has_witness: bool) -> World {
    let mut world = World::create(2, has_witness, options());
    assert_eq!(world.write(0, 8, 7), Some(Status::Success));
    assert_eq!(world.write(5000, 8, 9), Some(Status::Success));
    world
}

fn why(world: &World) -> &str {
    world.changed.as_ref().expect("an answer").as_ref().expect_err("it is refused")
}

fn is_refused(world: &mut World, device: u8, force: bool, with: &str) {
    world.add(device, force);
    assert!(why(world).contains(with), "{}", why(world));
    world.set(device, Health::Away);
}

#[test]
fn a_member_is_added_and_copied_in_full() {
    let mut world = two(false);
    world.add(2, false);
    assert_eq!(world.changed, Some(Ok(())));
    world.pass(1000);
    assert_eq!(world.conditions(), vec![Condition::InSync; 3]);
    assert_eq!(world.mirror.report().counts.copied_blocks, BLOCKS);
    assert_eq!(world.disks[2].data, world.disks[0].data);
    // It alone has everything.
    world.write(100, 4, 3);
    world.set(0, Health::Failing);
    world.set(1, Health::Failing);
    let mut world = world.reassemble(options(), Some(Device(2)));
    world.pass(10_000);
    assert_eq!((world.read(100, 4), world.read(0, 8)), (vec![3; 4], vec![7; 8]));
}

#[test]
fn a_dead_member_is_replaced() {
    for has_witness in [false, true] {
        let mut world = two(has_witness);
        world.remove(1);
        assert_eq!(world.write(0, 8, 8), Some(Status::Success));
        world.remove_member(1);
        assert_eq!(world.changed, Some(Ok(())));
        assert_eq!(world.conditions(), [Condition::InSync, Condition::Detached]);
        assert_eq!(world.state(), State::Online);
        world.add(2, false);
        assert_eq!(world.changed, Some(Ok(())), "has_witness {has_witness}");
        world.pass(1000);
        assert_eq!(world.conditions(), vec![Condition::InSync; 2], "the place is used again");
        assert_eq!(world.disks[2].data, world.disks[0].data);
        // Neither is assembled without the other one, as before, but for the witness.
        world.set(0, Health::Away);
        let mut world = world.reassemble(options(), None);
        world.pass(10_000);
        assert_eq!(world.registered, usize::from(has_witness));
    }
}

#[test]
fn a_member_that_was_removed_is_not_taken_back_by_itself() {
    let mut world = two(false);
    world.remove_member(1);
    assert_eq!(world.changed, Some(Ok(())));
    assert_eq!(world.conditions(), [Condition::InSync, Condition::Detached]);
    assert_eq!(world.write(0, 8, 8), Some(Status::Success));
    let has_it = |o: &&Output| matches!(o, Output::Write { devices, .. } if devices.contains(Device(1)));
    assert_eq!(world.sent.iter().filter(has_it).count(), 2);
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!((world.registered, world.read(0, 8)), (1, vec![8; 8]));
    assert_eq!(world.conditions(), [Condition::InSync, Condition::Detached]);
    // By itself it is not assembled, not even if the operator says so.
    world.set(0, Health::Away);
    for force in [None, Some(Device(1))] {
        world = world.reassemble(options(), force);
        world.pass(10_000);
        assert_eq!(world.registered, 0);
    }
    // The operator adds it again: all is copied.
    world.set(0, Health::Good);
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert!(world.mirror.is_outsider(Device(1)) && !world.mirror.is_being_read(Device(1)));
    assert!(!world.mirror.is_outsider(Device(0)));
    world.add(1, false);
    assert_eq!(world.changed, Some(Ok(())));
    world.pass(1000);
    assert_eq!(world.mirror.report().counts.copied_blocks, BLOCKS);
    assert_eq!(world.conditions(), vec![Condition::InSync; 2]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut world = two(false);
    world.disks[2].data[3] = 1;
    is_refused(&mut world, 2, false, "holds data");
    world.disks[3].shrink(1);
    is_refused(&mut world, 3, true, "has room for");
    let other = World::create(1, false, options());
    world.disks[4] = other.disks[0].clone();
    is_refused(&mut world, 4, false, "belongs to the mirror");
    world.disks[5] = world.disks[0].clone();
    is_refused(&mut world, 5, true, "was not removed");
    world.set(6, Health::Failing);
    is_refused(&mut world, 6, true, "can't be read");
    assert_eq!(world.conditions(), vec![Condition::InSync; 2]);
    // Data may be overwritten if the operator says so.
    world.add(2, true);
    assert_eq!(world.changed, Some(Ok(())));
    world.pass(1000);
    world.add(4, true);
    assert_eq!(world.changed, Some(Ok(())));
    world.pass(1000);
    assert_eq!(world.conditions(), vec![Condition::InSync; 4]);
    assert_eq!(world.disks[2].data, world.disks[0].data);
}

#[test]
fn there_are_eight_members_at_most() {
    let mut world = two(false);
    for device in 2..8 {
        world.add(device, false);
        assert_eq!(world.changed, Some(Ok(())));
        world.pass(1000);
    }
    world.remove_member(7);
    assert_eq!(world.changed, Some(Ok(())));
    world.set(7, Health::Away);
    world.add(7, false);
    assert_eq!(world.changed, Some(Ok(())));
    world.pass(1000);
    assert_eq!(world.conditions(), vec![Condition::InSync; 8]);
    // Many writes at once are not more than there are requests.
    for io in 0..60 {
        assert_eq!(world.write(io * 8, 8, io), Some(Status::Success));
    }
    world.remove_member(3);
    world.input(crate::Input::AddMember {
        device: Device(0),
        name: "m0".to_owned(),
        force: false,
        is_open: true,
    });
    world.run();
    assert!(why(&world).contains("is in use"));
}

#[test]
fn the_last_member_in_sync_stays() {
    let mut world = two(false);
    world.remove(1);
    world.write(0, 8, 8);
    world.remove_member(0);
    assert!(why(&world).contains("no other member that is in sync"), "{}", why(&world));
    let mut world = World::create(1, true, options());
    world.remove_member(0);
    assert!(why(&world).contains("no other member that is in sync"));
}

#[test]
fn a_removal_without_a_majority_afterwards_is_refused() {
    // Of three members one is away: with two left, one of them is no majority if the other one goes.
    let mut world = World::create(4, true, options());
    world.remove(2);
    world.remove(3);
    world.write(0, 8, 8);
    world.remove_member(1);
    assert!(why(&world).contains("no majority"), "{}", why(&world));
    // The ones that are away can be removed.
    for who in [3, 2, 1] {
        world.remove_member(who);
        assert_eq!(world.changed, Some(Ok(())));
    }
    assert_eq!(world.write(0, 8, 9), Some(Status::Success));
}

#[test]
fn one_change_at_a_time() {
    let mut world = two(true);
    world.set(2, Health::Hung);
    world.add(2, false);
    assert_eq!(world.changed, None);
    world.remove_member(1);
    assert!(why(&world).contains("another change of its devices"));
    world.changed = None;
    // The new one does not answer in time.
    world.pass(40_000);
    assert!(why(&world).contains("not answered in time"));
    world.remove_member(1);
    assert_eq!(world.changed, Some(Ok(())));
}

#[test]
fn a_new_member_that_vanishes_is_not_taken() {
    let mut world = two(false);
    world.set(2, Health::Hung);
    world.add(2, false);
    world.remove(2);
    assert!(why(&world).contains("removed"));
    assert_eq!(world.conditions(), vec![Condition::InSync; 2]);
}

#[test]
fn a_change_is_answered_when_the_mirror_stops() {
    let mut world = two(false);
    world.set(1, Health::MetadataHung);
    world.remove_member(1);
    assert_eq!(world.changed, None);
    world.input(crate::Input::Stop { wipe: false });
    world.run();
    assert!(why(&world).contains("being stopped"));
}

/// A configuration that was saved before a member was removed still names its device.
#[test]
fn a_device_that_was_removed_long_ago_is_not_missed() {
    let mut world = World::create(3, false, options());
    world.remove_member(2);
    assert_eq!(world.changed, Some(Ok(())));
    world.set(2, Health::Away);
    for at in 0..2 + HISTORY_MAX as u64 {
        world.remove(1);
        assert_eq!(world.write(at, 1, at), Some(Status::Success));
        world.set(1, Health::Good);
        world.pass(3000);
        assert_eq!(world.conditions(), [Condition::InSync, Condition::InSync, Condition::Detached]);
    }
    world.set(2, Health::Good);
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!((world.registered, world.state()), (1, State::Online), "{:?}", world.log);
    // Nobody can tell what it has.
    world.add(2, false);
    assert!(why(&world).contains("removed too long ago"), "{}", why(&world));
}

/// A configuration that was saved before a member was removed still names its device, which another host
/// uses for something else.
#[test]
fn a_device_that_is_no_member_is_not_missed_when_it_is_taken_over() {
    let mut world = two(false);
    world.remove_member(1);
    assert_eq!(world.changed, Some(Ok(())));
    let refused = |world: &mut World| {
        world.input(crate::Input::Refused { device: Device(1) });
        world.run();
        assert_eq!(world.ended, None);
    };
    // While it waits for another device, and when it runs.
    world.set(2, Health::Hung);
    world.start_adding(2, false);
    let mut world = world.reassemble(options(), None);
    refused(&mut world);
    world.remove(2);
    world.pass(10_000);
    assert_eq!(world.registered, 1, "{:?}", world.log);
    refused(&mut world);
    // So may be one that holds nothing any more.
    world.set(1, Health::Away);
    world.disks[1] = world.disks[5].clone();
    world.set(1, Health::Good);
    world.pass(70_000);
    refused(&mut world);
    assert_eq!(world.write(0, 8, 8), Some(Status::Success));
    world.input(crate::Input::Refused { device: Device(0) });
    world.run();
    assert!(world.ended.is_some(), "that one is a member");
}

/// The device of a new member has the number of one that was there, and another size.
#[test]
fn the_metadata_of_a_new_member_are_where_its_own_size_says() {
    let mut world = two(false);
    world.remove(1);
    world.write(0, 8, 8);
    // A disk that holds nothing has come in its stead, which is larger.
    world.disks[1] = world.disks[5].clone();
    world.disks[1].grow(4);
    world.set(1, Health::Good);
    world.open_all();
    world.remove_member(1);
    assert_eq!(world.changed, Some(Ok(())));
    // The driver has not said that this one is gone.
    let (device, name) = (Device(1), "new".to_owned());
    world.input(crate::Input::AddMember { device, name, force: false, is_open: false });
    world.run();
    assert!(why(&world).contains("in use"), "{}", why(&world));
    world.remove(1);
    world.disks[1] = world.disks[5].clone();
    world.add(1, false);
    assert_eq!(world.changed, Some(Ok(())));
    world.pass(1000);
    assert_eq!(world.conditions(), vec![Condition::InSync; 2]);
}

/// Wherever a removal is, the mirror that is stopped then has a last record.
#[test]
fn a_removal_under_way_does_not_delay_a_stop() {
    let mut steps = 0;
    loop {
        let mut world = two(true);
        world.start_removal(1);
        for _ in 0..steps {
            let Some(output) = world.mirror.poll_output() else { break };
            world.perform(output);
        }
        let is_answered = world.changed.is_some();
        world.input(crate::Input::Stop { wipe: false });
        // A mirror that has nothing left to do wants no more than some dozens of things.
        for _ in 0..1000 {
            let Some(output) = world.mirror.poll_output() else { break };
            world.perform(output);
        }
        assert!(world.is_stopped, "{steps} {:?}", world.log);
        assert!(!world.log.iter().any(|text| text.contains("without a last record")), "{:?}", world.log);
        if is_answered {
            break;
        }
        steps += 1;
    }
    assert!(steps > 10, "{steps}");
}

/// Every record of an addition and of a removal is the last one that the host writes.
#[test]
fn a_crash_leaves_one_of_two_configurations() {
    let mut counted = [0; 2];
    for steps in 0..80 {
        for away in 0..3 {
            let mut world = World::create(3, false, options());
            world.write(0, 8, 7);
            if steps % 2 == 0 {
                world.start_removal(2);
            } else {
                world.start_adding(3, false);
            }
            for _ in 0..steps / 2 {
                let Some(output) = world.mirror.poll_output() else { break };
                world.perform(output);
            }
            let is_answered = world.changed.take().is_some();
            // Two of the three that were there before, and the new one.
            world.set(away, Health::Away);
            let mut world = world.reassemble(options(), None);
            world.pass(7_000);
            if world.registered == 0 {
                // The record is on a member only that is not enough: the others tell whether it counts.
                world.mend(away);
                world.pass(7_000);
            }
            if let State::Starting { why } = world.state() {
                // A host that dies while it begins a generation leaves members that have diverged (rule 8).
                assert!(why.contains("diverged"), "{steps} {away}: {why}");
                continue;
            }
            let members = world.conditions().iter().filter(|c| **c != Condition::Detached).count();
            let changed = if steps % 2 == 0 { 2 } else { 4 };
            counted[usize::from(members == changed)] += 1;
            assert!(members == 3 || members == changed, "{steps} {away}: {members}");
            assert!(!is_answered || members == changed, "{steps} {away}");
            assert_eq!(world.read(0, 8), vec![7; 8]);
            world.mend(away);
            world.pass(7_000);
            if matches!(world.conditions().get(3), Some(Condition::Missing { .. })) {
                // The host died before the new member had a record of its own.
                world.remove_member(3);
                assert_eq!(world.changed, Some(Ok(())), "{steps} {away}");
                world.remove(3);
                world.add(3, false);
                assert_eq!(world.changed, Some(Ok(())), "{steps} {away}");
                world.pass(1000);
            }
            let has_diverged = world.conditions().iter().any(|c| matches!(c, Condition::Unusable { .. }));
            assert!(has_diverged || world.state() == State::Online, "{:?}", world.conditions());
        }
    }
    assert!(counted[0] > 20 && counted[1] > 20, "{counted:?}");
}
