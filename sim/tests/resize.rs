//! A bdev that grows: its client learns of the new size only when all the client's connections at
//! the target accept I/O to the new blocks.

use dst_sim::Plan;
use dst_sim::fleet::{BDEV, ClientSide, TargetSide, new_store};
use spdk::backend::IoStatus;
use spdk::bdev_io::IoKind;
use spdk::record::{self, Record};
use spdk::user::{self, UserIo};
use world::{net, process, store};

/// Several times as many queues as a target's thread is told about in one turn.
const QUEUES: usize = 60;

const SEEDS: u64 = 10;
const GROWTHS: u64 = 20;

/// Steps the world until `f` returns a value.
fn until<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1_000_000 {
        if let Some(found) = f() {
            return found;
        }
        world::step();
        while world::next_timer().is_some() {}
    }
    panic!("waited for {what}");
}

/// Has each thread read this block. Returns how many reads failed.
fn read_everywhere(client: &ClientSide, disk: u64, block: u64, size: u32) -> usize {
    for (&thread, id) in client.threads.iter().zip(1..) {
        let data = vec![0; size as usize];
        let io = UserIo { id, kind: IoKind::Read, offset: block, count: 1, data };
        process::on(thread, move || user::submit(disk, io));
    }
    let (mut ended, mut failed) = (0, 0);
    until("all reads", || {
        for record in record::take() {
            if let Record::Completed { status, .. } = record {
                ended += 1;
                failed += usize::from(status != IoStatus::Success);
            }
        }
        (ended == QUEUES).then_some(())
    });
    failed
}

#[test]
fn new_blocks_are_there_on_all_connections_when_the_client_hears_of_them() {
    for seed in 0..SEEDS {
        world::begin(seed, false);
        let mut plan = Plan::new(seed);
        (plan.clients, plan.targets, plan.failover, plan.errors, plan.hiccups) = (1, 1, false, 0, 0);
        (plan.client_cores, plan.client_threads, plan.target_cores) = (1, QUEUES, 2);
        (plan.cipher, plan.read_only, plan.keep_alive_ms) = (None, false, 10_000);
        plan.net.delay_us = 1;
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
        for &thread in &client.threads {
            process::on(thread, move || user::open(disk).expect("the bdev is there"));
        }
        assert_eq!(read_everywhere(&client, disk, 0, plan.block_size), 0, "seed {seed}");
        for _ in 0..GROWTHS {
            let last = store::num_blocks(store);
            store::grow(store, last + 1);
            spdk::bdev::resized(target.process, BDEV);
            until("the client to hear of it", || (user::num_blocks(disk) > last).then_some(()));
            let failed = read_everywhere(&client, disk, last, plan.block_size);
            assert_eq!(failed, 0, "seed {seed}: of {QUEUES} reads of block {last}");
        }
        world::end();
    }
}
