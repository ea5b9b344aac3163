//! Two hosts take a mirror over at once.

use std::cell::RefCell;

use crate::handles::Device;
use crate::takeover::{Standing, Step, Takeover};

const DEVICES: [Device; 3] = [Device::WITNESS, Device(0), Device(1)];

/// How long a device may take to answer, µs.
const WAIT_US: u64 = 1_000;

/// The owner of each device, and the number of its ownership.
#[derive(Default)]
struct World {
    owned: RefCell<[(usize, u64); 3]>,
}

/// A host that takes over: hosts 1 and 2.
struct Host {
    number: usize,
    takeover: Takeover,
    standings: [Standing; 3],
}

fn place(device: Device) -> usize {
    DEVICES.iter().position(|of| *of == device).unwrap()
}

impl Host {
    fn new(number: usize, now: u64) -> Host {
        let takeover = Takeover::new(2, true, now, WAIT_US);
        Host { number, takeover, standings: [Standing::Silent; 3] }
    }

    fn step(&mut self, now: u64) -> Step {
        let standings = self.standings;
        self.takeover.step(now, |device| standings[place(device)])
    }

    /// Asks a device for its owner.
    fn read(&mut self, world: &World, at: usize, now: u64) {
        let (owner, number) = world.owned.borrow()[at];
        let standing = &mut self.standings[at];
        *standing = match *standing {
            Standing::Own { .. } if owner != self.number => Standing::Lost,
            Standing::Own { .. } => Standing::Own { confirmed_us: now },
            Standing::Lost => Standing::Lost,
            _ => Standing::Foreign { number, read_us: now },
        };
    }

    fn read_all(&mut self, world: &World, now: u64) {
        (0..3).for_each(|at| self.read(world, at, now));
    }

    /// A claim arrives at its device.
    fn claim(&mut self, world: &World, device: Device, after: u64, now: u64) {
        let at = place(device);
        let (owner, number) = &mut world.owned.borrow_mut()[at];
        self.standings[at] = if *number == after {
            (*owner, *number) = (self.number, after + 1);
            Standing::Own { confirmed_us: now }
        } else {
            Standing::Foreign { number: *number, read_us: now }
        };
    }

    /// Takes steps, each of which is carried out at once, until there is nothing to do.
    fn run(&mut self, world: &World, now: u64) -> Step {
        for _ in 0..20 {
            match self.step(now) {
                Step::Claim { device, after } => self.claim(world, device, after, now),
                other => return other,
            }
        }
        panic!("the takeover does not end");
    }
}

fn claim(device: Device, after: u64) -> Step {
    Step::Claim { device, after }
}

#[test]
fn the_witness_comes_first_and_then_the_members() {
    let world = World::default();
    let mut host = Host::new(1, 0);
    assert_eq!(host.step(1), Step::Wait, "no device has answered");
    host.read(&world, 1, 1);
    host.read(&world, 2, 1);
    assert_eq!(host.step(2), Step::Wait, "the witness has not");
    assert_eq!(host.takeover.waits_for(|device| host.standings[place(device)]), Some(Device::WITNESS));
    host.read(&world, 0, 2);
    for (device, now) in [(Device::WITNESS, 3), (Device(0), 4), (Device(1), 5)] {
        assert_eq!(host.step(now), claim(device, 0));
        host.standings[place(device)] = Standing::Claimed;
        assert_eq!(host.step(now), Step::Wait, "one at a time");
        host.claim(&world, device, 0, now);
    }
    assert!(host.takeover.withholds() && !host.takeover.is_over());
    assert_eq!((host.step(6), host.step(6)), (Step::Over, Step::Wait));
    assert!(!host.takeover.withholds() && host.takeover.is_over());
    assert_eq!(host.takeover.claimed().collect::<Vec<_>>(), DEVICES);
}

#[test]
fn who_comes_too_late_to_the_first_device_takes_nothing() {
    let world = World::default();
    let (mut one, mut two) = (Host::new(1, 0), Host::new(2, 0));
    one.read_all(&world, 1);
    two.read_all(&world, 1);
    assert_eq!(one.run(&world, 2), Step::Over);
    assert_eq!(two.run(&world, 2), Step::Lost { device: Device::WITNESS });
    assert_eq!(two.run(&world, 3), Step::Wait);
    assert_eq!(*world.owned.borrow(), [(1, 1); 3]);
}

