//! Users' I/O takes at most twice as long while members are brought up to date, or compared, on devices
//! that take time for each request and byte. Without users, copying is as fast as the devices.

use dst_mirror::Options;
use dst_mirror::mutation::Mutation;
use dst_mirror_sim::foreground::{LINK_10G, NVME, SPINNING, compare};
use dst_mirror_sim::plan::{Fault, Load};
use dst_mirror_sim::{Plan, run};

type Kind = fn(&Plan) -> bool;

#[test]
fn users_wait_at_most_twice_as_long() {
    let mut measured = 0;
    for seed in 0..40 {
        match compare(&Plan::loaded(seed), None) {
            Ok(figures) => measured += u32::from(figures.is_some()),
            Err(violation) => panic!("seed {seed} violates {violation}"),
        }
    }
    assert!(measured > 30, "{measured} plans had enough I/O meanwhile");
}

/// Copying, with a rate and without one, and comparisons: each makes users wait too long without the rule.
#[test]
fn users_wait_if_copying_does_not_yield() {
    let kinds: [(&str, Kind); 3] = [
        ("without a rate", |plan| plan.dirty && plan.options.resync_rate == 0),
        ("with a rate", |plan| plan.dirty && plan.options.resync_rate > 0),
        ("comparing", |plan| plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::Verify { .. }))),
    ];
    for (kind, is_it) in kinds {
        let plans = (0..100).map(Plan::loaded).filter(is_it);
        let found =
            plans.filter_map(|plan| Some((plan.seed, compare(&plan, Some(Mutation::NoYielding)).err()?)));
        let (seed, violation) = found.into_iter().next().expect(kind);
        println!("{kind}: seed {seed} violates {violation}");
        assert_eq!(violation.rule, "12");
    }
}

#[test]
fn copying_is_as_fast_as_the_devices_while_there_are_no_users() {
    let plan = Plan { dirty: true, ios: 0, devices: vec![NVME, LINK_10G, NVME], ..Plan::loaded(0) };
    let plan = Plan { options: Default::default(), ..plan };
    let outcome = run(&plan, None, false);
    assert_eq!(outcome.violation, None);
    let (first, last) = outcome.copying.expect("a copy");
    let link = plan.blocks * u64::from(plan.block_size) * LINK_10G.byte_ps / 1_000_000;
    assert!(last - first < link * 5 / 4, "{} us, and the link takes {link} us", last - first);
}

/// A small copy at a time would be 1.6 MB/s there.
#[test]
fn copying_to_a_slow_disk_has_a_lowest_rate_while_there_are_users() {
    let load = Load { every_ns: 50_000_000, reads: 500, blocks: 1 };
    let options = Options { member_timeout_ms: 60_000, ..Options::default() };
    let plan = Plan {
        dirty: true,
        ios: 1_000,
        devices: vec![SPINNING, SPINNING, NVME],
        load: Some(load),
        faults: Vec::new(),
        options,
        ..Plan::loaded(0)
    };
    let outcome = run(&plan, None, false);
    assert_eq!(outcome.violation, None);
    let (first, last) = outcome.copying.expect("a copy");
    let rate = outcome.totals.copied * 1_000_000 / (last - first);
    assert!(rate > 4 << 20, "{rate} bytes/s");
}
