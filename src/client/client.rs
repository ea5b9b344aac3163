//! A bdev's life on the control thread: attach, watch, detach.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use dst_session::paths::Path;
use dst_session::stop::Stop;
use dst_session::tenure::Tenure;
use dst_wire::{Cipher, Digest, Welcome, uuid_text};
use spdk::bdev_module::register;
use spdk::clock::now_us;
use spdk::poller::{Poller, Turn};
use spdk::thread::Thread;

use crate::address::Address;
use crate::attach::{Attached, FirstAttempts};
use crate::control::{ControlConnection, ControlInfo, TurnOutcome};
use crate::disk::{DstDisk, Forget, disk_info, max_request_len};
use crate::error::Error;
use crate::holding::Holding;
use crate::info::{BdevActivity, Info, PathInfo};
use crate::link::REST_US;
use crate::options::{BdevParams, BdevUuid};
use crate::places::{PathState, TargetPlaces};
use crate::shared::Shared;

/// The period of the control connection's poller, µs. Frames on this connection are rare and may
/// wait this long.
const PERIOD_US: u64 = 1000;

/// Called when a detach has ended.
pub type Detached = Box<dyn FnOnce(Result<(), Error>)>;

/// One DST bdev, or the attempt to attach one.
pub struct Client {
    params: BdevParams,
    shared: Arc<Shared>,
    forget: Forget,
    control: RefCell<ControlConnection>,
    deleting: Cell<bool>,
}

impl Client {
    /// Begins to attach a bdev. `forget` removes the client from the registry.
    ///
    /// # Errors
    /// Fails if memory is short. `waiting` is then returned.
    pub(crate) fn start(
        params: BdevParams,
        stop: &Arc<Stop>,
        forget: Forget,
        waiting: Attached,
    ) -> Result<Rc<Client>, (Error, Attached)> {
        let now = now_us();
        let shared = {
            let (name, target) = (params.name.clone(), params.target.clone());
            Arc::new(Shared::new(name, target, params.options, Arc::clone(stop)))
        };
        let tenure = Tenure::new(params.target.exclusive, params.takeover);
        let control = ControlConnection::new(&shared, tenure, now);
        let client = Rc::new(Client {
            params,
            shared,
            forget,
            control: RefCell::new(control),
            deleting: Cell::new(false),
        });
        let polled = Rc::downgrade(&client);
        let turn = move || Turn::from(polled.upgrade().is_some_and(|client| client.poll()));
        match Poller::resting(PERIOD_US, REST_US, turn) {
            Ok(poller) => client.control.borrow_mut().set_poller(poller),
            Err(errno) => return Err((Error::Resources { what: "a poller", errno }, waiting)),
        }
        client.control.borrow_mut().set_waiting(waiting, client.params.wait, now);
        Ok(client)
    }

    /// Returns how the client stands to the ownership of its export.
    pub fn holding(&self) -> Holding {
        self.control.borrow_mut().holding()
    }

    /// Has a client that has no bdev yet take its export over from the owner whose ownership has the
    /// number `after`. If another host has come meanwhile, nothing is taken, and [`Client::holding`]
    /// tells the number of the newest ownership.
    pub fn take_over(&self, after: u64) {
        if !self.deleting.get() {
            self.control.borrow_mut().take_over(after, now_us());
        }
    }

    /// Answers the attach while its first attempt goes on.
    pub(crate) fn go_on_alone(&self) {
        let waiting = self.control.borrow_mut().attach().go_on_alone();
        self.answer_caller(waiting);
    }

    /// Keeps `all` alive until the first attempt has ended.
    pub(crate) fn join(&self, all: &Rc<FirstAttempts>) {
        self.control.borrow_mut().attach().join(all);
    }

    /// Returns the bdev's name.
    pub fn name(&self) -> &str {
        &self.params.name
    }

    /// Returns the user's parameters, with the addresses as the user last changed them.
    pub fn params(&self) -> BdevParams {
        let mut params = self.params.clone();
        params.target.at = self.shared.places().given();
        params
    }

