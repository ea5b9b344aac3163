//! Exports, and who may attach them: what operators configure.

use std::net::IpAddr;
use std::rc::Rc;

use dst_session::access::{ANY_HOST, Host, rights};
use dst_wire::Event;
use spdk::bdev::{BdevEvent, Desc};

use crate::control::{ConnectionEntry, State, Target};
use crate::error::Error;
use crate::export::{Export, ExportInfo, HOSTS_MAX, Rules, check_suitable};
use crate::sessions::{Session, SessionId};

impl Target {
    /// Exports a bdev, to nobody yet. Without a `uuid` it has the bdev's: some bdevs have another one after
    /// each start, and clients take that for another device.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn create_export(
        &self,
        name: &str,
        bdev_name: &str,
        uuid: Option<[u8; 16]>,
        rules: Rules,
    ) -> Result<(), Error> {
        if self.state.borrow().exports.contains_key(name) {
            return Err(Error::ExportExists(name.to_owned()));
        }
        let info = spdk::bdev::info(bdev_name).ok_or_else(|| Error::NoBdev(bdev_name.to_owned()))?;
        check_suitable(&info, self.options.get().max_transfer)?;
        let export = name.to_owned();
        let on_event = move |event| Target::with(|target| target.bdev_event(&export, event));
        let desc = Desc::open(bdev_name, !rules.read_only, on_event)
            .map_err(|errno| cannot_open(bdev_name, errno))?;
        let info = desc.info();
        let export = Export {
            bdev_name: bdev_name.to_owned(),
            uuid: uuid.unwrap_or(info.uuid),
            rules,
            hosts: Vec::new(),
            told_blocks: info.num_blocks,
            info,
            desc,
            deleting: None,
        };
        self.state.borrow_mut().exports.insert(name.to_owned(), export);
        spdk::notice!(
            "DST export {name} of bdev {bdev_name} is there; nobody can attach before dst_export_add_host"
        );
        Ok(())
    }

    /// The exports, or the one with this name.
    pub fn exports(&self, name: Option<&str>) -> Result<Vec<ExportInfo>, Error> {
        let state = self.state.borrow();
        if let Some(name) = name
            && !state.exports.contains_key(name)
        {
            return Err(Error::NoExport(name.to_owned()));
        }
        let wanted = state.exports.iter().filter(|(key, _)| name.is_none_or(|name| name == *key));
        let show = |(name, export): (&String, &Export)| ExportInfo {
            name: name.clone(),
            bdev_name: export.bdev_name.clone(),
            uuid: export.uuid,
            rules: export.rules,
            block_size: export.info.block_size,
            num_blocks: export.info.num_blocks,
            hosts: export.hosts.clone(),
            deleting: export.deleting.is_some(),
            sessions: state.sessions.iter().filter(|(_, session)| session.owner.export == *name).count(),
        };
        Ok(wanted.map(show).collect())
    }

    /// Lets a host in.
    ///
    /// # Errors
    /// No such export, it has an entry for this host or as many as it can have already, or it demands a cipher and the host has
    /// no key.
    pub fn add_host(self: &Rc<Self>, export: &str, host: Host) -> Result<(), Error> {
        let mut state = self.state.borrow_mut();
        let entry = state.exports.get_mut(export).ok_or_else(|| Error::NoExport(export.to_owned()))?;
        if entry.rules.require_cipher && host.keys.is_none() {
            return Err(Error::NeedsKey { export: export.to_owned(), host: host.name });
        }
        if entry.hosts.iter().any(|other| other.name == host.name) {
            return Err(Error::HostExists { export: export.to_owned(), host: host.name });
        }
        if entry.hosts.len() >= HOSTS_MAX {
            return Err(Error::TooManyHosts { export: export.to_owned(), max: HOSTS_MAX });
        }
        let with = if host.keys.is_some() { "with" } else { "without" };
        spdk::notice!("DST export {export}: host {} may attach {with} a key", host.name);
        entry.hosts.push(host.clone());
        let any = entry.hosts.iter().find(|other| other.name == ANY_HOST).cloned();
        drop(state);
        // Its own entry may give a host less than `*` gave it, or demand another key.
        let has_other_key = any.as_ref().is_some_and(|any| any.keys != host.keys);
        self.end_sessions(export, "its host has less rights now", |state, session| {
            let has_less = |address: IpAddr| {
                let of = |entry: &Host| rights(std::slice::from_ref(entry), &session.owner.host, address);
                of(&host) < any.as_ref().and_then(of)
            };
            session.owner.host == host.name && (has_other_key || state.addresses(session).any(has_less))
        });
        Ok(())
    }

    /// Ends those sessions of an export of which `which` says so.
    pub(crate) fn end_sessions(&self, export: &str, why: &str, which: impl Fn(&State, &Session) -> bool) {
        let state = self.state.borrow();
        let is_one = |session: &Session| session.owner.export == export && which(&state, session);
        let found = state.sessions.iter().filter(|(_, session)| is_one(session));
        let ids: Vec<SessionId> = found.map(|(id, _)| *id).collect();
        drop(state);
        for id in &ids {
            self.end_session(id, why);
        }
    }

    /// Lets a host in no more; its sessions end at once.
    ///
    /// # Errors
    /// No such export, or it has no entry for this host.
    pub fn remove_host(self: &Rc<Self>, export: &str, host: &str) -> Result<(), Error> {
        let mut state = self.state.borrow_mut();
        let entry = state.exports.get_mut(export).ok_or_else(|| Error::NoExport(export.to_owned()))?;
        let found = entry.hosts.iter().position(|other| other.name == host);
        let index =
            found.ok_or_else(|| Error::NoHost { export: export.to_owned(), host: host.to_owned() })?;
        entry.hosts.remove(index);
        let hosts = entry.hosts.clone();
        drop(state);
        // The host itself, whatever else lets it in from now on, and whoever came in by `*`.
        self.end_sessions(export, "its host was removed", |state, session| {
            let is_out = |address: IpAddr| rights(&hosts, &session.owner.host, address).is_none();
            session.owner.host == host || state.addresses(session).any(is_out)
        });
        self.end_handshakes(export, |name| {
            name == host || host == ANY_HOST && !hosts.iter().any(|entry| entry.name == name)
        });
        Ok(())
    }

    /// Closes the connections that were not let in yet and have shown the key of an entry that is gone: another entry with a
    /// file of the same name may have another key by then.
    pub(crate) fn end_handshakes(&self, export: &str, is_of: impl Fn(&str) -> bool) {
        let state = self.state.borrow();
        let shown = |entry: &ConnectionEntry| {
            let proof = entry.proof.as_ref().filter(|_| !entry.welcomed);
            proof.is_some_and(|proof| proof.owner.export == export && is_of(&proof.owner.host))
        };
        let ids: Vec<u64> =
            state.connections.iter().filter(|(_, entry)| shown(entry)).map(|(&id, _)| id).collect();
        drop(state);
        ids.into_iter().for_each(|id| self.close(id));
    }

    /// Something happened to an export's bdev.
    fn bdev_event(self: &Rc<Self>, name: &str, event: BdevEvent) {
        match event {
            BdevEvent::Remove => {
                spdk::warn!("DST export {name}: its bdev was removed, so the export is deleted");
                // One that is being deleted already goes on with that.
                let _ = self.delete_export(name, |result| {
                    if let Err(error) = result {
                        spdk::error!("{error}");
                    }
                });
            }
            BdevEvent::Resize => {
                let mut state = self.state.borrow_mut();
                let Some(export) = state.exports.get_mut(name) else { return };
                export.info = export.desc.info();
                let num_blocks = export.info.num_blocks;
                spdk::notice!("DST export {name} has {num_blocks} blocks now");
                drop(state);
                // A client that hears of it uses it, on all its connections: these know it first.
                self.tell_resized(name, num_blocks, |queue| queue != 0);
                let export = name.to_owned();
                // Groups do what they are told in its order: those that have answered have done that.
                self.gather(move |target, _| target.announce_size(&export, num_blocks));
            }
        }
    }

    /// All connections that carry requests know the export's new size: now their clients may.
    fn announce_size(&self, name: &str, num_blocks: u64) {
        let mut state = self.state.borrow_mut();
        // Not if it has changed again, or if it is another export: what was told of that goes.
        let export = state.exports.get_mut(name).filter(|export| export.info.num_blocks == num_blocks);
        let Some(export) = export else { return };
        export.told_blocks = num_blocks;
        drop(state);
        self.tell_resized(name, num_blocks, |queue| queue == 0);
    }

    /// Tells an export's connections of its size, those of these queues.
    fn tell_resized(&self, name: &str, num_blocks: u64, which: impl Fn(u16) -> bool) {
        let state = self.state.borrow();
        let is_one = |entry: &ConnectionEntry| {
            entry.owner.as_ref().is_some_and(|owner| owner.export == name)
                && entry.place.is_some_and(|place| which(place.queue))
        };
        let found = state.connections.iter().filter(|(_, entry)| is_one(entry));
        let connections: Vec<(u64, usize)> = found.map(|(&id, entry)| (id, entry.group)).collect();
        drop(state);
        let event = Event::Resized(num_blocks);
        for (id, group) in connections {
            self.on_group(group, move |group| group.event(id, event));
        }
    }
}

fn cannot_open(bdev_name: &str, errno: spdk::Errno) -> Error {
    let name = bdev_name.to_owned();
    match (spdk::bdev::claimed_by(bdev_name), errno) {
        (Some(module), spdk::Errno::EPERM) => Error::Claimed { name, module },
        (_, spdk::Errno::EBUSY) => Error::InUse { name },
        _ => Error::Open { name, errno },
    }
}
