//! Operators' requests about exports, and the states of their bdevs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dst_session::access::{ANY_HOST, Host, KeySource, entry, rights};
use dst_wire::{Device, Event};

use crate::broker::Broker;
use crate::connection::{Connection, Stage};
use crate::error::Rejection;
use crate::export::{Backing, Drain, Ends, Export, HOSTS_MAX, Online, Rules};
use crate::ids::{ClientId, ConnectionId, SessionId};
use crate::output::{Order, Output, Topic};
use crate::ownership::OwnershipState;
use crate::sessions::Session;

/// What is shown of an export.
#[derive(Debug, Clone)]
pub struct ExportFacts<'a> {
    /// The device with all its operations, or `None` while the bdev is not present.
    pub device: Option<&'a Device>,
    /// The rules for all clients.
    pub rules: Rules,
    /// The entries of the access list.
    pub hosts: &'a [Host],
    /// The state of the export's ownership.
    pub ownership: &'a OwnershipState,
    /// The hosts whose clients wait to own the export, or to be admitted as its owner, each with
    /// the time at which its connection was accepted, µs.
    pub waiting: Vec<(&'a str, u64)>,
    /// Whether the bdev is being reset for clients, or for one that waits to own the export.
    pub is_resetting: bool,
    /// Whether the export is being deleted and waits for its backend.
    pub is_deleting: bool,
}

/// The keys for a client that wants to be secured, which must prove one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery {
    /// The source of the keys of the client's entry, or the reason why there are none, for the log.
    pub keys: Result<KeySource, &'static str>,
    /// The keys of another entry, to be read for a client without an entry. Otherwise the client
    /// could tell from the time until its refusal that it has no entry.
    pub decoy: Option<KeySource>,
}

/// Checks that an export may have all these hosts.
fn check_hosts(export: &str, rules: Rules, hosts: &[Host]) -> Result<(), Rejection> {
    let export = || export.to_owned();
    if hosts.len() > HOSTS_MAX {
        return Err(Rejection::TooManyHosts { export: export(), max: HOSTS_MAX });
    }
    let mut names = BTreeSet::new();
    for host in hosts {
        check_key(export, rules, host)?;
        if !names.insert(&host.name) {
            return Err(Rejection::HostExists { export: export(), host: host.name.clone() });
        }
    }
    Ok(())
}

/// Checks that a host has a key, if the export demands one.
pub(crate) fn check_key(export: impl Fn() -> String, rules: Rules, host: &Host) -> Result<(), Rejection> {
    if rules.require_cipher && host.keys.is_none() {
        return Err(Rejection::NeedsKey { export: export(), host: host.name.clone() });
    }
    Ok(())
}

impl Broker {
    /// Creates an export without hosts, whose bdev is not present yet. [`crate::Input::Online`]
    /// follows when it is.
    ///
    /// # Errors
    /// Fails as [`Broker::check_new_export`].
    pub fn create_export(&mut self, name: &str, rules: Rules) -> Result<(), Rejection> {
        self.create_export_for(name, rules, Vec::new())
    }

    /// Checks that an export of this name may be created.
    ///
    /// # Errors
    /// Fails with [`Rejection::ExportExists`], or with [`Rejection::Stopping`] after
    /// [`crate::Input::Stop`]: nobody would delete the export.
    pub fn check_new_export(&self, name: &str) -> Result<(), Rejection> {
        if self.is_stopping {
            return Err(Rejection::Stopping);
        }
        if self.exports.contains_key(name) {
            return Err(Rejection::ExportExists(name.to_owned()));
        }
        Ok(())
    }

    /// Creates an export with these hosts, whose bdev is not present yet. If one of the hosts is
    /// rejected, no export is created.
    ///
    /// # Errors
    /// Fails as [`Broker::check_new_export`], or if a host is rejected as by [`Broker::add_host`].
    pub fn create_export_for(&mut self, name: &str, rules: Rules, hosts: Vec<Host>) -> Result<(), Rejection> {
        self.check_new_export(name)?;
        check_hosts(name, rules, &hosts)?;
        self.exports.insert(name.to_owned(), Export { hosts, ..Export::new(rules) });
        Ok(())
    }

    /// Returns what is shown of an export.
    pub fn export<'a>(&'a self, name: &'a str) -> Option<ExportFacts<'a>> {
        let export = self.exports.get(name)?;
        Some(ExportFacts {
            device: export.online().map(|online| &online.device),
            rules: export.rules,
            hosts: &export.hosts,
            ownership: &export.ownership,
            waiting: self.waiting_to_own(name).collect(),
            is_resetting: self.resets.is_resetting(name),
            is_deleting: export.is_deleting(),
        })
    }

