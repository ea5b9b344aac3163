//! Whole mirrors, by scenario. The simulator (sim/mirror) has the random ones.

use crate::extents::Extent;
use crate::handles::{Device, IoId, RequestId};
use crate::input::{Input, Op, Outcome};
use crate::options::Options;
use crate::output::{Output, Status};
use crate::report::{Condition, State};
use crate::testing::{BLOCKS, Health, World, metadata_write, options};

fn whole(members: usize) -> Vec<Condition> {
    vec![Condition::InSync; members]
}

fn copied(world: &World) -> u64 {
    let of = |output: &Output| match output {
        Output::CopyWrite { range, .. } => range.count,
        _ => 0,
    };
    world.sent.iter().map(of).sum()
}

#[test]
fn a_write_is_on_all_members_and_a_read_is_from_one() {
    let mut world = World::create(3, true, options());
    assert_eq!((world.state(), world.conditions()), (State::Online, whole(3)));
    assert_eq!(world.mirror.report().blocks, BLOCKS);
    assert_eq!(world.write(5, 3, 7), Some(Status::Success));
    for at in 0..3 {
        assert_eq!(world.disks[at].data[4..9], [0, 7, 7, 7, 0]);
    }
    world.sent.clear();
    assert_eq!(world.read(4, 2), [0, 7]);
    assert_eq!(world.sent.len(), 1);
    assert_eq!(world.submit(Op::WriteZeroes, 6, 1, 0), 2);
    assert_eq!(world.read(5, 3), [7, 0, 7]);
    assert_eq!(world.flush(), Some(Status::Success));
}

#[test]
fn what_is_beyond_the_end_or_too_long_fails() {
    let mut world = World::create(2, false, options());
    assert_eq!(world.write(BLOCKS - 1, 2, 1), Some(Status::Failed));
    assert_eq!(world.write(u64::MAX, 1, 1), Some(Status::Failed));
    let max = world.mirror.io_blocks_max(10);
    assert_eq!(world.write(10, max + 1, 1), Some(Status::Failed));
    assert_eq!(world.write(10, max, 1), Some(Status::Success));
}

#[test]
fn a_stopped_mirror_has_an_empty_log_and_is_assembled_whole() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 7);
    assert_eq!(world.mirror.report().hot_regions, 1);
    world.input(Input::Stop { wipe: false });
    world.run();
    assert!(world.is_stopped);
    let mut world = world.reassemble(options(), None);
    assert_eq!((world.registered, world.conditions()), (1, whole(2)));
    assert_eq!(copied(&world), 0, "nothing was in flight");
    assert_eq!(world.read(5, 1), [7]);
}

#[test]
fn a_write_that_a_member_missed_waits_until_that_is_recorded() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 1);
    world.set(1, Health::Failing);
    world.set(8, Health::MetadataHung);
    let io = world.submit(Op::Write, 5, 1, 2);
    assert_eq!(world.done.get(&io), None, "the witness does not know yet");
    let other = world.submit(Op::Write, 6, 1, 3);
    assert_eq!(world.disks[0].data[6], 0, "no write begins meanwhile");
    world.mend(8);
    assert_eq!(world.done.get(&io), Some(&Status::Success));
    assert_eq!(world.done.get(&other), Some(&Status::Success));
    assert!(
        matches!(world.conditions()[1], Condition::Missing { missed: 256, .. }),
        "{:?}",
        world.conditions()
    );
}

#[test]
fn without_a_majority_writes_wait_and_a_member_that_is_back_ends_that() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 1);
    world.remove(8);
    // It is recorded that the witness is away, so one member may go on alone; and both are lost at once.
    world.set(8, Health::Good);
    world.open_all();
    world.set(1, Health::Failing);
    world.set(8, Health::Failing);
    let io = world.submit(Op::Write, 5, 1, 2);
    assert_eq!((world.done.get(&io), world.state()), (None, State::Stalled));
    assert_eq!(world.read(5, 1).len(), 1, "reads go on");
    world.set(1, Health::Good);
    world.pass(3000);
    assert_eq!(world.done.get(&io), Some(&Status::Success));
    assert_eq!(world.conditions(), whole(2));
    assert_eq!(world.disks[1].data[5], 2);
}

