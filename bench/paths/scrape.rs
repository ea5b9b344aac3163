//! What `dst_get_metrics` costs an application with [`OBJECTS`] bdevs and as many exports, of which
//! each has one session of two connections.

use std::collections::BTreeMap;

use dst_broker::{Activity, Broker, ConnectionId, ExportActivity, Limits, Stats, Totals};
use dst_metrics::rows::{Bdev, Export};
use dst_session::counts::Counts;
use dst_session::histogram::SharedHistogram;

/// The number of bdevs, and of exports.
const OBJECTS: usize = 100;

const LIMITS: Limits = Limits {
    max_connections: 4096,
    max_queues: 1024,
    max_handshakes: 256,
    max_handshakes_per_address: 64,
    max_connections_per_host: 1024,
    max_sessions: 1024,
    session_timeout_ms: 60_000,
    max_keep_alive_ms: 60_000,
    drain_timeout_ms: 5000,
    queue_depth: 256,
    max_transfer: 1 << 20,
};

pub struct Scrape {
    names: Vec<String>,
    /// The histograms of a channel, and of those that are gone.
    channels: [[SharedHistogram; 3]; 2],
    activities: BTreeMap<ConnectionId, Activity>,
    totals: Totals,
}

impl Scrape {
    pub fn new() -> Scrape {
        let channels: [[SharedHistogram; 3]; 2] = Default::default();
        let mut stats = Stats { reads: 12_345_678, read_bytes: 50_567_897_088, ..Stats::default() };
        // Latencies of ten buckets, as a device has them under load.
        for number in 0..100_000 {
            let latency_us = 10 + (number * number) % 9000;
            stats.read_latency.record(latency_us);
            stats.write_latency.record(latency_us);
            channels[0].iter().for_each(|histogram| histogram.record(latency_us));
        }
        let activity = Activity { stats, in_flight: 17 };
        Scrape {
            names: (0..OBJECTS).map(|number| format!("volume-{number:05}")).collect(),
            channels,
            activities: (0..2 * OBJECTS as u64).map(|id| (id, activity)).collect(),
            totals: Broker::new(LIMITS).totals(&BTreeMap::new()),
        }
    }

    /// Adds the counts of the channels of each bdev.
    #[inline(never)]
    pub fn sum_channels(&self) -> Vec<Counts> {
        let sum = |_| {
            let mut counts =
                Counts { transactions: 12_345_678, read_bytes: 50_567_897_088, ..Counts::default() };
            for [read, write, other] in &self.channels {
                counts.read_latency.add_shared(read);
                counts.write_latency.add_shared(write);
                counts.other_latency.add_shared(other);
            }
            counts
        };
        (0..OBJECTS).map(sum).collect()
    }

    /// Adds the counts of the connections of each export and of the whole target, as the broker
    /// does.
    #[inline(never)]
    pub fn sum_connections(&self) -> (BTreeMap<&str, ExportActivity>, Stats) {
        let mut counts: BTreeMap<ConnectionId, Activity> = BTreeMap::new();
        counts.extend(self.activities.iter().map(|(id, activity)| (*id, *activity)));
        let mut exports: BTreeMap<_, _> =
            self.names.iter().map(|name| (name.as_str(), ExportActivity::default())).collect();
        let mut all = Stats::default();
        for (id, activity) in &counts {
            all.add(&activity.stats);
            let name = self.names[*id as usize % OBJECTS].as_str();
            if let Some(export) = exports.get_mut(name) {
                export.stats.add(&activity.stats);
                export.in_flight += activity.in_flight;
            }
        }
        (exports, all)
    }

    /// Writes the answer.
    #[inline(never)]
    pub fn answer(&self, counts: &[Counts], exports: &BTreeMap<&str, ExportActivity>) -> String {
        let bdev = |(name, counts)| Bdev {
            name,
            export: name,
            state: "connected",
            size_bytes: 1 << 40,
            connections: 2,
            channels: 1,
            lost_caches: 0,
            counts,
        };
        let bdevs: Vec<_> = self.names.iter().map(String::as_str).zip(counts).map(bdev).collect();
        let export = |(name, activity)| Export { name, bdev: name, state: "online", activity };
        let exports: Vec<_> = exports.iter().map(|(name, activity)| export((*name, activity))).collect();
        let target = dst_metrics::Target { exports: &exports, listeners: &[], totals: &self.totals };
        dst_metrics::answer(1_700_000_000_123, &bdevs, Some(&target))
    }
}
