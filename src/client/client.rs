//! A bdev's life on the control thread: attach, watch, detach.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dst_session::negotiate::check_same_device;
use dst_session::retry::Retry;
use dst_transport::Broken;
use dst_wire::{Device, Event, RefusalReason, SessionRef, Welcome};
use spdk::bdev_module::{Registered, register};
use spdk::clock::now_us;
use spdk::poller::Poller;
use spdk::thread::Thread;

use crate::disk::{DstDisk, disk_info};
use crate::error::Error;
use crate::info::Info;
use crate::link::{Link, Step};
use crate::message::{Message, Messages};
use crate::options::Params;
use crate::registry;
use crate::shared::{Counters, Shared};

/// How often the control connection is looked at: what it carries is rare, and may wait this long.
const PERIOD_US: u64 = 1000;

/// How often an attach that goes on failing is logged again.
const LOG_PERIOD_US: u64 = 10_000_000;

/// Bytes of the control connection's receive buffer.
const BUFFER: usize = 8 << 10;

/// Who waits for an attach.
pub type Attached = Box<dyn FnOnce(Result<String, Error>)>;

/// Who waits for a detach.
pub type Detached = Box<dyn FnOnce(Result<(), Error>)>;

/// One DST bdev, or the attempt to have one.
pub struct Client {
    params: Params,
    shared: Arc<Shared>,
    inner: RefCell<Inner>,
    deleting: Cell<bool>,
}

struct Inner {
    link: Link,
    messages: Messages,
    epoch: u32,
    disk: Option<Registered<DstDisk>>,
    /// What was negotiated at the last welcome.
    welcome: Option<Welcome>,
    waiting: Option<Attached>,
    attach_deadline_us: u64,
    last_error: Option<String>,
    next_log_us: u64,
    reconnects: u64,
    lost: u64,
    poller: Option<Poller>,
}

/// What to do after the link was looked at, with nothing borrowed.
enum After {
    Nothing,
    Attach(Box<Welcome>),
    GiveUp(Error),
    Event(Event),
}

impl Client {
    /// Begins to attach.
    ///
    /// # Errors
    /// Not enough memory; `waiting` is given back.
    pub(crate) fn start(params: Params, waiting: Attached) -> Result<Rc<Client>, (Error, Attached)> {
        let now = now_us();
        let shared = Arc::new(Shared::new(params.name.clone(), params.peer.clone(), params.options));
        let inner = Inner {
            link: Link::new(
                Arc::clone(&shared),
                Retry::new(params.options.reconnect_delay_ms, None, now),
                BUFFER,
            ),
            messages: Messages::default(),
            epoch: 0,
            disk: None,
            welcome: None,
            waiting: None,
            attach_deadline_us: now + u64::from(params.options.attach_timeout_ms) * 1000,
            last_error: None,
            next_log_us: 0,
            reconnects: 0,
            lost: 0,
            poller: None,
        };
        let client =
            Rc::new(Client { params, shared, inner: RefCell::new(inner), deleting: Cell::new(false) });
        let polled = Rc::downgrade(&client);
        match Poller::register(PERIOD_US, move || polled.upgrade().is_some_and(|client| client.poll())) {
            Ok(poller) => client.inner.borrow_mut().poller = Some(poller),
            Err(errno) => return Err((Error::Resources { what: "a poller", errno }, waiting)),
        }
        client.inner.borrow_mut().waiting = Some(waiting);
        Ok(client)
    }

