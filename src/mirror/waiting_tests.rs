//! What waits, for members that do not answer and for times, and how long.

use crate::extents::Extent;
use crate::handles::{Device, IoId};
use crate::input::{Input, Op};
use crate::options::Options;
use crate::output::{Output, Status};
use crate::report::{Condition, State};
use crate::testing::{BLOCK, Health, World, options};

fn whole(members: usize) -> Vec<Condition> {
    vec![Condition::InSync; members]
}

#[test]
fn a_member_that_hangs_is_given_up_after_its_time() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 1);
    world.set(1, Health::Hung);
    let io = world.submit(Op::Write, 5, 1, 2);
    world.pass(29_000);
    assert_eq!(world.done.get(&io), None);
    world.pass(2000);
    assert_eq!(world.done.get(&io), Some(&Status::Success), "{:?}", world.log);
    world.mend(1);
    world.pass(5000);
    assert_eq!((world.conditions(), world.disks[1].data[5]), (whole(2), 2));
}

/// Removing a member that hangs does not wait for as long as its answers would be waited for.
#[test]
fn a_member_that_hangs_and_is_removed_is_given_up_at_once() {
    for (health, timeout) in [(Health::Hung, 30_000), (Health::Hung, 0), (Health::WritesHung, 30_000)] {
        let mut world = World::create(2, true, Options { member_timeout_ms: timeout, ..options() });
        world.write(5, 1, 1);
        world.pass(1);
        world.set(1, health);
        let io = world.submit(Op::Write, 5, 1, 2);
        world.pass(500);
        world.remove_member(1);
        // The members that stay go on with what does not wait for this one.
        world.pass(2000);
        assert_eq!(world.changed, Some(Ok(())), "{health:?} {timeout}: {:?}", world.log);
        assert_eq!(world.done.get(&io), Some(&Status::Success), "{health:?} {timeout}: {:?}", world.log);
        assert_eq!(world.conditions(), [Condition::InSync, Condition::Detached]);
    }
}

/// A former member that is added is not one that leaves, whether its device is open already or not.
#[test]
fn a_former_member_that_is_added_has_as_long_to_answer_as_others() {
    for while_away in [Health::Good, Health::Away] {
        let mut world = World::create(2, true, options());
        world.write(5, 1, 1);
        world.remove_member(1);
        assert_eq!(world.changed, Some(Ok(())));
        world.set(1, while_away);
        world.pass(10_000);
        assert_eq!(world.conditions(), [Condition::InSync, Condition::Detached]);
        world.start_adding(1, false);
        world.set(1, Health::Hung);
        // The mirror looks at late devices within this time, which is less than they have.
        world.pass(25_000);
        assert_eq!(world.changed, None, "{while_away:?}: {:?}", world.log);
        world.mend(1);
        world.pass(1000);
        assert_eq!(world.changed, Some(Ok(())), "{while_away:?}: {:?}", world.log);
        assert_eq!(world.conditions(), whole(2), "{while_away:?}: {:?}", world.log);
    }
}

#[test]
fn a_member_that_hangs_is_given_up_although_other_io_goes_on() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 1);
    world.set(1, Health::Hung);
    let io = world.submit(Op::Write, 5, 1, 2);
    // More than one I/O in each 100 ms: ticks come when they are asked for, and not otherwise.
    world.input(Input::SetOptions(Options { flush_interval_ms: 60_000, ..options() }));
    for _ in 0..620 {
        world.now += 50_000;
        if world.mirror.next_deadline().is_some_and(|at| at <= world.now) {
            world.input(Input::Tick);
        }
        world.done.remove(&63);
        world.input(Input::Submit { io: IoId(63), op: Op::Read, range: Extent::new(900, 1) });
        world.run();
        assert_eq!(world.done.get(&63), Some(&Status::Success), "{:?}", world.log);
    }
    assert_eq!(world.done.get(&io), Some(&Status::Success), "{:?}", world.log);
}

#[test]
fn what_a_member_has_that_was_given_up_for_something_else_ends_in_time() {
    let mut world = World::create(2, true, options());
    world.write(5, 2, 1);
    world.set(1, Health::WritesHung);
    let io = world.submit(Op::Write, 5, 1, 2);
    world.set(1, Health::Failing);
    assert_eq!(world.write(6, 1, 3), Some(Status::Success), "{:?}", world.log);
    world.set(1, Health::Good);
    world.pass(29_000);
    assert_eq!(world.done.get(&io), None);
    world.pass(2000);
    assert_eq!(world.done.get(&io), Some(&Status::Success), "{:?}", world.log);
    world.pass(5000);
    assert_eq!((world.conditions(), world.disks[1].data[5]), (whole(2), 2));
}

