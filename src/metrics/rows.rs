//! The rows of the tables.

use dst_broker::{ExportActivity, Stats, Totals};
use dst_session::counts::Counts;

use crate::table::{Cells, Row};

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
    pub counts: Counts,
}

impl Row for Bdev<'_> {
    fn cells(&self, cells: &mut impl Cells) {
        let Bdev { name, export, state, size_bytes, connections, channels, lost_caches, counts } = self;
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
        cells.text("bdev", name);
        cells.text("export", export);
        cells.text("state", state);
        cells.number("size_bytes", *size_bytes);
        cells.number("connections", *connections as u64);
        cells.number("channels", *channels as u64);
        cells.number("lost_caches", *lost_caches);
        cells.number("transactions", *transactions);
        cells.number("errors", *errors);
        cells.number("expired", *expired);
        cells.number("connections_lost", *lost);
        cells.number("reconnects", *reconnects);
        cells.number("resent", *resent);
        cells.number("corrupt", *corrupt);
        cells.number("outstanding", *outstanding);
        cells.number("waiting", *waiting);
        cells.number("read_bytes", *read_bytes);
        cells.number("written_bytes", *written_bytes);
        cells.histogram("read_latency", read_latency);
        cells.histogram("write_latency", write_latency);
        cells.histogram("other_latency", other_latency);
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
    pub activity: ExportActivity,
}

impl Row for Export<'_> {
    fn cells(&self, cells: &mut impl Cells) {
        let Export { name, bdev, state, activity } = self;
        let ExportActivity { size_bytes, is_deleting: _, stats, sessions, connections, in_flight } = activity;
        cells.text("export", name);
        cells.text("bdev", bdev);
        cells.text("state", state);
        cells.number("size_bytes", *size_bytes);
        cells.number("sessions", *sessions as u64);
        cells.number("connections", *connections as u64);
        cells.number("in_flight", *in_flight as u64);
        of_stats(stats, cells);
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

impl Row for Listener {
    fn cells(&self, cells: &mut impl Cells) {
        cells.text("address", &self.address);
        cells.text("state", self.state);
    }
}

impl Row for &Totals {
    fn cells(&self, cells: &mut impl Cells) {
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
        } = self;
        cells.number("refused_hellos", *refused_hellos);
        cells.number("refused_busy", *refused_busy);
        cells.number("handshakes_evicted", *handshakes_evicted);
        cells.number("connections_refused", *connections_refused);
        cells.number("sessions_timed_out", *sessions_timed_out);
        cells.number("max_connections", (*max_connections).into());
        cells.number("connections", *connections as u64);
        cells.number("handshakes", *handshakes as u64);
        cells.number("waiting", *waiting as u64);
        cells.number("closing", *closing as u64);
        cells.number("sessions", *sessions as u64);
        cells.number("in_flight", *in_flight as u64);
        of_stats(stats, cells);
    }
}

/// Passes on the counts that an export and a whole target have in common.
#[inline(always)]
fn of_stats(stats: &Stats, cells: &mut impl Cells) {
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
    cells.number("reads", *reads);
    cells.number("read_bytes", *read_bytes);
    cells.number("writes", *writes);
    cells.number("written_bytes", *written_bytes);
    cells.number("other_operations", *others);
    cells.number("errors", *errors);
    cells.number("answered_from_record", *repeated);
    cells.number("executed_again", *executed_again);
    cells.number("dropped", *dropped);
    cells.number("lease_expiries", *lease_expiries);
    cells.number("handshake_timeouts", *handshake_timeouts);
    cells.number("handshake_bytes_exceeded", *handshake_bytes_exceeded);
    cells.number("violations", *violations);
    cells.number("stalls", *stalls);
    cells.number("reconnects", *reconnects);
    cells.number("fences", *fences);
    cells.number("corrupt", *corrupt);
    cells.histogram("read_latency", read_latency);
    cells.histogram("write_latency", write_latency);
    cells.histogram("other_latency", other_latency);
}
