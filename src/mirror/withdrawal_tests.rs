//! New members that are lost before they count.

use crate::handles::Device;
use crate::output::Status;
use crate::report::{Condition, State};
use crate::testing::{Health, World, options, superblock_write};

/// The witness's number.
const WITNESS: u8 = Device::WITNESS.0;

/// Returns a mirror of two members that adds a third one, which hangs while the record of that is written, as
/// the witness does. `have_it` says whether these two have the record, too, and only do not say so.
fn stuck(have_it: bool) -> World {
    let mut world = World::create(2, true, options());
    assert_eq!(world.write(0, 8, 7), Some(Status::Success));
    world.start_adding(2, false);
    while let Some(output) = world.mirror.poll_output() {
        let last = superblock_write(&output).map(|(device, _)| device);
        if last.is_some() && !have_it {
            world.set(2, Health::Hung);
            world.set(WITNESS, Health::Hung);
        }
        world.perform(output);
        if let Some(device @ (Device(2) | Device::WITNESS)) = last {
            // The flush that follows is not answered.
            world.set(device.0, Health::Hung);
        }
    }
    assert_eq!(world.changed, None, "{:?}", world.log);
    world
}

fn why(world: &World) -> &str {
    world.changed.as_ref().expect("an answer").as_ref().expect_err("it is not added")
}

#[test]
fn a_new_member_that_is_lost_together_with_the_witness_is_withdrawn() {
    let mut world = stuck(false);
    world.remove(WITNESS);
    assert_eq!(world.changed, None, "it may count with the new one");
    world.remove(2);
    assert!(why(&world).contains("lost before it was a member"), "{:?}", world.changed);
    assert_eq!(world.conditions(), [Condition::InSync, Condition::InSync, Condition::Detached]);
    assert_eq!(world.write(0, 8, 8), Some(Status::Success));
    // Neither of the two lost ones is needed any more, and the new one is not taken by itself.
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!((world.registered, world.read(0, 8)), (1, vec![8; 8]), "{:?}", world.log);
    world.set(2, Health::Good);
    world.set(WITNESS, Health::Good);
    world.pass(10_000);
    assert_eq!(world.conditions()[2], Condition::Detached);
    world.add(2, true);
    assert_eq!(world.changed, Some(Ok(())));
    world.pass(1000);
    assert_eq!(world.conditions(), vec![Condition::InSync; 3]);
    assert_eq!(world.disks[2].data, world.disks[0].data);
}

/// A host that finds the new member and the witness needs one of the others, which has the newer record.
#[test]
fn a_withdrawn_record_is_outranked_whoever_is_found() {
    for away in [0, 1] {
        let mut world = stuck(true);
        world.remove(WITNESS);
        world.remove(2);
        assert!(why(&world).contains("lost before it was a member"), "{:?}", world.changed);
        assert_eq!(world.write(0, 8, 8), Some(Status::Success));
        for device in [2, WITNESS] {
            world.set(device, Health::Good);
        }
        world.set(away, Health::Away);
        let mut world = world.reassemble(options(), None);
        world.pass(10_000);
        assert_eq!(world.registered, 0, "the newer record says that the witness was away: {:?}", world.log);
        world.set(away, Health::Good);
        world.pass(10_000);
        assert_eq!((world.registered, world.read(0, 8)), (1, vec![8; 8]), "{:?}", world.log);
        assert_eq!(world.conditions()[2], Condition::Detached);
    }
    // Without the newer record, these devices go on from the one with the new member.
    let mut world = stuck(true);
    for device in [2, WITNESS] {
        world.set(device, Health::Good);
    }
    world.set(0, Health::Away);
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!((world.registered, world.read(0, 8)), (1, vec![7; 8]), "{:?}", world.log);
    assert_eq!(world.conditions()[1..], [Condition::InSync, Condition::InSync]);
}

/// The host dies instead: the two members can't know whether the new one counted. The operator can say so.
#[test]
fn a_change_that_the_host_left_behind_is_ended_by_force() {
    let mut world = stuck(false);
    for device in [2, WITNESS] {
        world.set(device, Health::Away);
    }
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!(world.registered, 0);
    assert!(matches!(world.state(), State::Starting { why } if why.contains("majority")));
    let mut world = world.reassemble(options(), Some(Device(0)));
    world.pass(10_000);
    assert_eq!((world.registered, world.read(0, 8)), (1, vec![7; 8]), "{:?}", world.log);
    assert_eq!(world.conditions()[..2], [Condition::InSync, Condition::InSync]);
    world.remove_member(2);
    assert_eq!(world.changed, Some(Ok(())));
    assert_eq!(world.write(0, 8, 8), Some(Status::Success));
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!((world.registered, world.read(0, 8)), (1, vec![8; 8]), "{:?}", world.log);
}
