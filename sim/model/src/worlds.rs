//! The worlds. Each has a few features, and most are small enough to visit all their states.

use dst_session::access::Access::{ReadOnly, ReadWrite, TakeOver};
use dst_wire::Op::{self, CompareAndWrite, Read, Write};

use crate::ledger::Scripted;
use crate::world::{Faults, Losable, Owners, Threads, World};

fn script(ios: &[(u8, u16, Op)]) -> Vec<Scripted> {
    ios.iter().map(|&(host, queue, op)| Scripted { host, queue, op }).collect()
}

/// Returns a world of one client with one queue, in which nothing happens.
fn quiet(name: &'static str, about: &'static str) -> World {
    World {
        name,
        about,
        hosts: vec![ReadWrite],
        queues: 1,
        attached: 1,
        slab: 1,
        credits: 1,
        script: Vec::new(),
        is_in_turn: false,
        deadlines: 0,
        faults: Faults::NONE,
        threads: Threads::InStep,
        targets: 1,
        is_one_machine: true,
        has_time: false,
        losable: Losable::Channels,
        keep_alives: 0,
        keep_alive_ms: 100,
        session_timeout_ms: 0,
        max_sessions: 4,
        owners: None,
    }
}

/// A queue loses its connections, and frames of older ones arrive late.
fn fence() -> World {
    World {
        slab: 2,
        credits: 2,
        script: script(&[(0, 1, Write), (0, 1, CompareAndWrite)]),
        faults: Faults { connects: 3, losses: 2, ..Faults::NONE },
        threads: Threads::Apart,
        ..quiet("fence", "a queue loses its connection twice, and comes back while old frames are under way")
    }
}

/// I/O fails at its deadline without a connection: requests that were sent must not be executed any
/// more.
fn lease() -> World {
    World {
        script: script(&[(0, 1, Write), (0, 1, Write)]),
        deadlines: 1,
        faults: Faults { connects: 1, losses: 1, ..Faults::NONE },
        has_time: true,
        ..quiet("lease", "a write's time is up while the connection is lost, and the target may have it")
    }
}

/// Leases are renewed.
fn renewal() -> World {
    World {
        script: script(&[(0, 1, Write)]),
        deadlines: 1,
        faults: Faults { losses: 1, ..Faults::NONE },
        has_time: true,
        keep_alives: 3,
        ..quiet("renewal", "a lease is renewed, and the write that was sent under it fails")
    }
}

/// The session is given up for one queue while another queue has a connection of it.
fn session() -> World {
    World {
        queues: 2,
        attached: 2,
        script: script(&[(0, 1, Write), (0, 2, Write)]),
        deadlines: 1,
        faults: Faults { connects: 1, ..Faults::NONE },
        has_time: true,
        ..quiet("session", "a session of two queues is given up, and followed by another one")
    }
}

/// The session is given up while a queue joins it.
fn late_welcome() -> World {
    World {
        queues: 2,
        attached: 2,
        script: script(&[(0, 1, Write), (0, 2, Write)]),
        deadlines: 1,
        faults: Faults { connects: 1, losses: 1, ..Faults::NONE },
        has_time: true,
        ..quiet("late-welcome", "a queue is welcomed to a session that was given up meanwhile")
    }
}

/// The session is given up while the control connection joins it.
fn late_attempt() -> World {
    World {
        queues: 2,
        script: script(&[(0, 1, Write), (0, 2, Write)]),
        is_in_turn: true,
        deadlines: 1,
        faults: Faults { connects: 2, losses: 1, ..Faults::NONE },
        has_time: true,
        losable: Losable::Control,
        attached: 1,
        ..quiet("late-attempt", "the control connection comes back to a session that was given up meanwhile")
    }
}

/// The target's process dies.
fn target_restart() -> World {
    World {
        slab: 2,
        credits: 2,
        script: script(&[(0, 1, CompareAndWrite), (0, 1, Write), (0, 1, Read)]),
        faults: Faults { connects: 3, target_deaths: 1, ..Faults::NONE },
        ..quiet("target-restart", "the target's process dies and starts again")
    }
}

