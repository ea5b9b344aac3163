//! Operators' requests about exports and their access lists.

use std::rc::Rc;

use dst_broker::{Broker, Rejection, Rules};
use dst_session::access::Host;
use spdk::clock::now_us;

use crate::control::Target;
use crate::error::Error;
use crate::export::{Backing, Export, ExportInfo, Identity};

impl Target {
    /// Creates an export of a bdev for these hosts. If the bdev does not exist yet, the export
    /// waits for it. Without `uuid`, the export has the bdev's UUID. Some bdevs have another UUID
    /// after each start, which clients take for another device.
    ///
    /// # Errors
    /// Fails if the broker rejects the export or one of its hosts, or if the bdev exists and can't
    /// be exported.
    pub fn create_export(
        self: &Rc<Self>,
        name: &str,
        bdev_name: &str,
        uuid: Option<[u8; 16]>,
        rules: Rules,
        hosts: &[Host],
    ) -> Result<(), Error> {
        self.broker.borrow().check_new_export(name)?;
        let identity = uuid.map_or(Identity::OfBdev(None), Identity::Given);
        let why = Error::NoBdev(bdev_name.to_owned()).to_string();
        let backing = Backing::Offline { why, before: None };
        let (bdev_name, read_only) = (bdev_name.to_owned(), rules.read_only);
        let export = Export {
            bdev_name,
            read_only,
            identity,
            backing,
            instances: Vec::new(),
            uuid_warning: None,
            drain_timer: None,
            deletion: None,
            state_file: None,
        };
        let opened = match self.open(name, &export) {
            Err(Error::NoBdev(_)) => None,
            opened => Some(opened?),
        };
        self.broker.borrow_mut().create_export_for(name, rules, hosts.to_vec())?;
        self.exports.borrow_mut().insert(name.to_owned(), export);
        for host in hosts {
            self.note_key(name, host);
        }
        match opened {
            Some(desc) => {
                self.go_online(name, desc);
                match hosts.len() {
                    0 => spdk::notice!(
                        "DST export {name} is there; nobody can attach before dst_export_add_host"
                    ),
                    count => spdk::notice!("DST export {name} is there, with {count} hosts"),
                }
            }
            None => {
                spdk::notice!("DST export {name} waits for its bdev; nobody can attach before");
                self.update_waiting(name);
            }
        }
        Ok(())
    }

    /// Returns the exports, or the one with this name.
    ///
    /// # Errors
    /// Fails if there is no export with this name.
    pub fn exports(&self, name: Option<&str>) -> Result<Vec<ExportInfo>, Error> {
        let exports = self.exports.borrow();
        if let Some(name) = name
            && !exports.contains_key(name)
        {
            return Err(Rejection::NoExport(name.to_owned()).into());
        }
        let broker = self.broker.borrow();
        let sessions = broker.session_counts();
        let show = |(name, export): (&String, &Export)| {
            let facts = broker.export(name)?;
            Some(ExportInfo {
                name: name.clone(),
                bdev_name: export.bdev_name.clone(),
                uuid: export.identity.uuid(),
                offline: match &export.backing {
                    Backing::Offline { why, .. } | Backing::Leaving { why, .. } => Some(why.clone()),
                    Backing::Online(_) => None,
                },
                uuid_warning: export.uuid_warning,
                rules: facts.rules,
                size: facts.device.map(|device| (device.block_size, device.num_blocks)),
                hosts: facts.hosts.to_vec(),
                sessions: sessions.get(name.as_str()).copied().unwrap_or_default(),
                deleting: facts.is_deleting,
                state_file: export.state_file.as_ref().map(|file| file.path.clone()),
                ownership: facts.ownership.clone(),
                waiting: facts.waiting.iter().map(|&(host, since_us)| (host.to_owned(), since_us)).collect(),
                is_resetting: facts.is_resetting,
            })
        };
        let wanted = exports.iter().filter(|(key, _)| name.is_none_or(|name| name == *key));
        Ok(wanted.filter_map(show).collect())
    }

    /// Returns the own name of an export's bdev if it is known; otherwise, the name that the
    /// operator gave, which may be an alias. An alias may change, and does not exist yet when its
    /// bdev appears.
    pub fn own_bdev_name(&self, export: &str) -> Option<String> {
        self.exports.borrow().get(export).map(Export::own_bdev_name)
    }

    /// Adds a host to an export's access list.
    ///
    /// # Errors
    /// Fails as [`Broker::add_host`].
    pub fn add_host(self: &Rc<Self>, export: &str, host: Host) -> Result<(), Error> {
        let added = host.clone();
        self.change(|broker| broker.add_host(now_us(), export, host))?;
        self.note_key(export, &added);
        Ok(())
    }

    /// Changes a host's entry while its sessions live. Calls `done` when no request is begun any
    /// more that the new entry does not allow.
    pub fn set_host(
        self: &Rc<Self>,
        export: &str,
        host: Host,
        done: impl FnOnce(Result<(), Error>) + 'static,
    ) {
        self.forget_keys(export, |entry| entry.name == host.name);
        let entry = host.clone();
        if let Err(error) = self.change(|broker| broker.set_host(now_us(), export, host)) {
            return done(Err(error));
        }
        self.note_key(export, &entry);
        // Groups handle messages in their order, so a group that has answered has closed the
        // connections of withdrawn rights.
        self.ask_groups(move |_, _| done(Ok(())));
    }

    /// Warns if the key of a new entry can't be read. The key is not needed before the host
    /// attaches.
    fn note_key(&self, export: &str, host: &Host) {
        if let Some(source) = &host.keys
            && let Err(why) = self.keys.read(source)
        {
            spdk::warn!(
                "DST export {export}: host {} can't attach yet: {why}. The key is read when the host attaches",
                host.name
            );
        }
    }

    /// Returns the reason for which the keys of an entry can't be read, or `None` if they can.
    pub fn key_error(&self, host: &Host) -> Option<String> {
        self.keys.failure(host.keys.as_ref()?)
    }

    /// Removes a host from an export's access list. Its sessions end at once.
    ///
    /// # Errors
    /// Fails if there is no such export, or if it has no entry for this host.
    pub fn remove_host(self: &Rc<Self>, export: &str, host: &str) -> Result<(), Error> {
        self.forget_keys(export, |entry| entry.name == host);
        self.change(|broker| broker.remove_host(now_us(), export, host))
    }

    /// Forgets failures to read the keys of those entries of an export that satisfy `which`.
    pub(crate) fn forget_keys(&self, export: &str, which: impl Fn(&Host) -> bool) {
        let broker = self.broker.borrow();
        let hosts = broker.export(export).map(|facts| facts.hosts).unwrap_or_default();
        let sources = hosts.iter().filter(|entry| which(entry)).filter_map(|entry| entry.keys.as_ref());
        sources.for_each(|source| self.keys.forget(source));
    }

    /// Changes the broker's state with `f` and carries out the resulting decisions.
    fn change(self: &Rc<Self>, f: impl FnOnce(&mut Broker) -> Result<(), Rejection>) -> Result<(), Error> {
        let changed = f(&mut self.broker.borrow_mut());
        self.carry_out();
        Ok(changed?)
    }
}
