//! A client whose channels are spread over its target's addresses: they leave an address that is
//! lost, come back to it, and do not use another instance's.

use std::cell::RefCell;
use std::rc::Rc;

use dst_client::{PathInfo, PathState};
use dst_sim::Plan;
use dst_sim::fleet::{BDEV, ClientSide, TargetSide, new_store};
use dst_sim::until;
use spdk::backend::IoStatus;
use spdk::bdev_io::IoKind;
use spdk::record::{self, Record};
use spdk::user::{self, UserIo};
use world::{net, process};

const SEEDS: u64 = 10;

/// As many channels as threads.
const THREADS: usize = 4;

fn plan(seed: u64) -> Plan {
    let mut plan = Plan::new(seed);
    (plan.clients, plan.targets, plan.failover, plan.addresses) = (1, 1, false, 2);
    (plan.client_cores, plan.client_threads, plan.target_cores) = (2, THREADS, 2);
    (plan.spread, plan.dead_addresses, plan.errors, plan.hiccups) = (true, 0, 0, 0);
    (plan.cipher, plan.read_only, plan.is_owned) = (None, false, false);
    (plan.keep_alive_ms, plan.transaction_timeout_ms, plan.max_retries) = (400, 60_000, 0);
    (plan.fast_io_fail_ms, plan.loss_ms, plan.net.delay_us) = (0, 0, 20);
    plan
}

/// Returns what the client knows of each address.
fn paths(client: &ClientSide) -> Vec<PathInfo> {
    let answer = Rc::new(RefCell::new(None));
    let put = Rc::clone(&answer);
    process::on(client.app, move || {
        *put.borrow_mut() = Some(dst_client::find(BDEV).expect("it is attached").info().paths);
    });
    until("an answer", || answer.borrow_mut().take())
}

/// Waits until the channels are as many at each address, beside the control connection.
fn wait_for(what: &str, client: &ClientSide, channels: &[usize]) -> Vec<PathInfo> {
    let mut step = 0;
    until(what, || {
        step += 1;
        // A question at each step would leave no time for anything else.
        if step % 1000 > 0 {
            return None;
        }
        let paths = paths(client);
        let fits = paths.iter().zip(channels).all(|(path, &n)| (n..=n + 1).contains(&path.connections));
        let all: usize = paths.iter().map(|path| path.connections).sum();
        (fits && all == THREADS + 1).then_some(paths)
    })
}

fn attach(client: &ClientSide) -> u64 {
    let disk = until("the bdev", || {
        record::take().into_iter().find_map(|record| match record {
            Record::DiskIsThere { disk, .. } => Some(disk),
            _ => None,
        })
    });
    for &thread in &client.threads {
        process::on(thread, move || user::open(disk).expect("the bdev is there"));
    }
    disk
}

/// Has each thread read a block, without an error.
fn read_everywhere(plan: &Plan, client: &ClientSide, disk: u64) {
    for (&thread, id) in client.threads.iter().zip(1..) {
        let data = vec![0; plan.block_size as usize];
        let io = UserIo { id, kind: IoKind::Read, offset: 0, count: 1, data };
        process::on(thread, move || user::submit(disk, io));
    }
    let mut ended = 0;
    until("all reads", || {
        for record in record::take() {
            if let Record::Completed { status, .. } = record {
                assert_eq!(status, IoStatus::Success);
                ended += 1;
            }
        }
        (ended == THREADS).then_some(())
    });
}

#[test]
fn channels_leave_a_lost_address_and_come_back() {
    for seed in 0..SEEDS {
        let plan = plan(seed);
        world::begin(seed, false);
        net::configure(plan.net.clone());
        let target = TargetSide::new(&plan, 0, new_store(&plan, 0));
        let client = ClientSide::new(&plan, 0);
        let disk = attach(&client);
        wait_for("both addresses to be used", &client, &[2, 2]);
        read_everywhere(&plan, &client, disk);
        for lost in [1, 0] {
            let address = target.address(lost);
            for connection in net::to(client.process, address) {
                net::black_hole(connection, true, seed % 2 == 0, u64::MAX / 2);
            }
            net::block(client.process, address, u64::MAX / 2);
            read_everywhere(&plan, &client, disk);
            let mut channels = [4, 4];
            channels[lost] = 0;
            let paths = wait_for("the other address to be used", &client, &channels);
            assert_eq!((paths[lost].state, paths[lost].connections), (PathState::Down, 0), "seed {seed}");
            assert!(paths[lost].losses >= 2 && paths[lost].last_error.is_some(), "{paths:?}");
            assert_eq!(paths[1 - lost].state, PathState::Up);
            read_everywhere(&plan, &client, disk);
            net::heal();
            let paths = wait_for("both addresses to be used again", &client, &[2, 2]);
            assert!(paths.iter().all(|path| path.state == PathState::Up && path.last_error.is_none()));
            read_everywhere(&plan, &client, disk);
        }
        world::end();
    }
}

#[test]
fn another_instance_is_not_used_until_the_session_ends() {
    for seed in 0..SEEDS {
        let plan = Plan { targets: 2, failover: true, addresses: 1, ..plan(seed) };
        world::begin(seed, false);
        net::configure(plan.net.clone());
        let store = new_store(&plan, 0);
        let targets = [TargetSide::new(&plan, 0, store), TargetSide::new(&plan, 1, store)];
        let client = ClientSide::new(&plan, 0);
        let disk = attach(&client);
        let first = usize::from(paths(&client)[0].connections == 0);
        let mut step = 0;
        until("the other instance to be asked", || {
            step += 1;
            let is_asked = || paths(&client)[1 - first].state == PathState::OtherInstance;
            (step % 1000 == 0 && is_asked()).then_some(())
        });
        let mut channels = [0, 0];
        channels[first] = THREADS;
        let lost = |paths: &[PathInfo]| paths[first].losses;
        let before = lost(&wait_for("all to use the first", &client, &channels));
        read_everywhere(&plan, &client, disk);
        assert_eq!(lost(&paths(&client)), before, "seed {seed}: the session has ended");
        world::life::kill(targets[first].process, world::life::Death::Killed);
        channels.reverse();
        wait_for("all to use the other", &client, &channels);
        read_everywhere(&plan, &client, disk);
        world::end();
    }
}