/// The client's process dies.
fn client_restart() -> World {
    World {
        slab: 2,
        credits: 2,
        script: script(&[(0, 1, CompareAndWrite), (0, 1, Write), (0, 1, Read)]),
        faults: Faults { connects: 2, client_deaths: 1, ..Faults::NONE },
        threads: Threads::Apart,
        ..quiet("client-restart", "the client's process dies and starts again, before the target knows")
    }
}

/// Another target takes over, and it is not known whether the previous one has ended.
fn failover() -> World {
    World {
        script: script(&[(0, 1, Write), (0, 1, Write)]),
        faults: Faults { connects: 3, failovers: 1, ..Faults::NONE },
        targets: 2,
        is_one_machine: false,
        has_time: true,
        ..quiet("failover", "a client changes to another target, and the one before still has requests")
    }
}

/// One host has read access, another may write.
fn rights() -> World {
    World {
        hosts: vec![ReadWrite, ReadOnly],
        slab: 2,
        script: script(&[(0, 1, Write), (1, 1, Write), (1, 1, Read)]),
        faults: Faults { connects: 2, losses: 1, ..Faults::NONE },
        ..quiet(
            "rights",
            "one host may write, the other one may only read, and no queue has all slots it wants",
        )
    }
}

/// A host is removed from the export.
fn removed_host() -> World {
    World {
        script: script(&[(0, 1, Write), (0, 1, Write)]),
        faults: Faults { connects: 2, losses: 1, host_removals: 1, ..Faults::NONE },
        threads: Threads::Apart,
        ..quiet("removed-host", "a host is removed from the export while its queue comes back")
    }
}

/// The export is deleted.
fn export() -> World {
    World {
        slab: 2,
        credits: 2,
        script: script(&[(0, 1, Write), (0, 1, Write)]),
        faults: Faults { connects: 1, losses: 1, export_deletions: 1, ..Faults::NONE },
        threads: Threads::Apart,
        ..quiet("export", "the export is deleted while the backend has requests and a queue comes back")
    }
}

/// A bdev is deleted.
fn bdev() -> World {
    World {
        script: script(&[(0, 1, Write), (0, 1, Write)]),
        faults: Faults { connects: 1, losses: 1, bdev_deletions: 1, ..Faults::NONE },
        has_time: true,
        ..quiet("bdev", "the client's bdev is deleted while its connection is lost")
    }
}

/// The target forgets queues and sessions to which no client comes back.
fn forgotten() -> World {
    World {
        script: script(&[(0, 1, CompareAndWrite), (0, 1, Write)]),
        faults: Faults { connects: 3, losses: 1, broker_ticks: 1, ..Faults::NONE },
        has_time: true,
        session_timeout_ms: 100,
        ..quiet("forgotten", "a queue comes back after the target has forgotten its record")
    }
}

/// Another host takes the export over while the owner has I/O in flight and comes back.
fn takeover() -> World {
    World {
        hosts: vec![TakeOver, TakeOver],
        script: script(&[(0, 1, Write), (1, 1, Write), (0, 1, Write)]),
        faults: Faults { connects: 3, ..Faults::NONE },
        threads: Threads::Apart,
        owners: Some(Owners { attached: 1, is_one_name: false }),
        ..quiet("takeover", "another host takes the export over from its owner, which comes back")
    }
}

/// The target's process dies while another host takes the export over.
fn takeover_restart() -> World {
    World {
        hosts: vec![TakeOver, TakeOver],
        script: script(&[(1, 1, Write), (0, 1, Write)]),
        faults: Faults { connects: 3, target_deaths: 1, failed_stores: 1, ..Faults::NONE },
        owners: Some(Owners { attached: 1, is_one_name: false }),
        ..quiet("takeover-restart", "the target dies while another host takes the export over")
    }
}

/// A copy of the owner's machine, or the owner's successor, attaches the export as well.
fn copy() -> World {
    World {
        hosts: vec![ReadWrite, ReadWrite],
        script: script(&[(0, 1, Write), (1, 1, Write), (0, 1, Write)]),
        faults: Faults { connects: 4, ..Faults::NONE },
        owners: Some(Owners { attached: 1, is_one_name: true }),
        ..quiet("copy", "two clients have the name of the owner's host")
    }
}

