//! Exports that have one owner at a time.

use dst_wire::RefusalReason;

use super::*;

impl World {
    /// Checks that an owner has the export to itself, and that its ownership is durable.
    pub(super) fn check_owner(&self, welcome: &Welcome) {
        let Some(number) = welcome.ownership else { return };
        assert!(matches!(self.kept, Ownership::Exclusive { number: kept, .. } if kept == number));
        let is_other = |place: &&SessionRef| place.id != welcome.session.id;
        assert_eq!(self.sessions.values().find(is_other), None, "an owner is admitted beside others");
    }

    /// Returns a world that keeps the ownership of its export, which hosts `a` and `b` may take
    /// over.
    fn with_owners() -> World {
        let mut world = World::new();
        world.broker.keep_ownership(1, "disk", Ok(world.kept.clone())).unwrap();
        for name in ["a", "b"] {
            world.broker.add_host(1, "disk", host(name, Access::TakeOver)).unwrap();
        }
        world.carry_out();
        world
    }

    fn claims(&mut self, host: &str, claim: Claim) -> u64 {
        let connection = self.accept(1).unwrap();
        self.say(connection, host, None, None, Some(claim));
        connection
    }

    fn takes_over(&mut self, host: &str) -> u64 {
        let after = self.kept.number();
        self.claims(host, Claim::Next { after, takeover: true })
    }

    /// Reports that the ownership that is being written is durable.
    pub(super) fn stored(&mut self) {
        if let Some(stored) = self.storing.take() {
            self.kept = stored;
            self.handle(Input::OwnershipStored { export: "disk".to_owned(), since_s: 5 });
        }
    }

    pub(super) fn not_stored(&mut self) {
        if self.storing.take().is_some() {
            self.fail_storing(false);
        }
    }

    /// Reports that the ownership that is being written may or may not be durable.
    fn stored_in_doubt(&mut self) {
        if self.storing.take().is_some() {
            self.fail_storing(true);
        }
    }

    fn fail_storing(&mut self, is_in_doubt: bool) {
        let why = "no space".to_owned();
        self.handle(Input::OwnershipNotStored { export: "disk".to_owned(), why, is_in_doubt });
    }

    /// Returns a connection of this host that owns the export.
    fn owner(&mut self, host: &str) -> u64 {
        let connection = self.takes_over(host);
        self.stored();
        assert_eq!(self.last(connection), Some("welcome"));
        connection
    }

    fn number(&self, connection: u64) -> Option<u64> {
        self.welcomes[&connection].ownership
    }
}

#[test]
fn an_owner_is_let_in_once_that_is_durable() {
    let mut world = World::with_owners();
    let a = world.takes_over("a");
    assert_eq!(world.last(a), None, "it is not durable");
    let b = world.session_of("b", None);
    assert_eq!((world.last(b), world.refusals[&b].reason), (Some("refuse"), RefusalReason::Busy));
    world.stored();
    assert_eq!((world.last(a), world.number(a)), (Some("welcome"), Some(1)));
    let channel = world.join("a", a, 1, 1);
    assert_eq!((world.last(channel), world.number(channel)), (Some("welcome"), Some(1)));
}

#[test]
fn a_takeover_ends_others_and_waits_for_their_backend() {
    let mut world = World::with_owners();
    let a = world.owner("a");
    let channel = world.join("a", a, 1, 1);
    let b = world.takes_over("b");
    assert_eq!((world.last(a), world.last(channel)), (Some("welcome"), Some("welcome")));
    world.stored();
    assert_eq!((world.last(a), world.last(channel)), (Some("close"), Some("close")));
    assert!(!world.told[&a].contains(&"event"), "the former owner's bdev is not taken away");
    let facts = world.broker.export("disk").unwrap();
    assert_eq!(facts.waiting, [("b", world.broker.connections[&b].since_us)]);
    assert_eq!(world.broker.session_counts().get("disk"), None);
    world.handle(Input::Draining { connection: channel });
    world.finish(a, false);
    assert_eq!(world.last(b), None, "the backend has something of the channel");
    world.finish(channel, false);
    assert_eq!((world.last(b), world.number(b)), (Some("welcome"), Some(2)));
    // The former owner comes back, claiming its ownership or none.
    for claim in [Claim::Held(1), Claim::Inquiry, Claim::Next { after: 1, takeover: true }] {
        let late = world.claims("a", claim);
        let refusal = &world.refusals[&late];
        assert_eq!((refusal.reason, refusal.ownership.as_ref()), (RefusalReason::Owned, Some(&world.kept)));
    }
}

