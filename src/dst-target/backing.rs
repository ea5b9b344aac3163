//! The bdevs of exports: they come, change, and go.

use std::rc::Rc;

use dst_broker::Input;
use spdk::Errno;
use spdk::bdev::{BdevEvent, BdevInfo, Desc};
use spdk::poller::Poller;

use crate::control::Target;
use crate::error::Error;
use crate::export::{Backing, Export, Identity, check_suitable, device, uuid_warning};

/// How often the bdevs of exports that are offline are looked for, µs. A bdev that appears is taken at
/// once; this finds those that were there under another name (an alias is given to a bdev after it
/// appeared), that something else had, or that SPDK does not show (`bdev_auto_examine` false).
const LOOK_US: u64 = 100_000;

/// Exports looked at each time: each costs a walk over all bdevs and their aliases on SPDK 20.07. So of
/// 2,000 exports that are offline each is looked at every 6.3 s.
const LOOKS: usize = 32;

impl Target {
    /// SPDK has a new bdev, which no module has read from yet.
    pub fn bdev_appeared(self: &Rc<Self>, bdev_name: &str) {
        let names = self.waiting.borrow().of_bdev(bdev_name);
        for name in names {
            self.try_online(&name);
        }
    }

    /// An export waits for its bdev now, or not any more.
    pub(crate) fn wait_or_not(self: &Rc<Self>, name: &str) {
        let exports = self.exports.borrow();
        let wanted = exports.get(name).filter(|export| export.is_waiting()).map(Export::wanted_bdevs);
        drop(exports);
        let mut waiting = self.waiting.borrow_mut();
        match wanted {
            Some(bdevs) => waiting.add(name, bdevs),
            None => waiting.remove(name),
        }
        let is_wanted = !waiting.is_empty();
        drop(waiting);
        self.look_if(is_wanted);
    }

    /// Starts or stops to look for bdevs.
    fn look_if(self: &Rc<Self>, is_wanted: bool) {
        let mut looker = self.looker.borrow_mut();
        if !is_wanted {
            let ended = looker.take();
            drop(looker);
            // Perhaps inside its own call, which it stands.
            return drop(ended);
        }
        if looker.is_none() {
            let target = Rc::downgrade(self);
            let look = move || target.upgrade().is_some_and(|target| target.look());
            match Poller::register(LOOK_US, look) {
                Ok(poller) => *looker = Some(poller),
                Err(errno) => spdk::error!("DST exports can't wait for their bdevs: no poller: {errno}"),
            }
        }
    }

    /// Looks for the bdevs of some exports that are offline. Returns true if one was found.
    fn look(self: &Rc<Self>) -> bool {
        let turn = self.waiting.borrow_mut().next(LOOKS);
        let exports = self.exports.borrow();
        let is_there = |name: &String| exports.get(name).is_some_and(|export| export.found().is_some());
        let names: Vec<String> = turn.into_iter().filter(is_there).collect();
        drop(exports);
        for name in &names {
            self.try_online(name);
        }
        !names.is_empty()
    }

    /// Takes the bdev of an export that is offline, if that can be had.
    fn try_online(self: &Rc<Self>, name: &str) {
        let exports = self.exports.borrow();
        let Some(export) = exports.get(name).filter(|export| export.is_waiting()) else { return };
        let opened = self.open(name, export);
        drop(exports);
        match opened {
            Ok(desc) => {
                spdk::notice!("DST export {name}: its bdev is there");
                self.go_online(name, desc);
            }
            Err(error) => {
                let now = error.to_string();
                if let Some(export) = self.exports.borrow_mut().get_mut(name)
                    && let Backing::Offline { why, .. } = &mut export.backing
                    && *why != now
                {
                    spdk::warn!("DST export {name} stays offline: {now}");
                    *why = now;
                }
            }
        }
    }

    /// Opens and claims the bdev of an export that is offline.
    ///
    /// # Errors
    /// The bdev is not there, something else has it, or it is not what the export needs.
    pub(crate) fn open(&self, name: &str, export: &Export) -> Result<Desc, Error> {
        let info = export.found().ok_or_else(|| Error::NoBdev(export.bdev_name.clone()))?;
        check_suitable(&info, self.options.get().max_transfer)?;
        if let Backing::Offline { before: Some(before), .. } = &export.backing {
            check_same(export.identity, before, &info)?;
        }
        let of = name.to_owned();
        let on_event = move |event| Target::with(|target| target.bdev_event(&of, event));
        Desc::open(&info.name, !export.read_only, on_event)
            .map_err(|errno| cannot_open(&export.bdev_name, &info.name, errno))
    }

