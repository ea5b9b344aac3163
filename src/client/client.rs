//! A bdev's life on the control thread: attach, watch, detach.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dst_session::device_change::{BdevSize, DeviceChange};
use dst_session::mutation::{self, Mutation};
use dst_session::negotiate::{check_not_smaller, check_same_device, check_still_usable};
use dst_wire::{Cipher, Device, Digest, Welcome};
use spdk::bdev_module::register;
use spdk::clock::now_us;
use spdk::poller::{Poller, Turn};
use spdk::thread::Thread;

use crate::control::{After, Control};
use crate::counters::Counters;
use crate::disk::{DstDisk, disk_info, longest};
use crate::error::Error;
use crate::info::Info;
use crate::options::Params;
use crate::registry;
use crate::shared::Shared;

/// How often the control connection is looked at: what it carries is rare, and may wait this long.
const PERIOD_US: u64 = 1000;

/// How often it is looked at when its poller rests, for what no socket tells.
const REST_US: u64 = 10_000;

/// Who waits for an attach.
pub type Attached = Box<dyn FnOnce(Result<String, Error>)>;

/// Who waits for a detach.
pub type Detached = Box<dyn FnOnce(Result<(), Error>)>;

/// One DST bdev, or the attempt to have one.
pub struct Client {
    params: Params,
    shared: Arc<Shared>,
    inner: RefCell<Control>,
    /// From the bdev's registration on.
    bdev_size: Cell<BdevSize>,
    deleting: Cell<bool>,
}

impl Client {
    /// Begins to attach.
    ///
    /// # Errors
    /// Not enough memory; `waiting` is given back.
    pub(crate) fn start(params: Params, waiting: Attached) -> Result<Rc<Client>, (Error, Attached)> {
        let now = now_us();
        let shared = Arc::new(Shared::new(params.name.clone(), params.peer.clone(), params.options));
        let inner = Control::new(&shared, params.wait, now);
        let client = Rc::new(Client {
            params,
            shared,
            inner: RefCell::new(inner),
            bdev_size: Cell::new(BdevSize::Current(0)),
            deleting: Cell::new(false),
        });
        let polled = Rc::downgrade(&client);
        let turn = move || Turn::from(polled.upgrade().is_some_and(|client| client.poll()));
        match Poller::resting(PERIOD_US, REST_US, turn) {
            Ok(poller) => {
                let mut inner = client.inner.borrow_mut();
                inner.link.waker = poller.waker();
                inner.poller = Some(poller);
            }
            Err(errno) => return Err((Error::Resources { what: "a poller", errno }, waiting)),
        }
        client.inner.borrow_mut().waiting = Some(waiting);
        Ok(client)
    }

    /// The bdev's name.
    pub fn name(&self) -> &str {
        &self.params.name
    }

    /// What the user asked for.
    pub fn params(&self) -> &Params {
        &self.params
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// What is known of it now.
    pub fn info(&self) -> Info {
        let inner = self.inner.borrow();
        let sum = Counters::default();
        sum.add_all(&self.shared.past);
        let channels = self.shared.counters();
        channels.iter().for_each(|counters| sum.add_all(counters));
        Info {
            params: self.params.clone(),
            address: self.shared.address(),
            state: inner.state,
            state_age_ms: now_us().saturating_sub(inner.state_since_us) / 1000,
            device: self.shared.device(),
            max_transfer: inner.welcome.as_ref().map_or(0, |welcome| welcome.max_transfer),
            credits: inner.welcome.as_ref().map_or(0, |welcome| welcome.credits),
            keep_alive_ms: inner.welcome.as_ref().map_or(0, |welcome| welcome.keep_alive_ms),
            connections: self.shared.connected.load(Ordering::Relaxed) + usize::from(inner.link.is_up()),
            channels: channels.len(),
            transactions: sum.transactions.into_inner(),
            errors: sum.errors.into_inner(),
            expired: sum.expired.into_inner(),
            lost: sum.lost.into_inner() + inner.lost,
            reconnects: sum.reconnects.into_inner() + inner.reconnects,
            resent: sum.resent.into_inner(),
            corrupt: sum.corrupt.into_inner(),
            digest: inner.welcome.as_ref().map_or(Digest::None, |welcome| welcome.digest),
            cipher: inner.welcome.as_ref().map_or(Cipher::None, |welcome| welcome.cipher),
            lost_caches: self.shared.durability.losses(),
            outstanding: sum.outstanding.into_inner(),
            waiting: sum.waiting.into_inner(),
            read_latency: sum.read_latency.get(),
            write_latency: sum.write_latency.get(),
            other_latency: sum.other_latency.get(),
            last_error: self.shared.last_error().or_else(|| self.bdev_size.get().note()),
        }
    }

    /// Takes the bdev away, or ends the attempts to have it.
    pub(crate) fn delete(self: &Rc<Self>, done: Detached) {
        if self.deleting.replace(true) {
            return done(Err(Error::Deleting(self.params.name.clone())));
        }
        self.shared.closing.store(true, Ordering::Relaxed);
        let disk = self.inner.borrow_mut().disk.take();
        match disk {
            None => {
                registry::forget(&self.shared);
                done(Ok(()));
            }
            Some(disk) => {
                let client = Rc::clone(self);
                disk.unregister(move |result| {
                    registry::forget(&client.shared);
                    let name = client.params.name.clone();
                    done(result.map_err(|errno| Error::Unregister { name, errno }));
                });
            }
        }
    }

    /// Ends the control connection. The registry has forgotten the client.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.poller.take();
        if let Some((connection, _)) = inner.link.up() {
            connection.goodbye();
        }
        inner.link.close();
        let waiting = inner.waiting.take();
        drop(inner);
        if let Some(waiting) = waiting {
            waiting(Err(Error::Deleted(self.params.name.clone())));
        }
    }

