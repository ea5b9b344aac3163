//! What a seed decides before anything begins: the clients and targets, their options, and what
//! goes wrong and when.

use dst_wire::Cipher;
use spdk::bdev::IoTypes;
use world::net::NetConfig;
use world::rng::Rng;

mod fault;
mod recipes;

pub use fault::Fault;

/// Everything that a seed decides.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The number of clients.
    pub clients: usize,
    /// Cores of each client.
    pub client_cores: u32,
    /// Threads of each client that use the bdev.
    pub client_threads: usize,
    /// The number of targets.
    pub targets: usize,
    /// Whether two targets export the same store, so that clients may use either.
    pub failover: bool,
    /// Cores of each target.
    pub target_cores: u32,
    /// How far the processes' clocks deviate, in ppm.
    pub skews: [i64; 4],
    /// Whether all processes run on one machine, where each can see that another has ended.
    pub one_machine: bool,
    /// Size of a store, in blocks.
    pub num_blocks: u64,
    /// Size of a block, in bytes.
    pub block_size: u32,
    /// Whether stores have a volatile cache.
    pub write_cache: bool,
    /// Whether the backend is in the target's process and so dies with it.
    pub in_process: bool,
    /// A backend's latency: shortest and longest, in µs.
    pub latency_us: (u64, u64),
    /// How many of 1,000 backend operations fail.
    pub errors: u64,
    /// Whether a reset ends operations that hang.
    pub reset_works: bool,
    /// The kinds of I/O that backends support.
    pub supports: IoTypes,
    /// The alignment of data in memory that backends require, as a power of two.
    pub alignment_log2: u8,
    /// The network's properties.
    pub net: NetConfig,
    /// Keep-alive timeout, which is also the lease, in ms.
    pub keep_alive_ms: u32,
    /// `transaction_timeout_ms`: how long an I/O may take, in ms.
    pub transaction_timeout_ms: u32,
    /// How often an I/O may be sent again; 0: no limit.
    pub max_retries: u32,
    /// Longest pause between two attempts to connect, in ms.
    pub reconnect_delay_ms: u32,
    /// How long I/O waits without a connection, in ms; 0: as long as with one.
    pub fast_io_fail_ms: u32,
    /// How long a bdev remains without a connection, in ms; 0: for ever.
    pub loss_ms: u32,
    /// Addresses at which nobody ever answers, tried before those of each client's target.
    pub dead_addresses: usize,
    /// Addresses of each target.
    pub addresses: usize,
    /// Whether channels are spread over the addresses, of which some may be another target's.
    pub spread: bool,
    /// Queue depth that the client asks for.
    pub client_depth: u16,
    /// Queue depth that the target grants at most.
    pub target_depth: u16,
    /// How long the target remembers a session without connections, in ms.
    pub session_timeout_ms: u32,
    /// Whether the second client has only read access.
    pub read_only: bool,
    /// I/Os that each thread has outstanding at once.
    pub user_depth: usize,
    /// I/Os in all.
    pub ios: u64,
    /// Whether I/O is submitted at a steady pace throughout, not as fast as possible.
    pub paced: bool,
    /// Longest pause between two I/Os of a thread, in µs.
    pub think_us: u64,
    /// How often a target is held up in the middle of a turn, per million reads of its clock.
    pub hiccups: u64,
    /// How often a client is held up while its user goes on after a completion, per thousand.
    pub pauses: u64,
    /// Whether data has digests.
    pub digests: bool,
    /// The cipher of all connections; none: they are in clear.
    pub cipher: Option<Cipher>,
    /// Whether targets know aborts.
    pub aborts: bool,
    /// Whether users reset their bdevs.
    pub resets: bool,
    /// Whether users' resets reach the backend.
    pub reset_backend: bool,
    /// Whether all writes are compare-and-writes.
    pub compares_only: bool,
    /// How long faults may occur, in µs.
    pub length_us: u64,
    /// The faults, each with its time in µs, in order.
    pub faults: Vec<(u64, Fault)>,
    /// Whether everything is taken down at the end.
    pub tear_down: bool,
    /// Whether exports have one owner at a time: each client takes over from the ones before it.
    pub is_owned: bool,
    /// How often a state file can't be written, of 1,000 times.
    pub store_failures: u64,
    /// `attach_timeout_ms`: how long a client tries to attach, in ms.
    pub attach_timeout_ms: u32,
    /// Whether targets that stop in order leave notes.
    pub notes: bool,
}