#[test]
fn a_takeover_waits_for_a_reset_of_the_backend_that_others_asked_for() {
    let mut world = World::with_rules(Rules { reset: crate::ResetReach::Backend, ..Rules::default() });
    world.broker.keep_ownership(1, "disk", Ok(world.kept.clone())).unwrap();
    for name in ["a", "b"] {
        world.broker.add_host(1, "disk", host(name, Access::TakeOver)).unwrap();
    }
    world.carry_out();
    let a = world.owner("a");
    let channel = world.join("a", a, 1, 1);
    world.handle(Input::Reset { connection: channel, slot: 0 });
    assert_eq!(world.others, ["reset for hosts"]);
    let b = world.takes_over("b");
    world.stored();
    world.finish(a, false);
    world.finish(channel, false);
    assert_eq!(world.last(b), None, "the reset would end the new owner's I/O");
    world.handle(Input::HostsResetEnded { export: "disk".to_owned(), has_succeeded: true });
    assert_eq!((world.last(b), world.number(b)), (Some("welcome"), Some(2)));
}

#[test]
fn a_slow_state_file_is_waited_for() {
    let mut world = World::with_owners();
    let a = world.takes_over("a");
    world.now_us += 1_800_000;
    world.handle(Input::Tick);
    assert_eq!(world.last(a), None, "its ownership would have to be written again");
    world.stored();
    assert_eq!((world.last(a), world.number(a)), (Some("welcome"), Some(1)));
}

#[test]
fn an_operator_has_a_hanging_backend_reset_for_a_takeover() {
    let mut world = World::with_owners();
    let a = world.owner("a");
    let channel = world.join("a", a, 1, 1);
    let reset = |world: &mut World| {
        let result = world.broker.reset_for_takeover(world.now_us, "disk").map_err(|error| error.to_string());
        world.carry_out();
        result
    };
    assert!(reset(&mut world).unwrap_err().contains("nobody waits"));
    let b = world.takes_over("b");
    assert!(reset(&mut world).unwrap_err().contains("nobody waits"), "its ownership is not durable");
    world.stored();
    world.finish(a, false);
    // However long that takes: between two attempts of the owner, too.
    world.now_us += 10_000_000;
    world.handle(Input::Tick);
    assert_eq!((world.last(b), world.refusals[&b].reason), (Some("refuse"), RefusalReason::Busy));
    world.finish(b, false);
    assert_eq!((reset(&mut world), &world.others), (Ok(()), &vec!["reset for hosts"]));
    assert!(world.broker.export("disk").unwrap().is_resetting);
    let b = world.takes_over("b");
    world.stored();
    assert!(reset(&mut world).unwrap_err().contains("is being reset"));
    // The backend has nothing of the former owner any more, but the reset would end I/O of the new
    // one.
    world.finish(channel, false);
    assert_eq!(world.last(b), None);
    world.handle(Input::HostsResetEnded { export: "disk".to_owned(), has_succeeded: false });
    assert_eq!((world.last(b), world.number(b)), (Some("welcome"), Some(3)));
    assert!(!world.broker.export("disk").unwrap().is_resetting);
    assert!(reset(&mut world).unwrap_err().contains("nobody waits"));
    world.broker.delete_export(world.now_us, "disk").unwrap();
    world.carry_out();
    assert!(reset(&mut world).unwrap_err().contains("already being deleted"));
    assert!(world.broker.reset_for_takeover(0, "none").unwrap_err().to_string().contains("none"));
}

#[test]
fn a_takeover_ends_sessions_that_share() {
    let mut world = World::with_owners();
    let (a, c) = (world.session("a"), world.session("c"));
    let without = world.claims("b", Claim::Next { after: 0, takeover: false });
    assert_eq!(world.refusals[&without].reason, RefusalReason::Owned);
    let b = world.takes_over("b");
    world.stored();
    assert_eq!((world.last(a), world.last(c), world.last(b)), (Some("close"), Some("close"), None));
    world.finish(a, false);
    world.finish(c, false);
    assert_eq!(world.last(b), Some("welcome"));
    let c = world.session_of("c", None);
    assert_eq!(world.refusals[&c].reason, RefusalReason::Owned);
}

#[test]
fn what_can_not_be_made_durable_changes_nothing() {
    let mut world = World::with_owners();
    let a = world.owner("a");
    let b = world.takes_over("b");
    world.not_stored();
    assert_eq!((world.last(a), world.refusals[&b].reason), (Some("welcome"), RefusalReason::Busy));
    let channel = world.join("a", a, 1, 1);
    assert_eq!(world.last(channel), Some("welcome"));
}

