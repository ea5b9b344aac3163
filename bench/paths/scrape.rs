//! What `dst_get_metrics` costs a reactor whose application has [`OBJECTS`] bdevs and as many
//! exports, of which each has a session of two connections.

use std::net::SocketAddr;

use dst_broker::{
    Broker, ConnectionActivity, Input, Limits, Opening, Order, Output, PreviousProcess, Reported, Rules,
    Stats,
};
use dst_metrics::rows::{Bdev, Export};
use dst_session::access::{Access, Host};
use dst_session::counts::Counts;
use dst_session::histogram::SharedHistogram;
use dst_wire::{Device, Hello, Op, SessionRef};

/// The number of bdevs, and of exports.
const OBJECTS: u16 = 100;

const LIMITS: Limits = Limits {
    max_connections: 4096,
    max_queues: 1024,
    max_handshakes: 256,
    max_handshakes_per_address: 256,
    max_connections_per_host: 1024,
    max_sessions: 1024,
    session_timeout_ms: 60_000,
    max_keep_alive_ms: 60_000,
    drain_timeout_ms: 5000,
    queue_depth: 256,
    max_transfer: 1 << 20,
};

/// An application that has done I/O.
pub struct Scrape {
    names: Vec<String>,
    /// The histograms of a bdev's two channels: of reads, of writes, and of other I/O.
    channels: [[SharedHistogram; 3]; 2],
    broker: Broker,
    /// The connections that carry requests, as their group knows them.
    connections: Vec<u64>,
    stats: Stats,
}

impl Scrape {
    pub fn new() -> Scrape {
        let channels: [[SharedHistogram; 3]; 2] = Default::default();
        let mut stats = Stats { reads: 12_345_678, read_bytes: 50_567_897_088, ..Stats::default() };
        // Latencies up to 9 ms, in ten buckets, as many as a loaded disk fills.
        for number in 0..100_000 {
            let latency_us = 10 + (number * number) % 9000;
            stats.read_latency.record(latency_us);
            stats.write_latency.record(latency_us);
            for [read, write, _] in &channels {
                read.record(latency_us);
                write.record(latency_us);
            }
        }
        let names: Vec<_> = (0..OBJECTS).map(|number| format!("volume-{number:05}")).collect();
        let mut broker = Broker::new(LIMITS);
        broker.handle(0, Input::GroupsStarted(1));
        let connections =
            names.iter().zip(0..).map(|(name, number)| attach(&mut broker, name, number)).collect();
        Scrape { names, channels, broker, connections, stats }
    }

    /// Copies the counts of the connections, as their group does.
    #[inline(never)]
    pub fn copy_connections(&self) -> Reported {
        let copy = |&id| (id, Box::new(ConnectionActivity { stats: self.stats, in_flight: 17 }));
        let copies: Vec<_> = self.connections.iter().map(copy).collect();
        copies.into_iter().collect()
    }

    /// Adds the counts of the channels of a bdev.
    #[inline(never)]
    pub fn sum_channels(&self) -> Counts {
        let mut counts = Counts { transactions: 12_345_678, read_bytes: 50_567_897_088, ..Counts::default() };
        for [read, write, other] in &self.channels {
            counts.read_latency.add_shared(read);
            counts.write_latency.add_shared(write);
            counts.other_latency.add_shared(other);
        }
        counts
    }

    /// Adds the counts and writes the answer.
    #[inline(never)]
    pub fn answer(&self, reported: &Reported) -> String {
        let bdevs = self.names.iter().map(|name| Bdev {
            name,
            export: name,
            state: "connected",
            size_bytes: 1 << 40,
            connections: 2,
            channels: 2,
            lost_caches: 0,
            counts: self.sum_channels(),
        });
        let activities = self.broker.activities(reported);
        let exports = self.names.iter().filter_map(|name| {
            let activity = activities.of(name)?;
            Some(Export { name, bdev: name, state: "online", activity })
        });
        let totals = self.broker.totals(reported);
        let target = dst_metrics::Target { exports, listeners: Vec::new(), totals: &totals };
        dst_metrics::answer(1_700_000_000_123, bdevs, &[], Some(target))
    }
}

/// Creates an export that a client attaches. Returns the connection that carries its requests.
fn attach(broker: &mut Broker, name: &str, number: u8) -> u64 {
    broker.create_export(name, Rules::default()).expect("the name is free");
    let device = Device {
        uuid: [number; 16],
        num_blocks: 1 << 31,
        block_size: 512,
        write_unit_size: 1,
        optimal_io_boundary: 0,
        compare_and_write_max: 1,
        write_cache: true,
        read_only: false,
        ops: Op::ALL.into_iter().collect(),
    };
    broker.handle(
        0,
        Input::Online { export: name.to_owned(), device, instance: [1; 16], predecessors: Vec::new() },
    );
    let host = Host { name: "*".to_owned(), access: Access::ReadWrite, addresses: Vec::new(), keys: None };
    broker.add_host(0, name, host).expect("the export has room for a host");
    hello(broker, name, number, None);
    let session = SessionRef { id: [number; 16], queue: 1, epoch: 1 };
    hello(broker, name, number, Some(session))
}

/// Returns a connection that was admitted: to a new session, or to a session's queue.
fn hello(broker: &mut Broker, export: &str, number: u8, session: Option<SessionRef>) -> u64 {
    let peer = SocketAddr::from(([192, 0, 2, number], 4460));
    let connection = broker.accepted(1, peer, None).expect("there is room").connection;
    let hello = Hello {
        versions: (1, 1),
        export: export.to_owned(),
        host: format!("client-{number}"),
        session,
        previous: None,
        claim: None,
        credits: 128,
        digests: vec![0],
        ciphers: vec![0],
        keep_alive_ms: 4000,
        aborts: true,
    };
    let opening = Opening { session: [number; 16], previous: PreviousProcess::This };
    broker.handle(1, Input::Hello { connection, hello: Box::new(hello), opening });
    let mut is_admitted = false;
    while let Some(output) = broker.poll_output() {
        is_admitted |= matches!(output, Output::ToGroup { order: Order::Welcome(..), .. });
    }
    assert!(is_admitted, "the connection is admitted at once");
    connection
}