    fn poll(self: &Rc<Self>) -> bool {
        let now = now_us();
        let after = self.inner.borrow_mut().turn(now, self.deleting.get());
        match after {
            After::Nothing => return false,
            After::Attach(welcome) => self.attach(&welcome),
            After::Answer => self.answer(),
            After::GiveUp(error) => self.give_up(error),
            After::Change(DeviceChange::Resized(device)) => self.resized(device),
            After::Change(DeviceChange::Removed) => self.removed(),
        }
        true
    }

    /// The target let us in.
    fn attach(self: &Rc<Self>, welcome: &Welcome) {
        let Some(before) = self.shared.device() else { return self.register(welcome) };
        let same = check_same_device(&before, &welcome.device)
            .and_then(|()| check_not_smaller(&before, &welcome.device));
        let mut inner = self.inner.borrow_mut();
        if let Err(error) = same
            && !mutation::is_on(Mutation::NoIdentity)
        {
            return self.shared.fail(&error.to_string());
        }
        let longest = self.shared.longest.load(Ordering::Relaxed);
        if let Err(error) = check_still_usable(&before, longest, welcome) {
            self.shared.attempt_failed(error.to_string(), now_us());
            if let Some((connection, _)) = inner.link.up() {
                // Or the target would keep the session for a client that does not come back to it.
                connection.goodbye();
            }
            return inner.link.unusable(now_us());
        }
        inner.joined(welcome);
        inner.welcome = Some(welcome.clone());
        if let Some(tail) = inner.log.pass(now_us()) {
            spdk::notice!("DST bdev {}: control connection is back{tail}", self.params.name);
        }
        drop(inner);
        let num_blocks = welcome.device.num_blocks;
        // A size that SPDK refused before is offered again: the bdev may not be open any more.
        if num_blocks != before.num_blocks || num_blocks != self.bdev_size.get().blocks() {
            self.resized(Device { num_blocks, ..before });
        }
    }

    fn register(self: &Rc<Self>, welcome: &Welcome) {
        let device = welcome.device;
        self.shared.set_device(device);
        let longest = longest(&device, welcome.max_transfer);
        self.shared.longest.store(longest, Ordering::Relaxed);
        {
            let mut inner = self.inner.borrow_mut();
            inner.joined(welcome);
            inner.welcome = Some(welcome.clone());
        }
        let control = Thread::current().expect("clients live on an SPDK thread");
        self.bdev_size.set(BdevSize::Current(device.num_blocks));
        let disk = Arc::new(DstDisk { shared: Arc::clone(&self.shared), device, control });
        match register(disk, disk_info(&self.params.name, &device, longest)) {
            Ok(disk) => {
                let peer = &self.params.peer;
                spdk::notice!(
                    "DST bdev {} attached: export {} of {} port {}, {} blocks of {} bytes{}",
                    self.params.name,
                    peer.export,
                    self.shared.address(),
                    peer.port,
                    device.num_blocks,
                    device.block_size,
                    if device.read_only { ", read only" } else { "" }
                );
                let mut inner = self.inner.borrow_mut();
                inner.disk = Some(disk);
                drop(inner);
                self.shared.forget_error();
                self.answer();
            }
            Err(errno) => {
                let name = self.params.name.clone();
                let is_new_name = spdk::bdev::info(&name).is_none();
                self.give_up(if errno == spdk::Errno::EEXIST && is_new_name {
                    Error::SameUuid(name)
                } else {
                    Error::Register { name, errno }
                });
            }
        }
    }

    /// Who waits is told that it is attached, or will be.
    fn answer(&self) {
        let waiting = self.inner.borrow_mut().waiting.take();
        if let Some(waiting) = waiting {
            waiting(Ok(self.params.name.clone()));
        }
    }

    /// It can't be attached: nothing is left behind.
    fn give_up(self: &Rc<Self>, error: Error) {
        spdk::error!("DST bdev {}: {error}", self.params.name);
        let waiting = self.inner.borrow_mut().waiting.take();
        registry::forget(&self.shared);
        if let Some(waiting) = waiting {
            waiting(Err(error));
        }
    }

    /// Notes the size that the target says its device has, and passes it up to SPDK.
    ///
    /// SPDK refuses to shrink a bdev that is open. The bdev then keeps its size, and the target answers
    /// I/O behind the device's end with an error.
    fn resized(&self, device: Device) {
        // Whatever SPDK says: this is what the next welcome is compared with.
        self.shared.set_device(device);
        let num_blocks = device.num_blocks;
        let taken = match &self.inner.borrow().disk {
            Some(disk) => disk.resize(num_blocks),
            None => return,
        };
        let (size, is_news) = match taken {
            Ok(()) => (BdevSize::Current(num_blocks), true),
            Err(_) => self.bdev_size.get().refuse(num_blocks),
        };
        self.bdev_size.set(size);
        if !is_news {
            return;
        }
        let Some(tail) = self.inner.borrow_mut().sizes.pass(now_us()) else { return };
        let name = &self.params.name;
        match size.note() {
            None => spdk::notice!("DST bdev {name} has {num_blocks} blocks now{tail}"),
            Some(note) => spdk::error!("DST bdev {name}: {note}{tail}"),
        }
    }

    /// The export is gone for good: so is the bdev.
    fn removed(self: &Rc<Self>) {
        if self.deleting.get() {
            return;
        }
        spdk::warn!("DST bdev {}: the target ended its export; the bdev is removed", self.params.name);
        self.shared.failed.store(true, Ordering::Relaxed);
        let name = self.params.name.clone();
        self.delete(Box::new(move |result| {
            if let Err(error) = result {
                spdk::error!("DST bdev {name}: {error}");
            }
        }));
    }
}
