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
//! | [`mirrors`] | those of mirrors and of their members |

#![forbid(unsafe_code)]

pub mod mirrors;
pub mod rows;
pub mod table;

use dst_broker::Totals;

use crate::mirrors::Mirror;
use crate::rows::{Bdev, Export, Listener};
use crate::table::{Text, table};

/// The counts of a target.
#[derive(Debug)]
pub struct Target<'a, E> {
    /// The exports: an iterator over [`Export`].
    pub exports: E,
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// The counts of the whole target.
    pub totals: &'a Totals,
}

/// Returns the JSON text of all counts of a process that started at `start_time_ms`, in ms since
/// 1970. Without a target, which is the case while the application starts or stops, the target's
/// tables are empty. Without mirrors there are no tables of them. The rows are made one by one, as
/// they are written.
pub fn answer<'b, 'e>(
    start_time_ms: u64,
    bdevs: impl Iterator<Item = Bdev<'b>>,
    mirrors: &[Mirror],
    target: Option<Target<'_, impl Iterator<Item = Export<'e>>>>,
) -> String {
    let (exports, listeners, totals) = match target {
        Some(Target { exports, listeners, totals }) => (Some(exports), listeners, Some(totals)),
        None => (None, Vec::new(), None),
    };
    // A row has some 300 bytes.
    let at_most = |hint: (usize, Option<usize>)| hint.1.unwrap_or(0);
    let rows =
        at_most(bdevs.size_hint()) + exports.as_ref().map_or(0, |exports| at_most(exports.size_hint()));
    let mut text = Text::with_capacity(2048 + 384 * rows);
    text.json("{\"start_time_ms\":");
    text.json(&start_time_ms.to_string());
    text.json(",\"bdevs\":");
    table(&mut text, bdevs);
    if !mirrors.is_empty() {
        text.json(",\"mirrors\":");
        table(&mut text, mirrors.iter());
        text.json(",\"mirror_members\":");
        table(&mut text, mirrors.iter().flat_map(Mirror::members));
    }
    text.json(",\"exports\":");
    table(&mut text, exports.into_iter().flatten());
    text.json(",\"listeners\":");
    table(&mut text, listeners.into_iter());
    text.json(",\"target\":");
    table(&mut text, totals.into_iter());
    text.json("}");
    text.into_string()
}

#[cfg(test)]
mod tests {
    use dst_broker::{Broker, ExportActivity, Limits};
    use dst_mirror::report::{
        Condition, Counts as MirrorCounts, MemberReport, State, Verification, VerificationState,
        WitnessCondition, WitnessReport,
    };
    use dst_mirror::{MemberId, Report};
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
            counts,
        });
        let mut activity = ExportActivity { sessions: 3, ..ExportActivity::default() };
        activity.stats.violations = 5;
        let exports = [Export { name: "e", bdev: "m", state: "online", activity }].into_iter();
        let listeners = vec![Listener { address: "[::1]:4460".to_owned(), state: "waiting" }];
        let totals = Broker::new(LIMITS).totals(&Default::default());
        let target = Target { exports, listeners, totals: &totals };
        let answer: Value = serde_json::from_str(&answer(9, bdevs.into_iter(), &[], Some(target))).unwrap();
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
        let none = None::<Target<'_, std::iter::Empty<Export<'_>>>>;
        let answer: Value = serde_json::from_str(&answer(9, [].into_iter(), &[], none)).unwrap();
        let empty = json!({"columns": [], "rows": []});
        for table in ["bdevs", "exports", "listeners", "target"] {
            assert_eq!(answer[table], empty, "{table}");
        }
        assert_eq!((answer.get("mirrors"), answer.get("mirror_members")), (None, None));
    }

    fn mirror(name: &str, conditions: Vec<Condition>) -> Mirror {
        let member = |(place, condition): (usize, Condition)| MemberReport {
            id: MemberId(place as u128),
            name: "bdev".to_owned(),
            device: None,
            condition,
            in_flight: 9,
        };
        let report = Report {
            mirror: None,
            state: State::Degraded,
            blocks: 10,
            block_size: 4096,
            generation: None,
            number: 1,
            members: conditions.into_iter().enumerate().map(member).collect(),
            witness: Some(WitnessReport {
                id: MemberId(9),
                name: "w".to_owned(),
                condition: WitnessCondition::Away { why: "x".to_owned() },
            }),
            hot_regions: 0,
            region_blocks: 256,
            counts: MirrorCounts {
                copied_blocks: 3,
                read_errors: 4,
                repaired_blocks: 5,
                ..MirrorCounts::default()
            },
            verification: Some(Verification {
                state: VerificationState::Done { at: 0 },
                repairs: true,
                compared: 10,
                differing: 5,
                repaired: 4,
                unread: 2,
                first: Vec::new(),
            }),
        };
        Mirror { name: name.to_owned(), report, outstanding: 6, waiting: 7 }
    }

    #[test]
    fn mirrors_and_members_have_their_rows() {
        let missing = Condition::Missing { why: "gone".to_owned(), since: 0, missed: 2 };
        let conditions = vec![
            Condition::InSync,
            Condition::Detached,
            missing,
            Condition::Resyncing { left: 8 },
            Condition::Unusable { why: "other".to_owned() },
        ];
        let mirrors = [mirror("m", conditions), mirror("n", vec![])];
        let none = None::<Target<'_, std::iter::Empty<Export<'_>>>>;
        let answer: Value = serde_json::from_str(&answer(9, [].into_iter(), &mirrors, none)).unwrap();
        let of = |row, name| cell(&answer["mirrors"], row, name);
        assert_eq!((of(0, "mirror"), of(1, "mirror")), (json!("m"), json!("n")));
        assert_eq!((of(0, "state"), of(0, "size_bytes")), (json!("degraded"), json!(40_960)));
        assert_eq!((of(0, "members"), of(0, "members_in_sync")), (json!(4), json!(1)));
        assert_eq!((of(0, "witnesses"), of(0, "witnesses_current")), (json!(1), json!(0)));
        assert_eq!((of(0, "outstanding"), of(0, "waiting")), (json!(6), json!(7)));
        assert_eq!((of(0, "copied_bytes"), of(0, "read_errors")), (json!(12_288), json!(4)));
        assert_eq!((of(0, "repaired_bytes"), of(0, "unrepaired_bytes")), (json!(20_480), json!(12_288)));
        let members = &answer["mirror_members"];
        let shown: Vec<_> = (0..members["rows"].as_array().unwrap().len())
            .map(|row| ["place", "state", "behind_bytes"].map(|name| cell(members, row, name)))
            .collect();
        assert_eq!(
            shown,
            [
                [json!("0"), json!("in_sync"), json!(0)],
                [json!("2"), json!("missing"), json!(8192)],
                [json!("3"), json!("resyncing"), json!(32_768)],
                [json!("4"), json!("unusable"), json!(0)],
            ]
        );
        assert_eq!((cell(members, 0, "mirror"), cell(members, 0, "in_flight")), (json!("m"), json!(9)));
    }
}