#[test]
fn a_member_that_is_back_gets_what_it_missed_and_no_more() {
    let mut world = World::create(2, false, options());
    world.write(5, 1, 1);
    world.flush();
    world.pass(11_000);
    world.remove(1);
    for at in 0..20 {
        assert_eq!(world.write(3000 + 2 * at, 1, 50 + at), Some(Status::Success));
    }
    world.sent.clear();
    world.set(1, Health::Good);
    world.pass(1000);
    assert_eq!(world.conditions(), whole(2));
    assert_eq!(world.disks[0].data, world.disks[1].data);
    // The log was empty when it left.
    assert_eq!(copied(&world), 20);
}

#[test]
fn writes_go_to_a_member_where_it_is_up_to_date() {
    let mut world = World::create(2, false, options());
    world.remove(1);
    world.write(0, 512, 1);
    world.set(0, Health::Unreadable(Extent::new(0, 64)));
    world.set(1, Health::Good);
    world.open_all();
    assert!(matches!(world.conditions()[1], Condition::Resyncing { left: 64 }), "{:?}", world.conditions());
    world.sent.clear();
    world.write(100, 1, 2);
    world.write(10, 1, 3);
    assert_eq!((world.disks[1].data[100], world.disks[1].data[10]), (2, 0));
    for _ in 0..4 {
        assert_eq!(world.read(100, 1), [2]);
    }
    world.mend(0);
    world.pass(15_000);
    assert_eq!(world.conditions(), whole(2));
    assert_eq!(world.disks[0].data, world.disks[1].data);
}

#[test]
fn after_a_crash_members_are_made_equal() {
    let mut world = World::create(2, true, options());
    world.write(1000, 10, 1);
    world.set(1, Health::Hung);
    world.submit(Op::Write, 1000, 10, 2);
    assert_ne!(world.disks[0].data, world.disks[1].data);
    world.set(1, Health::Good);
    let mut world = world.reassemble(options(), None);
    assert_eq!(world.registered, 1, "{:?}", world.state());
    assert_eq!(world.disks[0].data, world.disks[1].data);
    assert_eq!(world.conditions(), whole(2));
    assert_eq!(copied(&world), 256, "the hot region");
    assert_eq!(world.read(1000, 1), [2]);
}

#[test]
fn one_of_two_members_is_assembled_only_if_it_knows_that_the_other_one_is_old() {
    let mut world = World::create(2, false, options());
    world.write(5, 1, 1);
    world.remove(1);
    assert_eq!(world.write(5, 1, 2), Some(Status::Success));
    let disks = world.disks.clone();
    // The one that was left out.
    world.set(0, Health::Away);
    world.set(1, Health::Good);
    let mut world = world.reassemble(options(), None);
    world.pass(20_000);
    assert_eq!(world.registered, 0);
    assert!(matches!(world.state(), State::Starting { .. }));
    // The one that went on.
    world.disks = disks;
    world.set(0, Health::Good);
    world.set(1, Health::Away);
    let mut world = world.reassemble(options(), None);
    world.pass(6000);
    assert_eq!((world.registered, world.read(5, 1)), (1, vec![2]), "{:?}", world.state());
}

#[test]
fn members_that_went_on_apart_have_diverged_and_the_operator_decides() {
    let mut world = World::create(2, false, options());
    world.write(5, 1, 1);
    world.remove(1);
    world.write(5, 1, 2);
    world.set(0, Health::Away);
    world.set(1, Health::Good);
    let mut world = world.reassemble(options(), Some(Device(1)));
    world.pass(6000);
    assert_eq!((world.registered, world.write(5, 1, 3)), (1, Some(Status::Success)), "{:?}", world.state());
    world.set(0, Health::Good);
    world.open_all();
    assert_eq!(world.disks[0].data[5], 2, "not overwritten");
    let diverged =
        |c: &Condition| matches!(c, Condition::Unusable { why } if why.starts_with("it has diverged"));
    assert!(diverged(&world.conditions()[0]), "{:?}", world.conditions());
    let disks = world.disks.clone();
    let mut world = world.reassemble(options(), None);
    world.pass(20_000);
    assert_eq!(world.registered, 0, "{:?}", world.state());
    world.disks = disks;
    let mut world = world.reassemble(options(), Some(Device(0)));
    world.pass(6000);
    assert_eq!((world.registered, world.read(5, 1)), (1, vec![2]));
    assert_eq!((world.conditions(), world.disks[1].data[5]), (whole(2), 2), "{:?}", world.log);
}

