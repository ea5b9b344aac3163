//! Whole conversations with the broker, without SPDK.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dst_session::access::{Access, Host, rights};
use dst_session::slots::Slots;
use dst_wire::{Claim, Device, Hello, Op, Ownership, Previous, Refusal, RefusalReason, SessionRef, Welcome};
use proptest::prelude::*;

use crate::connection::Stage;
use crate::{
    Broker, Input, Limits, Opening, Order, Output, PreviousProcess, Remains, ResetStep, Rules, Stats,
};

#[path = "removal_tests.rs"]
mod removal;
#[path = "reset_tests.rs"]
mod resets;
#[path = "rights_tests.rs"]
mod rights;
#[path = "stop_note_tests.rs"]
mod stop_note;
#[path = "takeover_tests.rs"]
mod takeover;

pub(crate) const LIMITS: Limits = Limits {
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

/// A broker with a world around it, which remembers what each connection was told.
struct World {
    broker: Broker,
    now_us: u64,
    next_session: u8,
    /// What each connection was told, as words.
    told: BTreeMap<u64, Vec<&'static str>>,
    /// The records that connections hold, with their session and queue.
    records: BTreeMap<u64, (SessionRef, Slots)>,
    sessions: BTreeMap<u64, SessionRef>,
    others: Vec<&'static str>,
    welcomes: BTreeMap<u64, Welcome>,
    /// The steps of resets that connections were told.
    steps: Vec<(u64, ResetStep)>,
    refusals: BTreeMap<u64, Refusal>,
    /// What is known of the target process that had the session that a hello names.
    previous: PreviousProcess,
    is_online: bool,
    /// The ownership that is kept, and the one that is being written.
    kept: Ownership,
    storing: Option<Ownership>,
}

impl World {
    fn new() -> World {
        World::with_rules(Rules { cache_outlives_target: true, ..Rules::default() })
    }

    fn with_rules(rules: Rules) -> World {
        let mut broker = Broker::new(LIMITS);
        broker.handle(0, Input::GroupsStarted(2));
        broker.create_export("disk", rules).unwrap();
        broker.handle(0, online(9));
        let mut world = World {
            broker,
            now_us: 1,
            next_session: 0,
            told: BTreeMap::new(),
            records: BTreeMap::new(),
            sessions: BTreeMap::new(),
            others: Vec::new(),
            welcomes: BTreeMap::new(),
            steps: Vec::new(),
            refusals: BTreeMap::new(),
            previous: PreviousProcess::This,
            is_online: true,
            kept: Ownership::Free { last: 0 },
            storing: None,
        };
        world.broker.add_host(1, "disk", host("*", Access::ReadWrite)).unwrap();
        world.carry_out();
        world
    }

    fn opening(&mut self) -> Opening {
        self.next_session = self.next_session.wrapping_add(1);
        Opening { session: [self.next_session; 16], previous: self.previous }
    }

    fn handle(&mut self, input: Input) {
        self.now_us += 1;
        self.broker.handle(self.now_us, input);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.broker.poll_output() {
            match output {
                Output::ToGroup { connection, order, .. } => self.tell(connection, order),
                Output::AskAgain { connection, .. } => {
                    let opening = self.opening();
                    self.broker.handle(self.now_us, Input::AskedAgain { connection, opening });
                }
                Output::StoreOwnership { number, host, since_s, .. } => {
                    assert_eq!(self.storing, None, "one change at a time");
                    let is_restored = since_s.is_some();
                    assert!(number >= self.kept.number() || is_restored, "numbers rise");
                    self.storing = Some(match host {
                        Some(host) => Ownership::Exclusive { number, host, since_s: 5 },
                        None => Ownership::Free { last: number },
                    });
                }
                Output::BackingGone { .. } => self.others.push("released"),
                Output::ExportGone { .. } => self.others.push("gone"),
                Output::CountInFlight { .. } => self.others.push("count"),
                Output::ResetBackend { .. } => self.others.push("reset"),
                Output::ResetForHosts { .. } => self.others.push("reset for hosts"),
                Output::BackendHangs { .. } => self.others.push("hangs"),
                Output::ConfirmSize { .. } => self.others.push("confirm"),
                Output::Stopped => self.others.push("stopped"),
                Output::Log { .. } => {}
            }
        }
    }

    fn tell(&mut self, connection: u64, order: Order) {
        if let Order::Welcome(welcome, _) = &order {
            self.check_owner(welcome);
        }
        let told = self.told.get_mut(&connection).expect("only a connection that is there is told");
        assert!(!told.contains(&"close"), "a closed connection gets nothing");
        told.push(match order {
            Order::Welcome(welcome, joining) => {
                let of = |place: &SessionRef| (place.id, place.queue);
                let same = of(&welcome.session);
                assert!(
                    !self.sessions.values().any(|other| of(other) == same),
                    "two connections have one queue"
                );
                assert!(self.is_online, "somebody is admitted to an export without its bdev");
                self.sessions.insert(connection, welcome.session);
                self.welcomes.insert(connection, (*welcome).clone());
                if let Some(joining) = joining {
                    assert!(!self.records.values().any(|(place, _)| of(place) == same), "one record twice");
                    self.records.insert(connection, (welcome.session, joining.slots));
                }
                "welcome"
            }
            Order::Refuse(refusal) => {
                self.refusals.insert(connection, refusal);
                "refuse"
            }
            Order::Event(_) => "event",
            Order::Reset(step) => {
                self.steps.push((connection, step));
                "reset"
            }
            Order::Close => "close",
            Order::Leave => "leave",
        });
    }

    fn accept(&mut self, address: u8) -> Option<u64> {
        self.now_us += 1;
        let adopted = self.broker.accepted(self.now_us, SocketAddr::from(([192, 0, 2, address], 1)), None);
        if let Some(adopted) = adopted {
            self.told.insert(adopted.connection, Vec::new());
        }
        self.carry_out();
        adopted.map(|adopted| adopted.connection)
    }

    fn hello(&mut self, connection: u64, host: &str, session: Option<SessionRef>) {
        self.say(connection, host, session, None, None);
    }

    fn say(
        &mut self,
        connection: u64,
        host: &str,
        session: Option<SessionRef>,
        previous: Option<Previous>,
        claim: Option<Claim>,
    ) {
        let opening = self.opening();
        let hello = Hello {
            versions: (1, 1),
            export: "disk".to_owned(),
            host: host.to_owned(),
            session,
            previous,
            claim,
            credits: 4,
            digests: vec![0],
            ciphers: vec![0],
            keep_alive_ms: 3000,
            aborts: false,
        };
        self.handle(Input::Hello { connection, hello: Box::new(hello), opening });
    }

    fn finish(&mut self, connection: u64, goodbye: bool) {
        self.sessions.remove(&connection);
        let slots = self.records.remove(&connection).map(|(_, slots)| slots);
        self.told.remove(&connection);
        let remains = Box::new(Remains { slots, goodbye, stats: Stats::default() });
        self.handle(Input::Finished { connection, remains });
    }

    fn last(&self, connection: u64) -> Option<&'static str> {
        self.told[&connection].last().copied()
    }

    /// Returns a connection of this host that asks to open a session.
    fn session_of(&mut self, host: &str, previous: Option<Previous>) -> u64 {
        let connection = self.accept(1).unwrap();
        self.say(connection, host, None, previous, None);
        connection
    }

    /// Returns a connection of this host that has opened a session.
    fn session(&mut self, host: &str) -> u64 {
        let connection = self.accept(1).unwrap();
        self.hello(connection, host, None);
        assert_eq!(self.last(connection), Some("welcome"));
        connection
    }

    /// Returns a connection that asks to join a queue.
    fn join(&mut self, host: &str, of: u64, queue: u16, epoch: u32) -> u64 {
        let id = self.sessions[&of].id;
        let connection = self.accept(1).unwrap();
        self.hello(connection, host, Some(SessionRef { id, queue, epoch }));
        connection
    }

    /// Checks that each connection that was admitted to write may write.
    fn check_rights(&self) {
        for (id, connection) in &self.broker.connections {
            let Stage::Ready(queue) = &connection.stage else { continue };
            let hosts = self.broker.export("disk").unwrap().hosts;
            let access = rights(hosts, &queue.client.host, connection.peer.ip());
            let may_write = !self.welcomes[id].device.read_only;
            assert!(access >= Some(if may_write { Access::ReadWrite } else { Access::ReadOnly }));
        }
    }

    fn set_host(&mut self, entry: Host) {
        self.broker.set_host(self.now_us, "disk", entry).unwrap();
        self.carry_out();
    }
}

