//! What operators ask of exports, and who may attach them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dst_session::access::{ANY_HOST, Host, KeySource, entry, rights};
use dst_wire::{Device, Event};

use crate::broker::Broker;
use crate::connection::{Connection, Stage};
use crate::error::Rejection;
use crate::export::{Backing, Drain, Ends, Export, HOSTS_MAX, Online, Rules};
use crate::ids::{ConnectionId, Owner, SessionId};
use crate::output::{Order, Output, Topic};
use crate::sessions::Session;

/// What is known of an export, to be shown.
#[derive(Debug, Clone, Copy)]
pub struct ExportFacts<'a> {
    /// The device, with all that it can do; `None` while the bdev is not there.
    pub device: Option<&'a Device>,
    /// What goes for all who attach.
    pub rules: Rules,
    /// Who may do what.
    pub hosts: &'a [Host],
    /// Whether it is being deleted, and waits for its backend.
    pub is_deleting: bool,
}

/// Which keys a client that wants to be secured has to know one of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery {
    /// Where the keys of its entry are; or why there are none, for the log.
    pub keys: Result<KeySource, &'static str>,
    /// The keys of another entry, to be read for a client without an entry, which must not learn that
    /// from how soon it is refused.
    pub decoy: Option<KeySource>,
}

/// Checks that an export can have all these hosts.
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
fn check_key(export: impl Fn() -> String, rules: Rules, host: &Host) -> Result<(), Rejection> {
    if rules.require_cipher && host.keys.is_none() {
        return Err(Rejection::NeedsKey { export: export(), host: host.name.clone() });
    }
    Ok(())
}

impl Broker {
    /// Exports a bdev that is not there yet, to nobody yet. [`crate::Input::Online`] follows when it is.
    ///
    /// # Errors
    /// [`Rejection::ExportExists`].
    pub fn create_export(&mut self, name: &str, rules: Rules) -> Result<(), Rejection> {
        self.create_export_for(name, rules, Vec::new())
    }

    /// Exports a bdev that is not there yet to these hosts: all of them, or nothing is done.
    ///
    /// # Errors
    /// [`Rejection::ExportExists`], or one of the hosts can't be let in, as with [`Broker::add_host`].
    pub fn create_export_for(&mut self, name: &str, rules: Rules, hosts: Vec<Host>) -> Result<(), Rejection> {
        if self.exports.contains_key(name) {
            return Err(Rejection::ExportExists(name.to_owned()));
        }
        check_hosts(name, rules, &hosts)?;
        self.exports.insert(name.to_owned(), Export { hosts, ..Export::new(rules) });
        Ok(())
    }

