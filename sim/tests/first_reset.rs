//! The first reset on a channel that has no connection yet: it reaches the target if there is one.

use dst_sim::Plan;
use dst_sim::fleet::{ClientSide, TargetSide, new_store};
use spdk::backend::IoStatus;
use spdk::bdev_io::IoKind;
use spdk::record::{self, Record};
use spdk::user::{self, UserIo};
use world::store::{Action, Fact};
use world::{life, net, process};

const SEEDS: u64 = 20;

/// Steps the world until `f` returns a value.
fn until<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    for _ in 0..5_000_000 {
        if let Some(found) = f() {
            return found;
        }
        world::step();
        while world::next_timer().is_some() {}
    }
    panic!("waited for {what}");
}

/// Opens a channel on a new bdev and resets at once. Returns the reset's outcome and the number of
/// resets that the backend was given. With `is_dead`, the target dies before.
fn first_reset(seed: u64, is_dead: bool) -> (IoStatus, usize) {
    world::begin(seed, false);
    let mut plan = Plan::new(seed);
    (plan.clients, plan.targets, plan.failover, plan.errors, plan.hiccups) = (1, 1, false, 0, 0);
    (plan.client_cores, plan.client_threads, plan.target_cores) = (1, 1, 1);
    (plan.cipher, plan.read_only, plan.keep_alive_ms, plan.reset_backend) = (None, false, 400, true);
    plan.transaction_timeout_ms = 60_000;
    plan.latency_us = (1, 100);
    net::configure(plan.net.clone());
    let store = new_store(&plan, 0);
    let target = TargetSide::new(&plan, 0, store);
    let client = ClientSide::new(&plan, 0);
    let disk = until("the bdev", || {
        record::take().into_iter().find_map(|record| match record {
            Record::DiskIsThere { disk, .. } => Some(disk),
            _ => None,
        })
    });
    if is_dead {
        life::kill(target.process, life::Death::Vanished);
    }
    process::on(client.threads[0], move || {
        user::open(disk).expect("the bdev is there");
        user::submit(disk, UserIo { id: 1, kind: IoKind::Reset, offset: 0, count: 0, data: Vec::new() });
    });
    let mut resets = 0;
    let status = until("the reset", || {
        let mut ended = None;
        for record in record::take() {
            match record {
                Record::Stored(Fact::Handed { request, .. }) if request.action == Action::Reset => {
                    resets += 1
                }
                Record::Completed { status, .. } => ended = Some(status),
                _ => {}
            }
        }
        ended
    });
    world::end();
    (status, resets)
}

#[test]
fn it_reaches_the_target() {
    for seed in 0..SEEDS {
        assert_eq!(first_reset(seed, false), (IoStatus::Success, 1), "seed {seed}");
    }
}

/// There is nothing that the reset could end, so it succeeds as soon as the target is known to be
/// lost.
#[test]
fn without_a_target_it_ends_all_the_same() {
    for seed in 0..SEEDS {
        assert_eq!(first_reset(seed, true), (IoStatus::Success, 0), "seed {seed}");
    }
}