impl Plan {
    /// Returns the plan of a seed.
    pub fn new(seed: u64) -> Plan {
        let mut rng = Rng::new(seed ^ 0x51a7_e5ee_d000_0000);
        let r = &mut rng;
        let clients = if r.chance(350) { 2 } else { 1 };
        let write_cache = r.chance(600);
        let keep_alive_ms = r.pick(&[100, 200, 400]);
        let failover = r.chance(250);
        let in_process = !failover && r.chance(500);
        // What an outside device still executes for a dead target must end before the lease does.
        let most = r.pick(&[200, 2000, 20_000]).min(u64::from(keep_alive_ms) * 100);
        let skew = |r: &mut Rng| r.below(20_001) as i64 - 10_000;
        let mut supports = IoTypes::ALL;
        for optional in [IoTypes::UNMAP, IoTypes::WRITE_ZEROES, IoTypes::COMPARE_AND_WRITE] {
            supports = supports.with(optional, !r.chance(100));
        }
        let mut plan = Plan {
            seed,
            clients,
            client_cores: r.range(1, 2) as u32,
            client_threads: r.range(1, 3) as usize,
            targets: if failover { 2 } else { 1 },
            failover,
            target_cores: r.range(1, 2) as u32,
            skews: [skew(r), skew(r), skew(r), skew(r)],
            one_machine: r.chance(500),
            num_blocks: r.pick(&[8, 16, 32]),
            block_size: if r.chance(150) { 4096 } else { 512 },
            write_cache,
            in_process,
            latency_us: (r.pick(&[1, 10, 100]), most.max(100)),
            errors: if r.chance(100) { r.range(1, 100) } else { 0 },
            reset_works: r.chance(500),
            supports,
            alignment_log2: 0,
            net: NetConfig {
                delay_us: r.pick(&[20, 200, 2000, 10_000]),
                buffer: r.pick(&[(600, 2000), (4096, 16_384), (16_384, 200_000)]),
                partial: r.pick(&[0, 50, 300]),
            },
            keep_alive_ms,
            transaction_timeout_ms: if r.chance(300) { r.range(150, 1500) as u32 } else { 60_000 },
            max_retries: if r.chance(100) { r.range(1, 3) as u32 } else { 0 },
            reconnect_delay_ms: r.pick(&[10, 50, 200]),
            fast_io_fail_ms: 0,
            loss_ms: 0,
            dead_addresses: 0,
            addresses: 1,
            spread: false,
            client_depth: r.pick(&[1, 2, 4, 16]),
            target_depth: r.pick(&[1, 3, 8, 32]),
            session_timeout_ms: r.pick(&[150, 1000, 5000, 60_000]),
            read_only: clients == 2 && r.chance(300),
            user_depth: r.pick(&[1, 2, 4, 8]),
            ios: r.range(20, 200),
            paced: r.chance(500),
            think_us: r.pick(&[200, 2000, 20_000]),
            hiccups: if r.chance(200) { r.pick(&[100, 1000]) } else { 0 },
            pauses: 0,
            digests: r.chance(400),
            cipher: None,
            aborts: true,
            resets: r.chance(250),
            reset_backend: false,
            compares_only: false,
            length_us: r.range(200_000, 1_500_000),
            faults: Vec::new(),
            tear_down: r.chance(600),
            is_owned: false,
            store_failures: 0,
            attach_timeout_ms: 60_000,
            notes: false,
        };
        // A network that lets nothing through within a lease is not what the simulator is to test.
        if plan.net.delay_us >= 10_000 {
            plan.keep_alive_ms = 400;
        }
        if plan.net.delay_us >= 10_000 || plan.block_size == 4096 {
            plan.net.buffer = (16_384, 200_000);
        }
        plan.add_faults(r);
        plan.add_recipe(r);
        plan.faults.sort_by_key(|(at, _)| *at);
        // These choices come last, so that the rest of a seed's plan stays the same.
        if r.chance(150) {
            plan.cipher = Some(r.pick(&[Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305]));
            // With smaller buffers, a record would take very long.
            plan.net.buffer = (16_384, 200_000);
        }
        plan.compares_only = supports.contains(IoTypes::COMPARE_AND_WRITE) && r.chance(80);
        if !plan.failover && r.chance(100) {
            plan.hold_some(r);
        }
        plan.reset_backend = r.chance(500);
        if r.chance(50) {
            plan.end_client(r);
        } else if !plan.failover && r.chance(60) {
            plan.reset_often(r);
        } else if r.chance(150) {
            plan.lose_patience(r);
        }
        if r.chance(200) {
            plan.dead_addresses = r.range(1, 6) as usize;
        }
        if r.chance(150) {
            for _ in 0..r.range(1, 4) {
                let fault = Fault::Repoint { client: r.index(plan.clients) };
                plan.faults.push((r.below(plan.length_us), fault));
            }
            plan.faults.sort_by_key(|(at, _)| *at);
        }
        if !plan.failover && r.chance(60) {
            plan.pull_often(r);
        }
        if r.chance(300) {
            plan.have_paths(r);
        }
        // Up to 16 bytes, a write may stay where it was received.
        plan.alignment_log2 = r.pick(&[0, 2, 4, 9, 12]);
        if r.chance(80) {
            plan.own(r);
        }
        if !plan.failover && r.chance(80) {
            plan.end_targets(r);
        }
        if r.chance(200) {
            plan.pauses = r.pick(&[10, 200]);
        }
        plan
    }

