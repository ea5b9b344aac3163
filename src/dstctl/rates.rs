//! The activity between two snapshots. No I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::snapshot::{Bdev, Bucket, IoStat, Mirror, Snapshot};

/// The counts of a bdev, a mirror or an export so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts {
    ios: u64,
    read_bytes: u64,
    written_bytes: u64,
    /// The number of I/Os by the upper bound of their latency, µs. Empty for exports and mirrors: the
    /// RPCs do not show their latencies.
    latency: BTreeMap<u64, u64>,
}

/// The state and the counts of an application at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The time since an arbitrary but fixed moment.
    pub time: Duration,
    pub snapshot: Snapshot,
    pub iostat: Vec<IoStat>,
}

/// The kind of object that a row shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Bdev,
    Mirror,
    Export,
}

/// The activity of a bdev, a mirror or an export in the last interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub kind: Kind,
    pub name: String,
    pub state: String,
    /// I/Os per second.
    pub iops: f64,
    /// Bytes per second.
    pub read: f64,
    /// Bytes per second.
    pub written: f64,
    /// The bound below which half of the latencies were, µs.
    pub p50_us: Option<u64>,
    /// The bound below which 99 % of the latencies were, µs.
    pub p99_us: Option<u64>,
    /// The number of I/Os that have begun and not ended.
    pub depth: u64,
    /// The number of connections; of a mirror, the members in sync of all.
    pub parts: String,
}

/// The order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Name,
    Iops,
    Read,
    Written,
    Latency,
    Depth,
}

/// Returns a row for each bdev, followed by one for each mirror and one for each export, each kind in
/// the order of `sort`.
pub fn rows(before: &Sample, now: &Sample, sort: Sort) -> Vec<Row> {
    let seconds = now.time.saturating_sub(before.time).as_secs_f64();
    let mut rows: Vec<Row> =
        now.snapshot.bdevs.iter().map(|bdev| bdev_row(bdev, before, now, seconds)).collect();
    rows.extend(now.snapshot.mirrors.iter().map(|mirror| mirror_row(mirror, before, now, seconds)));
    rows.extend(export_rows(before, now, seconds));
    // The second sort is stable, so rows with equal keys stay in the order of their names.
    rows.sort_by(|a, b| a.kind.cmp(&b.kind).then_with(|| a.name.cmp(&b.name)));
    let key = |row: &Row| match sort {
        Sort::Name => 0.0,
        Sort::Iops => row.iops,
        Sort::Read => row.read,
        Sort::Written => row.written,
        Sort::Latency => row.p99_us.unwrap_or(0) as f64,
        Sort::Depth => row.depth as f64,
    };
    rows.sort_by(|a, b| a.kind.cmp(&b.kind).then_with(|| key(b).total_cmp(&key(a))));
    rows
}

fn bdev_row(bdev: &Bdev, before: &Sample, now: &Sample, seconds: f64) -> Row {
    let earlier = before.snapshot.bdevs.iter().find(|earlier| earlier.name == bdev.name);
    let known = earlier.map(|earlier| counts_of(earlier, &before.iostat));
    let found = counts_of(bdev, &now.iostat);
    let row = Row {
        kind: Kind::Bdev,
        name: bdev.name.clone(),
        state: bdev.state.name().to_owned(),
        depth: bdev.outstanding.saturating_add(bdev.waiting),
        parts: bdev.connections.to_string(),
        ..EMPTY
    };
    with_rates(row, known.as_ref(), &found, seconds)
}

const EMPTY: Row = Row {
    kind: Kind::Bdev,
    name: String::new(),
    state: String::new(),
    iops: 0.0,
    read: 0.0,
    written: 0.0,
    p50_us: None,
    p99_us: None,
    depth: 0,
    parts: String::new(),
};

/// Returns counts with the bytes that the bdev layer has counted for this bdev.
fn with_bytes(ios: u64, name: &str, iostat: &[IoStat]) -> Counts {
    let io = iostat.iter().find(|io| io.name == name);
    let (read_bytes, written_bytes) = io.map_or((0, 0), |io| (io.bytes_read, io.bytes_written));
    Counts { ios, read_bytes, written_bytes, latency: BTreeMap::new() }
}