    /// Returns the number of open sessions of each export that has any.
    pub fn session_counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for (_, session) in self.sessions.iter() {
            *counts.entry(session.client.export.as_str()).or_default() += 1;
        }
        counts
    }

    /// Adds a host to an export's access list.
    ///
    /// # Errors
    /// Fails if there is no such export, if it already has an entry for this host or as many
    /// entries as it can have, or if it demands a cipher and the host has no key.
    pub fn add_host(&mut self, now_us: u64, export: &str, host: Host) -> Result<(), Rejection> {
        self.now_us = now_us;
        let name = || export.to_owned();
        let known = self.exports.get_mut(export).ok_or_else(|| Rejection::NoExport(name()))?;
        check_key(name, known.rules, &host)?;
        if known.hosts.iter().any(|other| other.name == host.name) {
            return Err(Rejection::HostExists { export: name(), host: host.name });
        }
        if known.hosts.len() >= HOSTS_MAX {
            return Err(Rejection::TooManyHosts { export: name(), max: HOSTS_MAX });
        }
        let before = known.hosts.clone();
        known.hosts.push(host.clone());
        let now = known.hosts.clone();
        let with = if host.keys.is_some() { "with" } else { "without" };
        self.notice(Topic::Operators, || {
            format!("DST export {export}: host {} may attach {with} a key", host.name)
        });
        // Until now `*` may have admitted the host, which goes on under its own entry.
        self.apply_entries(export, &before, &now);
        Ok(())
    }

    /// Removes a host from an export's access list and ends the host's sessions at once.
    ///
    /// # Errors
    /// Fails if there is no such export, or if it has no entry for this host.
    pub fn remove_host(&mut self, now_us: u64, export: &str, host: &str) -> Result<(), Rejection> {
        self.now_us = now_us;
        let known = self.exports.get_mut(export).ok_or_else(|| Rejection::NoExport(export.to_owned()))?;
        let found = known.hosts.iter().position(|other| other.name == host);
        let no_host = || Rejection::NoHost { export: export.to_owned(), host: host.to_owned() };
        known.hosts.remove(found.ok_or_else(no_host)?);
        let hosts = known.hosts.clone();
        // This ends the sessions of the host itself, even if another entry admits it from now on,
        // and of hosts that were admitted by `*`.
        self.end_sessions(export, "its host was removed", |broker, session| {
            let is_out = |address: IpAddr| rights(&hosts, &session.client.host, address).is_none();
            session.client.host == host || broker.addresses(session).any(is_out)
        });
        self.end_handshakes(export, |name| {
            name == host || host == ANY_HOST && !hosts.iter().any(|entry| entry.name == name)
        });
        Ok(())
    }

    /// Returns the addresses from which a session is used now. Each connection may come from
    /// another address than the first. A session without connections is not covered: its client has
    /// to be admitted anew when it comes back.
    pub(crate) fn addresses(&self, session: &Session) -> impl Iterator<Item = IpAddr> {
        let entries = session.connections().filter_map(|id| self.connections.get(&id));
        entries.filter(|entry| matches!(entry.stage, Stage::Ready(_))).map(|entry| entry.peer.ip())
    }

    /// Ends those sessions of an export for which `which` returns true.
    pub(crate) fn end_sessions(
        &mut self,
        export: &str,
        why: &str,
        which: impl Fn(&Broker, &Session) -> bool,
    ) {
        let is_one = |session: &Session| session.client.export == export && which(self, session);
        let found = self.sessions.iter().filter(|(_, session)| is_one(session));
        let ids: Vec<SessionId> = found.map(|(id, _)| *id).collect();
        for id in &ids {
            self.end_session(id, why);
        }
    }

    /// Closes the connections that are not admitted yet and have proved the key of an entry that is
    /// gone. By then, another entry with a file of the same name may have another key.
    pub(crate) fn end_handshakes(&mut self, export: &str, is_of: impl Fn(&str) -> bool) {
        let shown = |entry: &Connection| {
            entry.proof().is_some_and(|proof| proof.client.export == export && is_of(&proof.client.host))
        };
        let found = self.connections.iter().filter(|(_, entry)| shown(entry));
        let ids: Vec<ConnectionId> = found.map(|(&id, _)| id).collect();
        ids.into_iter().for_each(|id| self.close(id));
    }

    /// Returns the keys of a client, which must prove one of them, or `None` if the connection is
    /// closed. That the connection is this client's is only a claim until then.
    pub fn keys_for(&self, connection: ConnectionId, client: &ClientId) -> Option<KeyQuery> {
        let peer = self.connections.get(&connection).filter(|entry| entry.is_open())?.peer;
        let export = self.exports.get(&client.export).filter(|export| !export.is_deleting());
        let keys = match export.map(|export| entry(&export.hosts, &client.host, peer.ip())) {
            None => Err("there is no such export"),
            Some(None) => Err("the export has no entry that lets this host in from there"),
            Some(Some(entry)) => {
                entry.keys.clone().ok_or("it wants to be let in with a key, but its entry has none")
            }
        };
        let exports = self.exports.values().filter(|export| !export.is_deleting());
        let mut hosts = exports.flat_map(|export| &export.hosts);
        Some(KeyQuery { keys, decoy: hosts.find_map(|host| host.keys.clone()) })
    }

    /// Notes that the bdev of an export is present. Clients that had sessions while the bdev was
    /// present before take this for a restart of the target.
    pub(crate) fn online(
        &mut self,
        name: &str,
        device: Device,
        instance: [u8; 16],
        predecessors: Vec<[u8; 16]>,
    ) {
        let Some(export) = self.exports.get_mut(name) else { return };
        debug_assert!(export.drain.is_none() || export.is_deleting(), "the bdev before is still in use");
        export.go_offline();
        export.backing =
            Backing::Online(Online { device, told_blocks: device.num_blocks, instance, predecessors });
    }

    /// Notes that the bdev of an export is gone, at least for a while. To clients this looks like
    /// the death of the target; only the deletion of the export tells them not to come back.
    /// [`Output::BackingGone`] follows when the backend has finished. Until then the driver reports
    /// [`crate::Input::DrainTimeout`] each time this time-out passes.
    pub(crate) fn offline(&mut self, name: &str) {
        let Some(export) = self.exports.get_mut(name) else { return };
        export.go_offline();
        if export.drain.is_none() {
            export.drain = Some(Drain { ends: Ends::Backing, late: 0, is_resetting: false });
        }
        let its = self.sessions.iter().filter(|(_, session)| session.client.export == name);
        let ids: Vec<SessionId> = its.map(|(id, _)| *id).collect();
        for id in &ids {
            self.close_session(id, "the bdev of its export is gone");
        }
        self.drained(name);
    }

    /// Notes that the size of an export's device has changed. A client that hears of the new size
    /// uses it on all its connections, so the connections that carry requests are told first.
    pub(crate) fn resized(&mut self, name: &str, device: Device) {
        let Some(online) = self.exports.get_mut(name).and_then(Export::online_mut) else { return };
        online.device = device;
        let num_blocks = device.num_blocks;
        self.notice(Topic::Operators, || format!("DST export {name} has {num_blocks} blocks now"));
        self.tell_resized(name, num_blocks, |queue| queue != 0);
        // Groups carry out orders in their sequence, so a group that has answered has carried out
        // the earlier ones.
        self.output(Output::ConfirmSize { export: name.to_owned(), num_blocks });
    }

    /// Tells clients of the new size, which all connections that carry requests know now.
    pub(crate) fn size_confirmed(&mut self, name: &str, num_blocks: u64) {
        // Nothing is told if the size has changed again, or if this is another export of the same
        // name.
        let online = self.exports.get_mut(name).and_then(Export::online_mut);
        let Some(online) = online.filter(|online| online.device.num_blocks == num_blocks) else { return };
        online.told_blocks = num_blocks;
        self.tell_resized(name, num_blocks, |queue| queue == 0);
    }

    /// Tells the export's size to those of its connections whose queue number satisfies `which`.
    fn tell_resized(&mut self, name: &str, num_blocks: u64, which: impl Fn(u16) -> bool) {
        let is_one = |entry: &Connection| match &entry.stage {
            Stage::Ready(queue) => queue.client.export == name && which(queue.session.queue),
            _ => false,
        };
        let found = self.connections.iter().filter(|(_, entry)| is_one(entry));
        let ids: Vec<ConnectionId> = found.map(|(&id, _)| id).collect();
        for id in ids {
            self.order(id, Order::Event(Event::Resized(num_blocks)));
        }
    }
}
