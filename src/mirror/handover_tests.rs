//! Two members whose witness was away: an owner's last record is on a device that the next owner misses.

use crate::handles::Device;
use crate::input::{Input, Op};
use crate::output::Status;
use crate::report::{Condition, State};
use crate::testing::{Health, World, options, superblock_write};

/// The witness's number.
const WITNESS: u8 = Device::WITNESS.0;

/// Returns a mirror of two members that is being told that the witness is back: of three devices, only
/// the witness has the record that says so.
fn only_the_witness_knows() -> World {
    let mut world = World::create(2, true, options());
    world.write(0, 8, 7);
    world.remove(WITNESS);
    assert_eq!(world.write(0, 8, 8), Some(Status::Success));
    // The members are equal everywhere, so an owner takes both as they are.
    for _ in 0..2 {
        world.flush();
        world.pass(11_000);
    }
    assert_eq!(world.mirror.report().hot_regions, 0);
    world.set(0, Health::MetadataHung);
    world.set(1, Health::MetadataHung);
    world.set(WITNESS, Health::Good);
    world.open_all();
    world
}

/// Performs what a mirror wants until it writes its second superblock to a device, which hangs.
fn perform_until_second_record(world: &mut World, to: Device) {
    let mut records = 0;
    while let Some(output) = world.mirror.poll_output() {
        let is_record = superblock_write(&output).is_some_and(|(device, _)| device == to);
        records += u32::from(is_record);
        if records == 2 {
            world.set(to.0, Health::Hung);
        }
        world.perform(output);
    }
    assert!(records >= 2, "{:?}", world.log);
}

/// The witness's record outranks the announcement: the member that has only that and the witness go on
/// without what the other one was told.
#[test]
fn one_of_two_that_alone_has_the_second_record_of_an_assembly_does_not_go_on() {
    let mut world = only_the_witness_knows();
    for device in [0, 1] {
        world.set(device, Health::Good);
    }
    world.set(WITNESS, Health::Away);
    let mut world = world.reassemble(options(), None);
    world.now += 6_000_000;
    world.input(Input::Tick);
    perform_until_second_record(&mut world, Device(0));
    world.remove(0);
    world.pass(10_000);
    assert_eq!(world.registered, 0, "the other two may go on: {:?}", world.log);
    // They may, and so does the member when the other one is back.
    world.set(1, Health::Away);
    for device in [0, WITNESS] {
        world.set(device, Health::Good);
    }
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!((world.registered, world.read(0, 8)), (1, vec![8; 8]), "{:?}", world.log);
    world.set(1, Health::Good);
    world.pass(10_000);
    assert_eq!(world.state(), State::Online);
}

/// The owner itself tells the witness and nobody else, and loses all three: the member that comes back
/// first does not know what the other two may go on from.
#[test]
fn one_of_two_does_not_go_on_while_a_record_may_give_the_witness_a_vote() {
    let mut world = only_the_witness_knows();
    for device in [0, 1, WITNESS] {
        world.remove(device);
    }
    assert_eq!(world.state(), State::Failed);
    world.set(1, Health::Good);
    world.open_all();
    let io = world.submit(Op::Write, 0, 8, 9);
    world.pass(1000);
    assert_eq!(world.done.get(&io), None, "the other two may go on: {:?}", world.log);
    world.set(0, Health::Good);
    world.pass(1000);
    assert_eq!(world.done.get(&io), Some(&Status::Success), "{:?}", world.log);
    world.set(WITNESS, Health::Good);
    world.pass(10_000);
    assert_eq!(world.state(), State::Online);
    assert_eq!(world.disks[0].data, world.disks[1].data);
}

/// The last member in sync fails the record that begins a generation, again and again, and the witness has it.
#[test]
fn a_generation_is_begun_however_often_its_record_fails() {
    let mut world = World::create(2, true, options());
    world.write(0, 8, 7);
    world.set(1, Health::Away);
    world.input(Input::Gone { device: Device(1) });
    let mut records = 0;
    while let Some(output) = world.mirror.poll_output() {
        let is_record = superblock_write(&output).is_some_and(|(device, _)| device == Device(0));
        records += u32::from(is_record);
        if records == 2 {
            // The first one says that the other member is out of date.
            world.set(0, Health::MetadataHung);
        }
        world.perform(output);
    }
    assert_eq!(records, 2);
    for _ in 0..3 {
        world.remove(0);
        world.set(0, Health::MetadataHung);
        world.open_all();
        assert_eq!(world.conditions()[0], Condition::InSync, "{:?}", world.log);
    }
    world.remove(0);
    world.set(0, Health::Good);
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!((world.registered, world.write(0, 8, 9)), (1, Some(Status::Success)), "{:?}", world.log);
}
