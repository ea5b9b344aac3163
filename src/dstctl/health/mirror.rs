//! The problems of mirrors.

use crate::finding::{Finding, Severity};
use crate::snapshot::{Member, MemberState, Mirror, MirrorDevice, MirrorState, Verification, Witness};
use crate::table::{bytes, duration};

/// Returns the problems of a mirror, of its members and of its witness.
pub fn mirror(mirror: &Mirror) -> Vec<Finding> {
    let finding = |(severity, problem, advice)| Finding {
        severity,
        subject: format!("mirror {}", mirror.name),
        problem,
        advice,
    };
    let of_parts = || mirror.members.iter().filter_map(|member| of_member(mirror, member));
    let found: Vec<_> = match whole(mirror) {
        Whole::Unusable(problem) => vec![problem],
        Whole::Used(problem) => problem
            .into_iter()
            .chain(of_parts())
            .chain(of_witness(mirror))
            .chain(mirror.verification.as_ref().and_then(|found| of_verification(mirror, found)))
            .collect(),
    };
    found.into_iter().map(finding).collect()
}

/// A problem: how bad it is, what it is, and the advice.
type Problem = (Severity, String, String);

/// The problem of a mirror as a whole.
enum Whole {
    /// The mirror can't be used, for this reason; the states of its members do not matter.
    Unusable(Problem),
    /// The mirror is used, perhaps with a problem.
    Used(Option<Problem>),
}

fn whole(mirror: &Mirror) -> Whole {
    use Severity::{Critical, Warning};
    let name = &mirror.name;
    let why = mirror.reason.as_deref().unwrap_or("no reason is known");
    if mirror.deleting || matches!(mirror.state, MirrorState::Stopping | MirrorState::Stopped) {
        let advice = "its users or its devices still work on what they have; look at these if this lasts";
        return Whole::Unusable((Warning, "is being deleted".to_owned(), advice.to_owned()));
    }
    match &mirror.state {
        // Their members and their witness say more.
        MirrorState::Online | MirrorState::Degraded | MirrorState::Stopping | MirrorState::Stopped => {
            Whole::Used(None)
        }
        MirrorState::Starting => {
            let shown = |device: &MirrorDevice| match &device.reason {
                Some(why) => format!("{} ({why})", device.device),
                None => device.device.clone(),
            };
            let absent: Vec<String> = mirror.absent().map(shown).collect();
            let advice = match absent.is_empty() {
                true => format!(
                    "see bdev_dst_mirror_get_info -b {name}, and \"What to do when\" of docs/mirror.md"
                ),
                false => format!("bring the bdevs back that it looks for: {}", absent.join(", ")),
            };
            Whole::Unusable((Critical, format!("can't be used yet: {why}"), advice))
        }
        MirrorState::Stalled => {
            let problem = "lets writes wait, since too few of its members and witness are there";
            let advice = "bring a member or the witness back: either makes a majority again";
            Whole::Used(Some((Critical, problem.to_owned(), advice.to_owned())))
        }
        MirrorState::Failed => {
            let problem = "fails its I/O, since no member with all its data is there";
            let advice = "bring back the member that was lost last";
            Whole::Used(Some((Critical, problem.to_owned(), advice.to_owned())))
        }
        MirrorState::Ended => {
            let advice = format!(
                "bdev_dst_mirror_delete -b {name}; then assemble it again, unless another host has it now"
            );
            Whole::Unusable((Critical, format!("has ended: {why}"), advice))
        }
        MirrorState::Other(state) => {
            let problem = format!("is in the state {state:?}, which this dstctl does not know");
            Whole::Used(Some((Warning, problem, "use the dstctl of the application's version".to_owned())))
        }
    }
}

fn of_member(mirror: &Mirror, member: &Member) -> Option<Problem> {
    let Member { name, state, reason, .. } = member;
    let why = reason.as_deref().unwrap_or("no reason is known");
    let behind = bytes(mirror.behind(member));
    let (problem, advice) = match state {
        MemberState::InSync | MemberState::Detached => return None,
        MemberState::Missing => {
            let since = member.missing_ms.map_or("some time".to_owned(), duration);
            let advice = format!(
                "bring its bdev back{}, and what it missed is copied; or replace it: \
                 bdev_dst_mirror_remove_member, _add_member",
                now(mirror.absence(member))
            );
            (format!("lacks its member {name}, which has missed {behind} in {since}: {why}"), advice)
        }
        MemberState::Resyncing => {
            let advice = "wait, this ends by itself; keep the other members running until then";
            (format!("brings its member {name} up to date, {behind} are left"), advice.to_owned())
        }
        MemberState::Unusable => {
            let advice = "bdev_dst_mirror_remove_member and _add_member copy everything to it; if it is the one whose \
                          data count, see \"What to do when\" of docs/mirror.md";
            (format!("does not use its member {name}: {why}"), advice.to_owned())
        }
        MemberState::Other(state) => {
            let problem =
                format!("has a member {name} in the state {state:?}, which this dstctl does not know");
            (problem, "use the dstctl of the application's version".to_owned())
        }
    };
    Some((Severity::Warning, problem, advice))
}

fn of_witness(mirror: &Mirror) -> Option<Problem> {
    let Witness { name, is_current, reason } = mirror.witness.as_ref()?;
    let why = reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let advice = format!(
        "bring its bdev back{}, or replace it: bdev_dst_mirror_remove_witness, _add_witness",
        now(mirror.absence_of(name))
    );
    (!is_current).then(|| (Severity::Warning, format!("goes on without its witness {name}{why}"), advice))
}