#[test]
fn nobody_is_let_in_before_what_is_in_doubt_was_written_again() {
    let mut world = World::with_owners();
    let a = world.owner("a");
    let channel = world.join("a", a, 1, 1);
    let b = world.takes_over("b");
    world.stored_in_doubt();
    assert_eq!((world.last(b), world.refusals[&b].reason), (Some("refuse"), RefusalReason::Busy));
    assert_eq!((world.last(a), world.last(channel)), (Some("welcome"), Some("welcome")));
    // The owner's session goes on; another one of the owner has to wait for the file.
    world.finish(channel, false);
    let channel = world.join("a", a, 1, 2);
    assert_eq!(world.last(channel), Some("welcome"));
    for is_stored in [false, true] {
        let again = world.claims("a", Claim::Held(1));
        let restored = Some(Ownership::Exclusive { number: 1, host: "a".to_owned(), since_s: 5 });
        assert_eq!((world.refusals[&again].reason, &world.storing), (RefusalReason::Busy, &restored));
        if is_stored { world.stored() } else { world.not_stored() }
    }
    assert_eq!((world.last(a), world.last(channel)), (Some("welcome"), Some("welcome")));
    let again = world.claims("a", Claim::Held(1));
    assert_eq!((world.last(a), world.last(again)), (Some("close"), None), "its channel has to end first");
    let b = world.takes_over("b");
    world.stored_in_doubt();
    assert_eq!(world.last(b), Some("refuse"));
    let b = world.takes_over("b");
    world.stored();
    assert_eq!(world.kept.number(), 2, "the file was written for it");
    world.finish(a, false);
    world.finish(channel, false);
    assert_eq!((world.last(again), world.last(b)), (Some("refuse"), Some("welcome")));
}

#[test]
fn an_owner_comes_back_with_its_number_and_its_host_without() {
    let mut world = World::with_owners();
    let a = world.owner("a");
    world.finish(a, false);
    let again = world.claims("a", Claim::Held(1));
    assert_eq!((world.last(again), world.number(again)), (Some("welcome"), Some(1)));
    let restarted = world.claims("a", Claim::Next { after: 1, takeover: false });
    world.stored();
    assert_eq!((world.last(again), world.last(restarted)), (Some("close"), None));
    world.finish(again, false);
    assert_eq!((world.last(restarted), world.number(restarted)), (Some("welcome"), Some(2)));
    let stopped_long_ago = world.claims("a", Claim::Held(1));
    assert_eq!(world.refusals[&stopped_long_ago].reason, RefusalReason::Owned);
}

#[test]
fn of_two_takers_the_later_one_has_it_and_the_other_does_not_take_it_back() {
    let mut world = World::with_owners();
    let a = world.owner("a");
    let channel = world.join("a", a, 1, 1);
    let first = world.takes_over("b");
    world.stored();
    world.finish(a, false);
    // The backend hangs, and the former owner takes its export back meanwhile.
    let second = world.takes_over("a");
    world.stored();
    world.finish(channel, false);
    assert_eq!((world.last(first), world.last(second)), (Some("refuse"), Some("welcome")));
    let again = world.claims("b", Claim::Next { after: 1, takeover: true });
    assert_eq!(world.last(again), Some("refuse"), "a takeover acts once");
}

#[test]
fn a_claimant_that_is_gone_owns_the_export_all_the_same() {
    let mut world = World::with_owners();
    let a = world.takes_over("a");
    world.finish(a, false);
    world.stored();
    let other = world.session_of("c", None);
    assert_eq!(world.refusals[&other].reason, RefusalReason::Owned);
    let again = world.claims("a", Claim::Next { after: 1, takeover: false });
    world.stored();
    assert_eq!((world.last(again), world.number(again)), (Some("welcome"), Some(2)));
}

