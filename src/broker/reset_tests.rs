//! Resets that clients ask for.

use super::*;
use crate::ResetReach;
use crate::ResetStep::{Abandon, Answer, Begins, Ends, Quiesce};
use dst_wire::Status;

const PERIOD_US: u64 = crate::resets::PERIOD_US;

impl World {
    fn with_reset(reset: ResetReach) -> World {
        World::with_rules(Rules { reset, ..Rules::default() })
    }

    fn asks(&mut self, connection: u64, slot: u16) {
        self.handle(Input::Reset { connection, slot });
    }

    fn steps(&mut self) -> Vec<(u64, ResetStep)> {
        std::mem::take(&mut self.steps)
    }

    fn quiesced(&mut self, connection: u64, round: u64) {
        self.handle(Input::Quiesced { connection, round });
    }

    fn reset_ended(&mut self, has_succeeded: bool) {
        self.handle(Input::HostsResetEnded { export: "disk".to_owned(), has_succeeded });
    }

    fn tick_after(&mut self, us: u64) {
        self.now_us += us;
        self.handle(Input::Tick);
    }
}

fn answer(connection: u64, slot: u16, status: Status) -> (u64, ResetStep) {
    (connection, Answer { slot, status })
}

/// Opens a session of host `a` with two queues, and one of host `b` with one.
fn two_hosts(world: &mut World) -> [u64; 3] {
    let (a, b) = (world.session("a"), world.session("b"));
    [world.join("a", a, 1, 1), world.join("a", a, 2, 1), world.join("b", b, 1, 1)]
}

#[test]
fn by_default_a_reset_waits_for_the_sessions_own_queues_and_touches_nobody_else() {
    let mut world = World::with_reset(ResetReach::Host);
    let [one, two, _] = two_hosts(&mut world);
    world.asks(one, 3);
    assert_eq!(world.steps(), [(one, Quiesce(1)), (two, Quiesce(1))]);
    world.quiesced(two, 1);
    assert_eq!(world.steps(), []);
    world.quiesced(one, 1);
    assert_eq!(world.steps(), [answer(one, 3, Status::Success)]);
    assert!(!world.others.contains(&"reset for hosts"));
}

#[test]
fn a_connection_that_is_gone_is_fenced_and_one_that_is_closing_is_waited_for() {
    let mut world = World::with_reset(ResetReach::Host);
    let [one, two, _] = two_hosts(&mut world);
    world.handle(Input::Draining { connection: two });
    world.asks(one, 0);
    assert_eq!(world.steps(), [(one, Quiesce(1))]);
    world.quiesced(one, 1);
    assert_eq!(world.steps(), [], "the backend has something of the closed one");
    world.finish(two, false);
    assert_eq!(world.steps(), [answer(one, 0, Status::Success)]);
}

#[test]
fn what_comes_meanwhile_shares_the_next_round_which_is_not_too_soon() {
    let mut world = World::with_reset(ResetReach::Host);
    let [one, two, other] = two_hosts(&mut world);
    for (connection, slot) in [(one, 0), (one, 1), (two, 0), (other, 0)] {
        world.asks(connection, slot);
    }
    assert_eq!(
        world.steps(),
        [(one, Quiesce(1)), (two, Quiesce(1)), (other, Quiesce(2))],
        "each session for itself"
    );
    world.quiesced(one, 1);
    world.quiesced(two, 1);
    world.quiesced(other, 2);
    assert_eq!(world.steps(), [answer(one, 0, Status::Success), answer(other, 0, Status::Success)]);
    world.tick_after(PERIOD_US / 2);
    assert_eq!(world.steps(), []);
    world.tick_after(PERIOD_US / 2);
    assert_eq!(world.steps(), [(one, Quiesce(3)), (two, Quiesce(3))]);
    world.quiesced(one, 1);
    world.quiesced(two, 3);
    assert_eq!(world.steps(), [], "an answer to an earlier round is none to this one");
    world.quiesced(one, 3);
    assert_eq!(world.steps(), [answer(one, 1, Status::Success), answer(two, 0, Status::Success)]);
}

#[test]
fn a_round_that_takes_too_long_fails() {
    let mut world = World::with_reset(ResetReach::Host);
    let [one, two, _] = two_hosts(&mut world);
    world.asks(one, 0);
    world.quiesced(two, 1);
    world.steps();
    let timeout_us = u64::from(LIMITS.drain_timeout_ms) * 1000;
    world.tick_after(timeout_us - 10);
    assert_eq!(world.steps(), []);
    world.tick_after(10);
    let abandoned = (one, Abandon(1));
    assert_eq!(world.steps(), [abandoned, answer(one, 0, Status::Failed)], "only that one is waited for");
}