fn of_verification(mirror: &Mirror, found: &Verification) -> Option<Problem> {
    let Verification { blocks_differing: differing, blocks_unread: unread, blocks_repaired: repaired } =
        found;
    if differing.saturating_add(*unread) <= *repaired {
        return None;
    }
    let problem = format!(
        "has members that differ: {differing} blocks are not the same, {unread} could not be read, \
         {repaired} were repaired"
    );
    let advice = format!(
        "see \"Comparing members\" of docs/mirror.md; bdev_dst_mirror_verify -b {} looks again",
        mirror.name
    );
    Some((Severity::Warning, problem, advice))
}

/// Returns the reason why a bdev can't be had now, in brackets.
fn now(absence: Option<&str>) -> String {
    absence.map_or(String::new(), |why| format!(" (now: {why})"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::snapshot::tests::recorded_mirror;

    /// Returns the problems of a mirror in this state, whose fields are replaced by these.
    fn of(state: &str, fields: Value) -> Vec<(Severity, String, String)> {
        let mut shown = recorded_mirror();
        shown["state"] = json!(state);
        shown.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let found = mirror(&serde_json::from_value(shown).unwrap());
        assert!(found.iter().all(|found| found.subject == "mirror Mirror0"), "{found:?}");
        found.into_iter().map(|found| (found.severity, found.problem, found.advice)).collect()
    }

    /// Returns the problem of a mirror whose members are these and in sync, but for the last.
    fn of_last(member: Value) -> (String, String) {
        let first = json!({"name": "a", "state": "in_sync"});
        let found = of("degraded", json!({"members": [first, member], "witness": null}));
        let [(Severity::Warning, problem, advice)] = &found[..] else { panic!("{found:?}") };
        (problem.clone(), advice.clone())
    }

    #[test]
    fn a_mirror_that_is_whole_has_no_problem() {
        let members = json!([{"name": "a", "state": "in_sync"}, {"name": "b", "state": "detached"}]);
        let witness = json!({"name": "w", "is_current": true});
        assert_eq!(of("online", json!({"members": members, "witness": witness})), []);
    }

    #[test]
    fn a_missing_member_and_a_missing_witness_are_told_with_what_to_do() {
        let found = of("degraded", json!({}));
        let told = |index: usize| (found[index].0, &found[index].1[..], &found[index].2[..]);
        assert_eq!(
            told(0),
            (
                Severity::Warning,
                "lacks its member Member1, which has missed 12.0 KiB in 2 s: the bdev was removed",
                "bring its bdev back (now: there is no bdev with the name or UUID `Member1`), and what it missed is \
                 copied; or replace it: bdev_dst_mirror_remove_member, _add_member"
            )
        );
        assert_eq!(
            told(1),
            (
                Severity::Warning,
                "goes on without its witness Witness0: the bdev was removed",
                "bring its bdev back (now: there is no bdev with the name or UUID `Witness0`), or replace it: \
                 bdev_dst_mirror_remove_witness, _add_witness"
            )
        );
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn members() {
        let (problem, advice) = of_last(json!({"name": "b", "state": "resyncing", "blocks_left": 256}));
        assert_eq!(problem, "brings its member b up to date, 1.0 MiB are left");
        assert!(advice.starts_with("wait"), "{advice}");
        let (problem, advice) = of_last(json!({"name": "b", "state": "unusable", "reason": "diverged"}));
        assert_eq!(problem, "does not use its member b: diverged");
        assert!(advice.contains("\"What to do when\""), "{advice}");
        let (problem, _) = of_last(json!({"name": "b", "state": "new"}));
        assert!(problem.contains("\"new\", which this dstctl does not know"), "{problem}");
        let (problem, advice) = of_last(json!({"name": "b", "state": "missing"}));
        assert_eq!(problem, "lacks its member b, which has missed 0 B in some time: no reason is known");
        assert!(advice.starts_with("bring its bdev back, and"), "{advice}");
    }

    #[test]
    fn states() {
        use Severity::{Critical, Warning};
        let whole = json!({"members": [], "witness": null});
        let of = |state: &str, more: Value| {
            let mut fields = whole.clone();
            fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let found = of(state, fields);
            let [(severity, problem, advice)] = &found[..] else { panic!("{state}: {found:?}") };
            (*severity, problem.clone(), advice.clone())
        };
        let (severity, problem, advice) = of("starting", json!({"reason": "1 of 2 voters are there"}));
        assert_eq!((severity, &problem[..]), (Critical, "can't be used yet: 1 of 2 voters are there"));
        assert!(advice.contains("looks for: Member1 (there is no bdev"), "{advice}");
        let (_, _, advice) = of("starting", json!({"devices": []}));
        assert!(advice.starts_with("see bdev_dst_mirror_get_info -b Mirror0"), "{advice}");
        for (state, severity, words) in [
            ("stalled", Critical, "lets writes wait, since too few of its members and witness are there"),
            ("failed", Critical, "fails its I/O, since no member with all its data is there"),
            ("ended", Critical, "has ended: taken over"),
            ("stopping", Warning, "is being deleted"),
            ("new", Warning, "is in the state \"new\", which this dstctl does not know"),
        ] {
            let (found, problem, _) = of(state, json!({"reason": "taken over"}));
            assert_eq!((found, &problem[..]), (severity, words));
        }
        assert_eq!(of("online", json!({"deleting": true})).1, "is being deleted");
    }

    #[test]
    fn members_that_differ_are_told_until_they_are_repaired() {
        let of = |repaired: u64| {
            let found = json!({"blocks_differing": 3, "blocks_unread": 64, "blocks_repaired": repaired});
            of("online", json!({"members": [], "witness": null, "verification": found}))
        };
        let problem =
            "has members that differ: 3 blocks are not the same, 64 could not be read, 66 were repaired";
        assert_eq!(of(66)[0].1, problem);
        assert_eq!(of(67), []);
    }
}
