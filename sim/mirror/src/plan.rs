//! What a seed decides. Times are in microseconds.

use dst_mirror::Options;
use world::rng::Rng;

use crate::target::Service;

/// Something that goes wrong, or that an operator does.
#[allow(missing_docs, reason = "each says it in one line")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A member loses its power, and with it its cache, for a time.
    Power { member: usize, for_us: u64 },
    /// Several members lose their power at the same moment: all whose bit is set.
    PowerAll { members: u64, for_us: u64 },
    /// An owner's packets to a member vanish for a time.
    Cut { host: usize, member: usize, for_us: u64 },
    /// A member's bdev is removed from an owner and returns later.
    Vanish { host: usize, member: usize, for_us: u64 },
    /// A member answers, but takes this many times as long.
    Slow { member: usize, factor: u64, for_us: u64 },
    /// So many of 1,000 operations of a member fail.
    Errors { member: usize, per_mille: u64, for_us: u64 },
    /// A block of a member cannot be read until it is written: `hot` is an index of the blocks that
    /// the users like.
    BadBlock { member: usize, hot: usize },
    /// The process of an owner dies, and starts again after a time.
    Crash { host: usize, for_us: u64 },
    /// The machine of an owner dies, with the members in it.
    Machine { host: usize, for_us: u64 },
    /// The process of an owner is stopped and continued.
    Stop { host: usize, for_us: u64 },
    /// An owner takes the mirror over.
    Takeover { host: usize },
    /// A host takes the mirror over while it reaches only one member and the witness, and the other
    /// hosts only the other members.
    Partition { host: usize, member: usize, for_us: u64 },
    /// An owner loses all other members, and the witness if `all`, and its process dies after
    /// `after_us`; then it can't reach the one that it kept.
    Swap { host: usize, member: usize, all: bool, after_us: u64, for_us: u64 },
    /// The process of an owner dies, and at the same moment members lose their power: all whose bit
    /// is set.
    Blackout { host: usize, members: u64, for_us: u64 },
    /// A member can read none of the blocks that the users like.
    BadBlocks { member: usize },
    /// The operator removes a member.
    Remove { member: usize },
    /// The operator adds a member that was removed.
    Add { member: usize },
    /// The operator removes the witness.
    RemoveWitness,
    /// The operator adds a witness that was removed.
    AddWitness,
    /// The operator removes a member, and the owner's process dies, and with it members' caches and links:
    /// all whose bit is set are out of reach for a time.
    RemoveAndCrash { host: usize, member: usize, after_us: u64, members: u64, for_us: u64 },
    /// The medium of a member changes a block that no user uses.
    Decay { member: usize, block: u64 },
    /// The operator has the members compared.
    Verify { repairs: bool },
    /// The operator stops the comparison.
    StopVerification,
}

/// I/O that comes at times of its own, however long it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// The mean time between two I/Os, in ns.
    pub every_ns: u64,
    /// Of 1,000 I/Os, the reads. All others are writes.
    pub reads: u64,
    /// The number of blocks of an I/O.
    pub blocks: u64,
}

/// What a seed decides.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The number of members.
    pub members: usize,
    /// Whether there is a witness. Its number is that after the last member's.
    pub witness: bool,
    /// The number of processes that may own the mirror.
    pub hosts: usize,
    /// Whether the first member is a disk in the first host.
    pub local: bool,
    /// Bytes in a block.
    pub block_size: u32,
    /// The blocks of a member, without the metadata.
    pub blocks: u64,
    /// Whether each member has a volatile cache.
    pub caches: Vec<bool>,
    /// Whether the members hold different data before the mirror is created.
    pub dirty: bool,
    /// The shortest and longest time of an operation, for each member.
    pub latency_us: Vec<(u64, u64)>,
    /// The devices of all targets, if there are any. Otherwise an operation takes a random time.
    pub devices: Vec<Service>,
    /// I/O that comes at times of its own, instead of users'.
    pub load: Option<Load>,
    /// The blocks that the users like.
    pub hot: Vec<u64>,
    /// Most I/Os at once.
    pub depth: usize,
    /// The time between a completion and the next submission, at most.
    pub think_us: u64,
    /// I/Os in total.
    pub ios: u64,
    /// Of 1,000 I/Os, the flushes.
    pub flushes: u64,
    /// The time for which a cut member stays a bdev of the owner's.
    pub patience_us: u64,
    /// The time after which nothing of a lost connection or a taken ownership is executed.
    pub lease_us: u64,
    /// Whether the operator forces the mirror to be assembled from one member when it cannot be
    /// otherwise.
    pub forces: bool,
    /// Whether the operator adds and removes members.
    pub changes: bool,
    /// Whether hosts that take over do so in the order of `dst_mirror::takeover`. Otherwise each takes the
    /// targets as it reaches them.
    pub is_orderly: bool,
    /// The mirror's options.
    pub options: Options,
    /// Faults and when they occur, in order.
    pub faults: Vec<(u64, Fault)>,
}

