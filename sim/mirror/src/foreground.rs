//! What users notice of copying, and of members being compared: the same I/O comes at the same times to
//! a mirror that does that and to one that doesn't, on devices that take time for requests and bytes.
//!
//! Rule 12 of docs/mirror.md: 99 of 100 I/Os take at most twice as long as without.

use dst_mirror::mutation::Mutation;
use dst_mirror::{Op, Options};
use world::rng::Rng;

use crate::plan::{Fault, Load, Plan};
use crate::run::run;
use crate::state::{Latency, Outcome, Violation};
use crate::target::Service;

/// The 99th percentiles of users' I/O while a mirror copied or compared, in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// The I/Os that were measured.
    pub ios: usize,
    /// Of reads: without the copying, and with it.
    pub reads: (u64, u64),
    /// Of writes: without the copying, and with it.
    pub writes: (u64, u64),
    /// The time for which the mirror copied or compared, in µs.
    pub took_us: u64,
    /// Bytes that were copied.
    pub copied: u64,
}

/// The fewest reads, and the fewest writes, of which one in a hundred says something.
const IOS_MIN: usize = 200;

/// The time in µs until large copies have ended that were begun before the first I/O came.
const BEGINNING_US: u64 = 60_000;

/// A local NVMe disk.
pub const NVME: Service = Service { units: 8, request_ns: 80_000, byte_ps: 500, way_ns: 5_000 };

/// A SATA SSD.
pub const SSD: Service = Service { units: 2, request_ns: 60_000, byte_ps: 3_800, way_ns: 5_000 };

/// A fast disk behind a link of 10 Gbit/s.
pub const LINK_10G: Service = Service { units: 1, request_ns: 2_000, byte_ps: 800, way_ns: 40_000 };

/// A fast disk behind a link of 1 Gbit/s.
pub const LINK_1G: Service = Service { units: 1, request_ns: 5_000, byte_ps: 8_000, way_ns: 80_000 };

/// A disk that spins.
pub const SPINNING: Service = Service { units: 1, request_ns: 5_000_000, byte_ps: 6_000, way_ns: 5_000 };

impl Service {
    /// Returns the time for which a request of so many bytes keeps the whole device busy, in ns.
    fn cost(&self, bytes: u64) -> u64 {
        (self.request_ns + bytes * self.byte_ps / 1000) / self.units as u64
    }
}

impl Plan {
    /// Returns the plan of a seed in which a mirror on devices has a load while a member is brought up
    /// to date, or members are compared.
    pub fn loaded(seed: u64) -> Plan {
        let mut rng = Rng::new(seed ^ 0x666f_7265);
        let r = &mut rng;
        let spins = r.chance(100);
        let mut device = || if spins { SPINNING } else { r.pick(&[NVME, SSD, LINK_10G, LINK_1G]) };
        let devices = vec![device(), device(), NVME];
        let count = r.pick(&[1, 1, 2, 4]);
        // If all go to the slower member, they make it busy for so many of 100 ns.
        let slowest = devices.iter().map(|device| device.cost(count * 4096)).max().unwrap_or(1);
        let every_ns = slowest * 100 / if spins { 60 } else { r.pick(&[10, 30, 60]) };
        let reads = r.pick(&[300, 700]);
        let resync_rate = r.pick(&[0, 0, 8 << 20, 50 << 20]);
        let mut plan = Plan {
            seed,
            blocks: 8_192,
            devices,
            load: Some(Load { every_ns, reads, blocks: count }),
            hot: (0..8_192).step_by(64).collect(),
            depth: 8,
            think_us: 100,
            ios: (1_500_000_000 / every_ns).clamp(4_000, 40_000),
            options: Options { resync_rate, member_timeout_ms: 60_000, ..Options::default() },
            ..Plan::fair()
        };
        match r.below(3) {
            // All blocks are copied.
            0 => plan.dirty = true,
            1 if !spins => {
                let for_us = plan.ios * every_ns / 4000;
                plan.faults = vec![(100_000, Fault::Vanish { host: 0, member: 1, for_us })];
            }
            _ => plan.faults = vec![(100_000, Fault::Verify { repairs: false })],
        }
        plan
    }

    /// Returns this plan with nothing to be copied or compared: all members are in sync.
    fn in_sync(&self) -> Plan {
        Plan { dirty: false, faults: Vec::new(), ..self.clone() }
    }

    /// Returns this plan with nothing to be copied, because the second member is away.
    fn degraded(&self) -> Plan {
        let for_us = self.load.map_or(0, |load| self.ios * load.every_ns / 1000 * 2);
        let faults = vec![(50_000, Fault::Vanish { host: 0, member: 1, for_us })];
        Plan { dirty: false, faults, ..self.clone() }
    }
}

/// Runs a plan with and without what is to be copied or compared. Without copying, the member is in sync,
/// or away: what takes longer counts, as a write goes to one member more or less, and a read has one
/// member more or less to choose from. Returns `None` if there was too little I/O meanwhile.
///
/// # Errors
/// The violation: of rule 12 if users' I/O takes more than twice as long, or of another one.
pub fn compare(plan: &Plan, mutation: Option<Mutation>) -> Result<Option<Figures>, Violation> {
    let with = run(plan, mutation, false);
    let Some((first, last)) = with.copying else { return with.violation.map_or(Ok(None), Err) };
    let measured = first + BEGINNING_US..=last;
    let percentile = |outcome: &Outcome, op| {
        let is_it = |io: &&Latency| io.op == op && measured.contains(&io.at);
        let mut found: Vec<u64> = outcome.latencies.iter().filter(is_it).map(|io| io.us).collect();
        found.sort_unstable();
        let at = found.len() - found.len().div_ceil(100);
        (found.len() >= IOS_MIN).then(|| (found.len(), found[at]))
    };
    let (Some(reads), Some(writes)) = (percentile(&with, Op::Read), percentile(&with, Op::Write)) else {
        return with.violation.map_or(Ok(None), Err);
    };
    let mut others = vec![run(&plan.in_sync(), mutation, false)];
    if with.totals.copied > 0 {
        others.push(run(&plan.degraded(), mutation, false));
    }
    if let Some(violation) = others.iter().chain([&with]).find_map(|outcome| outcome.violation.clone()) {
        return Err(violation);
    }
    let without = |op| others.iter().filter_map(|other| percentile(other, op)).map(|(_, us)| us).max();
    let (Some(reads_without), Some(writes_without)) = (without(Op::Read), without(Op::Write)) else {
        return Ok(None);
    };
    let figures = Figures {
        ios: reads.0 + writes.0,
        reads: (reads_without, reads.1),
        writes: (writes_without, writes.1),
        took_us: last - first,
        copied: with.totals.copied,
    };
    let is_slow = |(without, with): (u64, u64)| with > 2 * without;
    if is_slow(figures.reads) || is_slow(figures.writes) {
        return Err(Violation { rule: "12".to_owned(), text: format!("{figures:?}") });
    }
    Ok(Some(figures))
}