#[test]
fn a_shorter_time_counts_for_requests_that_are_under_way() {
    let short = Options { member_timeout_ms: 1000, ..options() };
    let mut world = World::create(2, true, options());
    world.set(1, Health::Hung);
    let io = world.submit(Op::Write, 5, 1, 2);
    world.pass(10_000);
    assert_eq!(world.done.get(&io), None);
    world.input(Input::SetOptions(short));
    world.run();
    assert_eq!(world.done.get(&io), Some(&Status::Success), "{:?}", world.log);
}

#[test]
fn a_member_that_hangs_after_others_were_fast_is_given_up_after_its_time() {
    let mut world = World::create(2, true, options());
    for round in 0..70 {
        assert_eq!(world.write(5, 1, round), Some(Status::Success));
        world.pass(1000);
    }
    world.set(1, Health::Hung);
    let io = world.submit(Op::Write, 5, 1, 99);
    world.pass(29_500);
    assert_eq!(world.done.get(&io), None);
    world.pass(1000);
    assert_eq!(world.done.get(&io), Some(&Status::Success), "{:?}", world.log);
}

#[test]
fn a_block_that_a_member_cannot_read_is_repaired() {
    let mut world = World::create(2, false, options());
    world.write(5, 4, 1);
    world.set(0, Health::Unreadable(Extent::new(5, 1)));
    world.disks[0].data[5] = 99;
    for _ in 0..2 {
        assert_eq!(world.read(4, 3), [0, 1, 1]);
    }
    assert_eq!(world.disks[0].data[5], 1);
    let counts = world.mirror.report().counts;
    assert_eq!((counts.read_errors, counts.repaired_blocks), (1, 3));
    assert_eq!(world.conditions(), whole(2));
}

#[test]
fn a_lost_cache_counts_as_missed() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 1);
    world.flush();
    world.write(5, 1, 2);
    world.disks[1].data[5] = 1;
    world.input(Input::CacheLost { device: Device(1) });
    world.run();
    assert_eq!(world.conditions(), whole(2));
    assert_eq!((world.disks[1].data[5], copied(&world)), (2, 256));
}

#[test]
fn a_member_that_was_given_up_and_lost_its_cache_answers_no_read() {
    let mut world = World::create(2, false, options());
    world.write(5, 1, 1);
    world.set(0, Health::Hung);
    world.set(1, Health::Hung);
    let reads = [world.submit(Op::Read, 5, 1, 0), world.submit(Op::Read, 5, 1, 0)];
    world.input(Input::Gone { device: Device(1) });
    world.disks[1].data[5] = 99;
    world.input(Input::CacheLost { device: Device(1) });
    world.mend(1);
    world.mend(0);
    for io in reads {
        assert_eq!((world.done.get(&io), world.buffer(io)), (Some(&Status::Success), &[1][..]));
    }
}

#[test]
fn a_mirror_that_was_taken_over_does_nothing_more() {
    let mut world = World::create(2, true, options());
    world.set(1, Health::Hung);
    let io = world.submit(Op::Write, 5, 1, 2);
    let waiting = world.submit(Op::Write, 5, 1, 3);
    world.input(Input::Refused { device: Device(8) });
    world.sent.clear();
    world.run();
    assert!(world.ended.is_some());
    assert_eq!(world.done.get(&waiting), Some(&Status::Failed));
    assert_eq!(world.done.get(&io), Some(&Status::Failed));
    assert_eq!(world.write(7, 1, 1), Some(Status::Failed));
    assert!(world.sent.is_empty());
}

#[test]
fn news_of_devices_that_are_not_open_count() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 1);
    world.remove(1);
    world.remove(8);
    // Place 3 has never had a device.
    for device in [1, 3, 8] {
        world.input(Input::CacheLost { device: Device(device) });
        world.run();
    }
    assert_eq!(world.conditions()[0], Condition::InSync);
    assert_eq!((world.read(5, 1), world.mirror.report().counts.lost_caches), (vec![1], 0));
    world.input(Input::Refused { device: Device(1) });
    world.run();
    assert!(world.ended.is_some());
    assert_eq!(world.write(5, 1, 2), Some(Status::Failed));
}