    /// The bdev of an export is there.
    pub(crate) fn go_online(self: &Rc<Self>, name: &str, desc: Desc) {
        let info = desc.info();
        let mut exports = self.exports.borrow_mut();
        let Some(export) = exports.get_mut(name) else { return };
        let Backing::Offline { before, .. } = &export.backing else { return };
        // One that comes back may have lost what it cached, so it is another start for clients.
        let instance = match before {
            None => self.instance.id(),
            Some(_) => {
                let mut id = [0; 16];
                spdk::random::fill(&mut id);
                id
            }
        };
        let uuid = export.identity.uuid().unwrap_or(info.uuid);
        if let Identity::OfBdev(of) = &mut export.identity {
            *of = Some(uuid);
        }
        let before = export.uuid_warning;
        let product = spdk::bdev::product_name(&info.name).unwrap_or_default();
        export.uuid_warning = uuid_warning(export.identity, &product);
        if let Some(warning) = export.uuid_warning.filter(|_| before.is_none()) {
            spdk::warn!("DST export {name}: {warning}");
        }
        export.backing = Backing::Online(desc);
        drop(exports);
        self.wait_or_not(name);
        self.tell(Input::Online { export: name.to_owned(), device: device(&info, uuid), instance });
    }

    /// Something happened to an export's bdev.
    fn bdev_event(self: &Rc<Self>, name: &str, event: BdevEvent) {
        match event {
            BdevEvent::Remove => self.bdev_removed(name),
            BdevEvent::Resize => {
                let exports = self.exports.borrow();
                let Some(export) = exports.get(name) else { return };
                let (Some(desc), Some(uuid)) = (export.desc(), export.identity.uuid()) else { return };
                let device = device(&desc.info(), uuid);
                drop(exports);
                self.tell(Input::Resized { export: name.to_owned(), device });
            }
        }
    }

    /// The bdev of an export is being removed: SPDK waits until it is closed here.
    fn bdev_removed(self: &Rc<Self>, name: &str) {
        let mut exports = self.exports.borrow_mut();
        let Some(export) = exports.get_mut(name) else { return };
        let why = format!("bdev `{}` was removed", export.bdev_name);
        let nothing = Backing::Offline { why: why.clone(), before: None };
        match std::mem::replace(&mut export.backing, nothing) {
            Backing::Online(desc) => export.backing = Backing::Leaving { desc, why },
            other => return export.backing = other,
        }
        if export.deletion.is_none() {
            match self.drain_timer(name) {
                Ok(timer) => export.drain_timer = Some(timer),
                Err(error) => spdk::error!("DST export {name}: {error}"),
            }
        }
        drop(exports);
        spdk::warn!("DST export {name} is offline: its bdev was removed. Clients wait for it to come back");
        self.tell(Input::Offline { export: name.to_owned() });
    }
}

/// Checks that a bdev can be the one that was there before.
fn check_same(identity: Identity, before: &BdevInfo, now: &BdevInfo) -> Result<(), Error> {
    let unsuitable = |why| Err(Error::Unsuitable { name: now.name.clone(), why });
    if matches!(identity, Identity::OfBdev(_)) && before.uuid != now.uuid {
        return unsuitable(
            "it has another UUID than the one that was removed. If it is the same device all the same, \
             delete the export and create it with `uuid`",
        );
    }
    if before.block_size != now.block_size {
        return unsuitable("it has another block size than the one that was removed");
    }
    if before.num_blocks > now.num_blocks {
        return unsuitable("it is smaller than the one that was removed");
    }
    Ok(())
}

/// Returns why a bdev can't be opened. `shown` is its name as the operator gave it.
fn cannot_open(shown: &str, bdev_name: &str, errno: Errno) -> Error {
    let name = shown.to_owned();
    match (spdk::bdev::claimed_by(bdev_name), errno) {
        (Some(module), Errno::EPERM) => Error::Claimed { name, module },
        (_, Errno::EBUSY) => Error::InUse { name },
        (_, Errno::ENODEV) => Error::NoBdev(name),
        _ => Error::Open { name, errno },
    }
}
