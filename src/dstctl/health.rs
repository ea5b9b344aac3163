//! The problems in a snapshot, with advice. No I/O.

mod mirror;

use crate::finding::{Finding, Severity};
use crate::snapshot::{Bdev, Export, Listener, Ownership, Session, Snapshot, State, Waiting};
use crate::table::duration;

/// Returns the problems, the worst first.
pub fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found: Vec<Finding> = snapshot.bdevs.iter().flat_map(bdev).collect();
    found.extend(snapshot.mirrors.iter().flat_map(mirror::mirror));
    found.extend(snapshot.exports.iter().filter_map(export));
    found.extend(snapshot.exports.iter().flat_map(entries));
    found.extend(listeners(snapshot));
    found.extend(snapshot.sessions.iter().filter_map(session));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

fn bdev(bdev: &Bdev) -> Vec<Finding> {
    let subject = format!("bdev {}", bdev.name);
    let finding =
        |severity, problem, advice: String| Finding { severity, subject: subject.clone(), problem, advice };
    let since = duration(bdev.state_age_ms);
    let why = bdev.last_error.as_deref().unwrap_or("no reason is known yet");
    let source = bdev.source();
    let reach = format!("see that the target of {source} runs and can be reached from here");
    let mut found = match &bdev.state {
        State::Connected => Vec::new(),
        State::Attaching => {
            vec![finding(Severity::Critical, format!("has not been attached for {since}: {why}"), reach)]
        }
        State::Reconnecting => {
            let waiting = bdev.outstanding.saturating_add(bdev.waiting);
            let problem = format!("has lacked a connection for {since}, {waiting} I/O wait: {why}");
            vec![finding(Severity::Critical, problem, reach)]
        }
        State::Unreachable => {
            let problem = format!("fails its I/O at once, for want of a connection for {since}: {why}");
            vec![finding(Severity::Critical, problem, reach)]
        }
        State::Failed => {
            let advice = format!("dstctl detach {}; then attach {source} again", bdev.name);
            vec![finding(Severity::Critical, format!("failed {since} ago: {why}"), advice)]
        }
        State::Other(state) => {
            let problem = format!("is in the state {state:?}, which this dstctl does not know: {why}");
            vec![finding(
                Severity::Warning,
                problem,
                "use the dstctl of the application's version".to_owned(),
            )]
        }
    };
    let counters = &bdev.counters;
    if counters.corrupt > 0 {
        let problem =
            format!("received data with a wrong digest {} times, and had it sent again", counters.corrupt);
        let advice = "look for a faulty network card, cable, switch, or memory between here and the target";
        found.push(finding(Severity::Warning, problem, advice.to_owned()));
    }
    if counters.lost_caches > 0 {
        let problem = format!("may have lost writes that were not flushed, {} times", counters.lost_caches);
        let advice =
            "check what is on it (filesystem, database), then detach and attach it to reset the count";
        found.push(finding(Severity::Warning, problem, advice.to_owned()));
    }
    found
}

fn export(export: &Export) -> Option<Finding> {
    let name = &export.name;
    let (severity, problem, advice) = if export.deleting {
        let advice = "its bdev still works on I/O of closed connections; look at the bdev if this lasts";
        (Severity::Warning, "is being deleted".to_owned(), advice.to_owned())
    } else if let Some(reason) = &export.offline_reason {
        let advice = format!("bring the bdev {} back, or: dstctl unexport {name}", export.bdev_name);
        (Severity::Critical, format!("is offline: {reason}"), advice)
    } else if export.hosts.is_empty() {
        (Severity::Warning, "can't be attached by anybody".to_owned(), format!("dstctl allow {name} HOST=rw"))
    } else {
        return None;
    };
    Some(Finding { severity, subject: format!("export {name}"), problem, advice })
}

