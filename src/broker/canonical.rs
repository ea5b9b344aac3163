//! What of a broker decides anything, for a model checker: two brokers of which the same is fed to the
//! hash behave alike. Each structure is taken apart in full, so that a field that is added has to be
//! thought of here.

use std::hash::{Hash, Hasher};

use crate::broker::Broker;
use crate::connection::Connection;
use crate::export::{Backing, Drain, Export, Online};

impl Broker {
    /// Feeds what decides about anything from `now_us` on to the hash: times as ages, which are alike once
    /// they exceed each limit, and no statistics. Call it when [`Broker::poll_output`] has nothing more.
    pub fn canonical(&self, now_us: u64, hasher: &mut impl Hasher) {
        let Broker {
            limits,
            groups,
            next_group,
            last_connection,
            connections,
            sessions,
            room,
            exports,
            resets,
            refused_hellos: _,
            refused_busy: _,
            sessions_timed_out: _,
            past: _,
            now_us: _,
            is_stopping,
            is_stopped,
            outputs,
        } = self;
        assert!(outputs.is_empty(), "a decision was not carried out");
        (groups, next_group, last_connection, is_stopping, is_stopped).hash(hasher);
        for (id, Connection { group, peer, since_us: _, stage }) in connections {
            (id, group, peer, stage).hash(hasher);
        }
        sessions.canonical(now_us, u64::from(limits.session_timeout_ms) * 1000, hasher);
        room.canonical(hasher);
        resets.canonical(now_us, hasher);
        for (name, Export { backing, rules, hosts, former, drain }) in exports {
            (name, rules, hosts, former).hash(hasher);
            if let Backing::Online(Online { device, told_blocks, instance }) = backing {
                (device, told_blocks, instance).hash(hasher);
            }
            if let Some(Drain { ends, late, is_resetting }) = drain {
                // Whether the time-out has passed never, once, or more often.
                (ends, (*late).min(2), is_resetting).hash(hasher);
            }
        }
    }
}
