//! Exports, and who may attach them: what operators configure.

use std::rc::Rc;

use dst_broker::{Broker, Input, Rejection, Rules};
use dst_session::access::Host;
use spdk::bdev::{BdevEvent, Desc};
use spdk::clock::now_us;

use crate::control::Target;
use crate::error::Error;
use crate::export::{Export, ExportInfo, check_suitable, device};

impl Target {
    /// Exports a bdev, to nobody yet. Without a `uuid` it has the bdev's: some bdevs have another one
    /// after each start, and clients take that for another device.
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
        if self.exports.borrow().contains_key(name) {
            return Err(Rejection::ExportExists(name.to_owned()).into());
        }
        let info = spdk::bdev::info(bdev_name).ok_or_else(|| Error::NoBdev(bdev_name.to_owned()))?;
        check_suitable(&info, self.options.get().max_transfer)?;
        let export = name.to_owned();
        let on_event = move |event| Target::with(|target| target.bdev_event(&export, event));
        let desc = Desc::open(bdev_name, !rules.read_only, on_event)
            .map_err(|errno| cannot_open(bdev_name, errno))?;
        let info = desc.info();
        let uuid = uuid.unwrap_or(info.uuid);
        self.broker.borrow_mut().create_export(name, device(&info, uuid), rules)?;
        let export = Export { bdev_name: bdev_name.to_owned(), uuid, desc, deletion: None };
        self.exports.borrow_mut().insert(name.to_owned(), export);
        spdk::notice!(
            "DST export {name} of bdev {bdev_name} is there; nobody can attach before dst_export_add_host"
        );
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
        let show = |(name, export): (&String, &Export)| {
            let facts = broker.export(name)?;
            Some(ExportInfo {
                name: name.clone(),
                bdev_name: export.bdev_name.clone(),
                uuid: export.uuid,
                rules: facts.rules,
                block_size: facts.device.block_size,
                num_blocks: facts.device.num_blocks,
                hosts: facts.hosts.to_vec(),
                sessions: facts.sessions,
                deleting: facts.is_deleting,
            })
        };
        let wanted = exports.iter().filter(|(key, _)| name.is_none_or(|name| name == *key));
        Ok(wanted.filter_map(show).collect())
    }

    /// Lets a host in.
    ///
    /// # Errors
    /// No such export, it has an entry for this host or as many as it can have already, or it demands a
    /// cipher and the host has no key.
    pub fn add_host(self: &Rc<Self>, export: &str, host: Host) -> Result<(), Error> {
        self.change(|broker| broker.add_host(now_us(), export, host))
    }

    /// Lets a host in no more; its sessions end at once.
    ///
    /// # Errors
    /// No such export, or it has no entry for this host.
    pub fn remove_host(self: &Rc<Self>, export: &str, host: &str) -> Result<(), Error> {
        self.change(|broker| broker.remove_host(now_us(), export, host))
    }

    fn change(self: &Rc<Self>, f: impl FnOnce(&mut Broker) -> Result<(), Rejection>) -> Result<(), Error> {
        let changed = f(&mut self.broker.borrow_mut());
        self.carry_out();
        Ok(changed?)
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
                let exports = self.exports.borrow();
                let Some(export) = exports.get(name) else { return };
                let device = device(&export.desc.info(), export.uuid);
                drop(exports);
                self.tell(Input::Resized { export: name.to_owned(), device });
            }
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
