//! The answer of `dst_get_metrics`, which monitoring asks for again and again: all counts of a
//! process, in one call and in few bytes. No SPDK, no I/O.
//!
//! The answer is written as text at once, without a tree of JSON values that SPDK would write byte by
//! byte.
//!
//! | module | contents |
//! | --- | --- |
//! | [`table`] | tables in JSON whose columns are named once |
//! | [`rows`] | the rows of the tables |

#![forbid(unsafe_code)]

pub mod rows;
pub mod table;

use std::io::Write;

use dst_broker::Totals;

use crate::rows::{Bdev, Export, Listener, of_totals};
use crate::table::table;

/// The counts of a target.
#[derive(Debug)]
pub struct Target<'a> {
    /// The exports.
    pub exports: &'a [Export<'a>],
    /// The listeners.
    pub listeners: &'a [Listener],
    /// The counts of the whole target.
    pub totals: &'a Totals,
}

/// Returns the JSON text of all counts of a process that started at `start_time_ms`, in ms since
/// 1970. Without a target, which is the case while the application starts or stops, the target's
/// tables are empty.
pub fn answer(start_time_ms: u64, bdevs: &[Bdev<'_>], target: Option<&Target<'_>>) -> String {
    // A row has some 300 bytes.
    let rows = bdevs.len() + target.map_or(0, |target| target.exports.len());
    let mut text = Vec::with_capacity(2048 + 384 * rows);
    write!(text, "{{\"start_time_ms\":{start_time_ms},\"bdevs\":").expect("memory is no file");
    table(&mut text, bdevs.iter().map(Bdev::cells));
    text.extend_from_slice(b",\"exports\":");
    table(&mut text, target.iter().flat_map(|target| target.exports).map(Export::cells));
    text.extend_from_slice(b",\"listeners\":");
    table(&mut text, target.iter().flat_map(|target| target.listeners).map(Listener::cells));
    text.extend_from_slice(b",\"target\":");
    table(&mut text, target.iter().map(|target| of_totals(target.totals)));
    text.push(b'}');
    String::from_utf8(text).expect("strings and digits are UTF-8")
}

#[cfg(test)]
mod tests {
    use dst_broker::{Broker, ExportActivity, Limits};
    use dst_session::counts::Counts;
    use serde_json::{Value, json};

    use super::*;

    const LIMITS: Limits = Limits {
        max_connections: 8,
        max_queues: 8,
        max_handshakes: 4,
        max_handshakes_per_address: 4,
        max_connections_per_host: 6,
        max_sessions: 2,
        session_timeout_ms: 1000,
        max_keep_alive_ms: 60_000,
        drain_timeout_ms: 300,
        queue_depth: 4,
        max_transfer: 1 << 20,
    };

    fn cell(table: &Value, row: usize, name: &str) -> Value {
        let columns = table["columns"].as_array().unwrap();
        let column = columns.iter().position(|column| column == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(table["rows"][row].as_array().unwrap().len(), columns.len());
        table["rows"][row][column].clone()
    }

    #[test]
    fn every_count_is_in_its_column() {
        let mut counts = Counts { resent: 7, read_bytes: u64::MAX, ..Counts::default() };
        counts.read_latency.record(3);
        counts.read_latency.record(u64::from(u32::MAX));
        let bdevs = ["b", "\"\u{1}\\é"].map(|name| Bdev {
            name,
            export: "e",
            state: "connected",
            size_bytes: 4096,
            connections: 2,
            channels: 1,
            lost_caches: 0,
            counts: &counts,
        });
        let mut activity = ExportActivity { sessions: 3, ..ExportActivity::default() };
        activity.stats.violations = 5;
        let exports = [Export { name: "e", bdev: "m", state: "online", activity: &activity }];
        let listeners = [Listener { address: "[::1]:4460".to_owned(), state: "waiting" }];
        let totals = Broker::new(LIMITS).totals(&Default::default());
        let target = Target { exports: &exports, listeners: &listeners, totals: &totals };
        let answer: Value = serde_json::from_str(&answer(9, &bdevs, Some(&target))).unwrap();
        assert_eq!(answer["start_time_ms"], 9);
        assert_eq!(cell(&answer["bdevs"], 0, "resent"), 7);
        assert_eq!(cell(&answer["bdevs"], 1, "read_bytes"), u64::MAX);
        assert_eq!(cell(&answer["bdevs"], 1, "bdev"), "\"\u{1}\\é");
        let mut histogram = vec![u64::from(u32::MAX) + 3, 0, 0, 1];
        histogram.resize(32, 0);
        histogram.push(1);
        assert_eq!(cell(&answer["bdevs"], 0, "read_latency"), json!(histogram));
        assert_eq!(cell(&answer["bdevs"], 0, "other_latency"), json!([0]));
        assert_eq!(cell(&answer["exports"], 0, "sessions"), 3);
        assert_eq!(cell(&answer["exports"], 0, "violations"), 5);
        assert_eq!(cell(&answer["listeners"], 0, "address"), "[::1]:4460");
        assert_eq!(cell(&answer["target"], 0, "max_connections"), 8);
    }

    #[test]
    fn without_a_target_its_tables_are_empty() {
        let answer: Value = serde_json::from_str(&answer(9, &[], None)).unwrap();
        let empty = json!({"columns": [], "rows": []});
        for table in ["bdevs", "exports", "listeners", "target"] {
            assert_eq!(answer[table], empty, "{table}");
        }
    }
}
