//! The effect on sessions of a changed entry in an export's access list.
//!
//! Only what was withdrawn ends. A client that the entries still admit loses its connections, but
//! keeps its session with the record of answers. It comes back at once, proves the key that the
//! entry has now, and may do what the entry says now. So the client's user notices only latency,
//! and nothing that was sent before the change is executed after it.

use std::net::IpAddr;

use dst_session::access::{ANY_HOST, Host, entry};
use dst_session::mutation::{Mutation, is_on};

use crate::broker::Broker;
use crate::connection::Stage;
use crate::error::Rejection;
use crate::exports::check_key;
use crate::ids::{ConnectionId, SessionId};
use crate::output::Topic;

/// The effect of a change of the entries on an admitted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EntryEffect {
    /// The connection's rights and key are as before.
    None,
    /// The connection has to be admitted again, with other rights or another key.
    Again,
    /// The entries no longer admit the host from the connection's address.
    Ends,
}

/// Returns the effect of a change of entries on a host's connection from this address.
fn effect(before: &[Host], now: &[Host], host: &str, address: IpAddr) -> EntryEffect {
    let of = |hosts| entry(hosts, host, address).map(|entry| (entry.access, &entry.keys));
    match (of(before), of(now)) {
        (_, None) => EntryEffect::Ends,
        (before, now) if before == now => EntryEffect::None,
        _ => EntryEffect::Again,
    }
}

impl Broker {
    /// Changes a host's entry at an export while its sessions live.
    ///
    /// # Errors
    /// Fails if there is no such export, if it has no entry for this host, or if it demands a
    /// cipher and the host has no key.
    pub fn set_host(&mut self, now_us: u64, export: &str, host: Host) -> Result<(), Rejection> {
        self.now_us = now_us;
        let name = || export.to_owned();
        let known = self.exports.get_mut(export).ok_or_else(|| Rejection::NoExport(name()))?;
        check_key(name, known.rules, &host)?;
        let no_host = || Rejection::NoHost { export: name(), host: host.name.clone() };
        let found = known.hosts.iter().position(|other| other.name == host.name).ok_or_else(no_host)?;
        let before = known.hosts.clone();
        known.hosts[found] = host.clone();
        let now = known.hosts.clone();
        if before[found].keys != host.keys {
            let has_own = |name: &str| now.iter().any(|entry| entry.name == name);
            self.end_handshakes(export, |name| name == host.name || host.name == ANY_HOST && !has_own(name));
        }
        let (again, ended) = self.apply_entries(export, &before, &now);
        self.notice(Topic::Operators, || {
            format!(
                "DST export {export}: the entry of host {} has changed; {again} sessions have to be admitted \
                 again, {ended} end",
                host.name
            )
        });
        Ok(())
    }

    /// Applies the effect of a change of entries to each session of an export. Returns the number
    /// of sessions whose clients have to come back, and the number of sessions that end.
    pub(crate) fn apply_entries(&mut self, export: &str, before: &[Host], now: &[Host]) -> (usize, usize) {
        if is_on(Mutation::KeepRights) {
            return (0, 0);
        }
        let mut effects: Vec<(SessionId, EntryEffect)> = Vec::new();
        for (id, session) in self.sessions.iter().filter(|(_, session)| session.client.export == export) {
            let worst =
                self.addresses(session).map(|from| effect(before, now, &session.client.host, from)).max();
            effects.push((*id, worst.unwrap_or(EntryEffect::None)));
        }
        let (mut again, mut ended) = (0, 0);
        for (id, effect) in effects {
            match effect {
                EntryEffect::None => {}
                EntryEffect::Again => {
                    again += 1;
                    self.close_ready(&id);
                }
                EntryEffect::Ends => {
                    ended += 1;
                    self.end_session(&id, "its host is no longer admitted");
                }
            }
        }
        (again, ended)
    }

    /// Closes the admitted connections of a session. A connection that still waits is not closed:
    /// the decision about it uses the new entries.
    fn close_ready(&mut self, id: &SessionId) {
        let Some(session) = self.sessions.get(id) else { return };
        let is_ready = |id: &ConnectionId| {
            self.connections.get(id).is_some_and(|entry| matches!(entry.stage, Stage::Ready(_)))
        };
        let ready: Vec<ConnectionId> = session.connections().filter(is_ready).collect();
        ready.into_iter().for_each(|connection| self.close(connection));
    }
}

#[cfg(test)]
mod tests {
    use dst_session::access::{Access, KeySource};
    use proptest::prelude::*;

    use super::*;

    fn hosts() -> impl Strategy<Value = Vec<Host>> {
        let prefixes = prop::sample::select(vec![vec![], vec!["192.0.2.0/24"], vec!["192.0.2.1/32"]]);
        let access = prop::sample::select(vec![Access::ReadOnly, Access::ReadWrite, Access::TakeOver]);
        let host = |name: &'static str| {
            (access.clone(), prefixes.clone(), any::<Option<bool>>()).prop_map(
                move |(access, prefixes, key)| Host {
                    name: name.to_owned(),
                    access,
                    addresses: prefixes.iter().map(|text| text.parse().unwrap()).collect(),
                    keys: key.map(|key| KeySource::File(format!("/{key}"))),
                },
            )
        };
        (prop::option::of(host("a")), prop::option::of(host(ANY_HOST)))
            .prop_map(|(own, any)| own.into_iter().chain(any).collect())
    }

    proptest! {
        /// A host that goes on as before has the same rights and the same key as before; a host
        /// that has lost all rights is out.
        #[test]
        fn nobody_keeps_what_the_entries_do_not_give(before in hosts(), now in hosts(), last in 1u8..3) {
            let address = IpAddr::from([192, 0, 2, last]);
            for host in ["a", "b"] {
                let given = entry(&now, host, address);
                match effect(&before, &now, host, address) {
                    EntryEffect::Ends => prop_assert!(given.is_none()),
                    EntryEffect::Again => prop_assert!(given.is_some()),
                    EntryEffect::None => {
                        let had = entry(&before, host, address).expect("it was let in");
                        let given = given.expect("it is let in");
                        prop_assert_eq!((had.access, &had.keys), (given.access, &given.keys));
                    }
                }
            }
        }
    }
}