/// Returns the input that the bdev is present, under this instance.
fn online(instance: u8) -> Input {
    online_after(instance, &[])
}

/// Returns the input that the bdev is present, under this instance, and that the targets of
/// the predecessors have stopped in order.
fn online_after(instance: u8, predecessors: &[u8]) -> Input {
    let device = Device {
        uuid: [1; 16],
        num_blocks: 100,
        block_size: 512,
        write_unit_size: 1,
        optimal_io_boundary: 0,
        compare_and_write_max: 1,
        write_cache: false,
        read_only: false,
        ops: Op::ALL.into_iter().collect(),
    };
    let predecessors = predecessors.iter().map(|&number| [number; 16]).collect();
    Input::Online { export: "disk".to_owned(), device, instance: [instance; 16], predecessors }
}

fn offline() -> Input {
    Input::Offline { export: "disk".to_owned() }
}

fn host(name: &str, access: Access) -> Host {
    Host { name: name.to_owned(), access, addresses: Vec::new(), keys: None }
}

#[test]
fn a_queue_is_given_on_only_after_the_fence() {
    let mut world = World::new();
    let first = world.session("a");
    let before = world.join("a", first, 1, 1);
    let after = world.join("a", first, 1, 2);
    assert_eq!((world.last(before), world.last(after)), (Some("close"), None));
    world.handle(Input::Draining { connection: before });
    assert_eq!(world.last(after), None);
    world.finish(before, false);
    assert_eq!(world.last(after), Some("welcome"));
    assert!(world.records.contains_key(&after));
}

