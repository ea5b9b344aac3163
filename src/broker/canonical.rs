//! The part of a broker's state that decisions depend on, for a model checker: two brokers that
//! feed the same to the hash behave alike. Each structure is destructured in full, so that a new
//! field has to be considered here.

use std::hash::{Hash, Hasher};

use crate::broker::Broker;
use crate::connection::Connection;
use crate::export::{Backing, Drain, Export, Online};

impl Broker {
    /// Feeds the state that decisions from `now_us` on depend on to the hash. Times are fed as
    /// ages, which count as equal once they exceed every limit; statistics are left out. To be
    /// called when [`Broker::poll_output`] has nothing more to return.
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
        for (id, entry) in connections {
            let Connection { group, peer, since_us: _, stage } = entry;
            (id, group, peer, stage, entry.waited_us(now_us)).hash(hasher);
        }
        sessions.canonical(now_us, u64::from(limits.session_timeout_ms) * 1000, hasher);
        room.canonical(hasher);
        resets.canonical(now_us, hasher);
        for (name, Export { backing, rules, hosts, drain, ownership, past: _ }) in exports {
            (name, rules, hosts, ownership).hash(hasher);
            if let Backing::Online(Online { device, told_blocks, instance, predecessors }) = backing {
                (device, told_blocks, instance, predecessors).hash(hasher);
            }
            if let Some(Drain { ends, late, is_resetting }) = drain {
                // Only whether the time-out has passed never, once, or more often matters.
                (ends, (*late).min(2), is_resetting).hash(hasher);
            }
        }
    }
}
