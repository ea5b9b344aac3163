//! A witness that is added and removed.

use crate::handles::Device;
use crate::output::Status;
use crate::report::{Condition, State, WitnessCondition};
use crate::testing::{Disk, Health, World, metadata_write, options};

/// The witness's number.
const WITNESS: u8 = Device::WITNESS.0;

fn mirror(members: usize, has_witness: bool) -> World {
    let mut world = World::create(members, has_witness, options());
    assert_eq!(world.write(0, 8, 7), Some(Status::Success));
    world
}

fn why(world: &World) -> &str {
    world.changed.as_ref().expect("an answer").as_ref().expect_err("it is refused")
}

/// Returns whether there is a witness, and whether it has a vote.
fn witness(world: &World) -> Option<bool> {
    world.mirror.report().witness.map(|witness| witness.is_current())
}

fn remove(world: &mut World) {
    world.start_removing_witness();
    world.run();
}

#[test]
fn a_witness_is_added_and_has_a_vote() {
    let mut world = mirror(2, false);
    world.add_witness(false);
    assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), Some(true)), "{:?}", world.log);
    assert_eq!(world.write(0, 8, 8), Some(Status::Success));
    // One of two members and the witness are enough, by rule 2.
    world.set(1, Health::Away);
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!((world.registered, world.read(0, 8)), (1, vec![8; 8]));
    // There is one witness.
    world.add_witness(true);
    assert!(why(&world).contains("has a witness: remove that first"), "{}", why(&world));
}

#[test]
fn a_witness_that_was_removed_has_no_vote_and_is_not_taken_back() {
    let mut world = mirror(2, true);
    remove(&mut world);
    assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), None), "{:?}", world.log);
    assert_eq!(world.state(), State::Online);
    // With one of two members, it is not enough any more, although that one has no newer record than it.
    world.set(1, Health::Away);
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!(world.registered, 0);
    world.set(1, Health::Good);
    world.pass(10_000);
    assert_eq!((world.registered, witness(&world)), (1, None));
    assert!(world.log.iter().any(|line| line.contains("it was removed from this mirror")), "{:?}", world.log);
    // The operator may have it back, as it holds nothing else.
    world.add_witness(false);
    assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), Some(true)), "{:?}", world.log);
    remove(&mut world);
    remove(&mut world);
    assert!(why(&world).contains("no witness"), "{}", why(&world));
}

#[test]
fn a_dead_witness_is_replaced() {
    let mut world = mirror(2, true);
    world.remove(WITNESS);
    assert_eq!(world.write(0, 8, 8), Some(Status::Success));
    remove(&mut world);
    assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), None), "{:?}", world.log);
    world.disks[Device::WITNESS.index()] = Disk::witness();
    world.add_witness(false);
    assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), Some(true)), "{:?}", world.log);
    world.set(0, Health::Away);
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!((world.registered, world.read(0, 8)), (1, vec![8; 8]));
}

#[test]
fn a_witness_without_which_there_is_no_majority_stays() {
    let mut world = mirror(2, true);
    world.remove(1);
    remove(&mut world);
    assert!(why(&world).contains("1 of 2 members are there"), "{}", why(&world));
    assert_eq!(witness(&world), Some(true));
    // Without the dead member, none is missing.
    world.remove_member(1);
    assert_eq!(world.changed, Some(Ok(())));
    remove(&mut world);
    assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), None));
}