fn mirror_row(mirror: &Mirror, before: &Sample, now: &Sample, seconds: f64) -> Row {
    let counts = |mirror: &Mirror, iostat: &[IoStat]| {
        let of = &mirror.counters;
        let ios = of.reads.saturating_add(of.writes).saturating_add(of.flushes);
        with_bytes(ios, &mirror.name, iostat)
    };
    let earlier = before.snapshot.mirrors.iter().find(|earlier| earlier.name == mirror.name);
    let known = earlier.map(|earlier| counts(earlier, &before.iostat));
    let (in_sync, all) = mirror.in_sync();
    let row = Row {
        kind: Kind::Mirror,
        name: mirror.name.clone(),
        state: mirror.state.name().to_owned(),
        depth: mirror.outstanding.saturating_add(mirror.waiting),
        parts: format!("{in_sync}/{all}"),
        ..EMPTY
    };
    with_rates(row, known.as_ref(), &counts(mirror, &now.iostat), seconds)
}

fn counts_of(bdev: &Bdev, iostat: &[IoStat]) -> Counts {
    let mut counts = with_bytes(bdev.counters.transactions, &bdev.name, iostat);
    let latency = &bdev.latency_us;
    for Bucket { below_us, count } in latency.read.iter().chain(&latency.write).chain(&latency.other) {
        let sum = counts.latency.entry(*below_us).or_default();
        *sum = sum.saturating_add(*count);
    }
    counts
}

fn export_rows(before: &Sample, now: &Sample, seconds: f64) -> Vec<Row> {
    let (known, found) = (by_export(&before.snapshot), by_export(&now.snapshot));
    let row = |export: &crate::snapshot::Export| {
        let sessions = now.snapshot.sessions.iter().filter(|session| session.export == export.name);
        let (mut depth, mut connections) = (0_u64, 0_u64);
        for queue in sessions.flat_map(|session| &session.queues) {
            depth = depth.saturating_add(queue.in_flight);
            connections += 1;
        }
        let state = export.state().to_owned();
        let parts = connections.to_string();
        let row = Row { kind: Kind::Export, name: export.name.clone(), state, depth, parts, ..EMPTY };
        let found = found.get(&export.name[..]).cloned().unwrap_or_default();
        let was_there = before.snapshot.exports.iter().any(|earlier| earlier.name == export.name);
        let known = was_there.then(|| known.get(&export.name[..]).cloned().unwrap_or_default());
        with_rates(row, known.as_ref(), &found, seconds)
    };
    now.snapshot.exports.iter().map(row).collect()
}

fn by_export(snapshot: &Snapshot) -> BTreeMap<&str, Counts> {
    let mut all = BTreeMap::<&str, Counts>::new();
    for session in &snapshot.sessions {
        let counts = all.entry(&session.export).or_default();
        let of = &session.counters;
        for ios in [of.reads, of.writes, of.other_operations] {
            counts.ios = counts.ios.saturating_add(ios);
        }
        counts.read_bytes = counts.read_bytes.saturating_add(of.read_bytes);
        counts.written_bytes = counts.written_bytes.saturating_add(of.written_bytes);
    }
    all
}

/// Fills in the rates since `known` was counted. Without `known` there are no rates yet. A count
/// that has become smaller (a session has ended, or a bdev was created anew) gives a rate of 0.
fn with_rates(mut row: Row, known: Option<&Counts>, found: &Counts, seconds: f64) -> Row {
    let Some(known) = known.filter(|_| seconds > 0.0) else { return row };
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    row.iops = rate(found.ios, known.ios);
    row.read = rate(found.read_bytes, known.read_bytes);
    row.written = rate(found.written_bytes, known.written_bytes);
    let latency: Vec<(u64, u64)> = found
        .latency
        .iter()
        .map(|(below_us, count)| {
            (*below_us, count.saturating_sub(known.latency.get(below_us).copied().unwrap_or(0)))
        })
        .collect();
    (row.p50_us, row.p99_us) = (percentile(&latency, 50), percentile(&latency, 99));
    row
}

/// Returns the bound below which this percentage of the latencies was, or `None` if there are none.
fn percentile(buckets: &[(u64, u64)], percent: u128) -> Option<u64> {
    let total: u128 = buckets.iter().map(|(_, count)| u128::from(*count)).sum();
    let mut left = (total * percent).div_ceil(100);
    for (below_us, count) in buckets {
        left = left.saturating_sub((*count).into());
        if *count > 0 && left == 0 {
            return Some(*below_us);
        }
    }
    None
}