#[test]
fn a_mirror_that_is_taken_over_while_it_stops_has_stopped() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 1);
    world.set(1, Health::Hung);
    world.input(Input::Stop { wipe: false });
    world.run();
    assert!(!world.is_stopped);
    world.input(Input::Refused { device: Device(0) });
    world.run();
    assert!(world.ended.is_some() && world.is_stopped);
}

#[test]
fn the_last_member_is_kept_and_goes_on_when_it_is_back() {
    let mut world = World::create(2, false, options());
    world.remove(1);
    world.set(0, Health::Failing);
    assert_eq!(world.write(5, 1, 2), Some(Status::Failed));
    world.set(0, Health::Good);
    world.pass(2000);
    assert_eq!(world.write(5, 1, 3), Some(Status::Success));
    world.remove(0);
    assert_eq!((world.state(), world.write(5, 1, 4)), (State::Failed, Some(Status::Failed)));
    world.set(0, Health::Good);
    world.set(1, Health::Good);
    world.pass(3000);
    assert_eq!(world.conditions(), whole(2), "{:?}", world.log);
    assert_eq!(world.disks[1].data[5], 3);
    // What was not flushed may be lost, and nobody says so but the mirror.
    assert_eq!(world.flush(), Some(Status::Failed));
    assert_eq!(world.flush(), Some(Status::Success));
}

#[test]
fn a_late_answer_to_a_flush_does_not_count_for_a_later_one() {
    let mut world = World::create(2, true, options());
    world.write(5, 1, 1);
    world.set(1, Health::FlushHung);
    let first = world.submit(Op::Flush, 0, 0, 0);
    world.input(Input::CacheLost { device: Device(1) });
    world.run();
    assert_eq!(world.done.get(&first), None, "it is not recorded that the member missed something");
    world.mend(1);
    assert_eq!(world.done.get(&first), Some(&Status::Success));
    assert_eq!(world.conditions(), whole(2));
}

#[test]
fn the_log_has_room_again_after_a_flush() {
    let mut world = World::create(2, false, options());
    for round in 0..5 {
        for region in 0..64 {
            assert_eq!(world.write(region * 256, 1, region + round), Some(Status::Success));
        }
    }
    assert!(world.mirror.report().hot_regions <= 8);
    world.pass(11_000);
    assert_eq!(world.mirror.report().hot_regions, 0);
}

#[test]
fn overlapping_writes_keep_their_order_on_every_member() {
    let mut world = World::create(2, false, options());
    world.write(0, 1, 9);
    world.set(1, Health::Hung);
    let first = world.submit(Op::Write, 0, 4, 1);
    let second = world.submit(Op::Write, 2, 4, 2);
    let third = world.submit(Op::Write, 8, 1, 3);
    assert_eq!(world.disks[0].data[..6], [1, 1, 1, 1, 0, 0]);
    assert_eq!(world.disks[0].data[8], 3);
    world.mend(1);
    for io in [first, second, third] {
        assert_eq!(world.done.get(&io), Some(&Status::Success));
    }
    assert_eq!(world.disks[0].data, world.disks[1].data);
}

#[test]
fn a_full_resync_goes_on_where_it_was() {
    let mut options = options();
    options.resync_rate = 64 * 4096 * 10;
    let mut world = World::create(2, false, options);
    world.write(0, 1, 1);
    // Its metadata are those of an older time than anybody knows.
    let old = world.disks[1].clone();
    for round in 0..2 {
        world.remove(1);
        world.write(0, 1, 2 + round);
        world.set(1, Health::Good);
        world.pass(6000);
        assert_eq!(world.conditions(), whole(2));
    }
    world.remove(1);
    world.write(BLOCKS - 1, 1, 5);
    world.disks[1] = old;
    world.set(1, Health::Good);
    world.pass(15_000);
    let Condition::Resyncing { left } = world.conditions()[1] else { panic!("{:?}", world.conditions()) };
    assert!(left < BLOCKS && left > BLOCKS / 4, "{left}");
    world.input(Input::Stop { wipe: false });
    world.run();
    let mut world = world.reassemble(options, None);
    world.pass(1000);
    let Condition::Resyncing { left: after } = world.conditions()[1] else {
        panic!("{:?}", world.conditions())
    };
    assert!(after <= left, "{after} after {left}");
    world.pass(40_000);
    assert_eq!(world.conditions(), whole(2));
    assert_eq!(world.disks[0].data, world.disks[1].data);
    assert_eq!(copied(&world), left);
}

