//! What a seed decides.

use dst_tcp::Config;
use world::rng::Rng;

/// What may happen to the packets of one direction. Times are in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// The time for which a packet is on its way.
    pub delay: u64,
    /// The longest additional time, chosen at random. Packets overtake each other.
    pub jitter: u64,
    /// The rate, in bytes per millisecond; 0: no limit.
    pub rate: u64,
    /// The bytes that may wait to be sent; further packets are dropped.
    pub queue: u64,
    /// How many of 1,000 packets are lost.
    pub loss: u64,
    /// How many of 1,000 packets are repeated.
    pub repeat: u64,
    /// How many of 1,000 packets have a flipped bit.
    pub corrupt: u64,
    /// How many of 1,000 packets are delayed by `late`.
    pub reorder: u64,
    /// The delay of reordered packets.
    pub late: u64,
    /// Segments that are longer than this vanish; 0: none vanish.
    pub longest: usize,
}

impl Link {
    /// Returns when a packet of this length arrives that is sent now, or `None` if there is no room
    /// for it to wait. `busy` is the time until which the link sends what it has.
    pub fn arrival(&self, busy: &mut u64, len: usize, now: u64) -> Option<u64> {
        if self.rate == 0 {
            return Some(now + self.delay);
        }
        let begin = (*busy).max(now);
        if (begin - now) * self.rate / 1000 > self.queue {
            return None;
        }
        *busy = begin + len as u64 * 1000 / self.rate;
        Some(now + self.delay + (*busy - now))
    }

    /// Returns when a packet that was to arrive `at` a time does so while the link has faults, and
    /// when it arrives once more, if it does.
    pub fn disturb(&self, mut at: u64, rng: &mut Rng) -> (u64, Option<u64>) {
        at += rng.below(self.jitter + 1);
        if rng.chance(self.reorder) {
            at += rng.below(self.late + 1);
        }
        let again = rng.chance(self.repeat).then(|| at + rng.below(2 * self.delay));
        (at, again)
    }
}

/// A period in which something does not work.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gap {
    /// When it begins.
    pub from: u64,
    /// When it ends.
    pub to: u64,
}

impl Gap {
    /// Returns whether the period contains the time.
    pub fn contains(&self, now: u64) -> bool {
        (self.from..self.to).contains(&now)
    }
}

/// What the user on one side of a connection does.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// The number of bytes that the user sends.
    pub bytes: u64,
    /// The largest piece that the user sends at once.
    pub piece: u64,
    /// The pause between reads; 0: data is read as soon as it arrives.
    pub read_pause: u64,
    /// The number of pieces that the user reads each time.
    pub reads: usize,
}

/// Everything that a seed decides.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The link from the first host to the second, and the link back.
    pub links: [Link; 2],
    /// The settings of each host.
    pub configs: [Config; 2],
    /// If set, the second host uses smoltcp.
    pub smol: Option<Smol>,
    /// Whether ports cut segments that are longer than the MSS; otherwise these arrive whole.
    pub cuts: bool,
    /// What the two sides of each connection do.
    pub connections: Vec<[Side; 2]>,
    /// The period in which each host does nothing.
    pub stalls: [Gap; 2],
    /// The period in which no packet gets through.
    pub cut: Gap,
    /// The time after which the faults are over.
    pub faults_end: u64,
    /// Whether every packet is printed.
    pub history: bool,
}

/// What a smoltcp host does.
#[derive(Debug, Clone, Copy)]
pub struct Smol {
    /// Whether it connects; otherwise it listens.
    pub connects: bool,
    /// The size of its buffers in bytes.
    pub buffer: usize,
}

fn link(rng: &mut Rng) -> Link {
    let delay = rng.pick(&[20, 100, 1_000, 20_000]);
    let mut link = Link { delay, queue: u64::MAX, ..Link::default() };
    let rare = |rng: &mut Rng, most: u64| if rng.chance(400) { 0 } else { rng.range(1, most) };
    if rng.chance(800) {
        link.loss = rare(rng, 60);
        link.repeat = rare(rng, 30);
        link.corrupt = rare(rng, 30);
        link.reorder = rare(rng, 100);
        link.late = rng.range(1, 3 * delay);
        link.jitter = if rng.chance(700) { 0 } else { rng.range(1, delay) };
    }
    if rng.chance(300) {
        link.rate = rng.range(1_000, 100_000);
        link.queue = rng.range(20_000, 500_000);
    }
    link
}

