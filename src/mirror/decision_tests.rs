//! The operator decides whose data count, and a host finds later only members that do not know of that.

use crate::handles::Device;
use crate::output::Status;
use crate::report::{Condition, State};
use crate::testing::{Health, World, options};

/// A majority can't know that the operator has decided against it while it was away. It goes on, and the
/// member whose data were to count keeps what it has.
#[test]
fn a_forced_member_has_diverged_if_the_others_go_on_without_it() {
    let mut world = World::create(3, false, options());
    assert_eq!(world.write(0, 8, 7), Some(Status::Success));
    world.remove(2);
    assert_eq!(world.write(0, 8, 8), Some(Status::Success));
    world.set(0, Health::Away);
    world.set(1, Health::Away);
    world.set(2, Health::Good);
    let mut world = world.reassemble(options(), Some(Device(2)));
    world.pass(10_000);
    assert_eq!((world.registered, world.read(0, 8)), (1, vec![7; 8]), "{:?}", world.log);
    assert_eq!(world.write(5000, 8, 9), Some(Status::Success));

    world.set(2, Health::Away);
    world.set(0, Health::Good);
    world.set(1, Health::Good);
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert_eq!((world.registered, world.read(0, 8)), (1, vec![8; 8]), "{:?}", world.log);
    assert_eq!(world.write(5000, 8, 10), Some(Status::Success));
    world.set(2, Health::Good);
    world.pass(10_000);
    assert!(matches!(world.conditions()[2], Condition::Unusable { .. }), "{:?}", world.conditions());
    let mut world = world.reassemble(options(), None);
    world.pass(10_000);
    assert!(matches!(world.state(), State::Starting { why } if why.contains("diverged")));
    assert_eq!((world.disks[2].data[0], world.disks[2].data[5000]), (7, 9));
    // The operator decides again.
    let mut world = world.reassemble(options(), Some(Device(0)));
    world.pass(10_000);
    assert_eq!(world.state(), State::Online, "{:?}", world.log);
    assert_eq!(world.disks[2].data, world.disks[0].data);
}