#[test]
fn a_record_on_its_way_is_waited_for() {
    let mut world = World::new();
    let first = world.session("a");
    let before = world.join("a", first, 1, 1);
    let (place, slots) = world.records.remove(&before).unwrap();
    world.finish(before, false);
    let after = world.join("a", first, 1, 2);
    assert_eq!(world.last(after), None, "the record is not back yet");
    world.handle(Input::Returned { connection: before, session: place.id, queue: 1, slots });
    assert_eq!(world.last(after), Some("welcome"));
}

#[test]
fn a_session_is_opened_when_what_its_host_had_is_over() {
    let mut world = World::new();
    let first = world.session("a");
    world.handle(Input::Draining { connection: first });
    let second = world.accept(1).unwrap();
    world.hello(second, "a", None);
    assert_eq!(world.last(second), None);
    let stranger = world.session("b");
    world.finish(first, false);
    assert_eq!((world.last(second), world.last(stranger)), (Some("welcome"), Some("welcome")));
}

#[test]
fn too_many_handshakes_make_the_oldest_go() {
    let mut world = World::new();
    let ids: Vec<u64> = (0..4).map(|_| world.accept(1).unwrap()).collect();
    world.accept(1).unwrap();
    assert_eq!(world.last(ids[0]), Some("close"));
    world.hello(ids[0], "a", None);
    assert_eq!(world.told[&ids[0]], ["close"]);
}

/// Returns the text with which a connection was refused as busy.
fn busy(world: &World, connection: u64) -> &str {
    let refusal = &world.refusals[&connection];
    assert_eq!((world.last(connection), refusal.reason), (Some("refuse"), RefusalReason::Busy));
    &refusal.text
}

#[test]
fn a_hello_that_waits_for_long_is_told_what_it_waits_for() {
    let mut world = World::new();
    let first = world.session("a");
    let before = world.join("a", first, 1, 1);
    world.handle(Input::Draining { connection: before });
    let (second, queued) = (world.accept(1).unwrap(), world.join("a", first, 1, 2));
    world.hello(second, "a", None);
    world.now_us += 900_000;
    world.handle(Input::Tick);
    assert_eq!((world.last(second), world.last(queued)), (None, None));
    world.now_us += 100_000;
    world.handle(Input::Tick);
    assert!(busy(&world, second).contains("earlier connections"), "{}", busy(&world, second));
    assert!(busy(&world, queued).contains("the connection before this one"), "{}", busy(&world, queued));
    world.finish(second, false);
    world.finish(queued, false);
    world.finish(before, false);
    let (third, next) = (world.session("a"), world.join("a", first, 1, 3));
    assert_eq!((world.last(third), world.last(next)), (Some("welcome"), Some("welcome")));
}

#[test]
fn a_hello_that_is_refused_is_no_successor() {
    let mut world = World::new();
    let first = world.session("a");
    world.handle(Input::Draining { connection: first });
    let queued = world.join("a", first, 0, 1);
    world.now_us += 1_000_000;
    world.handle(Input::Tick);
    assert!(busy(&world, queued).contains("the connection before this one"));
    world.finish(first, true);
    assert_eq!(world.broker.sessions.len(), 0, "the goodbye counts, as no connection follows");
}

