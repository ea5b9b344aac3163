//! The metrics, and the columns of `dst_get_metrics` that they come from.

use super::answer::{Answer, Row, Table};
use super::exposition::{Exposition, Kind};
use super::watched::Look;

use Of::{Bdev, Export, Listener, Member, Mirror, Target};
use Source::{Counter, Gauge, Info, Latency, Operations, State};

/// The table of the answer that a metric comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Bdev,
    Mirror,
    Member,
    Export,
    Listener,
    Target,
}

impl Of {
    fn table(self, answer: &Answer) -> &Table {
        match self {
            Bdev => &answer.bdevs,
            Mirror => &answer.mirrors,
            Member => &answer.mirror_members,
            Export => &answer.exports,
            Listener => &answer.listeners,
            Target => &answer.target,
        }
    }

    /// Returns the labels that tell the rows apart, which are also the names of their columns. A
    /// target has one row.
    fn labels(self) -> &'static [&'static str] {
        match self {
            Bdev => &["bdev"],
            Mirror => &["mirror"],
            // Two members may have the same name.
            Member => &["mirror", "member", "place"],
            Export => &["export"],
            Listener => &["address"],
            Target => &[],
        }
    }
}

/// What the samples of a metric are made of.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// A counter in this column.
    Counter(&'static str),
    /// A gauge in this column.
    Gauge(&'static str),
    /// Counters in these columns, for each of these values of the label `operation`.
    Operations([(&'static str, &'static str); 3]),
    /// The histograms of latencies of all operations.
    Latency,
    /// A state: a gauge for each state that there is, of which the present one is 1.
    State(&'static [&'static str]),
    /// A gauge of 1 with the label and the column of this name.
    Info(&'static str),
}

struct Family(&'static str, Of, Source, &'static str);

const OPERATIONS: Source =
    Operations([("read", "reads"), ("write", "writes"), ("other", "other_operations")]);

const MIRROR_OPERATIONS: Source = Operations([("read", "reads"), ("write", "writes"), ("flush", "flushes")]);

const MIRROR_STATES: &[&str] = &["starting", "online", "degraded", "stalled", "failed", "ended", "stopping"];

const MEMBER_STATES: &[&str] = &["in_sync", "resyncing", "missing", "unusable"];

const BDEV_STATES: &[&str] = &["attaching", "connected", "reconnecting", "unreachable", "failed"];

/// All metrics of the answer.
#[rustfmt::skip]
const FAMILIES: &[Family] = &[
    Family("dst_bdev_info", Bdev, Info("export"), "The export that the bdev is attached to."),
    Family("dst_bdev_state", Bdev, State(BDEV_STATES), "1 for the state of the bdev, 0 for the others."),
    Family("dst_bdev_size_bytes", Bdev, Gauge("size_bytes"), "Size; 0 before the bdev was attached."),
    Family("dst_bdev_connections", Bdev, Gauge("connections"), "Connections that are up."),
    Family("dst_bdev_channels", Bdev, Gauge("channels"), "Threads that have the bdev open."),
    Family("dst_bdev_transactions_outstanding", Bdev, Gauge("outstanding"), "Transactions that were sent and are not answered."),
    Family("dst_bdev_ios_waiting", Bdev, Gauge("waiting"), "I/O that waits for a connection or a credit."),
    Family("dst_bdev_latency_seconds", Bdev, Latency, "Time from submission to completion."),
    Family("dst_bdev_read_bytes_total", Bdev, Counter("read_bytes"), "Bytes of reads that have ended."),
    Family("dst_bdev_written_bytes_total", Bdev, Counter("written_bytes"), "Bytes of writes that have ended."),
    Family("dst_bdev_transactions_total", Bdev, Counter("transactions"), "Transactions begun."),
    Family("dst_bdev_errors_total", Bdev, Counter("errors"), "I/O that ended with an error."),
    Family("dst_bdev_expired_total", Bdev, Counter("expired"), "I/O among the errors whose time was up, or that was sent too often."),
    Family("dst_bdev_connections_lost_total", Bdev, Counter("connections_lost"), "Connections lost."),
    Family("dst_bdev_reconnects_total", Bdev, Counter("reconnects"), "Connections made after one was lost."),
    Family("dst_bdev_resent_total", Bdev, Counter("resent"), "Transactions sent again after a connection was lost."),
    Family("dst_bdev_corrupt_total", Bdev, Counter("corrupt"), "Transactions sent again because data did not match its digest."),
    Family("dst_bdev_lost_caches_total", Bdev, Counter("lost_caches"), "Restarts of the target that may have lost completed writes."),

    Family("dst_mirror_state", Mirror, State(MIRROR_STATES), "1 for the state of the mirror, 0 for the others."),
    Family("dst_mirror_size_bytes", Mirror, Gauge("size_bytes"), "Size; 0 before it is known."),
    Family("dst_mirror_members", Mirror, Gauge("members"), "Members, without those that were removed."),
    Family("dst_mirror_members_in_sync", Mirror, Gauge("members_in_sync"), "Members that have all completed writes."),
    Family("dst_mirror_witnesses", Mirror, Gauge("witnesses"), "1 if the mirror has a witness, 0 if it has none."),
    Family("dst_mirror_witnesses_current", Mirror, Gauge("witnesses_current"), "1 if the witness is there and up to date, else 0."),
    Family("dst_mirror_unrepaired_bytes", Mirror, Gauge("unrepaired_bytes"), "Bytes that differ among the members or can't be read, and were not repaired, as the last verification found; 0 without one."),
    Family("dst_mirror_ios_outstanding", Mirror, Gauge("outstanding"), "I/O that is being executed."),
    Family("dst_mirror_ios_waiting", Mirror, Gauge("waiting"), "I/O that waits to be executed."),
    Family("dst_mirror_operations_total", Mirror, MIRROR_OPERATIONS, "Operations of users that have ended."),
    Family("dst_mirror_records_total", Mirror, Counter("records"), "Records of its metadata that were written to at least one device."),
    Family("dst_mirror_copied_bytes_total", Mirror, Counter("copied_bytes"), "Bytes copied to members."),
    Family("dst_mirror_read_errors_total", Mirror, Counter("read_errors"), "Reads that one member failed and another one answered."),
    Family("dst_mirror_repaired_bytes_total", Mirror, Counter("repaired_bytes"), "Bytes written back to a member after a read error."),
    Family("dst_mirror_departures_total", Mirror, Counter("departures"), "Members in sync that fell out."),
    Family("dst_mirror_lost_caches_total", Mirror, Counter("lost_caches"), "Lost caches of members, from which the mirror has recovered."),
    Family("dst_mirror_member_state", Member, State(MEMBER_STATES), "1 for the state of the member, 0 for the others."),
    Family("dst_mirror_member_behind_bytes", Member, Gauge("behind_bytes"), "Bytes that a missing member has missed so far, or that are left to be copied to one that is resynced."),
    Family("dst_mirror_member_requests_in_flight", Member, Gauge("in_flight"), "Requests that the device of the member has."),

    Family("dst_export_info", Export, Info("bdev"), "The bdev of the export."),
    Family("dst_export_state", Export, State(&["online", "offline", "deleting"]), "1 for the state of the export, 0 for the others."),
    Family("dst_export_size_bytes", Export, Gauge("size_bytes"), "Size; 0 while the export is offline."),
    Family("dst_export_sessions", Export, Gauge("sessions"), "Sessions."),
    Family("dst_export_connections", Export, Gauge("connections"), "Connections, including those that wait to be admitted or are closing."),
    Family("dst_export_requests_in_flight", Export, Gauge("in_flight"), "Requests that the backend has."),
    Family("dst_export_backend_latency_seconds", Export, Latency, "Time that the backend took."),
    Family("dst_export_operations_total", Export, OPERATIONS, "Operations submitted to the backend."),
    Family("dst_export_read_bytes_total", Export, Counter("read_bytes"), "Bytes of these reads."),
    Family("dst_export_written_bytes_total", Export, Counter("written_bytes"), "Bytes of these writes."),
    Family("dst_export_errors_total", Export, Counter("errors"), "Operations that the backend failed."),
    Family("dst_export_answered_from_record_total", Export, Counter("answered_from_record"), "Requests that had been executed before and were answered from the record."),
    Family("dst_export_executed_again_total", Export, Counter("executed_again"), "Operations executed again because a reset for another session had ended them."),
    Family("dst_export_dropped_total", Export, Counter("dropped"), "Requests not executed because the lease was over."),
    Family("dst_export_lease_expiries_total", Export, Counter("lease_expiries"), "Connections whose lease ran out."),
    Family("dst_export_reconnects_total", Export, Counter("reconnects"), "Connections to a queue that had an earlier connection."),
    Family("dst_export_stalls_total", Export, Counter("stalls"), "Requests that had to wait for memory."),
    Family("dst_export_corrupt_total", Export, Counter("corrupt"), "Requests whose data did not match its digest."),
    Family("dst_export_violations_total", Export, Counter("violations"), "Connections that violated the protocol after they were admitted."),

    Family("dst_listener_state", Listener, State(&["listening", "waiting"]), "1 for the state of the listener, 0 for the other."),

    Family("dst_target_connections", Target, Gauge("connections"), "Connections, including handshakes and those that are closing."),
    Family("dst_target_connections_limit", Target, Gauge("max_connections"), "Most connections at once."),
    Family("dst_target_connections_handshaking", Target, Gauge("handshakes"), "Connections that are neither admitted nor waiting to be."),
    Family("dst_target_connections_waiting", Target, Gauge("waiting"), "Connections that wait to be admitted until others have ended."),
    Family("dst_target_connections_closing", Target, Gauge("closing"), "Closed connections of which the backend may still hold requests."),
    Family("dst_target_sessions", Target, Gauge("sessions"), "Sessions."),
    Family("dst_target_requests_in_flight", Target, Gauge("in_flight"), "Requests that the backends have."),
    Family("dst_target_connections_refused_total", Target, Counter("connections_refused"), "Connections for which there was no room."),
    Family("dst_target_handshakes_evicted_total", Target, Counter("handshakes_evicted"), "Connections closed for a newer one before they were admitted."),
    Family("dst_target_handshake_timeouts_total", Target, Counter("handshake_timeouts"), "Connections not admitted within the handshake timeout."),
    Family("dst_target_handshake_bytes_exceeded_total", Target, Counter("handshake_bytes_exceeded"), "Connections whose first frame was too long."),
    Family("dst_target_hellos_refused_total", Target, Counter("refused_hellos"), "Hellos refused."),
    Family("dst_target_hellos_refused_busy_total", Target, Counter("refused_busy"), "Refusals after which the client may try again."),
    Family("dst_target_sessions_timed_out_total", Target, Counter("sessions_timed_out"), "Sessions that ended because no client came back to them."),
    Family("dst_target_lease_expiries_total", Target, Counter("lease_expiries"), "Connections whose lease ran out."),
    Family("dst_target_fences_total", Target, Counter("fences"), "Connections that had to wait for the end of what earlier ones had left."),
    Family("dst_target_violations_total", Target, Counter("violations"), "Connections that violated the protocol after they were admitted."),
];

/// Returns the metrics of all applications.
pub fn show(looks: &[Look]) -> String {
    let mut all = Exposition::default();
    show_applications(&mut all, looks);
    for family in FAMILIES {
        show_family(&mut all, family, looks);
    }
    all.into_text()
}

/// Adds what the exporter itself knows.
fn show_applications(all: &mut Exposition, looks: &[Look]) {
    let mut each = |name: &str, kind, help: &str, value: &dyn Fn(&Look) -> Option<String>| {
        all.begin(name, kind, help);
        for look in looks {
            if let Some(value) = value(look) {
                all.sample(name, &[("socket", &look.socket)], value);
            }
        }
    };
    let is_up = |look: &Look| Some(u8::from(look.answer.is_some()).to_string());
    each("dst_up", Kind::Gauge, "Whether the application answers.", &is_up);
    let start = |look: &Look| Some((look.answer.as_ref()?.start_time_ms as f64 / 1e3).to_string());
    let help = "When the application started, in seconds since 1970.";
    each("dst_start_time_seconds", Kind::Gauge, help, &start);
    let help = "How often the application was found restarted since the exporter began.";
    each("dst_restarts_total", Kind::Counter, help, &|look| Some(look.restarts.to_string()));
    let help = "Scrapes that the application did not answer since the exporter began.";
    each("dst_scrape_failures_total", Kind::Counter, help, &|look| Some(look.failures.to_string()));
    let took = |look: &Look| Some(look.took.as_secs_f64().to_string());
    each("dst_scrape_duration_seconds", Kind::Gauge, "Time that the application took to answer.", &took);
    let name = "dst_exporter_build_info";
    all.begin(name, Kind::Gauge, "The version of the exporter.");
    all.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
}

fn show_family(all: &mut Exposition, Family(name, of, source, help): &Family, looks: &[Look]) {
    let kind = match source {
        Counter(_) | Operations(_) => Kind::Counter,
        Latency => Kind::Histogram,
        Gauge(_) | State(_) | Info(_) => Kind::Gauge,
    };
    all.begin(name, kind, help);
    for look in looks {
        for row in look.answer.iter().flat_map(|answer| of.table(answer).rows()) {
            let own = of.labels().iter().map(|label| Some((*label, row.text(label)?)));
            let labels: Option<Vec<_>> =
                std::iter::once(Some(("socket", &look.socket[..]))).chain(own).collect();
            // A row without its name can't be told from others.
            let Some(labels) = labels else { continue };
            show_row(all, name, source, &row, &labels);
        }
    }
}

fn show_row(all: &mut Exposition, name: &str, source: &Source, row: &Row<'_>, labels: &[(&str, &str)]) {
    let with = |label, value| [labels, &[(label, value)]].concat();
    match source {
        Counter(column) | Gauge(column) => {
            if let Some(value) = row.number(column) {
                all.sample(name, labels, value);
            }
        }
        Operations(operations) => {
            for (operation, column) in operations {
                if let Some(value) = row.number(column) {
                    all.sample(name, &with("operation", operation), value);
                }
            }
        }
        Latency => {
            for (operation, column) in
                [("read", "read_latency"), ("write", "write_latency"), ("other", "other_latency")]
            {
                if let Some(histogram) = row.histogram(column) {
                    all.histogram(name, &with("operation", operation), &histogram);
                }
            }
        }
        State(states) => {
            let Some(now) = row.text("state") else { return };
            // A state that this version of dstctl does not know is shown, too.
            let unknown = (!states.contains(&now)).then_some(now);
            for state in states.iter().copied().chain(unknown) {
                all.sample(name, &with("state", state), u8::from(state == now));
            }
        }
        Info(column) => {
            if let Some(value) = row.text(column) {
                all.sample(name, &with(column, value), 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use dst_broker::{ExportActivity, Stats, Totals};
    use dst_metrics::mirrors::Mirror;
    use dst_metrics::rows;
    use dst_mirror::MemberId;
    use dst_mirror::report::{
        Condition, Counts as MirrorCounts, MemberReport, Report, Verification, VerificationState,
        WitnessCondition, WitnessReport,
    };
    use dst_session::counts::Counts;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::rpc::tests::any_json;

    fn look(socket: &str, answer: Option<&str>) -> Look {
        let answer = answer.map(|answer| serde_json::from_str(answer).unwrap());
        Look { socket: socket.to_owned(), answer, restarts: 2, failures: 3, took: Duration::from_millis(4) }
    }

    /// Returns a mirror with a member that is missing.
    fn mirror() -> Mirror {
        let missing = Condition::Missing { why: "gone".to_owned(), since: 0, missed: 50 };
        let members = [Condition::InSync, missing].map(|condition| MemberReport {
            id: MemberId(1),
            name: "same".to_owned(),
            device: None,
            condition,
            in_flight: 51,
        });
        let counts = MirrorCounts {
            reads: 52,
            writes: 53,
            flushes: 54,
            records: 55,
            copied_blocks: 56,
            read_errors: 57,
            repaired_blocks: 58,
            departures: 59,
            lost_caches: 60,
        };
        let report = Report {
            mirror: None,
            state: dst_mirror::report::State::Degraded,
            blocks: 61,
            block_size: 1000,
            generation: None,
            number: 1,
            members: members.into(),
            witness: Some(WitnessReport {
                id: MemberId(2),
                name: "w".to_owned(),
                condition: WitnessCondition::Current,
            }),
            hot_regions: 0,
            region_blocks: 256,
            counts,
            verification: Some(Verification {
                state: VerificationState::Running { waits_for: None },
                repairs: false,
                compared: 61,
                differing: 5,
                repaired: 0,
                unread: 6,
                first: Vec::new(),
            }),
        };
        Mirror { name: "m".to_owned(), report, outstanding: 62, waiting: 63 }
    }

    /// Returns what an application with one of each answers: the true encoder's text.
    fn full() -> String {
        let mut counts =
            Counts { resent: 11, written_bytes: 12, errors: 13, waiting: 14, ..Counts::default() };
        counts.write_latency.record(100);
        let bdev = rows::Bdev {
            name: "b",
            export: "e",
            state: "reconnecting",
            size_bytes: 4096,
            connections: 2,
            channels: 1,
            lost_caches: 15,
            counts,
        };
        let mut stats = Stats { reads: 21, writes: 22, others: 23, violations: 24, ..Stats::default() };
        stats.read_latency.record(5);
        let activity = ExportActivity { sessions: 25, in_flight: 26, stats, ..ExportActivity::default() };
        let export = rows::Export { name: "e", bdev: "m", state: "online", activity };
        let listener = rows::Listener { address: "[::1]:4460".to_owned(), state: "waiting" };
        let totals = Totals {
            stats,
            refused_hellos: 31,
            refused_busy: 32,
            handshakes_evicted: 33,
            connections_refused: 34,
            sessions_timed_out: 35,
            max_connections: 36,
            connections: 37,
            handshakes: 38,
            waiting: 39,
            closing: 40,
            sessions: 41,
            in_flight: 42,
        };
        let target =
            dst_metrics::Target { exports: [export].into_iter(), listeners: vec![listener], totals: &totals };
        dst_metrics::answer(1_700_000_000_123, [bdev].into_iter(), &[mirror()], Some(target))
    }

    #[test]
    fn each_metric_has_its_value() {
        let text = show(&[look("/a", Some(&full())), look("/b", None)]);
        for line in [
            "dst_up{socket=\"/a\"} 1",
            "dst_up{socket=\"/b\"} 0",
            "dst_start_time_seconds{socket=\"/a\"} 1700000000.123",
            "dst_restarts_total{socket=\"/b\"} 2",
            "dst_scrape_failures_total{socket=\"/b\"} 3",
            "dst_scrape_duration_seconds{socket=\"/b\"} 0.004",
            "dst_bdev_info{socket=\"/a\",bdev=\"b\",export=\"e\"} 1",
            "dst_bdev_state{socket=\"/a\",bdev=\"b\",state=\"connected\"} 0",
            "dst_bdev_state{socket=\"/a\",bdev=\"b\",state=\"reconnecting\"} 1",
            "dst_bdev_resent_total{socket=\"/a\",bdev=\"b\"} 11",
            "dst_bdev_written_bytes_total{socket=\"/a\",bdev=\"b\"} 12",
            "dst_bdev_errors_total{socket=\"/a\",bdev=\"b\"} 13",
            "dst_bdev_ios_waiting{socket=\"/a\",bdev=\"b\"} 14",
            "dst_bdev_lost_caches_total{socket=\"/a\",bdev=\"b\"} 15",
            "dst_bdev_latency_seconds_bucket{socket=\"/a\",bdev=\"b\",operation=\"write\",le=\"0.000064\"} 0",
            "dst_bdev_latency_seconds_bucket{socket=\"/a\",bdev=\"b\",operation=\"write\",le=\"0.000128\"} 1",
            "dst_bdev_latency_seconds_sum{socket=\"/a\",bdev=\"b\",operation=\"write\"} 0.0001",
            "dst_mirror_state{socket=\"/a\",mirror=\"m\",state=\"degraded\"} 1",
            "dst_mirror_state{socket=\"/a\",mirror=\"m\",state=\"online\"} 0",
            "dst_mirror_size_bytes{socket=\"/a\",mirror=\"m\"} 61000",
            "dst_mirror_members{socket=\"/a\",mirror=\"m\"} 2",
            "dst_mirror_members_in_sync{socket=\"/a\",mirror=\"m\"} 1",
            "dst_mirror_witnesses{socket=\"/a\",mirror=\"m\"} 1",
            "dst_mirror_witnesses_current{socket=\"/a\",mirror=\"m\"} 1",
            "dst_mirror_unrepaired_bytes{socket=\"/a\",mirror=\"m\"} 11000",
            "dst_mirror_ios_outstanding{socket=\"/a\",mirror=\"m\"} 62",
            "dst_mirror_ios_waiting{socket=\"/a\",mirror=\"m\"} 63",
            "dst_mirror_operations_total{socket=\"/a\",mirror=\"m\",operation=\"flush\"} 54",
            "dst_mirror_records_total{socket=\"/a\",mirror=\"m\"} 55",
            "dst_mirror_copied_bytes_total{socket=\"/a\",mirror=\"m\"} 56000",
            "dst_mirror_read_errors_total{socket=\"/a\",mirror=\"m\"} 57",
            "dst_mirror_repaired_bytes_total{socket=\"/a\",mirror=\"m\"} 58000",
            "dst_mirror_departures_total{socket=\"/a\",mirror=\"m\"} 59",
            "dst_mirror_lost_caches_total{socket=\"/a\",mirror=\"m\"} 60",
            "dst_mirror_member_state{socket=\"/a\",mirror=\"m\",member=\"same\",place=\"0\",state=\"missing\"} 0",
            "dst_mirror_member_state{socket=\"/a\",mirror=\"m\",member=\"same\",place=\"1\",state=\"missing\"} 1",
            "dst_mirror_member_behind_bytes{socket=\"/a\",mirror=\"m\",member=\"same\",place=\"1\"} 50000",
            "dst_mirror_member_requests_in_flight{socket=\"/a\",mirror=\"m\",member=\"same\",place=\"0\"} 51",
            "dst_export_info{socket=\"/a\",export=\"e\",bdev=\"m\"} 1",
            "dst_export_operations_total{socket=\"/a\",export=\"e\",operation=\"other\"} 23",
            "dst_export_violations_total{socket=\"/a\",export=\"e\"} 24",
            "dst_export_sessions{socket=\"/a\",export=\"e\"} 25",
            "dst_export_requests_in_flight{socket=\"/a\",export=\"e\"} 26",
            "dst_listener_state{socket=\"/a\",address=\"[::1]:4460\",state=\"waiting\"} 1",
            "dst_target_hellos_refused_total{socket=\"/a\"} 31",
            "dst_target_hellos_refused_busy_total{socket=\"/a\"} 32",
            "dst_target_handshakes_evicted_total{socket=\"/a\"} 33",
            "dst_target_connections_refused_total{socket=\"/a\"} 34",
            "dst_target_sessions_timed_out_total{socket=\"/a\"} 35",
            "dst_target_connections_limit{socket=\"/a\"} 36",
            "dst_target_connections{socket=\"/a\"} 37",
            "dst_target_connections_handshaking{socket=\"/a\"} 38",
            "dst_target_connections_waiting{socket=\"/a\"} 39",
            "dst_target_connections_closing{socket=\"/a\"} 40",
            "dst_target_sessions{socket=\"/a\"} 41",
            "dst_target_requests_in_flight{socket=\"/a\"} 42",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_metric_comes_from_a_column_that_there_is() {
        let text = show(&[look("/a", Some(&full()))]);
        let mut names = BTreeSet::new();
        for Family(name, _, source, help) in FAMILIES {
            assert!(names.insert(name), "{name} is there twice");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
            assert_eq!(matches!(source, Counter(_) | Operations(_)), name.ends_with("_total"), "{name}");
            let has_sample = text.lines().any(|line| line.starts_with(name) && line.contains('{'));
            assert!(has_sample, "{name} has no sample");
        }
        // Prometheus refuses a scrape with a series that is there twice.
        let mut series = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(series.insert(line.rsplit_once(' ').unwrap().0), "{line} is there twice");
        }
    }

    #[test]
    fn states_and_columns_that_are_unknown_do_no_harm() {
        let answer = r#"{"start_time_ms": 1, "news": 5, "bdevs": {"columns": ["bdev", "state", "resent", "x"],
            "rows": [["b", "asleep", "many", {}], ["c"], [5, 5, 5, 5]]}}"#;
        let text = show(&[look("/a", Some(answer))]);
        assert!(text.contains("dst_bdev_state{socket=\"/a\",bdev=\"b\",state=\"asleep\"} 1\n"), "{text}");
        assert!(!text.contains("dst_bdev_resent_total{") && !text.contains("bdev=\"c\""), "{text}");
    }

    proptest! {
        #[test]
        fn no_answer_panics(cells in prop::collection::vec(any_json(), 0..30), start in any::<u64>()) {
            let full: Value = serde_json::from_str(&full()).unwrap();
            let mut answer = full;
            answer["start_time_ms"] = start.into();
            for table in ["bdevs", "mirrors", "mirror_members", "exports", "target"] {
                answer[table]["rows"] = vec![cells.clone()].into();
            }
            if let Ok(answer) = serde_json::from_value(answer) {
                show(&[Look { answer: Some(answer), ..look("/a", None) }]);
            }
        }
    }
}