    /// Returns what is known of an export.
    pub fn export(&self, name: &str) -> Option<ExportFacts<'_>> {
        let export = self.exports.get(name)?;
        Some(ExportFacts {
            device: export.online().map(|online| &online.device),
            rules: export.rules,
            hosts: &export.hosts,
            is_deleting: export.is_deleting(),
        })
    }

    /// Returns the number of open sessions of each export that has any.
    pub fn session_counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for (_, session) in self.sessions.iter() {
            *counts.entry(session.owner.export.as_str()).or_default() += 1;
        }
        counts
    }

    /// Lets a host in.
    ///
    /// # Errors
    /// No such export, it has an entry for this host or as many as it can have already, or it demands a
    /// cipher and the host has no key.
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
        known.hosts.push(host.clone());
        let any = known.hosts.iter().find(|other| other.name == ANY_HOST).cloned();
        let with = if host.keys.is_some() { "with" } else { "without" };
        self.notice(Topic::Operators, || {
            format!("DST export {export}: host {} may attach {with} a key", host.name)
        });
        // Its own entry may give a host less than `*` gave it, or demand another key.
        let has_other_key = any.as_ref().is_some_and(|any| any.keys != host.keys);
        self.end_sessions(export, "its host has less rights now", |broker, session| {
            let has_less = |address: IpAddr| {
                let of = |entry: &Host| rights(std::slice::from_ref(entry), &session.owner.host, address);
                of(&host) < any.as_ref().and_then(of)
            };
            session.owner.host == host.name && (has_other_key || broker.addresses(session).any(has_less))
        });
        Ok(())
    }

    /// Lets a host in no more; its sessions end at once.
    ///
    /// # Errors
    /// No such export, or it has no entry for this host.
    pub fn remove_host(&mut self, now_us: u64, export: &str, host: &str) -> Result<(), Rejection> {
        self.now_us = now_us;
        let known = self.exports.get_mut(export).ok_or_else(|| Rejection::NoExport(export.to_owned()))?;
        let found = known.hosts.iter().position(|other| other.name == host);
        let no_host = || Rejection::NoHost { export: export.to_owned(), host: host.to_owned() };
        known.hosts.remove(found.ok_or_else(no_host)?);
        let hosts = known.hosts.clone();
        // The host itself, whatever else lets it in from now on, and whoever came in by `*`.
        self.end_sessions(export, "its host was removed", |broker, session| {
            let is_out = |address: IpAddr| rights(&hosts, &session.owner.host, address).is_none();
            session.owner.host == host || broker.addresses(session).any(is_out)
        });
        self.end_handshakes(export, |name| {
            name == host || host == ANY_HOST && !hosts.iter().any(|entry| entry.name == name)
        });
        Ok(())
    }

    /// Returns the addresses that a session is used from now: each of its connections may come from
    /// another address than the first, and a session without connections has to show anew what it may do
    /// when its client comes back.
    fn addresses(&self, session: &Session) -> impl Iterator<Item = IpAddr> {
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
        let is_one = |session: &Session| session.owner.export == export && which(self, session);
        let found = self.sessions.iter().filter(|(_, session)| is_one(session));
        let ids: Vec<SessionId> = found.map(|(id, _)| *id).collect();
        for id in &ids {
            self.end_session(id, why);
        }
    }

    /// Closes the connections that were not let in yet and have shown the key of an entry that is gone:
    /// another entry with a file of the same name may have another key by then.
    pub(crate) fn end_handshakes(&mut self, export: &str, is_of: impl Fn(&str) -> bool) {
        let shown = |entry: &Connection| {
            entry.proof().is_some_and(|proof| proof.owner.export == export && is_of(&proof.owner.host))
        };
        let found = self.connections.iter().filter(|(_, entry)| shown(entry));
        let ids: Vec<ConnectionId> = found.map(|(&id, _)| id).collect();
        ids.into_iter().for_each(|id| self.close(id));
    }

    /// Returns which keys a client has to know one of, which says to be this owner; `None`: its
    /// connection is closed.
    pub fn keys_for(&self, connection: ConnectionId, owner: &Owner) -> Option<KeyQuery> {
        let peer = self.connections.get(&connection).filter(|entry| entry.is_open())?.peer;
        let export = self.exports.get(&owner.export).filter(|export| !export.is_deleting());
        let keys = match export.map(|export| entry(&export.hosts, &owner.host, peer.ip())) {
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

    /// The bdev of an export is there. Clients that had sessions when it was there before take this for
    /// another start of the target.
    pub(crate) fn online(&mut self, name: &str, device: Device, instance: [u8; 16]) {
        let Some(export) = self.exports.get_mut(name) else { return };
        debug_assert!(export.drain.is_none() || export.is_deleting(), "the bdev before is still in use");
        export.go_offline();
        export.backing = Backing::Online(Online { device, told_blocks: device.num_blocks, instance });
    }

    /// The bdev of an export is gone, for a while at least: to clients this is as the death of the target.
    /// Only the deletion of the export tells them not to come back. [`Output::BackingGone`] follows when
    /// the backend has finished; until then the driver says [`crate::Input::DrainTimeout`] each time it
    /// passes.
    pub(crate) fn offline(&mut self, name: &str) {
        let Some(export) = self.exports.get_mut(name) else { return };
        export.go_offline();
        if export.drain.is_none() {
            export.drain = Some(Drain { ends: Ends::Backing, late: 0, is_resetting: false });
        }
        let its = self.sessions.iter().filter(|(_, session)| session.owner.export == name);
        let ids: Vec<SessionId> = its.map(|(id, _)| *id).collect();
        for id in &ids {
            self.close_session(id, "the bdev of its export is gone");
        }
        self.drained(name);
    }

    /// An export's device has changed. A client that hears of it uses it, on all its connections: those
    /// that carry requests know it first.
    pub(crate) fn resized(&mut self, name: &str, device: Device) {
        let Some(online) = self.exports.get_mut(name).and_then(Export::online_mut) else { return };
        online.device = device;
        let num_blocks = device.num_blocks;
        self.notice(Topic::Operators, || format!("DST export {name} has {num_blocks} blocks now"));
        self.tell_resized(name, num_blocks, |queue| queue != 0);
        // Groups do what they are told in its order: those that have answered have done that.
        self.output(Output::ConfirmSize { export: name.to_owned(), num_blocks });
    }

    /// All connections that carry requests know the export's new size: now their clients may.
    pub(crate) fn size_confirmed(&mut self, name: &str, num_blocks: u64) {
        // Not if it has changed again, or if it is another export: what was told of that goes.
        let online = self.exports.get_mut(name).and_then(Export::online_mut);
        let Some(online) = online.filter(|online| online.device.num_blocks == num_blocks) else { return };
        online.told_blocks = num_blocks;
        self.tell_resized(name, num_blocks, |queue| queue == 0);
    }

    /// Tells an export's connections of its size, those of these queues.
    fn tell_resized(&mut self, name: &str, num_blocks: u64, which: impl Fn(u16) -> bool) {
        let is_one = |entry: &Connection| match &entry.stage {
            Stage::Ready(queue) => queue.owner.export == name && which(queue.session.queue),
            _ => false,
        };
        let found = self.connections.iter().filter(|(_, entry)| is_one(entry));
        let ids: Vec<ConnectionId> = found.map(|(&id, _)| id).collect();
        for id in ids {
            self.order(id, Order::Event(Event::Resized(num_blocks)));
        }
    }
}
