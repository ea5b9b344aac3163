//! What a seed decides before anything begins: the clients and targets, their options, and what
//! goes wrong and when.

use dst_wire::Cipher;
use spdk::bdev::IoTypes;
use world::net::NetConfig;
use world::rng::Rng;

/// A fault, or an operator's action: which target or client it concerns, and for how long.
#[allow(missing_docs, reason = "each says it in one line")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A connection is cut.
    Cut,
    /// A connection carries nothing for a time, in the given directions.
    BlackHole { there: bool, back: bool, for_us: u64 },
    /// A client and a target cannot reach each other for a time.
    Partition { client: usize, target: usize, for_us: u64 },
    /// A client's connections to a target are reset at the client; bytes that the client had sent
    /// arrive later. New connections are refused for a time.
    Sever { client: usize, target: usize, late_us: u64, for_us: u64 },
    /// What a client's connections to one of a target's addresses carry, in the given directions, is
    /// delayed for a time; `blocked`: new connections there are not answered either.
    LosePath {
        client: usize,
        target: usize,
        address: usize,
        there: bool,
        back: bool,
        blocked: bool,
        for_us: u64,
    },
    /// One bit is flipped in a header, or in data that has a digest.
    Corrupt { from_client: bool, data: bool },
    /// A target is stopped for a time.
    StopTarget { target: usize, for_us: u64 },
    /// A client is stopped for a time.
    StopClient { client: usize, for_us: u64 },
    /// A target dies and is started again after a time. A volatile cache may lose its contents.
    KillTarget { target: usize, vanish: bool, lose: bool, for_us: u64 },
    /// A target is told to stop, and so many of 1,000 operations of its backend fail from then on.
    /// After a time it dies, whether or not it has stopped, and is started again. A volatile cache may
    /// lose its contents.
    EndTarget { target: usize, errors: u64, lose: bool, for_us: u64 },
    /// A client is told to stop; after a time it dies and is started again.
    EndClient { client: usize, for_us: u64 },
    /// A client dies and is started again after a time.
    KillClient { client: usize, vanish: bool, for_us: u64 },
    /// The backend answers nothing for a time.
    Hang { target: usize, for_us: u64 },
    /// Requests that the backend has at that moment are not answered for a time; later ones are.
    HoldCurrent { target: usize, for_us: u64 },
    /// A target's app thread is busy with something else for a time.
    BusyControl { target: usize, for_us: u64 },
    /// All of a client's connections to a target are cut.
    CutAll { client: usize, target: usize },
    /// Whatever a target sends on the client's current connections is delayed for a time.
    KeepBack { client: usize, target: usize, for_us: u64 },
    /// A client's new connections to a target are refused for a time.
    Refuse { client: usize, target: usize, for_us: u64 },
    /// A user deletes a bdev and creates it again after a time.
    DeleteBdev { client: usize, for_us: u64 },
    /// An operator deletes the export and creates it again after a time.
    DeleteExport { target: usize, for_us: u64 },
    /// A target's backend is removed, as by pulling the device, and comes back after a time. A
    /// volatile cache may lose its contents.
    Pull { target: usize, lose: bool, for_us: u64 },
    /// A host's entry is removed from the export and added again after a time.
    RemoveHost { target: usize, client: usize, for_us: u64 },
    /// A client's host has only read access at its target for a time, while its session lives.
    Restrict { client: usize, for_us: u64 },
    /// The backend grows.
    Grow { target: usize, by: u64 },
    /// A thread closes its channel and opens another one after a time.
    Reopen { client: usize, thread: usize, for_us: u64 },
    /// A user gives a bdev the addresses of the next target alone.
    Repoint { client: usize },
    /// The target restarts with another device under the same name, for a time.
    OtherDevice { target: usize, for_us: u64 },
    /// A client takes the export over, as a new process or with a new bdev.
    TakeOver { client: usize, reborn: bool },
    /// The target dies, and its state file is lost or torn. The target is started again after a
    /// time.
    LoseOwner { is_torn: bool, for_us: u64 },
}

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
        plan
    }

    /// Gives targets several addresses, of which some are lost for a time.
    fn have_paths(&mut self, r: &mut Rng) {
        self.spread = r.chance(800);
        self.addresses = r.range(if self.failover { 1 } else { 2 }, 3) as usize;
        self.client_threads = self.client_threads.max(r.range(2, 4) as usize);
        let lease_us = self.lease_us();
        for _ in 0..r.below(5) {
            let fault = Fault::LosePath {
                client: r.index(self.clients),
                target: r.index(self.targets),
                address: r.index(self.addresses),
                there: r.chance(700),
                back: r.chance(700),
                blocked: r.chance(600),
                for_us: r.range(lease_us / 4, 8 * lease_us),
            };
            self.faults.push((r.below(self.length_us), fault));
        }
        if r.chance(300) {
            // Long enough for channels to go back to their addresses while I/O goes on.
            self.length_us += 4_000_000;
            self.ios += 200;
            self.paced = true;
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

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

    /// Adds faults that rarely occur together but belong together: what leases and fences are for.
    fn add_recipe(&mut self, r: &mut Rng) {
        let lease = self.lease_us();
        let client = r.index(self.clients);
        let target = client % self.targets;
        let at = r.range(20_000, self.length_us / 2);
        match r.below(12) {
            // A session ends while the backend still has some of its requests.
            0 | 8 | 9 if !self.failover => {
                self.be_busy();
                let at = r.range(12_000, 50_000);
                let away = r.range(5_000, lease / 2);
                let late_us = r.below(lease);
                self.faults.push((at, Fault::Hang { target, for_us: r.range(lease, 4 * lease) }));
                let at = at + r.below(10_000);
                self.faults.push((at, Fault::Sever { client, target, late_us, for_us: away }));
                let at = at + r.below(away);
                self.faults.push((at, Fault::RemoveHost { target, client, for_us: r.below(5_000) }));
                self.in_process = true;
            }
            // An I/O becomes overdue while its request is on its way.
            1 | 2 => {
                self.transaction_timeout_ms = r.range(20, u64::from(self.keep_alive_ms) / 2) as u32;
                for _ in 0..3 {
                    let at = at + r.below(self.length_us / 2);
                    let for_us = r.range(u64::from(self.transaction_timeout_ms) * 1000, lease);
                    let fault = match r.below(3) {
                        0 => Fault::StopTarget { target, for_us },
                        _ => Fault::BlackHole { there: true, back: r.chance(300), for_us },
                    };
                    self.faults.push((at, fault));
                }
            }
            // Another target takes over while the first one still has requests.
            3 | 4 | 8 | 9 if self.failover => {
                self.be_busy();
                let at = r.range(12_000, 50_000);
                let late_us = r.range(lease / 4, lease * 9 / 10);
                self.faults.push((at, Fault::Sever { client, target, late_us, for_us: 4 * lease }));
                if r.chance(500) {
                    self.faults
                        .push((at.saturating_sub(2000), Fault::StopTarget { target, for_us: late_us }));
                }
            }
            // A target is dead for longer than any user waits.
            5 => {
                self.transaction_timeout_ms = r.range(100, 600) as u32;
                let for_us = self.deadline_us() + 3 * lease + 1_000_000;
                self.faults
                    .push((at, Fault::KillTarget { target, vanish: r.chance(500), lose: true, for_us }));
                self.length_us = at + for_us + 100_000;
            }
            // A target is stopped for longer than its leases.
            6 => {
                self.faults.push((at, Fault::StopTarget { target, for_us: r.range(lease, 3 * lease) }));
                let fault = match r.below(3) {
                    0 => Fault::Sever { client, target, late_us: r.below(lease), for_us: r.below(lease) },
                    1 => Fault::Partition { client, target, for_us: r.below(2 * lease) },
                    _ => Fault::Cut,
                };
                self.faults.push((at + r.below(lease), fault));
            }
            // One thread's I/O fails while the backend has it; then another thread submits I/O.
            9 | 10 if !self.failover => {
                self.client_threads = 3;
                self.num_blocks = 8;
                self.user_depth = 1;
                self.ios = 100;
                self.transaction_timeout_ms = r.range(40, 120) as u32;
                self.latency_us = (1, 20_000);
                // Seldom enough that a thread may have nothing that hangs, and often enough that it
                // submits something before the hang ends.
                let hangs_us = self.deadline_us() + 2 * lease;
                self.think_us = 2 * hangs_us;
                self.length_us = 12 * hangs_us;
                self.faults.clear();
                for i in 0..4 {
                    self.faults.push((3 * i * hangs_us + at, Fault::Hang { target, for_us: hangs_us }));
                }
            }
            // Connections are lost again and again, with Answers on their way.
            7 => {
                for _ in 0..10 {
                    self.faults.push((r.below(self.length_us), Fault::Cut));
                }
            }
            _ => {}
        }
    }

    /// Some I/O fails while the backend has it, and other threads' I/O continues throughout. With
    /// cuts, what the target said about the session arrives after the session was given up because
    /// of that I/O.
    fn hold_some(&mut self, r: &mut Rng) {
        let (client, target) = (r.index(self.clients), 0);
        self.client_threads = 3;
        self.num_blocks = 8;
        // I/O that hangs must not keep a thread from submitting more.
        self.user_depth = 2;
        self.client_depth = self.client_depth.max(4);
        self.target_depth = self.target_depth.max(8);
        self.resets = false;
        self.transaction_timeout_ms = r.range(40, 120) as u32;
        self.session_timeout_ms = 60_000;
        self.reconnect_delay_ms = 10;
        self.latency_us = (1, 2000);
        let lease = self.lease_us();
        let cuts = r.chance(600);
        // Without aborts a session is given up, for which the cuts are.
        self.aborts = !cuts && r.chance(600);
        if !cuts {
            self.target_cores = 2;
            self.net.delay_us = 200;
        }
        if cuts {
            // An attempt to connect takes a while.
            self.net.delay_us = lease / 40;
            self.net.buffer = (16_384, 200_000);
            self.user_depth = 4;
        }
        let fails_us = self.deadline_us() + lease;
        // Long enough for all leases to end once more.
        let hangs_us = fails_us + 2 * lease;
        self.faults.clear();
        for i in 0..4 {
            let at = 20_000 + i * (hangs_us + lease) + r.below(10_000);
            self.faults.push((at, Fault::HoldCurrent { target, for_us: hangs_us }));
            if cuts {
                let at = at + r.range(fails_us - lease / 2, fails_us - lease / 10);
                self.faults.push((at, Fault::CutAll { client, target }));
                // Welcomes that are on their way arrive after the attempts that they answer were
                // given up; nothing else arrives before.
                let at = at + 2 * self.net.delay_us;
                let for_us = r.range(lease / 4, lease / 2);
                self.faults.push((at, Fault::KeepBack { client, target, for_us }));
                self.faults.push((at, Fault::Refuse { client, target, for_us: for_us + lease / 8 }));
            } else {
                // What is aborted then is to be held by all groups, of which the app thread tells them.
                let at = at + self.deadline_us() - 5000;
                self.faults.push((at, Fault::BusyControl { target, for_us: r.range(10_000, 30_000) }));
            }
        }
        self.length_us = 4 * (hangs_us + lease) + 50_000;
        self.think_us = 2000;
        self.paced = true;
        self.ios = self.length_us / 1000;
    }

    /// Has a client told to stop while its targets are dead, or before or after that.
    fn end_client(&mut self, r: &mut Rng) {
        let client = r.index(self.clients);
        // Long enough to tell an I/O's own patience from the patience that all I/O of a stop
        // shares.
        self.keep_alive_ms = if self.net.delay_us < 2000 { 100 } else { self.keep_alive_ms };
        self.transaction_timeout_ms = 3 * self.keep_alive_ms + 900;
        self.reconnect_delay_ms = self.reconnect_delay_ms.min(50);
        self.max_retries = 0;
        let patience_us = self.deadline_us();
        let stop_at = r.range(50_000, patience_us);
        let dead_at = r.range(20_000, 2 * stop_at);
        let dead_us = if r.chance(500) { 3 * patience_us } else { r.below(2 * patience_us) };
        self.faults.clear();
        for target in 0..self.targets {
            let vanish = r.chance(200);
            self.faults.push((dead_at, Fault::KillTarget { target, vanish, lose: false, for_us: dead_us }));
        }
        self.faults.push((stop_at, Fault::EndClient { client, for_us: 2 * patience_us }));
        self.faults.sort_by_key(|(at, _)| *at);
        self.length_us = stop_at + 2 * patience_us + 100_000;
        self.think_us = 20_000;
        self.paced = true;
        self.ios = 200;
    }

    /// Has two hosts use and reset one slow device. I/O of one host that the other's reset ends may
    /// run into a stop of the target or a lost connection.
    fn reset_often(&mut self, r: &mut Rng) {
        self.clients = 2;
        self.read_only = false;
        self.compares_only = false;
        self.resets = true;
        self.user_depth = 4;
        self.client_depth = self.client_depth.max(4);
        self.target_depth = self.target_depth.max(8);
        self.latency_us = (1000, 20_000.min(self.lease_us() / 2));
        self.think_us = 2000;
        self.paced = true;
        self.length_us = r.range(2_000_000, 4_000_000);
        self.ios = self.length_us / 4000;
        self.errors = 0;
        self.faults.truncate(2);
    }

    /// Pulls the backend's device, and puts it back, while it has much to do.
    fn pull_often(&mut self, r: &mut Rng) {
        self.be_busy();
        self.target_depth = self.target_depth.max(8);
        self.latency_us = (500, 20_000.min(self.lease_us() / 2));
        (self.think_us, self.errors, self.resets) = (2000, 0, false);
        self.faults.clear();
        for i in 0..5 {
            let at = 50_000 + i * 300_000 + r.below(200_000);
            let for_us = r.range(1000, 100_000);
            self.faults.push((at, Fault::Pull { target: 0, lose: r.chance(500), for_us }));
        }
        self.length_us = 2_000_000;
        self.paced = true;
        self.ios = 400;
    }

    /// Has users give up on a target that stays away.
    fn lose_patience(&mut self, r: &mut Rng) {
        let lease_us = self.lease_us();
        let lease_ms = u64::from(self.keep_alive_ms);
        self.reconnect_delay_ms = 10;
        // I/O that was sent has to wait for the end of its lease all the same.
        let is_short = r.chance(500);
        self.fast_io_fail_ms = r.range(10, if is_short { lease_ms / 4 } else { 3 * lease_ms }) as u32;
        if r.chance(300) {
            self.loss_ms = self.fast_io_fail_ms + r.below(3 * lease_ms) as u32;
        }
        if r.chance(100) {
            (self.fast_io_fail_ms, self.loss_ms) = (0, self.fast_io_fail_ms);
        }
        let away_us = u64::from(self.fast_io_fail_ms.max(self.loss_ms)) * 1000 + 4 * lease_us;
        let pause_us = away_us + 6 * lease_us;
        for i in 0..2 {
            let at = 20_000 + i * pause_us + r.below(lease_us);
            let client = r.index(self.clients);
            let late_us = r.range(lease_us / 4, lease_us * 9 / 10);
            let (vanish, lose) = (r.chance(500), r.chance(500));
            let kind = r.below(4);
            // No target may be reachable, or this would be no outage.
            for target in 0..self.targets {
                let fault = match kind {
                    0 => Fault::Partition { client, target, for_us: away_us },
                    1 => Fault::KillTarget { target, vanish, lose, for_us: away_us },
                    _ => {
                        // The target then has much unread data in its sockets.
                        self.faults.push((at - 2000, Fault::StopTarget { target, for_us: late_us }));
                        Fault::Sever { client, target, late_us, for_us: away_us }
                    }
                };
                self.faults.push((at, fault));
            }
        }
        self.length_us = self.length_us.max(2 * pause_us + 50_000);
        self.faults.sort_by_key(|(at, _)| *at);
        self.be_busy();
        self.paced = true;
        self.ios = self.ios.max((self.length_us / 2000).min(500));
    }

    /// Makes the plan busy enough that something is on its way at the wrong moment.
    pub(crate) fn be_busy(&mut self) {
        self.user_depth = self.user_depth.max(4);
        self.client_depth = self.client_depth.max(4);
        self.ios = self.ios.max(120);
        self.paced = false;
        self.think_us = self.think_us.min(2000);
        self.net.delay_us = self.net.delay_us.min(2000);
        self.reconnect_delay_ms = self.reconnect_delay_ms.min(50);
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