/// Returns the rows of one kind whose names contain `filter`.
pub fn filtered<'a>(rows: &'a [Row], kind: Kind, filter: &'a str) -> impl Iterator<Item = &'a Row> {
    rows.iter().filter(move |row| row.kind == kind && row.name.contains(filter))
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// Returns a sample with a bdev `b` and an export `v`, whose counts are multiples of `n`.
    pub fn sample(seconds: u64, n: u64, state: &str) -> Sample {
        let snapshot = json!({
            "exports": [{"name": "v", "bdev_name": "x"}, {"name": "idle", "bdev_name": "y", "offline_reason": "gone"}],
            "listeners": [],
            "sessions": [{"id": "i", "export": "v", "host": "h", "peer": "p",
                          "queues": [{"state": "ready", "in_flight": 3}, {"state": "ready"}],
                          "counters": {"reads": n, "read_bytes": 4096 * n, "writes": n, "written_bytes": 512 * n}}],
            "bdevs": [{"name": "b", "traddr": "a", "trsvcid": "1", "export": "e", "state": state, "outstanding": 5,
                       "waiting": 2, "connections": 4, "counters": {"transactions": 10 * n},
                       "last_error": "refused", "state_age_ms": 7000,
                       "latency_us": {"read": [{"below_us": 64, "count": 90 * n}, {"below_us": 128, "count": 9 * n}],
                                      "write": [{"below_us": 4096, "count": n}], "other": []}}],
        });
        let iostat = vec![IoStat { name: "b".to_owned(), bytes_read: 1 << 20, bytes_written: n << 20 }];
        Sample {
            time: Duration::from_secs(seconds),
            snapshot: serde_json::from_value(snapshot).unwrap(),
            iostat,
        }
    }

    #[test]
    fn rates_are_of_the_interval() {
        let all = rows(&sample(10, 100, "connected"), &sample(12, 300, "connected"), Sort::Iops);
        let names: Vec<_> = all.iter().map(|row| (&row.name[..], &row.state[..])).collect();
        assert_eq!(names, [("b", "connected"), ("v", "online"), ("idle", "offline")]);
        let [bdev, export, idle] = &all[..] else { panic!("{all:?}") };
        assert_eq!((bdev.iops, bdev.read, bdev.written), (1000.0, 0.0, 100.0 * f64::from(1 << 20)));
        assert_eq!(
            (bdev.p50_us, bdev.p99_us, bdev.depth, bdev.parts.as_str()),
            (Some(64), Some(128), 7, "4")
        );
        assert_eq!((export.iops, export.read, export.written), (200.0, 409_600.0, 51_200.0));
        assert_eq!((export.depth, &export.parts[..], export.p99_us), (3, "2", None));
        assert_eq!((idle.iops, idle.depth), (0.0, 0));
    }

    #[test]
    fn nothing_is_invented() {
        // The three cases are the first sample, a restart, and two samples at the same time.
        let now = sample(12, 300, "connected");
        let mut empty = sample(10, 100, "connected");
        empty.snapshot = Snapshot::default();
        for (before, now) in [(&empty, &now), (&now, &sample(14, 100, "connected")), (&now, &now.clone())] {
            for row in rows(before, now, Sort::Name) {
                assert_eq!((row.iops, row.p50_us), (0.0, None), "{row:?}");
            }
        }
    }

    #[test]
    fn percentiles() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[(1, 0), (2, 0)], 99), None);
        assert_eq!(percentile(&[(1, 1)], 99), Some(1));
        assert_eq!(percentile(&[(1, 99), (2, 1)], 99), Some(1));
        assert_eq!(percentile(&[(1, 98), (2, 2)], 99), Some(2));
        assert_eq!(percentile(&[(1, u64::MAX), (2, u64::MAX)], 50), Some(1));
    }

    #[test]
    fn rows_are_sorted_within_their_kind() {
        let (before, now) = (sample(10, 100, "connected"), sample(12, 300, "connected"));
        for sort in [Sort::Name, Sort::Read, Sort::Written, Sort::Latency, Sort::Depth] {
            let all = rows(&before, &now, sort);
            assert_eq!(all[0].kind, Kind::Bdev);
            let first = if matches!(sort, Sort::Name | Sort::Latency) { "idle" } else { "v" };
            assert_eq!(all[1].name, first, "{sort:?}");
        }
        let all = rows(&before, &now, Sort::Name);
        assert_eq!(filtered(&all, Kind::Export, "dl").count(), 1);
        assert_eq!(filtered(&all, Kind::Bdev, "dl").count(), 0);
    }
}