#[test]
fn a_release_ends_the_owners_sessions_and_every_doubt() {
    let mut world = World::with_owners();
    let a = world.owner("a");
    world.broker.release_export(9, "disk", 1000).unwrap();
    world.carry_out();
    assert!(world.broker.release_export(9, "disk", 1000).is_err(), "one change at a time");
    world.stored();
    assert_eq!((world.last(a), &world.kept), (Some("close"), &Ownership::Free { last: 1 }));
    let late = world.claims("a", Claim::Held(1));
    assert_eq!(world.last(late), Some("refuse"));
    let c = world.session("c");
    world.broker.release_export(9, "disk", 1000).unwrap();
    world.carry_out();
    world.stored();
    assert_eq!(world.last(c), Some("welcome"), "whoever shares the export goes on");

    let mut world = World::with_owners();
    world.broker.keep_ownership(1, "disk", Err("it is damaged".to_owned())).unwrap();
    for claim in [None, Some(Claim::Held(1)), Some(Claim::Next { after: 0, takeover: true })] {
        let late = world.accept(1).unwrap();
        world.say(late, "a", None, None, claim);
        let refusal = &world.refusals[&late];
        assert_eq!((refusal.reason, &refusal.ownership), (RefusalReason::Owned, &None));
    }
    world.broker.release_export(9, "disk", 1000).unwrap();
    world.carry_out();
    world.stored();
    assert_eq!(world.kept, Ownership::Free { last: 1000 }, "higher than all that may have been");
    assert_eq!(World::new().broker.release_export(9, "disk", 1000).unwrap_err().to_string(), {
        "export `disk` has no state file, so nobody can own it"
    });
}

#[test]
fn a_deletion_waits_for_what_is_being_written() {
    let mut world = World::with_owners();
    let a = world.takes_over("a");
    world.broker.delete_export(7, "disk").unwrap();
    world.carry_out();
    world.finish(a, false);
    assert_eq!(world.others, [""; 0]);
    let export = "disk".to_owned();
    world.handle(Input::DrainTimeout { export: export.clone() });
    world.handle(Input::InFlight { export, lateness: crate::Lateness::Once, in_flight: 0 });
    assert_eq!(world.others, ["count"], "a reset of the backend would not help");
    world.stored();
    assert_eq!(world.others, ["count", "gone"]);
}

#[test]
fn strangers_are_not_told_who_owns_the_export() {
    let mut world = World::with_owners();
    world.owner("a");
    world.broker.remove_host(8, "disk", "*").unwrap();
    world.carry_out();
    let stranger = world.claims("c", Claim::Inquiry);
    let refusal = &world.refusals[&stranger];
    assert_eq!((refusal.reason, refusal.text.as_str()), (RefusalReason::NotAllowed, "not allowed"));
    assert_eq!(refusal.ownership, None);
}

proptest! {
    /// Whichever hosts claim, die, come back and share, and in whatever order changes end and are
    /// written, an owner is alone, and durably so (which [`World::check_owner`] asserts), and
    /// nothing waits in the end.
    #[test]
    fn one_owner_at_most(steps in prop::collection::vec((0..10u8, 0..8usize, 0..4u64), 0..100)) {
        let mut world = World::with_owners();
        for (what, which, number) in steps {
            let ids: Vec<u64> = world.told.keys().copied().collect();
            let some = (!ids.is_empty()).then(|| ids[which % ids.len()]);
            let name = ["a", "b", "c"][which % 3];
            let newest = world.kept.number();
            let claim = match number {
                0 => Claim::Next { after: newest, takeover: true },
                1 => Claim::Held(newest.max(1)),
                2 => Claim::Next { after: newest, takeover: false },
                _ => Claim::Held(newest.saturating_sub(1).max(1)),
            };
            match (what, some) {
                (0, _) => drop(world.accept(1)),
                (1 | 2, Some(id)) => world.say(id, name, None, None, Some(claim)),
                (3, Some(id)) => world.say(id, name, None, None, None),
                (4, Some(id)) => {
                    let sessions: Vec<SessionRef> = world.sessions.values().copied().collect();
                    if let Some(place) = sessions.get(which % sessions.len().max(1)) {
                        let place = SessionRef { queue: 1, epoch: number as u32, ..*place };
                        world.say(id, name, Some(place), None, None);
                    }
                }
                (5, Some(connection)) => world.finish(connection, number == 0),
                (6, _) => world.stored(),
                (7, _) => world.not_stored(),
                (9, _) => world.stored_in_doubt(),
                (8, _) if number == 0 => {
                    // This fails if the ownership is being changed already.
                    let _ = world.broker.release_export(world.now_us, "disk", 0);
                    world.carry_out();
                }
                _ => {}
            }
        }
        world.stored();
        // A connection that comes back with the owner's number may end the session of another one
        // with the same number.
        while let Some((&closed, _)) = world.told.iter().find(|(_, told)| told.contains(&"close")) {
            world.finish(closed, false);
        }
        let facts = world.broker.export("disk").unwrap();
        prop_assert!(facts.waiting.is_empty(), "{:?} wait", facts.waiting);
    }
}