#[test]
fn a_dead_witness_is_removed_from_a_mirror_of_one_of_two_members() {
    let mut world = mirror(2, true);
    world.remove(WITNESS);
    world.write(0, 8, 8);
    world.remove(1);
    assert_eq!(world.write(0, 8, 9), Some(Status::Success));
    remove(&mut world);
    assert_eq!(world.changed, Some(Ok(())), "it has no vote, so nothing depends on it");
    // A new one has a vote, as far as the one that is there knows.
    world.disks[Device::WITNESS.index()] = Disk::witness();
    world.add_witness(false);
    assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), Some(true)), "{:?}", world.log);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut world = mirror(2, false);
    world.disks[Device::WITNESS.index()].blocks = 31;
    world.add_witness(true);
    assert!(why(&world).contains("can't be used"), "{}", why(&world));
    world.set(WITNESS, Health::Away);
    let mut other = mirror(2, true);
    for (disk, with) in [
        (other.disks.remove(Device::WITNESS.index()), "belongs to the mirror"),
        (other.disks.remove(0), "named as a witness"),
    ] {
        world.disks[Device::WITNESS.index()] = disk;
        world.add_witness(false);
        assert!(why(&world).contains(with), "{}", why(&world));
        world.set(WITNESS, Health::Away);
        assert_eq!(witness(&world), None);
    }
    world.add_witness(true);
    assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), Some(true)), "{:?}", world.log);
}

/// Carries out what a mirror wants until the last record that a device may get is written there, so many of
/// them; what it is asked for from then on is not answered.
fn hang_after(world: &mut World, device: u8, records: usize) {
    let mut left = records;
    while let Some(output) = world.mirror.poll_output() {
        let is_record = metadata_write(&output)
            .is_some_and(|(of, bytes)| of.0 == device && bytes.starts_with(b"DSTmirr"));
        if is_record && left == 0 {
            world.set(device, Health::Hung);
        }
        left -= usize::from(is_record && left > 0);
        world.perform(output);
    }
}

#[test]
fn a_new_witness_that_is_lost_before_it_votes_is_removed_again() {
    for records in [0, 1] {
        let mut world = mirror(2, false);
        world.start_adding_witness(false);
        hang_after(&mut world, WITNESS, records);
        assert_eq!((world.changed.clone(), witness(&world)), (None, Some(false)), "{records} records");
        world.remove(WITNESS);
        assert!(why(&world).contains("was lost before it had a vote"), "{}", why(&world));
        assert_eq!((witness(&world), world.state()), (None, State::Online));
        assert_eq!(world.write(0, 8, 8), Some(Status::Success));
        // What it has does not count.
        world.set(WITNESS, Health::Good);
        world.set(1, Health::Away);
        let mut world = world.reassemble(options(), None);
        world.pass(10_000);
        assert_eq!(world.registered, 0, "{records} records: {:?}", world.log);
        world.set(1, Health::Good);
        world.pass(10_000);
        assert_eq!((world.registered, witness(&world)), (1, None), "{records} records");
    }
}

/// The host dies at each record of a change: the next one finds the mirror as before, or as after.
#[test]
fn a_host_that_dies_leaves_a_mirror_before_or_after() {
    for has_witness in [false, true] {
        for (device, records) in [(0, 0), (0, 1), (1, 0), (1, 1), (WITNESS, 0), (WITNESS, 1)] {
            let mut world = mirror(2, has_witness);
            match has_witness {
                true => world.start_removing_witness(),
                false => world.start_adding_witness(false),
            }
            hang_after(&mut world, device, records);
            let health = world.health.clone();
            world.health.fill(Health::Away);
            for (to, was) in world.health.iter_mut().zip(health) {
                *to = if was == Health::Away { Health::Away } else { Health::Good };
            }
            let mut world = world.reassemble(options(), None);
            world.pass(10_000);
            let context = format!("{has_witness} {device} {records}: {:?}", world.log);
            assert_eq!((world.registered, world.read(0, 8)), (1, vec![7; 8]), "{context}");
            assert_eq!(world.conditions(), vec![Condition::InSync; 2], "{context}");
            // Whatever it is, the operator gets what was wanted.
            match (has_witness, witness(&world)) {
                (true, Some(_)) => remove(&mut world),
                (false, None) => world.add_witness(false),
                (false, Some(false)) => {
                    // Its device has no record.
                    remove(&mut world);
                    world.add_witness(false);
                }
                _ => world.changed = Some(Ok(())),
            }
            assert_eq!(world.changed, Some(Ok(())), "{context}");
            assert_eq!(witness(&world), (!has_witness).then_some(true), "{context}");
        }
    }
}