/// Returns the problems of an export's access list, ownership and identity.
fn entries(export: &Export) -> Vec<Finding> {
    let name = &export.name;
    let finding = |severity, problem, advice: &str| {
        let advice = advice.to_owned();
        Finding { severity, subject: format!("export {name}"), problem, advice }
    };
    let keys = export.hosts.iter().filter_map(|host| Some((host, host.key_error.as_ref()?)));
    let mut found: Vec<Finding> = keys
        .map(|(host, why)| {
            let problem = format!("does not admit host {}, whose key can't be read: {why}", host.host);
            finding(Severity::Critical, problem, "put the key file there; it is read when the host connects")
        })
        .collect();
    if let Some(ownership) = &export.ownership {
        let Ownership { state, waiting, why, .. } = ownership;
        if state == "unknown" {
            let why = why.as_deref().unwrap_or("no reason is known");
            let problem = format!("admits nobody, since nobody knows who owns it: {why}");
            let advice = "make sure that no former owner uses its bdev, then: dstctl release";
            found.push(finding(Severity::Critical, problem, advice));
        } else if !waiting.is_empty() {
            let each = waiting.iter().map(|Waiting { host, waiting_ms }| format!("{host} ({waiting_ms} ms)"));
            let problem = format!("lets {} wait to own it", each.collect::<Vec<String>>().join(", "));
            let advice = "the backend still works on I/O of the others; if it hangs: dst_export_reset";
            found.push(finding(Severity::Warning, problem, advice));
        }
    }
    if let Some(why) = &export.uuid_warning {
        let advice = "create the export with a uuid of its own, as dstctl export --file does";
        found.push(finding(
            Severity::Warning,
            format!("may be another device after a restart: {why}"),
            advice,
        ));
    }
    found
}

fn listeners(snapshot: &Snapshot) -> Vec<Finding> {
    if snapshot.listeners.is_empty() && !snapshot.exports.is_empty() {
        return vec![Finding {
            severity: Severity::Critical,
            subject: "target".to_owned(),
            problem: "has exports and no listener".to_owned(),
            advice: "dst_create_listener, or dstctl export with --listen ADDRESS:PORT".to_owned(),
        }];
    }
    let waits = |listener: &Listener| {
        let why = listener.last_error.as_deref()?;
        Some(Finding {
            severity: Severity::Critical,
            subject: format!("listener {} port {}", listener.traddr, listener.trsvcid),
            problem: format!("does not accept connections: {why}"),
            advice: "configure the address on this machine, or delete the listener".to_owned(),
        })
    };
    snapshot.listeners.iter().filter_map(waits).collect()
}