/// What half of a plan's faults are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theme {
    None,
    Swaps,
    Blackouts,
    BadBlocks,
}

impl Theme {
    fn new(r: &mut Rng) -> Theme {
        match r.below(10) {
            0..=1 => Theme::Swaps,
            2..=3 => Theme::Blackouts,
            4 => Theme::BadBlocks,
            _ => Theme::None,
        }
    }
}

/// How long faults occur.
pub const FAULTS_US: u64 = 20_000_000;

impl Fault {
    /// Returns whether a plan has what the fault concerns.
    pub fn fits(&self, plan: &Plan) -> bool {
        match *self {
            Fault::BadBlock { hot, .. } => hot < plan.hot.len(),
            _ => true,
        }
    }
}

impl Plan {
    /// Returns the plan of a seed.
    pub fn new(seed: u64) -> Plan {
        let mut rng = Rng::new(seed ^ 0x6d69_7272_6f72);
        let r = &mut rng;
        let members = if r.chance(650) { 2 } else { 3 };
        let witness = r.chance(600);
        let hosts = if r.chance(400) { 2 } else { 1 };
        let local = r.chance(300);
        let block_size = r.pick(&[512, 4096]);
        // 4 to 16 MiB.
        let blocks = r.range(4, 16) * (1 << 20) / u64::from(block_size);
        let caches = (0..members).map(|_| r.chance(800)).collect();
        let latency_us = (0..=members)
            .map(|_| {
                let low = r.pick(&[20, 100, 500]);
                (low, low + r.pick(&[20, 500, 3_000]))
            })
            .collect();
        let spots = r.range(2, 12);
        let mut hot: Vec<u64> = Vec::new();
        for _ in 0..spots {
            let at = r.below(blocks);
            hot.extend((at..blocks).take(r.range(1, 6) as usize));
        }
        hot.push(0);
        hot.push(blocks - 1);
        hot.sort_unstable();
        hot.dedup();
        let patience_us = r.pick(&[100_000, 500_000, 8_000_000]);
        let mut plan = Plan {
            seed,
            members,
            witness,
            hosts,
            local,
            block_size,
            blocks,
            caches,
            dirty: r.chance(500),
            latency_us,
            devices: Vec::new(),
            load: None,
            hot,
            depth: r.range(1, 12) as usize,
            think_us: r.pick(&[1_000, 10_000, 100_000]),
            ios: r.pick(&[100, 300, 800]),
            flushes: r.pick(&[5, 30, 100]),
            patience_us,
            lease_us: r.pick(&[20_000, 200_000]),
            forces: r.chance(200),
            changes: false,
            is_orderly: false,
            options: Options {
                ios_max: 64,
                copy_slots: r.range(1, 4) as u16,
                copy_bytes: r.pick(&[4096, 64 << 10, 256 << 10]),
                hot_max: r.pick(&[4, 5, 8]),
                extents_max: r.pick(&[8, 16, 1000]),
                // Of regions of 1 MiB, few are cold.
                region_shift: r.pick(&[None, Some(6), Some(8)]),
                resync_rate: r.pick(&[0, 2 << 20, 16 << 20]),
                shares_rate: seed.is_multiple_of(4),
                verify_rate: 0,
                member_timeout_ms: r.pick(&[100, 500, 5_000]),
                flush_interval_ms: r.pick(&[50, 300, 2_000]),
                degraded_wait_ms: r.pick(&[10, 300, 2_000]),
                stop_timeout_ms: 2_000,
            },
            faults: Vec::new(),
        };
        let count = r.pick(&[0, 2, 5, 10, 20]);
        let theme = Theme::new(r);
        if theme == Theme::BadBlocks {
            plan.hot.truncate(3);
            (plan.depth, plan.think_us, plan.ios) = (12, 10_000, 3_000);
        }
        if theme == Theme::Blackouts && r.chance(500) {
            // A long resync.
            (plan.dirty, plan.options.resync_rate) = (true, 2 << 20);
        }
        if theme == Theme::Swaps {
            // Members are long done with a record before the witness has it.
            plan.latency_us[members] = (2_000, 10_000);
            plan.witness |= r.chance(500);
        }
        let mut faults: Vec<(u64, Fault)> =
            (0..count).map(|_| (r.below(FAULTS_US), plan.fault(theme, r))).collect();
        faults.sort_by_key(|(at, _)| *at);
        plan.faults = faults;
        plan
    }

