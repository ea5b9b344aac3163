//! The state of an application in both roles at a glance, problems first.

use serde_json::json;

use crate::failure::Failure;
use crate::finding::{Finding, Severity};
use crate::health::findings;
use crate::outcome::Outcome;
use crate::rpc::Calls;
use crate::snapshot::{self, MemberState, Snapshot, Witness};
use crate::table::{bytes, duration, table};

/// Asks the application for its state and returns what to show.
///
/// # Errors
/// Fails if the application cannot be asked or refuses.
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
        "mirrors": snapshot.mirrors.len(),
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
    let tables = [
        bdevs(snapshot),
        mirrors(snapshot),
        members(snapshot),
        exports(snapshot),
        sessions(snapshot),
        listeners(snapshot),
    ];
    for table in tables.into_iter().filter(|table| !table.is_empty()) {
        text.push('\n');
        text.push_str(&table);
    }
    if snapshot.bdevs.is_empty() && snapshot.exports.is_empty() && snapshot.mirrors.is_empty() {
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

fn mirrors(snapshot: &Snapshot) -> String {
    let rows = snapshot.mirrors.iter().map(|mirror| {
        let size = match mirror.bytes() {
            0 => "-".to_owned(),
            size => bytes(size),
        };
        let in_sync = match mirror.in_sync() {
            (_, 0) => "-".to_owned(),
            (in_sync, all) => format!("{in_sync} of {all}"),
        };
        let witness = match &mirror.witness {
            None => "-".to_owned(),
            Some(Witness { name, is_current: true, .. }) => name.clone(),
            Some(Witness { name, is_current: false, .. }) => format!("{name} (away)"),
        };
        let state = if mirror.deleting { "deleting" } else { mirror.state.name() };
        [mirror.name.clone(), size, state.to_owned(), in_sync, witness]
    });
    table(["MIRROR", "SIZE", "STATE", "IN SYNC", "WITNESS"], &rows.collect::<Vec<_>>())
}

/// Returns the members of all mirrors, and the devices of mirrors whose members are not known yet.
fn members(snapshot: &Snapshot) -> String {
    let mut rows = Vec::new();
    for mirror in &snapshot.mirrors {
        let or_none = |text: Option<&str>| text.unwrap_or("-").to_owned();
        rows.extend(mirror.members.iter().map(|member| {
            let behind = match member.state {
                MemberState::Missing | MemberState::Resyncing => bytes(mirror.behind(member)),
                _ => "-".to_owned(),
            };
            [
                member.name.clone(),
                mirror.name.clone(),
                member.state.name().to_owned(),
                or_none(member.missing_ms.map(duration).as_deref()),
                behind,
                or_none(member.reason.as_deref()),
            ]
        }));
        if mirror.members.is_empty() {
            rows.extend(mirror.devices.iter().map(|device| {
                let [device, state] = [&device.device, &device.state].map(String::clone);
                let why = or_none(mirror.absence_of(&device));
                [device, mirror.name.clone(), state, "-".to_owned(), "-".to_owned(), why]
            }));
        }
    }
    table(["MEMBER", "MIRROR", "STATE", "FOR", "BEHIND", "REASON"], &rows)
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
    use crate::snapshot::tests::{recorded_mirror, snapshot as parse};

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
    fn a_mirror_that_lacks_a_member_is_a_warning() {
        let starting = json!({
            "name": "m", "state": "starting", "reason": "x",
            "devices": [{"device": "a", "state": "open"}, {"device": "b", "state": "waiting", "reason": "y"}],
        });
        let outcome = show(&parse(json!({
            "exports": [], "listeners": [], "sessions": [], "bdevs": [], "mirrors": [recorded_mirror()],
        })));
        assert_eq!((outcome.status, &outcome.json["mirrors"]), (1, &json!(1)));
        let tables = outcome.text.split_once("\n\n").unwrap().1;
        assert_eq!(
            tables,
            "\
MIRROR   SIZE      STATE     IN SYNC  WITNESS
Mirror0  55.9 MiB  degraded  1 of 2   Witness0 (away)

MEMBER   MIRROR   STATE    FOR  BEHIND    REASON
Member0  Mirror0  in_sync  -    -         -
Member1  Mirror0  missing  2 s  12.0 KiB  the bdev was removed
"
        );
        assert!(outcome.text.starts_with("WARNING: mirror Mirror0 lacks its member Member1,"));
        let outcome = show(&parse(json!({
            "exports": [], "listeners": [], "sessions": [], "bdevs": [], "mirrors": [starting],
        })));
        assert_eq!(outcome.status, 2);
        let tables = outcome.text.split_once("\n\n").unwrap().1;
        assert_eq!(
            tables,
            "\
MIRROR  SIZE  STATE     IN SYNC  WITNESS
m       -     starting  -        -

MEMBER  MIRROR  STATE    FOR  BEHIND  REASON
a       m       open     -    -       -
b       m       waiting  -    -       y
"
        );
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
