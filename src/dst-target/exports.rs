//! Exports, and who may attach them: what operators configure.

use std::rc::Rc;

use dst_broker::{Broker, Rejection, Rules};
use dst_session::access::Host;
use spdk::clock::now_us;

use crate::control::Target;
use crate::error::Error;
use crate::export::{Backing, Export, ExportInfo, Identity};

impl Target {
    /// Exports a bdev, to these hosts. A bdev that does not exist yet is waited for, and taken when it
    /// appears. Without a `uuid` the export has the bdev's: some bdevs have another one after each
    /// start, and clients take that for another device.
    ///
    /// # Errors
    /// See [`Error`].
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
                self.wait_or_not(name);
            }
        }
        Ok(())
    }

    /// Returns the exports, or the one with this name.
    ///
    /// # Errors
    /// There is no export with this name.
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

    /// Returns the own name of an export's bdev, as far as that is known: an alias may change, and is not
    /// known yet when a bdev appears.
    pub fn own_bdev_name(&self, export: &str) -> Option<String> {
        self.exports.borrow().get(export).map(Export::own_bdev_name)
    }

    /// Lets a host in.
    ///
    /// # Errors
    /// No such export, it has an entry for this host or as many as it can have already, or it demands a
    /// cipher and the host has no key.
    pub fn add_host(self: &Rc<Self>, export: &str, host: Host) -> Result<(), Error> {
        let added = host.clone();
        self.change(|broker| broker.add_host(now_us(), export, host))?;
        self.note_key(export, &added);
        Ok(())
    }

    /// Changes a host's entry while its sessions live. Calls `done` when nothing is executed any more that
    /// the entry does not allow, other than what the backend had before.
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
        // Groups do what they are told in its order: those that have answered have closed what is withdrawn.
        self.ask_groups(move |_, _| done(Ok(())));
    }

    /// An entry is new. Its key need not be there before a client wants to be let in with it.
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

    /// Returns why the keys of an entry can't be had, if reading them failed.
    pub fn key_error(&self, host: &Host) -> Option<String> {
        self.keys.failure(host.keys.as_ref()?)
    }

    /// Lets a host in no more; its sessions end at once.
    ///
    /// # Errors
    /// No such export, or it has no entry for this host.
    pub fn remove_host(self: &Rc<Self>, export: &str, host: &str) -> Result<(), Error> {
        self.forget_keys(export, |entry| entry.name == host);
        self.change(|broker| broker.remove_host(now_us(), export, host))
    }

    /// Forgets what went wrong with the keys of entries that end.
    pub(crate) fn forget_keys(&self, export: &str, which: impl Fn(&Host) -> bool) {
        let broker = self.broker.borrow();
        let hosts = broker.export(export).map(|facts| facts.hosts).unwrap_or_default();
        let sources = hosts.iter().filter(|entry| which(entry)).filter_map(|entry| entry.keys.as_ref());
        sources.for_each(|source| self.keys.forget(source));
    }

    fn change(self: &Rc<Self>, f: impl FnOnce(&mut Broker) -> Result<(), Rejection>) -> Result<(), Error> {
        let changed = f(&mut self.broker.borrow_mut());
        self.carry_out();
        Ok(changed?)
    }
}