#[test]
fn a_backend_is_reset_once_for_all_who_wait_and_not_again_while_it_hangs() {
    let mut world = World::with_reset(ResetReach::Backend);
    let [one, two, other] = two_hosts(&mut world);
    world.asks(one, 0);
    let first = world.sessions[&one].id;
    let of_a: Vec<u64> =
        world.sessions.iter().filter(|(_, place)| place.id == first).map(|(&id, _)| id).collect();
    assert_eq!(world.steps(), of_a.iter().map(|&id| (id, Begins)).collect::<Vec<_>>());
    assert_eq!(world.others, ["reset for hosts"]);
    world.asks(other, 7);
    world.asks(two, 1);
    let timeout_us = u64::from(LIMITS.drain_timeout_ms) * 1000;
    world.tick_after(timeout_us + PERIOD_US);
    assert_eq!(world.steps(), [answer(one, 0, Status::Failed)]);
    assert_eq!(world.others, ["reset for hosts"], "the backend still has the first one");
    world.reset_ended(true);
    let steps = world.steps();
    assert_eq!(steps[..of_a.len()], of_a.iter().map(|&id| (id, Ends)).collect::<Vec<_>>());
    assert!(steps[of_a.len()..].iter().all(|(_, step)| *step == Begins));
    assert_eq!(world.others, ["reset for hosts"; 2]);
    world.reset_ended(false);
    let steps = world.steps();
    let answers = steps[steps.len() - 2..].to_vec();
    assert_eq!(answers, [answer(other, 7, Status::Failed), answer(two, 1, Status::Failed)]);
}

#[test]
fn an_export_goes_when_the_reset_of_its_bdev_has_ended() {
    let mut world = World::with_reset(ResetReach::Backend);
    let [one, ..] = two_hosts(&mut world);
    world.asks(one, 0);
    world.broker.delete_export(7, "disk").unwrap();
    world.carry_out();
    let ids: Vec<u64> = world.told.keys().copied().collect();
    ids.into_iter().for_each(|id| world.finish(id, false));
    assert!(!world.others.contains(&"gone"));
    world.reset_ended(true);
    assert_eq!(world.others.last(), Some(&"gone"));
    assert!(!world.steps().contains(&answer(one, 0, Status::Success)), "nobody is there to be told");
}

proptest! {
    /// Whichever clients ask, leave, hang or answer, no request is answered twice, no backend is
    /// reset twice at once or too often, and each request of a connection that stays is answered.
    #[test]
    fn every_reset_is_answered_once(
        is_backend: bool,
        steps in prop::collection::vec((0..6u8, 0..3usize, 0..500u64), 0..100),
    ) {
        let reach = if is_backend { ResetReach::Backend } else { ResetReach::Host };
        let mut world = World::with_reset(reach);
        let connections = two_hosts(&mut world);
        let (mut open, mut next_slot, mut asked) = (vec![true; 3], 0, BTreeMap::new());
        let (mut rounds, mut begun): (BTreeMap<u64, Vec<u64>>, Vec<u64>) = (BTreeMap::new(), Vec::new());
        let (mut resetting, mut seen) = (false, 0);
        let last = (0..40).map(|at| (if at % 4 == 3 { 4 } else { at as u8 % 4 + 10 }, at % 3, 400));
        for (what, which, ms) in steps.into_iter().chain(last) {
            let connection = connections[which];
            match what {
                0 | 1 if open[which] => {
                    asked.insert((connection, next_slot), 0);
                    world.asks(connection, next_slot);
                    next_slot += 1;
                }
                2 | 10..=12 => {
                    for (round, connections) in std::mem::take(&mut rounds) {
                        for connection in connections {
                            world.quiesced(connection, round);
                        }
                    }
                    if std::mem::take(&mut resetting) {
                        world.reset_ended(ms % 2 == 0);
                    }
                }
                3 if open[which] && ms < 50 => {
                    open[which] = false;
                    asked.retain(|&(other, _), _| other != connection);
                    world.finish(connection, false);
                }
                _ => world.tick_after(ms * 1000),
            }
            for (connection, step) in world.steps() {
                match step {
                    Quiesce(round) => rounds.entry(round).or_default().push(connection),
                    Answer { slot, .. } => {
                        let times = asked.get_mut(&(connection, slot)).expect("it was asked for");
                        *times += 1;
                        prop_assert_eq!(*times, 1);
                    }
                    Begins | Ends | Abandon(_) => {}
                }
            }
            let resets = world.others.iter().filter(|what| **what == "reset for hosts").count();
            if resets > seen {
                prop_assert!(!resetting && resets == seen + 1, "two resets at once");
                prop_assert!(begun.last().is_none_or(|&at| world.now_us - at >= PERIOD_US));
                begun.push(world.now_us);
                (resetting, seen) = (true, resets);
            }
        }
        prop_assert!(asked.values().all(|&times| times == 1), "{asked:?}");
    }
}

#[test]
fn a_new_session_waits_for_the_reset_that_the_one_before_asked_for() {
    let mut world = World::with_reset(ResetReach::Backend);
    let control = world.session("a");
    let one = world.join("a", control, 1, 1);
    world.asks(one, 0);
    let previous = Previous { session: world.sessions[&one].id, instance: [9; 16] };
    world.finish(control, false);
    world.finish(one, false);
    let again = world.session_of("a", Some(previous));
    assert_eq!(world.last(again), None, "the reset would end the new session's I/O");
    world.session("b");
    world.reset_ended(true);
    assert_eq!(world.last(again), Some("welcome"));
}
