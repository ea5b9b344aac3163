//! One core's group, and its conversation with the control thread.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use dst_security::Secured;
use dst_session::slots::Slots;
use dst_wire::{Device, Event, Hello, Refusal, Welcome};
use spdk::Errno;
use spdk::bdev::DescRef;
use spdk::interrupt::Watch;
use spdk::poller::{Poller, Turn};
use spdk::sock::Sock;
use spdk::thread::Thread;

use crate::connection::Remains;
use crate::control::Target;
use crate::members::{Member, Members, Notice, TICK_US};
use crate::options::Options;
use crate::queue::{Queue, Setup};
use crate::report::Activity;
use crate::sessions::{Owner, SessionId};
use crate::share::Owners;
use crate::stage::Requests;
use crate::stats::Stats;

spdk::thread_local! {
    /// The group of this thread. Groups have a core, and so an OS thread, of their own.
    static GROUP: RefCell<Option<Rc<Group>>> = const { RefCell::new(None) };
}

/// What a connection that joins a queue needs, on its way between threads.
pub struct Join {
    /// The export's bdev.
    pub bdev: DescRef,
    /// What was negotiated.
    pub device: Device,
    /// Most bytes of one request.
    pub max_transfer: u32,
    /// Whether data has digests.
    pub has_digests: bool,
    /// The record of the queue.
    pub slots: Slots,
    /// Whose the session is.
    pub owner: Owner,
}

/// The group of one core.
pub struct Group {
    members: Rc<Members>,
    owners: Owners<Owner>,
    /// None while there are no connections.
    poller: RefCell<Option<(Poller, Watch)>>,
    control: Thread,
    index: usize,
}

/// Runs `f` with this thread's group; not at all when it was stopped.
pub fn with(f: impl FnOnce(&Rc<Group>)) {
    let group = GROUP.with(|slot| slot.borrow().clone());
    if let Some(group) = group {
        f(&group);
    }
}

impl Group {
    /// Makes this thread's group.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn start(options: Options, control: Thread, index: usize) -> spdk::Result<()> {
        let members = Rc::new(Members::new(options)?);
        let (owners, poller) = (Owners::default(), RefCell::default());
        let group = Group { members, owners, poller, control, index };
        GROUP.with(|slot| *slot.borrow_mut() = Some(Rc::new(group)));
        Ok(())
    }

    /// Takes this thread's group away. It must have no connections any more.
    pub fn stop() {
        GROUP.with(|slot| {
            if let Some(group) = slot.borrow_mut().take() {
                assert!(group.members.is_empty(), "a group is stopped after its connections");
                group.poller.borrow_mut().take();
            }
        });
    }

    fn start_poller(self: &Rc<Self>) {
        let group = Rc::clone(self);
        // A poller is a small allocation; without one nothing here can go on.
        let poller = Poller::resting(0, TICK_US, move || group.turn()).expect("a poller can be registered");
        let watch = self.members.set_waker(&poller.waker()).expect("sockets can be watched");
        *self.poller.borrow_mut() = Some((poller, watch));
    }

    fn turn(&self) -> Turn {
        let turn = self.members.turn();
        // Most turns have none.
        if self.members.has_notices() {
            self.tell_notices();
        }
        turn
    }

    /// Returns a connection that the control thread has something for.
    fn member(&self, id: u64) -> Option<Rc<Member>> {
        if let Some((poller, _)) = &*self.poller.borrow() {
            // No socket tells of it.
            poller.wake();
        }
        self.members.get(id)
    }

    /// Runs `f` with a connection, unless nothing is left of it.
    fn with_member(&self, id: u64, f: impl FnOnce(&Rc<Member>)) {
        if let Some(member) = self.member(id) {
            f(&member);
            self.tell_notices();
        }
    }

    /// Tells the control thread what has happened to connections.
    fn tell_notices(&self) {
        while let Some(notice) = self.members.next_notice() {
            match notice {
                Notice::Hello { id, hello, peer } => self.ask_control(id, *hello, peer),
                Notice::Secure { id, message, peer } => self.ask_to_secure(id, message, peer),
                Notice::Draining { id } => self.draining(id),
                Notice::Finished { id, remains } => self.finished(id, *remains),
            }
        }
    }

    /// Returns a queue with the way to its bdev, for a connection of this thread. Without the way it
    /// returns the record, and why.
    fn requests(&self, join: Join) -> Result<Box<Requests>, (Slots, Errno)> {
        let channel = match join.bdev.channel() {
            Ok(channel) => channel,
            Err(errno) => return Err((join.slots, errno)),
        };
        let queue = Queue::new(Setup {
            device: join.device,
            max_transfer: join.max_transfer,
            has_digests: join.has_digests,
            slots: join.slots,
            owner: self.owners.share_of(join.owner),
        });
        Ok(Box::new(Requests { queue, channel }))
    }
}