fn config(rng: &mut Rng) -> Config {
    let window = rng.pick(&[1_000, 4_000, 20_000, 65_535, 300_000, 4_000_000]);
    Config {
        mss: rng.pick(&[200, 536, 1460, 8960]),
        initial_receive_window: window,
        max_receive_window: rng.pick(&[window, 2 * window, 16 << 20]).max(window),
        max_held_frames: rng.pick(&[64, 1_000, 32_768]),
        max_send_bytes: rng.pick(&[10_000, 100_000, 10_000_000]),
        min_rto: rng.pick(&[3_000, 20_000, 200_000]),
        // Long enough for a connection to be retried through heavy loss.
        max_rto: 2_000_000,
        initial_rto: rng.pick(&[200_000, 1_000_000]),
        ack_delay: rng.pick(&[0, 1_000, 2_000]),
        peer_ack_delay: rng.pick(&[2_000, 40_000]),
        probe_margin: rng.pick(&[1_000, 10_000]),
        connect_timeout: 60_000_000,
        user_timeout: 60_000_000,
        time_wait: 10_000_000,
        sack: rng.chance(850),
        timestamps: rng.chance(850),
        window_scaling: rng.chance(850),
        ..Config::default()
    }
}

fn side(rng: &mut Rng) -> Side {
    Side {
        bytes: rng.pick(&[0, 1, 1_000, 30_000, 300_000]) * rng.range(1, 3) / 2,
        piece: rng.pick(&[1, 50, 4_144, 131_072]).max(rng.below(20_000)),
        read_pause: if rng.chance(700) { 0 } else { rng.range(100, 20_000) },
        reads: rng.index(60) + 1,
    }
}

fn gap(rng: &mut Rng, per_mille: u64, longest: u64) -> Gap {
    if !rng.chance(per_mille) {
        return Gap::default();
    }
    let from = rng.below(200_000);
    Gap { from, to: from + rng.below(longest) }
}

impl Plan {
    /// Returns the plan of a seed.
    pub fn new(seed: u64) -> Plan {
        let rng = &mut Rng::new(seed);
        let mut links = [link(rng), link(rng)];
        let mut configs = [config(rng), config(rng)];
        let smol = rng
            .chance(300)
            .then(|| Smol { connects: rng.chance(500), buffer: rng.pick(&[2_000, 20_000, 65_535, 400_000]) });
        if smol.is_some() {
            // If frames run short just before the window closes, smoltcp never sends again what was
            // dropped.
            configs[0].max_held_frames = 32_768;
        }
        if rng.chance(100) {
            // smoltcp does not discover why its segments vanish.
            let from = if smol.is_some() { 0 } else { rng.index(2) };
            links[from].longest = rng.range(700, 1300) as usize;
        }
        if smol.is_none() && links.iter().all(|link| link.longest == 0) && rng.chance(300) {
            // As with ports that split and merge segments.
            configs.iter_mut().for_each(|config| config.offload_bytes = 60_000);
        }
        let count = if rng.chance(700) { 1 } else { rng.range(2, 5) };
        let mut plan = Plan {
            seed,
            links,
            configs,
            smol,
            cuts: false,
            connections: (0..count).map(|_| [side(rng), side(rng)]).collect(),
            stalls: [gap(rng, 150, 200_000), gap(rng, 150, 200_000)],
            cut: gap(rng, 150, 5_000_000),
            faults_end: 20_000_000,
            history: false,
        };
        let loses = |link: &Link| link.loss + link.corrupt > 0 || link.queue < u64::MAX;
        if smol.is_some() && (plan.links.iter().any(loses) || plan.cut.to > 0) {
            // After a closed window, smoltcp does not retransmit lost data, because its timer
            // remains that of the window probe.
            plan.connections.iter_mut().for_each(|sides| sides[0].read_pause = 0);
        }
        plan.cuts = plan.configs[0].offload_bytes > 0 && rng.chance(500);
        plan
    }

    /// Returns a plan without faults: one connection, on which the first host sends.
    pub fn fair(delay: u64, bytes: u64) -> Plan {
        let link = Link { delay, queue: u64::MAX, ..Link::default() };
        let config =
            Config { peer_ack_delay: 2_000, probe_margin: 1_000, time_wait: 1_000_000, ..Config::default() };
        let sides = [
            Side { bytes, piece: 131_072, read_pause: 0, reads: usize::MAX },
            Side { bytes: 0, piece: 1, read_pause: 0, reads: usize::MAX },
        ];
        Plan {
            seed: 0,
            links: [link.clone(), link],
            configs: [config.clone(), config],
            smol: None,
            cuts: false,
            connections: vec![sides],
            stalls: [Gap::default(); 2],
            cut: Gap::default(),
            faults_end: u64::MAX,
            history: false,
        }
    }

    /// Returns whether nothing can look like a loss. If so, nothing may be sent twice.
    pub fn is_harmless(&self) -> bool {
        let harmless = |link: &Link| {
            link.loss + link.repeat + link.corrupt + link.reorder + link.jitter + link.longest as u64 == 0
                && link.queue == u64::MAX
                && link.rate == 0
        };
        // smoltcp delays ACKs by 10 ms, for which `peer_ack_delay` need not allow.
        self.links.iter().all(harmless)
            && self.stalls.iter().all(|stall| stall.to == 0)
            && self.cut.to == 0
            && self.smol.is_none()
            // Small segments may exceed this limit, whatever the window says.
            && self.configs.iter().all(|config| config.max_held_frames > 1_000)
    }
}