/// A claim that was lost and repeated arrives late.
fn late_claim() -> World {
    World {
        hosts: vec![TakeOver, TakeOver],
        script: script(&[(1, 1, Write)]),
        faults: Faults { connects: 3, losses: 1, ..Faults::NONE },
        losable: Losable::Control,
        owners: Some(Owners { attached: 1, is_one_name: false }),
        ..quiet("late-claim", "a takeover is sent twice, and the first one comes last")
    }
}

/// The stored ownership is lost.
fn lost_store() -> World {
    World {
        hosts: vec![TakeOver, TakeOver],
        script: script(&[(1, 1, Write)]),
        faults: Faults { connects: 2, target_deaths: 1, lost_stores: 1, releases: 1, ..Faults::NONE },
        owners: Some(Owners { attached: 1, is_one_name: false }),
        ..quiet("lost-store", "what is kept of the ownership is lost, and an operator releases the export")
    }
}

/// Returns the worlds whose states can all be visited in seconds.
pub fn small() -> Vec<World> {
    vec![
        fence(),
        lease(),
        renewal(),
        session(),
        late_welcome(),
        late_attempt(),
        target_restart(),
        client_restart(),
        failover(),
        rights(),
        removed_host(),
        export(),
        bdev(),
        forgotten(),
        takeover(),
        takeover_restart(),
        copy(),
        late_claim(),
        lost_store(),
    ]
}

/// Two clients with two queues each, and any of the faults.
fn two_clients() -> World {
    World {
        hosts: vec![ReadWrite, ReadWrite],
        queues: 2,
        attached: 2,
        slab: 2,
        credits: 2,
        script: script(&[
            (0, 1, Write),
            (0, 2, CompareAndWrite),
            (1, 1, Write),
            (1, 2, Write),
            (0, 1, Write),
            (0, 2, Write),
            (1, 1, CompareAndWrite),
            (0, 1, Read),
        ]),
        deadlines: 4,
        faults: Faults {
            connects: 12,
            losses: 4,
            client_deaths: 1,
            target_deaths: 1,
            export_deletions: 1,
            host_removals: 1,
            bdev_deletions: 1,
            broker_ticks: 2,
            ..Faults::NONE
        },
        threads: Threads::Apart,
        has_time: true,
        keep_alives: 3,
        session_timeout_ms: 200,
        max_sessions: 2,
        ..quiet("two-clients", "two clients of two queues each, and every fault")
    }
}

/// Two targets; a client with two queues changes from one to the other.
fn two_targets() -> World {
    World {
        queues: 2,
        attached: 2,
        script: script(&[
            (0, 1, Write),
            (0, 2, Write),
            (0, 1, CompareAndWrite),
            (0, 2, Write),
            (0, 1, Write),
        ]),
        deadlines: 2,
        faults: Faults { connects: 12, losses: 3, failovers: 2, ..Faults::NONE },
        threads: Threads::Apart,
        targets: 2,
        is_one_machine: false,
        has_time: true,
        keep_alives: 2,
        ..quiet("two-targets", "a client of two queues changes its target, and back")
    }
}

/// Three clients, of which two take over, and any of the faults.
fn takers() -> World {
    World {
        hosts: vec![TakeOver, TakeOver, TakeOver],
        slab: 2,
        credits: 2,
        script: script(&[
            (0, 1, Write),
            (1, 1, Write),
            (2, 1, Write),
            (0, 1, Write),
            (1, 1, CompareAndWrite),
            (2, 1, Read),
            (0, 1, Write),
            (1, 1, Write),
        ]),
        deadlines: 4,
        faults: Faults {
            connects: 20,
            losses: 4,
            client_deaths: 2,
            target_deaths: 1,
            broker_ticks: 1,
            failed_stores: 1,
            lost_stores: 1,
            releases: 1,
            ..Faults::NONE
        },
        threads: Threads::Apart,
        has_time: true,
        keep_alives: 3,
        session_timeout_ms: 200,
        owners: Some(Owners { attached: 1, is_one_name: false }),
        ..quiet("takers", "two clients take the export over, all die and come back")
    }
}

/// Returns the worlds that are too large for visiting all states; they are walked at random.
pub fn large() -> Vec<World> {
    vec![two_clients(), two_targets(), takers()]
}