    /// Adds faults of any kinds at any times.
    fn add_faults(&mut self, r: &mut Rng) {
        let kinds = r.bits() | r.bits();
        for _ in 0..r.pick(&[0, 1, 2, 3, 5, 8, 12]) {
            let at = r.below(self.length_us);
            let kind = r.below(22);
            // Each seed leaves some kinds out, so that the others occur together more often.
            if kinds >> kind & 1 == 0 {
                continue;
            }
            let lease = u64::from(self.keep_alive_ms) * 1000;
            let for_us = match r.below(4) {
                0 => r.below(2000),
                1 => r.below(lease / 2),
                2 => r.below(2 * lease),
                _ => r.below(6 * lease),
            };
            let client = r.index(self.clients);
            let target = r.index(self.targets);
            let fault = match kind {
                0..=2 => Fault::Cut,
                3..=6 => Fault::BlackHole { there: r.chance(700), back: r.chance(700), for_us },
                7 | 8 => Fault::Partition { client, target, for_us },
                9 => Fault::Corrupt { from_client: r.chance(500), data: self.digests && r.chance(700) },
                10 | 11 => Fault::StopTarget { target, for_us },
                12 => Fault::StopClient { client, for_us },
                13 | 14 => {
                    let (vanish, lose) = (r.chance(200), r.chance(700));
                    Fault::KillTarget { target, vanish, lose, for_us }
                }
                15 => Fault::KillClient { client, vanish: r.chance(300), for_us },
                // No other target can fence requests that this one has given to a hanging backend.
                16 if self.failover => Fault::Cut,
                16 => Fault::Hang { target, for_us },
                17 => Fault::DeleteBdev { client, for_us },
                18 if r.chance(500) => Fault::Pull { target, lose: r.chance(700), for_us },
                18 => Fault::DeleteExport { target, for_us },
                19 if r.chance(500) => Fault::Restrict { client, for_us },
                19 => Fault::RemoveHost { target, client, for_us },
                20 if r.chance(300) => Fault::OtherDevice { target, for_us },
                20 => Fault::Grow { target, by: r.range(1, 8) },
                _ => Fault::Reopen { client, thread: r.index(self.client_threads), for_us },
            };
            self.faults.push((at, fault));
        }
    }

    /// Returns the lease, in µs.
    pub fn lease_us(&self) -> u64 {
        u64::from(self.keep_alive_ms) * 1000
    }

    /// Returns how long an I/O may be outstanding while its client runs, in µs of virtual time.
    pub fn deadline_us(&self) -> u64 {
        u64::from(self.transaction_timeout_ms) * 1000
    }
}