    /// With `wait` false nobody waits for the attach.
    pub(crate) fn answer_if_not_waiting(&self) {
        if !self.params.wait {
            let waiting = self.inner.borrow_mut().waiting.take();
            if let Some(waiting) = waiting {
                waiting(Ok(self.params.name.clone()));
            }
        }
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
        let up = channels.iter().filter(|counters| counters.connected.load(Ordering::Relaxed)).count();
        let all_up = inner.link.is_up() && up == channels.len();
        let state = match (&inner.disk, self.shared.failed.load(Ordering::Relaxed)) {
            (_, true) => "failed",
            (None, _) => "attaching",
            (Some(_), _) if all_up => "connected",
            (Some(_), _) => "reconnecting",
        };
        Info {
            params: self.params.clone(),
            state,
            device: self.shared.device(),
            max_transfer: inner.welcome.as_ref().map_or(0, |welcome| welcome.max_transfer),
            credits: inner.welcome.as_ref().map_or(0, |welcome| welcome.credits),
            connections: up + usize::from(inner.link.is_up()),
            channels: channels.len(),
            transactions: sum.transactions.into_inner(),
            errors: sum.errors.into_inner(),
            lost: sum.lost.into_inner() + inner.lost,
            reconnects: sum.reconnects.into_inner() + inner.reconnects,
            resent: sum.resent.into_inner(),
            last_error: inner.last_error.clone(),
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
        let after = self.inner.borrow_mut().turn(&self.shared, now, self.deleting.get());
        match after {
            After::Nothing => return false,
            After::Attach(welcome) => self.attach(&welcome),
            After::GiveUp(error) => self.give_up(error),
            After::Event(Event::Resized(num_blocks)) => self.resized(num_blocks),
            After::Event(Event::Removed) => self.removed(),
        }
        true
    }

    /// The target let us in.
    fn attach(self: &Rc<Self>, welcome: &Welcome) {
        let before = self.shared.device();
        self.inner.borrow_mut().welcome = Some(welcome.clone());
        match before {
            None => self.register(welcome),
            Some(before) => match check_same_device(&before, &welcome.device) {
                Ok(()) => {
                    self.shared.set_session(Some(welcome.session.id));
                    spdk::notice!("DST bdev {}: control connection is back", self.params.name);
                    if welcome.device.num_blocks > before.num_blocks {
                        self.resized(welcome.device.num_blocks);
                    }
                }
                Err(error) => {
                    spdk::error!("DST bdev {}: {error}; its I/O fails", self.params.name);
                    self.shared.failed.store(true, Ordering::Relaxed);
                    self.inner.borrow_mut().last_error = Some(error.to_string());
                }
            },
        }
    }

    fn register(self: &Rc<Self>, welcome: &Welcome) {
        let device = welcome.device;
        self.shared.set_device(device);
        self.shared.set_session(Some(welcome.session.id));
        let control = Thread::current().expect("clients live on an SPDK thread");
        let disk = Arc::new(DstDisk { shared: Arc::clone(&self.shared), device, control });
        match register(disk, disk_info(&self.params.name, &device, welcome.max_transfer)) {
            Ok(disk) => {
                let peer = &self.params.peer;
                spdk::notice!(
                    "DST bdev {} attached: export {} of {}:{}, {} blocks of {} bytes{}",
                    self.params.name,
                    peer.export,
                    peer.addr,
                    peer.port,
                    device.num_blocks,
                    device.block_size,
                    if device.read_only { ", read only" } else { "" }
                );
                let mut inner = self.inner.borrow_mut();
                inner.disk = Some(disk);
                inner.last_error = None;
                let waiting = inner.waiting.take();
                drop(inner);
                if let Some(waiting) = waiting {
                    waiting(Ok(self.params.name.clone()));
                }
            }
            Err(errno) => self.give_up(Error::Register { name: self.params.name.clone(), errno }),
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

    fn resized(&self, num_blocks: u64) {
        let Some(before) = self.shared.device() else { return };
        self.shared.set_device(Device { num_blocks, ..before });
        let inner = self.inner.borrow();
        let Some(disk) = &inner.disk else { return };
        match disk.resize(num_blocks) {
            Ok(()) => spdk::notice!("DST bdev {} has {num_blocks} blocks now", self.params.name),
            Err(errno) => spdk::error!(
                "DST bdev {}: the target's size is {num_blocks} blocks now, SPDK does not take it: {errno}",
                self.params.name
            ),
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

impl Inner {
    fn turn(&mut self, shared: &Arc<Shared>, now: u64, deleting: bool) -> After {
        if self.link.is_up() {
            return match self.listen(now) {
                Ok(None) => self.check_session(shared, now),
                Ok(Some(event)) => After::Event(event),
                Err(broken) => {
                    spdk::warn!("DST bdev {}: control connection lost: {broken}", shared.name);
                    self.lost(shared, now);
                    After::Nothing
                }
            };
        }
        if deleting || shared.failed.load(Ordering::Relaxed) {
            return After::Nothing;
        }
        let reference = shared.session().map(|id| SessionRef { id, queue: 0, epoch: self.epoch });
        match self.link.advance(now, Some(reference)) {
            Step::Up(welcome, messages) => {
                self.messages = messages;
                if self.disk.is_some() {
                    self.reconnects += 1;
                }
                After::Attach(welcome)
            }
            Step::Failed { why, refused } => self.attempt_failed(shared, now, why, refused),
            Step::Nothing if self.waiting.is_some() && now >= self.attach_deadline_us => {
                let last = self.last_error.clone().unwrap_or_else(|| "no answer yet".to_owned());
                After::GiveUp(Error::Timeout { ms: shared.options.attach_timeout_ms, last })
            }
            Step::Nothing => After::Nothing,
        }
    }

    /// Takes what came, shows a sign of life.
    fn listen(&mut self, now: u64) -> Result<Option<Event>, Broken> {
        let (connection, buffer) = self.link.up().expect("the caller has looked");
        let pumped = connection.receiver.pump(&connection.sock, buffer, &mut self.messages)?;
        if pumped.received > 0 {
            connection.keep_alive.heard(now);
        }
        connection.keep_alive(now)?;
        connection.send_control()?;
        // Of several the last one counts: the newest size, or that there is none any more.
        let mut events = self.messages.inbox.drain(..).filter_map(|message| match message {
            Message::Event(event) => Some(event),
            _ => None,
        });
        Ok(events.next_back())
    }

    /// A channel found that the target does not know the session any more.
    fn check_session(&mut self, shared: &Arc<Shared>, now: u64) -> After {
        if shared.session().is_none() {
            self.lost(shared, now);
        }
        After::Nothing
    }

    fn lost(&mut self, shared: &Arc<Shared>, now: u64) {
        self.messages = Messages::default();
        self.epoch += 1;
        self.lost += 1;
        self.link.lost(Retry::new(shared.options.reconnect_delay_ms, None, now), now);
    }

    fn attempt_failed(
        &mut self,
        shared: &Arc<Shared>,
        now: u64,
        why: String,
        refused: Option<RefusalReason>,
    ) -> After {
        self.last_error = Some(why.clone());
        // The target may have had its hello all the same: the next one must be a newer one.
        self.epoch += 1;
        if refused == Some(RefusalReason::NoSession) {
            shared.set_session(None);
            self.link.retry = Retry::new(shared.options.reconnect_delay_ms, None, now);
        }
        if now >= self.next_log_us {
            self.next_log_us = now + LOG_PERIOD_US;
            let peer = &shared.peer;
            spdk::warn!(
                "DST bdev {}: target {}:{} not reached ({why}), trying again",
                shared.name,
                peer.addr,
                peer.port
            );
        }
        let final_no = matches!(
            refused,
            Some(RefusalReason::NotAllowed | RefusalReason::Version | RefusalReason::Protection)
        );
        if self.waiting.is_some() && final_no {
            let (export, host) = (shared.peer.export.clone(), shared.peer.host.clone());
            return After::GiveUp(Error::Refused { export, host, why });
        }
        // Later on even a "not allowed" is tried again: a target that was just started may not have its
        // exports yet.
        After::Nothing
    }
}