    /// Changes the places where the bdev looks for its target. All its connections are closed and
    /// made again at the new places. I/O waits meanwhile.
    pub fn repoint(&self, target: TargetPlaces) {
        self.shared.places().repoint(target);
        let at = self.shared.places().all_shown();
        spdk::notice!("DST bdev {}: looks for its target at {at} from now on", self.params.name);
        self.control.borrow_mut().repointed(now_us());
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// Returns true if the client has no bdev yet.
    pub(crate) fn is_attaching(&self) -> bool {
        self.shared.device().is_none()
    }

    /// Returns how long the deletion of the bdev may take, µs, or `None` if it has not begun. With
    /// a target that answers and a backend that hangs, it takes twice the keep-alive time and 5 %.
    /// The rest is left to the bdev's users, who have to close it.
    pub(crate) fn deletion_us(&self) -> Option<u64> {
        let keep_alive_us = u64::from(self.shared.options().keep_alive_timeout_ms) * 1000;
        self.deleting.get().then_some(3 * keep_alive_us)
    }

    /// Returns what `bdev_dst_get_info` shows now.
    pub fn info(&self) -> Info {
        let BdevActivity { state, state_age_ms, device, connections, channels, lost_caches, counts } =
            self.activity();
        let control = self.control.borrow();
        let ControlInfo { welcome, at, size_note, .. } = control.show();
        Info {
            params: self.params(),
            paths: self.paths(at),
            address: self.shared.places().current().address.map(|address| address.to_string()),
            state,
            state_age_ms,
            device,
            max_transfer: welcome.map_or(0, |welcome| welcome.max_transfer),
            credits: welcome.map_or(0, |welcome| welcome.credits),
            keep_alive_ms: welcome.map_or(0, |welcome| welcome.keep_alive_ms),
            connections,
            channels,
            transactions: counts.transactions,
            errors: counts.errors,
            expired: counts.expired,
            lost: counts.lost,
            reconnects: counts.reconnects,
            resent: counts.resent,
            corrupt: counts.corrupt,
            digest: welcome.map_or(Digest::None, |welcome| welcome.digest),
            cipher: welcome.map_or(Cipher::None, |welcome| welcome.cipher),
            ownership: welcome.and_then(|welcome| welcome.ownership),
            lost_caches,
            outstanding: counts.outstanding,
            waiting: counts.waiting,
            read_latency: counts.read_latency,
            write_latency: counts.write_latency,
            other_latency: counts.other_latency,
            last_error: self.shared.last_error().or(size_note),
        }
    }

    /// Returns the state of each address. `control` is the address of the control connection.
    fn paths(&self, control: Option<&Address>) -> Vec<PathInfo> {
        let standings = self.shared.channels().standings();
        let show = |path: Path<Address>| PathInfo {
            state: PathState::from(&path),
            connections: standings.iter().filter(|standing| standing.is_at(&path.address)).count()
                + usize::from(control == Some(&path.address)),
            losses: path.losses,
            address: path.address.to_string(),
            last_error: path.note.or(path.last_error),
        };
        self.shared.places().paths().into_iter().map(show).collect()
    }

    /// Returns what `dst_get_metrics` shows now.
    pub fn activity(&self) -> BdevActivity {
        let control = self.control.borrow();
        let ControlInfo { state, state_age_ms, at, lost, reconnects, .. } = control.show();
        let channels = self.shared.channels();
        let mut counts = channels.sum();
        counts.lost += lost;
        counts.reconnects += reconnects;
        BdevActivity {
            state,
            state_age_ms,
            device: self.shared.device(),
            connections: channels.connections() + usize::from(at.is_some()),
            channels: channels.count(),
            lost_caches: self.shared.durability().losses(),
            counts,
        }
    }

    /// Returns the name of the export.
    pub fn export(&self) -> &str {
        &self.params.target.export
    }

    /// Deletes the bdev or ends the attempts to attach it.
    pub(crate) fn delete(self: &Rc<Self>, done: Detached) {
        if self.deleting.replace(true) {
            return done(Err(Error::Deleting(self.params.name.clone())));
        }
        self.shared.close();
        let disk = self.control.borrow_mut().take_disk();
        match disk {
            None => {
                (self.forget)(&self.shared);
                done(Ok(()));
            }
            Some(disk) => {
                let client = Rc::clone(self);
                disk.unregister(move |result| {
                    (client.forget)(&client.shared);
                    let name = client.params.name.clone();
                    done(result.map_err(|errno| Error::Unregister { name, errno }));
                });
            }
        }
    }

    /// Ends the control connection, after the registry has forgotten the client.
    pub(crate) fn stop(&self) {
        let mut control = self.control.borrow_mut();
        control.stop();
        let waiting = control.attach().take();
        drop(control);
        if let Some(waiting) = waiting {
            let name = self.params.name.clone();
            let is_stopping = self.shared.stop().has_begun();
            waiting(Err(if is_stopping { Error::Stopping(name) } else { Error::Deleted(name) }));
        }
    }

    fn poll(self: &Rc<Self>) -> bool {
        let now = now_us();
        let after = self.control.borrow_mut().turn(now, self.deleting.get());
        match after {
            TurnOutcome::Nothing => return false,
            TurnOutcome::Worked => {}
            TurnOutcome::Register(welcome) => self.register(&welcome),
            TurnOutcome::Answer => self.answer(),
            TurnOutcome::GiveUp(error) => self.give_up(error),
            TurnOutcome::Removed => self.removed("the target ended its export"),
            TurnOutcome::Lost => {
                let ms = self.shared.options().loss_timeout_ms;
                self.removed(&format!("no connection for loss_timeout_ms ({ms} ms)"));
            }
        }
        true
    }

    /// Registers the bdev after the first Welcome.
    fn register(self: &Rc<Self>, welcome: &Welcome) {
        let device = welcome.device;
        // SPDK before 22.05 would register the second bdev with this UUID, which would then be
        // ambiguous.
        if self.params.uuid == BdevUuid::Inherited && spdk::bdev::has_uuid(device.uuid) {
            let (name, uuid) = (self.params.name.clone(), uuid_text(&device.uuid));
            return self.give_up(Error::UuidTaken { name, uuid });
        }
        self.shared.set_device(device);
        let max_request_len = max_request_len(&device, welcome.max_transfer);
        let info = disk_info(&self.params.name, &device, max_request_len, self.params.uuid);
        self.shared.set_max_request_len(max_request_len);
        self.control.borrow_mut().joined(welcome);
        let control = Thread::current().expect("clients live on an SPDK thread");
        let disk =
            Arc::new(DstDisk { shared: Arc::clone(&self.shared), device, control, forget: self.forget });
        match register(disk, info) {
            Ok(disk) => {
                let target = &self.params.target;
                spdk::notice!(
                    "DST bdev {} attached: export {} of {}, {} blocks of {} bytes{}",
                    self.params.name,
                    target.export,
                    self.shared.places().shown(),
                    device.num_blocks,
                    device.block_size,
                    if device.read_only { ", read only" } else { "" }
                );
                self.control.borrow_mut().set_disk(disk, device.num_blocks);
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

    /// Answers the attach with success: the bdev is attached, or the client keeps trying.
    fn answer(&self) {
        let waiting = self.control.borrow_mut().attach().take();
        self.answer_caller(waiting);
    }

    fn answer_caller(&self, waiting: Option<Attached>) {
        if let Some(waiting) = waiting {
            waiting(Ok(self.params.name.clone()));
        }
    }

    /// Fails the attach and leaves nothing behind.
    fn give_up(self: &Rc<Self>, error: Error) {
        spdk::error!("DST bdev {}: {error}", self.params.name);
        let waiting = self.control.borrow_mut().attach().take();
        (self.forget)(&self.shared);
        if let Some(waiting) = waiting {
            waiting(Err(error));
        }
    }

    /// Deletes the bdev, because its export is gone for good or its target was out of reach for too
    /// long.
    fn removed(self: &Rc<Self>, why: &str) {
        if self.deleting.get() {
            return;
        }
        spdk::warn!("DST bdev {}: {why}; the bdev is removed", self.params.name);
        self.shared.removed();
        let name = self.params.name.clone();
        self.delete(Box::new(move |result| {
            if let Err(error) = result {
                spdk::error!("DST bdev {name}: {error}");
            }
        }));
    }
}