#[test]
fn one_change_at_a_time() {
    let mut world = mirror(3, false);
    world.set(0, Health::MetadataHung);
    world.start_adding_witness(false);
    world.run();
    assert_eq!(world.changed, None);
    let id = world.mirror.report().members[2].id;
    world.input(crate::input::Input::RemoveMember { id });
    world.run();
    assert!(why(&world).contains("another change of its devices"), "{}", why(&world));
    world.changed = None;
    world.mend(0);
    assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), Some(true)));
}

#[test]
fn a_member_and_the_witness_are_not_added_at_once() {
    let mut world = mirror(2, false);
    world.set(0, Health::MetadataHung);
    world.start_adding(2, false);
    world.run();
    assert_eq!(world.changed, None);
    world.add_witness(false);
    assert!(why(&world).contains("another change of its devices"), "{}", why(&world));
    world.changed = None;
    world.mend(0);
    assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), None));
}

#[test]
fn a_witness_that_does_not_answer_is_removed() {
    let mut world = mirror(2, true);
    world.set(WITNESS, Health::Hung);
    remove(&mut world);
    assert_eq!(world.changed, None, "it has a second");
    world.pass(2000);
    assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), None), "{:?}", world.log);
    assert_eq!(world.write(0, 8, 8), Some(Status::Success));
}

/// The record that takes the vote of the only other voter needs that voter.
#[test]
fn a_witness_whose_vote_is_needed_is_told_when_it_is_back() {
    let mut world = mirror(2, true);
    world.remove_member(1);
    assert_eq!(world.changed, Some(Ok(())));
    world.set(WITNESS, Health::MetadataHung);
    remove(&mut world);
    world.remove(WITNESS);
    world.pass(5000);
    assert_eq!((world.changed.clone(), witness(&world)), (None, Some(false)), "{:?}", world.log);
    world.set(WITNESS, Health::Good);
    world.pass(5000);
    assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), None), "{:?}", world.log);
    assert_eq!((world.write(0, 8, 8), world.state()), (Some(Status::Success), State::Online));
}

/// The witness was away when it was removed: its record still gives it a vote.
#[test]
fn a_witness_with_an_old_record_does_not_vote() {
    for is_replaced in [false, true] {
        let mut world = mirror(2, true);
        world.remove(WITNESS);
        assert_eq!(world.write(0, 8, 8), Some(Status::Success));
        remove(&mut world);
        assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), None));
        let at = Device::WITNESS.index();
        if is_replaced {
            let old = std::mem::replace(&mut world.disks[at], Disk::witness());
            world.add_witness(false);
            assert_eq!((world.changed.clone(), witness(&world)), (Some(Ok(())), Some(true)));
            world.remove(WITNESS);
            world.disks[at] = old;
        }
        // Each member alone, and the old witness.
        for away in [0, 1] {
            world.set(WITNESS, Health::Good);
            world.set(1 - away, Health::Good);
            world.set(away, Health::Away);
            world = world.reassemble(options(), None);
            world.pass(10_000);
            assert_eq!(world.registered, 0, "{is_replaced} {away}: {:?}", world.log);
        }
        world.set(1, Health::Good);
        world.pass(10_000);
        assert_eq!((world.registered, world.read(0, 8)), (1, vec![8; 8]));
        let told = world.log.iter().any(|line| line.contains("it was removed from this mirror"));
        assert!(told, "{:?}", world.log);
    }
}

#[test]
fn a_witness_without_a_vote_says_why() {
    let mut world = mirror(2, true);
    let why = |world: &World| match world.mirror.report().witness.expect("there is a witness").condition {
        WitnessCondition::Current => None,
        WitnessCondition::Away { why } => Some(why),
    };
    assert_eq!(why(&world), None);
    world.remove(WITNESS);
    world.pass(10_000);
    assert_eq!(why(&world).as_deref(), Some("the bdev was removed"), "{:?}", world.log);
    world.set(WITNESS, Health::Good);
    world.pass(10_000);
    assert_eq!(why(&world), None, "{:?}", world.log);
    // Another device in its place.
    world.disks[usize::from(WITNESS)] = Disk::witness();
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!(why(&world).as_deref(), Some("it holds no metadata of a mirror"));
}