/// This thread has no group, which could not be started: a connection that was given to it is closed.
pub fn absent(control: Thread, id: u64) {
    let remains = Remains { slots: None, goodbye: false, stats: Stats::default() };
    let told = control.send(move || Target::with(|target| target.finished(id, remains)));
    assert!(told.is_ok(), "a target thread can't send to the control thread");
}

/// What the group tells the control thread.
impl Group {
    /// Asks what to do with a connection.
    pub fn ask_control(&self, id: u64, hello: Hello, peer: SocketAddr) {
        self.tell_control(move |target| target.hello(id, hello, peer));
    }

    /// Asks whether a connection's client has the key that it claims to have.
    pub fn ask_to_secure(&self, id: u64, message: Vec<u8>, peer: SocketAddr) {
        self.tell_control(move |target| target.secure(id, &message, peer));
    }

    /// A connection's socket is shut; the backend still has something of it.
    pub fn draining(&self, id: u64) {
        self.tell_control(move |target| target.draining(id));
    }

    /// A connection is gone and nothing of it is left.
    pub fn finished(&self, id: u64, remains: Remains) {
        if self.members.is_empty() {
            // Dropped inside its own call or not: an idle core is not polled.
            self.poller.borrow_mut().take();
        }
        self.tell_control(move |target| target.finished(id, remains));
    }

    /// The connection that a record was meant for is gone already.
    fn return_slots(&self, id: u64, place: (SessionId, u16), slots: Slots) {
        self.tell_control(move |target| target.returned(id, place, slots));
    }

    fn tell_control(&self, f: impl FnOnce(&Rc<Target>) + Send + 'static) {
        if let Err(errno) = self.control.send(move || Target::with(f)) {
            // Control would wait for ever for what it was not told.
            panic!("group {} can't send to the control thread: {errno}", self.index);
        }
    }
}

/// What the control thread tells the group.
impl Group {
    /// Takes a new connection.
    pub fn add(self: &Rc<Self>, id: u64, sock: Sock, peer: SocketAddr) {
        self.members.add(id, sock, peer);
        self.tell_notices();
        let must_start = !self.members.is_empty() && self.poller.borrow().is_none();
        if must_start {
            self.start_poller();
        }
    }

    /// Admits a connection, with a queue unless it is a session's first one.
    pub fn welcome(&self, id: u64, welcome: &Welcome, join: Option<Join>) {
        let place = (welcome.session.id, welcome.session.queue);
        let Some(member) = self.member(id) else {
            if let Some(join) = join {
                self.return_slots(id, place, join.slots);
            }
            return;
        };
        let unused = match join.map(|join| self.requests(join)).transpose() {
            Ok(requests) => {
                member.welcome(welcome, requests);
                None
            }
            Err((slots, errno)) => {
                let peer = member.peer();
                self.members.log.warn(format_args!("DST connection from {peer}: no I/O channel: {errno}"));
                member.shut();
                Some(slots)
            }
        };
        self.tell_notices();
        if let Some(slots) = unused {
            self.return_slots(id, place, slots);
        }
    }

    /// A connection's client has the key.
    pub fn secure(&self, id: u64, answer: &[u8], secured: Secured) {
        self.with_member(id, |member| member.secure(answer, secured));
    }

    /// Does not admit a connection.
    pub fn refuse(&self, id: u64, refusal: &Refusal) {
        self.with_member(id, |member| member.refuse(refusal));
    }

    /// Tells a connection's client that something changed.
    pub fn event(&self, id: u64, event: Event) {
        self.with_member(id, |member| member.event(event));
    }

    /// Ends a connection, after sending what it can send at once.
    pub fn close(&self, id: u64) {
        self.with_member(id, |member| member.close());
    }

    /// Returns what each connection did so far, and does.
    pub fn activities(&self) -> Vec<(u64, Activity)> {
        let mut activities = Vec::new();
        self.members.for_each(|id, stats, in_flight| activities.push((id, Activity { stats, in_flight })));
        activities
    }
}