/// Returns the problem of a session with closed connections that still have requests in the
/// backend: they keep its client waiting.
fn session(session: &Session) -> Option<Finding> {
    let held = session.queues.iter().filter(|queue| queue.state == "closing");
    let (connections, requests) = held.fold((0_u64, 0_u64), |(count, requests), queue| {
        (count + 1, requests.saturating_add(queue.in_flight))
    });
    if requests == 0 {
        return None;
    }
    Some(Finding {
        severity: Severity::Warning,
        subject: format!("session of {} at export {}", session.host, session.export),
        problem: format!("waits for {requests} requests of {connections} closed connections"),
        advice: "look at the export's bdev: it has not answered them".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::snapshot::tests::snapshot;

    fn of(part: &str, value: Value) -> Vec<(Severity, String)> {
        let mut all = json!({"exports": [], "listeners": [], "sessions": [], "bdevs": []});
        all[part] = json!([value]);
        findings(&snapshot(all))
            .into_iter()
            .map(|found| (found.severity, format!("{} {}", found.subject, found.problem)))
            .collect()
    }

    fn bdev(state: &str) -> Value {
        json!({"name": "b", "traddr": "a", "trsvcid": "1", "export": "e", "state": state, "state_age_ms": 12_000,
               "last_error": "refused", "outstanding": 3, "waiting": 4})
    }

    #[test]
    fn bdevs() {
        use Severity::*;
        assert_eq!(of("bdevs", bdev("connected")), []);
        for (state, severity, words) in [
            ("attaching", Critical, "bdev b has not been attached for 12 s: refused"),
            ("reconnecting", Critical, "bdev b has lacked a connection for 12 s, 7 I/O wait: refused"),
            (
                "unreachable",
                Critical,
                "bdev b fails its I/O at once, for want of a connection for 12 s: refused",
            ),
            ("failed", Critical, "bdev b failed 12 s ago: refused"),
            ("new", Warning, "bdev b is in the state \"new\", which this dstctl does not know: refused"),
        ] {
            assert_eq!(of("bdevs", bdev(state)), [(severity, words.to_owned())]);
        }
        let mut corrupt = bdev("connected");
        corrupt["counters"] = json!({"corrupt": 2, "lost_caches": 1});
        assert_eq!(of("bdevs", corrupt).len(), 2);
    }

    #[test]
    fn exports_and_listeners() {
        let export = |more: Value| {
            let mut export = json!({"name": "v", "bdev_name": "b", "hosts": [{"host": "h", "access": "rw"}]});
            export.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let all = json!({"exports": [export], "listeners": [{"traddr": "a", "trsvcid": "1"}], "sessions": [], "bdevs": []});
            findings(&snapshot(all))
                .into_iter()
                .map(|found| (found.severity, found.problem))
                .collect::<Vec<_>>()
        };
        use Severity::*;
        assert_eq!(export(json!({})), []);
        assert_eq!(export(json!({"offline_reason": "gone"})), [(Critical, "is offline: gone".to_owned())]);
        assert_eq!(export(json!({"hosts": []})), [(Warning, "can't be attached by anybody".to_owned())]);
        assert_eq!(
            export(json!({"deleting": true, "hosts": []})),
            [(Warning, "is being deleted".to_owned())]
        );
        let hosts = json!([{"host": "h", "access": "rw", "key_error": "no such file"}]);
        let problem = "does not admit host h, whose key can't be read: no such file";
        assert_eq!(export(json!({"hosts": hosts})), [(Critical, problem.to_owned())]);
        let problem = "admits nobody, since nobody knows who owns it: no such file";
        let ownership = json!({"ownership": {"state": "unknown", "why": "no such file", "waiting": []}});
        assert_eq!(export(ownership), [(Critical, problem.to_owned())]);
        let ownership = json!({"ownership": {"state": "owned", "owner": "h", "waiting": [
            {"host": "i", "waiting_ms": 5}, {"host": "j", "waiting_ms": 70}]}});
        assert_eq!(export(ownership), [(Warning, "lets i (5 ms), j (70 ms) wait to own it".to_owned())]);
        assert_eq!(export(json!({"ownership": {"state": "owned", "owner": "h", "waiting": []}})), []);
        let problem = "may be another device after a restart: aio";
        assert_eq!(export(json!({"uuid_warning": "aio"})), [(Warning, problem.to_owned())]);
        let listener = json!({"traddr": "a", "trsvcid": "1", "last_error": "no such address"});
        assert_eq!(
            of("listeners", listener),
            [(Critical, "listener a port 1 does not accept connections: no such address".to_owned())]
        );
        let alone = of("exports", json!({"name": "v", "bdev_name": "b", "hosts": []}));
        assert_eq!(
            alone[0],
            (Critical, "target has exports and no listener".to_owned()),
            "the worst is not first"
        );
    }

    #[test]
    fn sessions_that_wait_for_a_backend() {
        let session =
            |queues: Value| json!({"id": "i", "export": "v", "host": "h", "peer": "p", "queues": queues});
        assert_eq!(of("sessions", session(json!([{"state": "ready", "in_flight": 9}]))), []);
        let closing = json!([{"state": "closing", "in_flight": 2}, {"state": "closing", "in_flight": 1}]);
        let found = of("sessions", session(closing));
        let words = "session of h at export v waits for 3 requests of 2 closed connections";
        assert_eq!(found, [(Severity::Warning, words.to_owned())]);
    }
}
