//! The bdevs of exports, which appear, change and are removed.

use std::rc::Rc;

use dst_broker::Input;
use spdk::Errno;
use spdk::bdev::{BdevEvent, BdevInfo, Desc};
use spdk::poller::Poller;

use crate::control::Target;
use crate::error::Error;
use crate::export::{Backing, Export, Identity, check_suitable, device, uuid_warning};

/// The period in which the bdevs of offline exports are looked for, µs. A bdev that appears is
/// taken at once. The search finds bdevs that existed under another name (a bdev gets its aliases
/// after it appears), that something else had open, or that SPDK does not announce
/// (`bdev_auto_examine` false).
const LOOK_US: u64 = 100_000;

/// The number of exports looked at in each period. On SPDK 20.07, each costs a walk over all bdevs
/// and their aliases. With 2,000 offline exports, each is looked at every 6.3 s.
const LOOKS: usize = 32;

impl Target {
    /// Lets the exports that wait for a new bdev take it. No module has read from the bdev yet.
    pub fn bdev_appeared(self: &Rc<Self>, bdev_name: &str) {
        let names = self.waiting.borrow().of_bdev(bdev_name);
        for name in names {
            self.try_online(&name);
        }
    }

    /// Updates the list of exports that wait for bdevs, after the state of the export `name` has
    /// changed.
    pub(crate) fn update_waiting(self: &Rc<Self>, name: &str) {
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
        self.set_looking(is_wanted);
    }

    /// Starts or stops the search for bdevs.
    fn set_looking(self: &Rc<Self>, is_wanted: bool) {
        let mut looker = self.looker.borrow_mut();
        if !is_wanted {
            let ended = looker.take();
            drop(looker);
            // A poller may be dropped inside its own call.
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

    /// Takes the bdev of an offline export, if the bdev is present and free.
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

    /// Opens and claims the bdev of an offline export.
    ///
    /// # Errors
    /// Fails if there is no such bdev, if something else has it open, or if it is not suitable for
    /// the export.
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

    /// Brings an export online with its open bdev.
    pub(crate) fn go_online(self: &Rc<Self>, name: &str, desc: Desc) {
        let info = desc.info();
        let mut exports = self.exports.borrow_mut();
        let Some(export) = exports.get_mut(name) else { return };
        if !matches!(export.backing, Backing::Offline { .. }) {
            return;
        }
        // Writes that the bdev had cached before this target took it may be lost, so clients must
        // take this for a restart of the target. That also holds the first time that an export
        // takes a bdev: there may have been another export of this name.
        let instance = self.instance.next_id();
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
        let device = device(&info, uuid);
        let predecessors = self.noted_predecessors(name, &device, &product);
        export.instances = [&[instance], &predecessors[..]].concat();
        drop(exports);
        self.update_waiting(name);
        self.tell(Input::Online { export: name.to_owned(), device, instance, predecessors });
    }

    /// Handles an event of an export's bdev.
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

    /// Takes an export offline because its bdev is being removed. SPDK waits until the bdev is
    /// closed.
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

/// Checks that a bdev may be the same device as the one that the export had before.
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

/// Returns the error for a bdev that can't be opened. `shown` is the bdev's name as the operator
/// gave it.
fn cannot_open(shown: &str, bdev_name: &str, errno: Errno) -> Error {
    let name = shown.to_owned();
    match (spdk::bdev::claimed_by(bdev_name), errno) {
        (Some(module), Errno::EPERM) => Error::Claimed { name, module },
        (_, Errno::EBUSY) => Error::InUse { name },
        (_, Errno::ENODEV) => Error::NoBdev(name),
        _ => Error::Open { name, errno },
    }
}
