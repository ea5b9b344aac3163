//! Both roles of an application at a glance, what is wrong first.

use serde_json::json;

use crate::failure::Failure;
use crate::health::{Finding, Severity, findings};
use crate::outcome::Outcome;
use crate::rpc::Calls;
use crate::snapshot::{self, Snapshot};
use crate::table::{bytes, duration, table};

/// Asks the application and shows what it says.
///
/// # Errors
/// The application cannot be asked.
pub fn status(rpc: &mut impl Calls) -> Result<Outcome, Failure> {
    Ok(show(&snapshot::take(rpc)?))
}

/// Returns a snapshot as text and JSON, with its exit status.
pub fn show(snapshot: &Snapshot) -> Outcome {
    let found = findings(snapshot);
    let worst = found.iter().map(|finding| finding.severity).max();
    let (verdict, status) = match worst {
        None => ("ok", 0),
        Some(Severity::Warning) => ("warning", 1),
        Some(Severity::Critical) => ("critical", 2),
    };
    let json = json!({
        "health": verdict,
        "findings": found,
        "exports": snapshot.exports.len(),
        "sessions": snapshot.sessions.len(),
        "bdevs": snapshot.bdevs.len(),
    });
    Outcome { json, text: text(snapshot, &found), status }
}

fn text(snapshot: &Snapshot, found: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { severity, subject, problem, advice } in found {
        let severity = match severity {
            Severity::Warning => "WARNING",
            Severity::Critical => "CRITICAL",
        };
        text.push_str(&format!("{severity}: {subject} {problem}\n    {advice}\n"));
    }
    if found.is_empty() {
        text.push_str("OK\n");
    }
    let tables = [bdevs(snapshot), exports(snapshot), sessions(snapshot), listeners(snapshot)]
        .into_iter()
        .filter(|t| !t.is_empty());
    for table in tables {
        text.push('\n');
        text.push_str(&table);
    }
    if snapshot.bdevs.is_empty() && snapshot.exports.is_empty() {
        text.push_str("\nnothing is exported or attached: see dstctl help export, dstctl help attach\n");
    }
    text
}

fn bdevs(snapshot: &Snapshot) -> String {
    let rows = snapshot.bdevs.iter().map(|bdev| {
        let size = bdev.negotiated.as_ref().map_or("-".to_owned(), |device| bytes(device.bytes()));
        [bdev.name.clone(), size, bdev.state.name().to_owned(), duration(bdev.state_age_ms), bdev.source()]
    });
    table(["BDEV", "SIZE", "STATE", "FOR", "EXPORT"], &rows.collect::<Vec<_>>())
}

fn exports(snapshot: &Snapshot) -> String {
    let rows = snapshot.exports.iter().map(|export| {
        let size = export.bytes().map_or("-".to_owned(), bytes);
        let hosts: Vec<String> =
            export.hosts.iter().map(|entry| format!("{}={}", entry.host, entry.access)).collect();
        let sessions = export.sessions.to_string();
        let owner = export.ownership.as_ref().and_then(|ownership| ownership.owner.as_ref());
        let owner = owner.map_or("-".to_owned(), Clone::clone);
        [
            export.name.clone(),
            size,
            export.state().to_owned(),
            export.bdev_name.clone(),
            sessions,
            owner,
            hosts.join(" "),
        ]
    });
    table(["EXPORT", "SIZE", "STATE", "BDEV", "SESSIONS", "OWNER", "HOSTS"], &rows.collect::<Vec<_>>())
}

fn sessions(snapshot: &Snapshot) -> String {
    let rows = snapshot.sessions.iter().map(|session| {
        let in_flight = session.queues.iter().fold(0_u64, |sum, queue| sum.saturating_add(queue.in_flight));
        [
            session.host.clone(),
            session.export.clone(),
            duration(session.age_ms),
            session.queues.len().to_string(),
            in_flight.to_string(),
            session.digest.clone(),
            session.cipher.clone(),
            session.peer.clone(),
        ]
    });
    let titles = ["SESSION OF", "EXPORT", "FOR", "CONNECTIONS", "IN FLIGHT", "DIGEST", "CIPHER", "PEER"];
    table(titles, &rows.collect::<Vec<_>>())
}

fn listeners(snapshot: &Snapshot) -> String {
    let rows = snapshot.listeners.iter().map(|listener| {
        let state = listener.state.as_deref().unwrap_or("listening");
        [listener.traddr.clone(), listener.trsvcid.clone(), state.to_owned()]
    });
    table(["LISTENER", "PORT", "STATE"], &rows.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::snapshot as parse;

    #[test]
    fn what_is_wrong_comes_first_and_decides_the_exit_status() {
        let outcome = show(&parse(json!({
            "exports": [{"name": "v", "bdev_name": "b", "block_size": 512, "num_blocks": 2048, "sessions": 1,
                         "hosts": [{"host": "h", "access": "rw"}],
                         "ownership": {"state": "owned", "owner": "h", "since": "2026-11-29T12:00:00Z"}}],
            "listeners": [{"traddr": "::", "trsvcid": "4420"}],
            "sessions": [{"id": "i", "export": "v", "host": "h", "peer": "10.0.0.2:5", "digest": "crc32c",
                          "cipher": "none", "queues": [{"state": "ready", "in_flight": 3}]}],
            "bdevs": [{"name": "r", "traddr": "10.0.0.1", "trsvcid": "4420", "export": "e", "state": "reconnecting",
                       "state_age_ms": 2000, "negotiated": {"num_blocks": 1, "block_size": 512}}],
        })));
        assert_eq!(outcome.status, 2);
        assert_eq!(
            outcome.text,
            "\
CRITICAL: bdev r has lacked a connection for 2 s, 0 I/O wait: no reason is known yet
    see that the target of 10.0.0.1:4420/e runs and can be reached from here

BDEV  SIZE   STATE         FOR  EXPORT
r     512 B  reconnecting  2 s  10.0.0.1:4420/e

EXPORT  SIZE     STATE   BDEV  SESSIONS  OWNER  HOSTS
v       1.0 MiB  online  b     1         h      h=rw

SESSION OF  EXPORT  FOR   CONNECTIONS  IN FLIGHT  DIGEST  CIPHER  PEER
h           v       0 ms  1            3          crc32c  none    10.0.0.2:5

LISTENER  PORT  STATE
::        4420  listening
"
        );
        assert_eq!(outcome.json["findings"][0]["severity"], "critical");
    }

    #[test]
    fn nothing_is_well_and_says_how_to_begin() {
        let outcome = show(&Snapshot::default());
        assert_eq!(outcome.status, 0);
        assert_eq!(
            outcome.text,
            "OK\n\nnothing is exported or attached: see dstctl help export, dstctl help attach\n"
        );
    }
}