#[test]
fn devices_that_hold_something_are_not_taken() {
    let mut world = World::create(2, false, options());
    world.input(Input::Stop { wipe: true });
    world.run();
    assert!(world.is_stopped);
    assert_eq!(world.wiped, [Device(0), Device(1)]);
    let world = world.reassemble(options(), None);
    assert!(matches!(world.state(), State::Starting { .. }), "wiped");
}

#[test]
fn a_mirror_that_stops_says_which_devices_were_wiped() {
    let mut degraded = World::create(2, true, options());
    degraded.remove(1);
    degraded.input(Input::Stop { wipe: true });
    degraded.run();
    assert_eq!((degraded.is_stopped, &degraded.wiped[..]), (true, &[Device(0), Device::WITNESS][..]));
    let mut kept = World::create(2, true, options());
    kept.input(Input::Stop { wipe: false });
    kept.run();
    assert_eq!((kept.is_stopped, &kept.wiped[..]), (true, &[][..]));
    let mut late = World::create(2, true, options());
    late.set(0, Health::FlushHung);
    late.input(Input::Stop { wipe: true });
    late.run();
    assert!(!late.is_stopped);
    late.pass(11_000);
    assert_eq!((late.is_stopped, &late.wiped[..]), (true, &[][..]));
}

#[test]
fn a_device_whose_wipe_fails_does_not_count_as_wiped() {
    let mut world = World::create(2, false, options());
    world.input(Input::Stop { wipe: true });
    // The mirror is flushed, and then overwritten: what comes after the first write of that fails.
    while let Some(output) = world.mirror.poll_output() {
        if matches!(metadata_write(&output), Some((Device(1), _))) {
            world.set(1, Health::Failing);
        }
        world.perform(output);
    }
    assert_eq!((world.is_stopped, &world.wiped[..]), (true, &[Device(0)][..]));
}

/// Users that keep eight I/O outstanding, two writes to each read, with a flush now and then. The
/// members answer at once.
fn steady_load(world: &mut World, requests: &mut Vec<(RequestId, Device)>, rounds: u64) {
    for round in 0..rounds {
        for io in 0..8u64 {
            let op = match (round + io) % 16 {
                0 => Op::Flush,
                1 | 4 | 7 | 10 | 13 => Op::Read,
                _ => Op::Write,
            };
            let range = Extent::new((round * 8 + io) * 4 % 1024, 4);
            world.mirror.handle(world.now, Input::Submit { io: IoId(io as u32), op, range });
        }
        let mut completed = 0;
        while completed < 8 {
            while let Some(output) = world.mirror.poll_output() {
                match output {
                    Output::Read { request, device, .. } | Output::Flush { request, device, .. } => {
                        requests.push((request, device));
                    }
                    Output::Write { request, devices, .. } => {
                        requests.extend(devices.iter().map(|device| (request, device)));
                    }
                    Output::Complete { status, .. } => {
                        assert_eq!(status, Status::Success);
                        completed += 1;
                    }
                    other => panic!("{other:?} in steady state"),
                }
            }
            while let Some((request, device)) = requests.pop() {
                world.mirror.handle(world.now, Input::Done { request, device, outcome: Outcome::Success });
            }
        }
    }
}

#[test]
fn a_steady_load_allocates_nothing() {
    let mut world = World::create(3, true, options());
    for region in 0..4 {
        world.write(256 * region, 1, 1);
    }
    let mut requests = Vec::with_capacity(64);
    steady_load(&mut world, &mut requests, 20);
    let count = allocation_counter::measure(|| steady_load(&mut world, &mut requests, 200)).count_total;
    assert_eq!(count, 0);
}