#[test]
fn a_mirror_that_is_taken_over_ends_what_a_member_has_that_was_given_up() {
    let mut world = World::create(2, true, options());
    world.write(5, 2, 1);
    world.set(1, Health::WritesHung);
    let io = world.submit(Op::Write, 5, 1, 2);
    world.set(1, Health::Failing);
    world.write(6, 1, 3);
    assert_eq!(world.done.get(&io), None);
    world.input(Input::Refused { device: Device(8) });
    world.run();
    assert_eq!(world.done.get(&io), Some(&Status::Failed));
}

#[test]
fn a_mirror_that_is_taken_over_while_it_stops_has_stopped() {
    for (wipe, health) in [(false, Health::FlushHung), (true, Health::MetadataHung)] {
        let mut world = World::create(2, true, options());
        world.set(1, health);
        world.input(Input::Stop { wipe });
        world.run();
        assert!(!world.is_stopped);
        world.input(Input::Refused { device: Device(8) });
        world.run();
        assert!(world.ended.is_some() && world.is_stopped, "{health:?}");
        assert_eq!(world.state(), State::Stopped);
    }
}

#[test]
fn a_write_that_ends_after_the_mirror_has_stopped_fails() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 1);
    world.set(1, Health::Hung);
    let io = world.submit(Op::Write, 5, 1, 2);
    world.input(Input::Stop { wipe: false });
    world.pass(11_000);
    assert_eq!((world.is_stopped, world.done.get(&io)), (true, None));
    world.mend(1);
    assert_eq!(world.done.get(&io), Some(&Status::Failed), "nobody records any more who missed it");
}

#[test]
fn io_that_goes_on_does_not_end_a_resync_that_waits() {
    let slow = Options { resync_rate: 64 * 4096, flush_interval_ms: 60_000, ..options() };
    let mut world = World::create(2, false, slow);
    world.pass(1);
    world.remove(1);
    world.write(0, 256, 1);
    world.set(1, Health::Good);
    world.open_all();
    assert!(matches!(world.conditions()[1], Condition::Resyncing { .. }), "{:?}", world.log);
    let at = world.mirror.next_deadline().expect("there is more to copy");
    // The read comes first, and changes nothing that the resync could notice.
    world.now = at + 1;
    world.read(900, 1);
    assert!(
        world.mirror.next_deadline().is_some_and(|next| next <= at),
        "{:?}",
        world.mirror.next_deadline()
    );
    world.pass(10_000);
    assert_eq!(world.conditions(), whole(2));
}

/// One copy of 16 KiB at a time, of the two of 256 KiB that there may be.
#[test]
fn copying_yields_to_users_for_a_time() {
    let mut world = World::create(2, true, options());
    let copies = |world: &World| -> Vec<u64> {
        let range = |output: &Output| match output {
            Output::CopyRead { range, .. } => Some(range.count),
            _ => None,
        };
        world.sent.iter().filter_map(range).collect()
    };
    world.remove(1);
    world.write(0, 256, 7);
    world.set(1, Health::CopiesHung);
    world.open_all();
    assert_eq!(copies(&world), [4]);
    world.now += 250_000;
    world.mend(1);
    assert_eq!(copies(&world), [4, 64, 64, 64, 60]);
    assert_eq!(world.conditions(), whole(2));
}

#[test]
fn a_member_that_lacks_what_cannot_be_read_keeps_no_other_one_waiting() {
    let mut world = World::create(4, true, options());
    world.remove(1);
    world.remove(2);
    for at in [5, 5000] {
        world.write(at, 1, 7);
    }
    for at in [0, 3] {
        world.set(at, Health::Unreadable(Extent::new(5, 1)));
    }
    world.set(1, Health::Good);
    world.set(2, Health::Good);
    world.pass(3000);
    assert_eq!((world.disks[1].data[5000], world.disks[2].data[5000]), (7, 7));
    world.set(0, Health::Good);
    world.pass(30_000);
    assert_eq!(world.conditions(), whole(4));
    assert_eq!(world.disks[1].data, world.disks[2].data);
}