/// The loser takes a member before it hears that the witness is another host's.
#[test]
fn the_owner_of_the_first_device_takes_what_the_loser_was_faster_to_get() {
    let world = World::default();
    let (mut one, mut two) = (Host::new(1, 0), Host::new(2, 0));
    one.read_all(&world, 1);
    assert_eq!(one.step(2), claim(Device::WITNESS, 0));
    one.claim(&world, Device::WITNESS, 0, 2);
    two.read_all(&world, 3);
    assert_eq!(two.step(4), claim(Device::WITNESS, 1));
    two.claim(&world, Device::WITNESS, 1, 4);
    assert_eq!(one.step(5), claim(Device(0), 0), "it has read that before it had the witness");
    one.claim(&world, Device(0), 0, 5);
    assert_eq!(two.step(6), claim(Device(0), 0));
    two.claim(&world, Device(0), 0, 6);
    assert_eq!(two.step(7), Step::Wait, "it does not know whether it still has the witness");
    two.read(&world, 0, 8);
    assert_eq!(two.run(&world, 8), Step::Over);
    assert_eq!(*world.owned.borrow(), [(2, 2), (2, 2), (2, 1)]);
    // However late the loser hears of it: what it reads now is newer than what it knows of the witness.
    one.standings[1] = Standing::Foreign { number: 2, read_us: 9 };
    one.standings[2] = Standing::Foreign { number: 1, read_us: 9 };
    assert_eq!(one.step(10_000), Step::Wait);
    one.read(&world, 0, 10_001);
    assert_eq!(one.step(10_001), Step::Lost { device: Device::WITNESS });
}

#[test]
fn a_device_that_does_not_answer_is_passed_over_and_taken_later() {
    let world = World::default();
    let mut host = Host::new(1, 0);
    host.read(&world, 1, 1);
    host.read(&world, 2, 1);
    assert_eq!(host.step(WAIT_US - 1), Step::Wait);
    assert_eq!(host.step(WAIT_US), claim(Device(0), 0), "the first one that answers decides");
    host.claim(&world, Device(0), 0, WAIT_US);
    assert_eq!(host.step(WAIT_US), claim(Device(1), 0));
    host.standings[2] = Standing::Claimed;
    assert_eq!(host.step(2 * WAIT_US - 1), Step::Wait);
    assert_eq!(host.step(2 * WAIT_US), Step::Over);
    host.read(&world, 0, 3 * WAIT_US);
    assert_eq!(host.step(3 * WAIT_US), Step::Wait, "the one that decides has not been heard of since");
    host.read(&world, 1, 3 * WAIT_US);
    assert_eq!(host.step(3 * WAIT_US), claim(Device::WITNESS, 0));
    host.takeover.end();
    assert_eq!((host.step(3 * WAIT_US), host.takeover.withholds()), (Step::Ended, false));
}

#[test]
fn the_next_one_decides_if_the_first_one_does_not_answer_the_claim() {
    let world = World::default();
    let mut host = Host::new(1, 0);
    host.read_all(&world, 1);
    assert_eq!(host.step(2), claim(Device::WITNESS, 0));
    host.standings[0] = Standing::Claimed;
    assert_eq!(host.step(WAIT_US + 1), Step::Wait);
    assert_eq!(host.run(&world, WAIT_US + 2), Step::Over);
    assert_eq!(*world.owned.borrow(), [(0, 0), (1, 1), (1, 1)]);
}

/// Another host is faster again and again, or refuses what it granted.
#[test]
fn a_device_that_is_claimed_again_and_again_is_waited_for_once() {
    let world = World::default();
    let mut host = Host::new(1, 0);
    host.read_all(&world, 1);
    for (device, now) in [(Device::WITNESS, 2), (Device(0), 3)] {
        assert_eq!(host.step(now), claim(device, 0));
        host.claim(&world, device, 0, now);
    }
    for turn in 0..4 {
        let now = 10 + turn * WAIT_US / 4;
        host.read(&world, 0, now);
        host.standings[2] = Standing::Foreign { number: turn, read_us: now };
        assert_eq!(host.step(now), claim(Device(1), turn));
        host.standings[2] = Standing::Claimed;
        assert_eq!(host.step(now), Step::Wait);
    }
    host.standings[2] = Standing::Foreign { number: 4, read_us: WAIT_US };
    assert_eq!(host.step(WAIT_US + 9), Step::Wait, "whose the witness is now is not known");
    assert_eq!(host.step(WAIT_US + 10), Step::Over);
}

#[test]
fn a_device_that_answers_late_is_taken_although_the_first_one_was_removed() {
    let world = World::default();
    // The witness answers after the others were taken. The first one was member 0.
    let mut host = Host::new(1, 0);
    host.read(&world, 1, 1);
    host.read(&world, 2, 1);
    assert_eq!(host.run(&world, WAIT_US), Step::Over);
    let awaited = |host: &Host| host.takeover.waits_for(|device| host.standings[place(device)]);
    assert_eq!(awaited(&host), Some(Device::WITNESS));
    host.standings[1] = Standing::Local;
    host.read(&world, 0, 2 * WAIT_US);
    assert_eq!(host.step(2 * WAIT_US), Step::Wait, "nothing was heard of member 1 since");
    host.read(&world, 2, 2 * WAIT_US);
    assert_eq!(host.run(&world, 2 * WAIT_US), Step::Wait);
    assert_eq!((world.owned.borrow()[0], awaited(&host)), ((1, 1), None));
}

#[test]
fn disks_of_this_machine_are_not_taken() {
    let mut host = Host::new(1, 0);
    host.standings = [Standing::Local; 3];
    assert_eq!((host.step(1), host.step(1)), (Step::Over, Step::Wait));
    let mut host = Host::new(1, 0);
    host.standings = [Standing::Local, Standing::Lost, Standing::Local];
    assert_eq!(host.step(1), Step::Lost { device: Device(0) });
}
