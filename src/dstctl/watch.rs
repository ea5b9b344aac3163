//! Changes of state, printed as they happen.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use serde_json::json;

use crate::cli::WatchArguments;
use crate::failure::Failure;
use crate::outcome::print;
use crate::rpc::Calls;
use crate::snapshot::{self, Snapshot};

/// The states of all watched objects, by kind and name.
type States = BTreeMap<String, String>;

/// Prints a line for each change, until the process is interrupted. An application that stops
/// answering is a change like any other, since it may be restarted.
///
/// # Errors
/// Fails if standard output is closed.
pub fn watch(rpc: &mut impl Calls, args: &WatchArguments, is_json: bool) -> Result<(), Failure> {
    let mut known = States::new();
    loop {
        let now = match snapshot::take(rpc) {
            Ok(found) => states(&found),
            Err(failure) => States::from([("application".to_owned(), format!("not answering ({failure})"))]),
        };
        for (subject, change) in changes(&known, &now) {
            let time = Timestamp::now().round(Unit::Millisecond).unwrap_or_else(|_| Timestamp::now());
            print(&if is_json {
                format!("{}\n", json!({"time": time.to_string(), "subject": subject, "change": change}))
            } else {
                format!("{time} {subject}: {change}\n")
            })?;
        }
        known = now;
        sleep(Duration::from_millis(args.interval.get().into()));
    }
}

fn states(found: &Snapshot) -> States {
    let mut states = States::from([("application".to_owned(), "answering".to_owned())]);
    for bdev in &found.bdevs {
        let why = bdev.last_error.as_deref().filter(|_| bdev.state != snapshot::State::Connected);
        states.insert(format!("bdev {}", bdev.name), with_reason(bdev.state.name(), why));
    }
    for mirror in &found.mirrors {
        let subject = format!("mirror {}", mirror.name);
        for member in &mirror.members {
            let state = with_reason(member.state.name(), member.reason.as_deref());
            states.insert(format!("member {} of {subject}", member.name), state);
        }
        if let Some(snapshot::Witness { name, is_current, reason }) = &mirror.witness {
            let state = with_reason(if *is_current { "current" } else { "away" }, reason.as_deref());
            states.insert(format!("witness {name} of {subject}"), state);
        }
        states.insert(subject, with_reason(mirror.state.name(), mirror.reason.as_deref()));
    }
    for export in &found.exports {
        let subject = format!("export {}", export.name);
        if let Some(ownership) = &export.ownership {
            let owner = ownership.owner.as_deref().unwrap_or("nobody");
            states.insert(format!("owner of {subject}"), format!("{owner} ({})", ownership.state));
        }
        states.insert(subject, with_reason(export.state(), export.offline_reason.as_deref()));
    }
    for session in &found.sessions {
        let subject = format!("session {} of {} at export {}", session.id, session.host, session.export);
        states.insert(subject, format!("{} connections from {}", session.queues.len(), session.peer));
    }
    for listener in &found.listeners {
        let subject = format!("listener {} port {}", listener.traddr, listener.trsvcid);
        let state = listener.state.as_deref().unwrap_or("listening");
        states.insert(subject, with_reason(state, listener.last_error.as_deref()));
    }
    states
}

fn with_reason(state: &str, why: Option<&str>) -> String {
    why.map_or(state.to_owned(), |why| format!("{state} ({why})"))
}

/// Returns what has changed, and how, in the order of the names. While the application does not
/// answer, everything else about it is unknown and counts as unchanged.
fn changes(known: &States, now: &States) -> Vec<(String, String)> {
    let mut changes = Vec::new();
    let answers = now.get("application").is_some_and(|state| state == "answering");
    for (subject, state) in now {
        match known.get(subject) {
            Some(before) if before == state => {}
            Some(before) => changes.push((subject.clone(), format!("{before} -> {state}"))),
            None => changes.push((subject.clone(), state.clone())),
        }
    }
    if answers {
        let gone = known.keys().filter(|subject| !now.contains_key(*subject));
        changes.extend(gone.map(|subject| (subject.clone(), "gone".to_owned())));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::{recorded_mirror, snapshot as parse};

    fn bdev(state: &str, last_error: Option<&str>) -> States {
        states(&parse(json!({
            "exports": [], "listeners": [], "sessions": [],
            "bdevs": [{"name": "b", "traddr": "a", "trsvcid": "1", "export": "e", "state": state, "last_error": last_error}],
        })))
    }

    #[test]
    fn mirrors_members_and_witnesses_are_watched() {
        let mut all = json!({"exports": [], "listeners": [], "sessions": [], "bdevs": []});
        all["mirrors"] = json!([recorded_mirror()]);
        let states = states(&parse(all));
        for (subject, state) in [
            ("mirror Mirror0", "degraded"),
            ("member Member0 of mirror Mirror0", "in_sync"),
            ("member Member1 of mirror Mirror0", "missing (the bdev was removed)"),
            ("witness Witness0 of mirror Mirror0", "away (the bdev was removed)"),
        ] {
            assert_eq!(states.get(subject).map(String::as_str), Some(state), "{subject}");
        }
    }

    #[test]
    fn each_change_is_told_once() {
        let told = |known: &States, now: &States| {
            changes(known, now)
                .into_iter()
                .map(|(subject, change)| format!("{subject}: {change}"))
                .collect::<Vec<_>>()
        };
        let up = bdev("connected", None);
        assert_eq!(told(&States::new(), &up), ["application: answering", "bdev b: connected"]);
        assert!(told(&up, &up).is_empty());
        let down = bdev("reconnecting", Some("refused"));
        assert_eq!(told(&up, &down), ["bdev b: connected -> reconnecting (refused)"]);
        let away = States::from([("application".to_owned(), "not answering (gone)".to_owned())]);
        assert_eq!(told(&down, &away), ["application: answering -> not answering (gone)"]);
        assert!(told(&away, &away).is_empty());
        let empty = States::from([("application".to_owned(), "answering".to_owned())]);
        assert_eq!(told(&up, &empty), ["bdev b: gone"]);
    }
}