    /// Returns the plan of a seed in which an operator also adds and removes members. A member's place may
    /// be its target's or another one.
    pub fn changing(seed: u64) -> Plan {
        let mut plan = Plan::new(seed);
        let mut rng = Rng::new(seed ^ 0x6368_616e_6765);
        let r = &mut rng;
        if plan.members == 2 && r.chance(600) {
            plan.members = 3;
            plan.caches.push(r.chance(800));
            plan.latency_us.push((100, 1_000));
        }
        plan.changes = true;
        for _ in 0..r.pick(&[2, 6, 15]) {
            let (host, member) = (r.index(plan.hosts), r.index(plan.members));
            let at = r.below(FAULTS_US);
            let after_us = if r.chance(800) { r.below(20_000) } else { r.below(500_000) };
            let remove = match r.below(3) {
                0 => {
                    let for_us = r.below(5_000_000);
                    Fault::RemoveAndCrash { host, member, after_us, members: r.bits(), for_us }
                }
                _ => Fault::Remove { member },
            };
            plan.faults.push((at, remove));
            plan.faults.push((at + r.below(3_000_000), Fault::Add { member }));
            if r.chance(500) {
                // Soon after it has begun.
                plan.faults.push((at + r.below(20_000), Fault::Crash { host, for_us: r.below(500_000) }));
            }
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Returns the plan of a seed in which an operator also adds and removes the witness, besides members.
    pub fn changing_witness(seed: u64) -> Plan {
        let mut rng = Rng::new(seed ^ 0x7769_746e_6573);
        let r = &mut rng;
        let mut plan = if r.chance(600) { Plan::new(seed) } else { Plan::changing(seed) };
        if !plan.witness {
            plan.witness = true;
            plan.latency_us.push(r.pick(&[(20, 50), (100, 1_000), (2_000, 10_000)]));
        }
        plan.changes = true;
        let all = plan.targets();
        for _ in 0..r.pick(&[2, 6, 15]) {
            let at = r.below(FAULTS_US);
            plan.faults.push((at, Fault::RemoveWitness));
            let added = at + r.below(3_000_000);
            plan.faults.push((added, Fault::AddWitness));
            for begun in [at, added] {
                // Soon after it has begun.
                let soon = begun + r.below(5_000);
                let (host, for_us) = (r.index(plan.hosts), r.below(500_000));
                match r.below(6) {
                    0 => plan.faults.push((soon, Fault::Crash { host, for_us })),
                    1 => plan.faults.push((soon, Fault::Vanish { host, member: r.index(all), for_us })),
                    2 => plan.faults.push((soon, Fault::Blackout { host, members: r.bits(), for_us })),
                    3 => {
                        // All but one are lost, and later that one.
                        let (member, after_us) = (r.index(plan.members), r.below(500_000));
                        let swap =
                            Fault::Swap { host, member, all: r.chance(500), after_us, for_us: 2_000_000 };
                        plan.faults.push((soon, swap));
                    }
                    _ => {}
                }
            }
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Returns the plan of a seed in which media decay, and an operator has the members compared.
    pub fn verifying(seed: u64) -> Plan {
        let mut plan = Plan::new(seed);
        let mut rng = Rng::new(seed ^ 0x7665_7269_6679);
        let r = &mut rng;
        plan.options.copy_slots = plan.options.copy_slots.max(2);
        plan.options.copy_bytes = r.pick(&[16 << 10, 64 << 10, 256 << 10]);
        plan.options.verify_rate = r.pick(&[0, 0, 4 << 20, 16 << 20]);
        for _ in 0..r.pick(&[0, 2, 5]) {
            let (member, block) = (r.index(plan.members), r.below(plan.blocks));
            // An I/O has up to five blocks.
            if plan.hot.iter().all(|&hot| !(hot..hot + 5).contains(&block)) {
                plan.faults.push((r.below(FAULTS_US), Fault::Decay { member, block }));
            }
        }
        for _ in 0..r.range(2, 8) {
            plan.faults.push((r.below(FAULTS_US), Fault::Verify { repairs: r.chance(500) }));
        }
        if r.chance(300) {
            plan.faults.push((r.below(FAULTS_US), Fault::StopVerification));
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Returns the plan of a seed in which hosts take the mirror over at once, again and again. Some are
    /// stopped for a time, or cut off from the target that decides, and for less time than it takes until
    /// that is passed over.
    pub fn taking(seed: u64) -> Plan {
        let mut plan = Plan::fair();
        let mut rng = Rng::new(seed ^ 0x7461_6b69_6e67);
        let r = &mut rng;
        (plan.seed, plan.hosts, plan.is_orderly, plan.witness) = (seed, 3, true, r.chance(700));
        (plan.ios, plan.options.degraded_wait_ms) = (500, 1_000);
        for round in 0..4 {
            let at = 1_000_000 + round * 4_500_000;
            // The owner dies, or goes on.
            if r.chance(400) {
                plan.faults.push((at, Fault::Crash { host: 0, for_us: r.below(5_000_000) }));
            }
            let within_us = r.pick(&[3_000, 10_000, 30_000]);
            for host in 0..plan.hosts {
                plan.faults.push((at + r.below(within_us), Fault::Takeover { host }));
            }
            let first = if plan.witness { plan.members } else { 0 };
            for _ in 0..r.below(4) {
                let (host, for_us) = (r.index(plan.hosts), r.below(400_000));
                let fault = match r.below(2) {
                    0 => Fault::Stop { host, for_us },
                    _ => Fault::Cut { host, member: first, for_us },
                };
                plan.faults.push((at + r.below(within_us + 10_000), fault));
            }
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Returns a plan without faults, as the beginning of others: two members of 64 MiB with caches,
    /// a witness, and users of three spots far apart.
    pub fn fair() -> Plan {
        let blocks = 16_384;
        Plan {
            seed: 1,
            members: 2,
            witness: true,
            hosts: 1,
            local: false,
            block_size: 4096,
            blocks,
            caches: vec![true; 2],
            dirty: false,
            latency_us: vec![(100, 200); 3],
            devices: Vec::new(),
            load: None,
            hot: vec![0, 1, 2, 3, blocks / 2, blocks / 2 + 1, blocks - 1],
            depth: 4,
            think_us: 20_000,
            ios: 1_000,
            flushes: 30,
            patience_us: 500_000,
            lease_us: 20_000,
            forces: false,
            changes: false,
            is_orderly: false,
            options: Options {
                ios_max: 64,
                member_timeout_ms: 5_000,
                flush_interval_ms: 300,
                ..Options::default()
            },
            faults: Vec::new(),
        }
    }

    /// Returns the number of targets: members and witness.
    pub fn targets(&self) -> usize {
        self.members + usize::from(self.witness)
    }

    fn fault(&self, theme: Theme, r: &mut Rng) -> Fault {
        let (host, member) = (r.index(self.hosts), r.index(self.targets()));
        let for_us = match r.below(3) {
            0 => r.below(20_000),
            1 => r.below(500_000),
            _ => r.below(5_000_000),
        };
        let is_themed = r.chance(500);
        match theme {
            Theme::Swaps if is_themed => {
                let after_us =
                    if r.chance(500) { r.below(5_000) } else { self.patience_us + r.below(500_000) };
                let (member, all) = (r.index(self.members), r.chance(500));
                return Fault::Swap { host, member, all, after_us, for_us: for_us + 500_000 };
            }
            Theme::Blackouts if is_themed => return Fault::Blackout { host, members: r.bits(), for_us },
            Theme::BadBlocks if is_themed => return Fault::BadBlocks { member: r.index(self.members) },
            _ => {}
        }
        match r.below(100) {
            0..=14 => Fault::Power { member, for_us },
            15..=19 => Fault::PowerAll { members: r.bits(), for_us },
            20..=34 => Fault::Cut { host, member, for_us },
            35..=49 => Fault::Vanish { host, member, for_us },
            50..=54 => Fault::Slow { member, factor: r.pick(&[5, 50]), for_us },
            55..=59 => Fault::Errors { member, per_mille: r.pick(&[5, 50, 500]), for_us },
            60..=64 => Fault::BadBlock { member: r.index(self.members), hot: r.index(self.hot.len()) },
            65..=79 => Fault::Crash { host, for_us },
            80..=84 => Fault::Machine { host, for_us },
            85..=89 => Fault::Stop { host, for_us },
            90..=94 if self.hosts > 1 => {
                Fault::Partition { host, member: r.index(self.members), for_us: for_us + 500_000 }
            }
            _ if self.hosts > 1 => Fault::Takeover { host },
            _ => Fault::Crash { host, for_us },
        }
    }
}