#[test]
fn connections_of_one_placement_have_one_group() {
    let mut world = World::new();
    let peer = SocketAddr::from(([192, 0, 2, 1], 1));
    let mut group = |placement| world.broker.accepted(1, peer, placement).map(|adopted| adopted.group);
    assert_eq!([group(None), group(None), group(None)], [Some(0), Some(1), Some(0)]);
    // The others have them in turn all the same.
    assert_eq!([group(Some(4)), group(Some(5)), group(Some(4))], [Some(0), Some(1), Some(0)]);
    assert_eq!([group(None), group(None)], [Some(1), Some(0)]);
}

#[test]
fn listeners_wait_for_groups_and_for_the_end_of_evicted_connections() {
    assert!(!Broker::new(LIMITS).may_accept(), "there are no groups");
    let mut world = World::new();
    for _ in 0..LIMITS.max_handshakes as usize + crate::EVICTIONS_MAX {
        assert!(world.broker.may_accept());
        world.accept(1).unwrap();
    }
    assert!(!world.broker.may_accept(), "as many as may be are still to be closed");
    let evicted = *world.told.iter().find(|(_, told)| told.contains(&"close")).unwrap().0;
    world.finish(evicted, false);
    assert!(world.broker.may_accept());
}

proptest! {
    /// Whatever clients, groups and operators do, no closed connection is told anything, no queue
    /// has two connections, no record is in two places (all of which [`World`] asserts), the limits
    /// hold, and a stop ends.
    #[test]
    fn whatever_happens(steps in prop::collection::vec((0..10u8, 0..8usize, 0..3u16, 0..4u32), 0..120)) {
        let mut world = World::new();
        for (what, which, queue, epoch) in steps {
            let ids: Vec<u64> = world.told.keys().copied().collect();
            let some = (!ids.is_empty()).then(|| ids[which % ids.len()]);
            let name = if which % 2 == 0 { "a" } else { "b" };
            match (what, some) {
                (0 | 1, _) => drop(world.accept(which as u8)),
                (2, Some(id)) => world.hello(id, name, None),
                (3 | 4, Some(id)) => {
                    let sessions: Vec<SessionRef> = world.sessions.values().copied().collect();
                    if let Some(place) = sessions.get(which % sessions.len().max(1)) {
                        world.hello(id, name, Some(SessionRef { queue, epoch, ..*place }));
                    }
                }
                (5, Some(connection)) => world.handle(Input::Draining { connection }),
                (6, Some(id)) => world.finish(id, epoch == 0),
                (7, _) => {
                    world.now_us += 600_000;
                    world.handle(Input::Tick);
                }
                (9, _) if world.is_online => {
                    world.is_online = false;
                    world.handle(offline());
                }
                (9, _) if world.others.last() == Some(&"released") => {
                    world.others.clear();
                    world.is_online = true;
                    world.handle(online(which as u8));
                }
                (8, _) if epoch == 0 => {
                    let now_us = world.now_us;
                    if world.broker.add_host(now_us, "disk", host(name, Access::ReadOnly)).is_err() {
                        world.broker.remove_host(now_us, "disk", name).unwrap();
                    }
                    world.carry_out();
                }
                (8, _) if epoch == 1 => {
                    let access = if queue == 0 { Access::ReadOnly } else { Access::ReadWrite };
                    world.set_host(host("*", access));
                }
                _ => {}
            }
            world.check_rights();
            let totals = world.broker.totals(&BTreeMap::new());
            prop_assert!(totals.sessions <= LIMITS.max_sessions as usize);
            prop_assert!(totals.handshakes <= LIMITS.max_handshakes as usize);
            prop_assert!(totals.connections <= LIMITS.max_connections as usize + crate::EVICTIONS_MAX);
            prop_assert_eq!(totals.connections, world.told.len());
        }
        world.handle(Input::Stop);
        let now_us = world.now_us;
        world.broker.delete_export(now_us, "disk").unwrap();
        world.carry_out();
        let ids: Vec<u64> = world.told.keys().copied().collect();
        ids.into_iter().for_each(|id| world.finish(id, false));
        prop_assert_eq!(world.others.last(), Some(&"stopped"));
    }
}