/// A device that has failed for long is read rarely, but at once when it is known to answer again. If
/// that fails, too, it is read again soon.
#[test]
fn a_member_that_can_be_reached_again_is_taken_at_once() {
    for first_fails in [false, true] {
        let mut world = World::create(2, true, options());
        world.set(1, Health::Failing);
        world.write(5, 1, 1);
        world.pass(200_000);
        world.set(1, Health::Good);
        world.pass(1000);
        assert!(matches!(world.conditions()[1], Condition::Missing { .. }));
        if first_fails {
            world.set(1, Health::Failing);
        }
        world.input(Input::Reachable { device: Device(1) });
        world.run();
        world.open_all();
        world.set(1, Health::Good);
        world.pass(if first_fails { 1500 } else { 1 });
        assert_eq!((world.conditions(), world.disks[1].data[5]), (whole(2), 1), "{:?}", world.log);
    }
}

/// The news changes nothing about devices that are in use, or that no call has named.
#[test]
fn a_device_that_never_failed_may_be_said_to_answer_again() {
    let mut world = World::create(2, true, options());
    for device in [0, 1, 3, 8] {
        world.input(Input::Reachable { device: Device(device) });
        world.run();
    }
    assert_eq!((world.conditions(), world.write(5, 1, 1)), (whole(2), Some(Status::Success)));
}

/// An operator who sees that all members are in sync may take any of them away.
#[test]
fn a_member_is_shown_in_sync_when_that_is_recorded() {
    let mut world = World::create(2, true, options());
    world.set(1, Health::Failing);
    world.write(5, 1, 1);
    world.set(1, Health::Good);
    world.now += 2_000_000;
    world.input(Input::Tick);
    let mut is_up_to_date = false;
    loop {
        while let Some(output) = world.mirror.poll_output() {
            world.perform(output);
            if !is_up_to_date && world.log.last().is_some_and(|line| line.ends_with("is up to date")) {
                is_up_to_date = true;
                world.set(0, Health::MetadataHung);
            }
        }
        if is_up_to_date {
            break;
        }
        world.now += 1_000_000;
        world.input(Input::Tick);
        world.open_due();
    }
    assert_eq!(world.conditions(), [Condition::InSync, Condition::Resyncing { left: 0 }]);
    assert_eq!(world.state(), State::Degraded);
    world.mend(0);
    assert_eq!((world.conditions(), world.state()), (whole(2), State::Online));
}

/// Returns a mirror that has a rate in common with others, and whose second member lacks 300 blocks in
/// two ranges.
fn waiting_for_turns() -> World {
    let mut world = World::create(2, false, Options { shares_rate: true, ..options() });
    world.remove(1);
    world.write(0, 200, 1);
    world.write(5000, 100, 2);
    world.set(1, Health::Good);
    world.pass(1000);
    assert!(matches!(world.conditions()[1], Condition::Resyncing { .. }), "{:?}", world.log);
    world
}

fn copied_bytes(world: &World) -> u64 {
    let of = |output: &Output| match output {
        Output::CopyWrite { range, .. } => range.count * u64::from(BLOCK),
        _ => 0,
    };
    world.sent.iter().map(of).sum()
}

#[test]
fn each_copy_waits_for_its_turn() {
    let mut world = waiting_for_turns();
    assert_eq!((world.wanted.len(), copied_bytes(&world)), (1, 0));
    for turns in 1.. {
        let given: u64 = world.wanted.iter().sum();
        world.input(Input::Turn);
        world.run();
        assert_eq!(copied_bytes(&world), given, "no less, and nothing beyond the turns");
        world.pass(1000);
        assert_eq!(copied_bytes(&world), given);
        if world.conditions() == whole(2) {
            assert!(turns > 4, "{turns} turns for more than four slots' worth");
            break;
        }
        assert_eq!(world.wanted.len(), turns + 1);
    }
    // Nothing is copied: a turn that nobody asked for is of no use.
    let given = copied_bytes(&world);
    world.input(Input::Turn);
    world.run();
    assert_eq!(copied_bytes(&world), given);
}

#[test]
fn a_turn_that_comes_too_late_is_lost() {
    let mut world = waiting_for_turns();
    world.remove(1);
    world.input(Input::Turn);
    world.set(1, Health::Good);
    world.pass(1000);
    assert_eq!((world.wanted.len(), copied_bytes(&world)), (2, 0), "it asks again");
    world.input(Input::Turn);
    world.run();
    assert_eq!(copied_bytes(&world), world.wanted[1]);
}

#[test]
fn a_resync_goes_on_without_turns_when_the_limit_is_lifted() {
    let mut world = waiting_for_turns();
    world.input(Input::SetOptions(options()));
    world.pass(1000);
    assert_eq!(world.conditions(), whole(2));
    assert_eq!(world.wanted.len(), 1);
}
