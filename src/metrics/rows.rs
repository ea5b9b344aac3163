//! The rows of the tables.

use dst_broker::{ExportActivity, Stats, Totals};
use dst_session::counts::Counts;

use crate::table::Cell::{Histogram, Number, Text};
use crate::table::Named;

/// An attached bdev.
#[derive(Debug, Clone, Copy)]
pub struct Bdev<'a> {
    /// The bdev's name.
    pub name: &'a str,
    /// The name of its export.
    pub export: &'a str,
    /// Its state, as `bdev_dst_get_info` names it.
    pub state: &'static str,
    /// Its size; 0 if it was never attached.
    pub size_bytes: u64,
    /// The number of its connections that are up.
    pub connections: usize,
    /// The number of threads that have it open.
    pub channels: usize,
    /// How often a restart of the target may have lost completed writes.
    pub lost_caches: u64,
    /// The counts of its channels.
    pub counts: &'a Counts,
}

impl<'a> Bdev<'a> {
    /// Returns the bdev's row.
    pub fn cells(&self) -> impl Iterator<Item = Named<'a>> + Clone + use<'a> {
        let Bdev { name, export, state, size_bytes, connections, channels, lost_caches, counts } = *self;
        // Without `..`, so that a forgotten count does not compile.
        let Counts {
            transactions,
            errors,
            expired,
            lost,
            reconnects,
            resent,
            corrupt,
            outstanding,
            waiting,
            read_bytes,
            written_bytes,
            read_latency,
            write_latency,
            other_latency,
        } = counts;
        [
            ("bdev", Text(name)),
            ("export", Text(export)),
            ("state", Text(state)),
            ("size_bytes", Number(size_bytes)),
            ("connections", Number(connections as u64)),
            ("channels", Number(channels as u64)),
            ("lost_caches", Number(lost_caches)),
            ("transactions", Number(*transactions)),
            ("errors", Number(*errors)),
            ("expired", Number(*expired)),
            ("connections_lost", Number(*lost)),
            ("reconnects", Number(*reconnects)),
            ("resent", Number(*resent)),
            ("corrupt", Number(*corrupt)),
            ("outstanding", Number(*outstanding)),
            ("waiting", Number(*waiting)),
            ("read_bytes", Number(*read_bytes)),
            ("written_bytes", Number(*written_bytes)),
            ("read_latency", Histogram(read_latency)),
            ("write_latency", Histogram(write_latency)),
            ("other_latency", Histogram(other_latency)),
        ]
        .into_iter()
    }
}

/// An export.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// The export's name.
    pub name: &'a str,
    /// The name of its bdev, as the operator gave it.
    pub bdev: &'a str,
    /// `online`, `offline`, or `deleting`.
    pub state: &'static str,
    /// Its counts and its size.
    pub activity: &'a ExportActivity,
}

impl<'a> Export<'a> {
    /// Returns the export's row.
    pub fn cells(&self) -> impl Iterator<Item = Named<'a>> + Clone + use<'a> {
        let Export { name, bdev, state, activity } = *self;
        let ExportActivity { size_bytes, is_deleting: _, stats, sessions, connections, in_flight } = activity;
        let own = [
            ("export", Text(name)),
            ("bdev", Text(bdev)),
            ("state", Text(state)),
            ("size_bytes", Number(*size_bytes)),
            ("sessions", Number(*sessions as u64)),
            ("connections", Number(*connections as u64)),
            ("in_flight", Number(*in_flight as u64)),
        ];
        own.into_iter().chain(of_stats(stats))
    }
}

/// A listener.
#[derive(Debug, Clone)]
pub struct Listener {
    /// The address and the port, as in `[::1]:4460`.
    pub address: String,
    /// `listening` or `waiting`.
    pub state: &'static str,
}

impl Listener {
    /// Returns the listener's row.
    pub fn cells(&self) -> impl Iterator<Item = Named<'_>> + Clone {
        [("address", Text(&self.address)), ("state", Text(self.state))].into_iter()
    }
}

/// Returns the row of a whole target.
pub fn of_totals(totals: &Totals) -> impl Iterator<Item = Named<'_>> + Clone {
    let Totals {
        stats,
        refused_hellos,
        refused_busy,
        handshakes_evicted,
        connections_refused,
        sessions_timed_out,
        max_connections,
        connections,
        handshakes,
        waiting,
        closing,
        sessions,
        in_flight,
    } = totals;
    let own = [
        ("refused_hellos", Number(*refused_hellos)),
        ("refused_busy", Number(*refused_busy)),
        ("handshakes_evicted", Number(*handshakes_evicted)),
        ("connections_refused", Number(*connections_refused)),
        ("sessions_timed_out", Number(*sessions_timed_out)),
        ("max_connections", Number((*max_connections).into())),
        ("connections", Number(*connections as u64)),
        ("handshakes", Number(*handshakes as u64)),
        ("waiting", Number(*waiting as u64)),
        ("closing", Number(*closing as u64)),
        ("sessions", Number(*sessions as u64)),
        ("in_flight", Number(*in_flight as u64)),
    ];
    own.into_iter().chain(of_stats(stats))
}

/// Returns the cells of the counts that an export and a whole target have in common.
fn of_stats(stats: &Stats) -> impl Iterator<Item = Named<'_>> + Clone {
    let Stats {
        reads,
        read_bytes,
        writes,
        written_bytes,
        others,
        errors,
        failed_flushes: _,
        repeated,
        executed_again,
        dropped,
        lease_expiries,
        handshake_timeouts,
        handshake_bytes_exceeded,
        violations,
        stalls,
        reconnects,
        fences,
        corrupt,
        read_latency,
        write_latency,
        other_latency,
    } = stats;
    [
        ("reads", Number(*reads)),
        ("read_bytes", Number(*read_bytes)),
        ("writes", Number(*writes)),
        ("written_bytes", Number(*written_bytes)),
        ("other_operations", Number(*others)),
        ("errors", Number(*errors)),
        ("answered_from_record", Number(*repeated)),
        ("executed_again", Number(*executed_again)),
        ("dropped", Number(*dropped)),
        ("lease_expiries", Number(*lease_expiries)),
        ("handshake_timeouts", Number(*handshake_timeouts)),
        ("handshake_bytes_exceeded", Number(*handshake_bytes_exceeded)),
        ("violations", Number(*violations)),
        ("stalls", Number(*stalls)),
        ("reconnects", Number(*reconnects)),
        ("fences", Number(*fences)),
        ("corrupt", Number(*corrupt)),
        ("read_latency", Histogram(read_latency)),
        ("write_latency", Histogram(write_latency)),
        ("other_latency", Histogram(other_latency)),
    ]
    .into_iter()
}
