//! The connections of one core.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use dst_security::Secured;
use dst_session::slots::Slots;
use dst_wire::{Device, Event, Hello, Refusal, Welcome};
use spdk::bdev::DescRef;
use spdk::clock::now_us;
use spdk::interrupt::Watch;
use spdk::poller::{Poller, Turn};
use spdk::sock::{Groups, Sock, Traffic};
use spdk::thread::Thread;

use crate::completion::Completions;
use crate::connection::{Connection, Remains};
use crate::control::Target;
use crate::options::Options;
use crate::pools::{OBJECTS, Pools};
use crate::queue::{Queue, Setup};
use crate::rate::RateLimit;
use crate::report::Activity;
use crate::sessions::{Owner, SessionId};
use crate::share::OwnerShare;
use crate::stats::Stats;

/// Sockets looked at in one poll; more wait for the next one.
const SOCKETS_A_POLL: usize = 32;

/// How long the sockets may go unlooked at while the backend works for the group: what comes meanwhile is
/// received with one system call.
const LOOK_US: u64 = 10;

/// Most stalled connections that are tried again in a turn: with thousands of them each turn would only find out
/// that there is still no memory for most.
const RESUMED_A_TURN: usize = 32;

/// How often silent connections are looked for.
const TICK_US: u64 = 50_000;

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

/// One core's connections and the pools they are served from.
pub struct Group {
    pub options: Options,
    pub pools: Pools,
    completions: Rc<Completions>,
    pub log: RateLimit,
    /// Connections with something to send.
    pub dirty: RefCell<VecDeque<Rc<Connection>>>,
    /// Connections with a frame that could not be taken.
    pub stalled: RefCell<VecDeque<Rc<Connection>>>,
    /// Connections of which workers have some of what came.
    pub away: RefCell<VecDeque<Rc<Connection>>>,
    /// Connections that are over.
    pub doomed: RefCell<Vec<Rc<Connection>>>,
    /// Where its connections are looked at.
    pub sockets: Groups,
    connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
    /// What each owner has of the pools, as long as one of its connections is here.
    owners: RefCell<BTreeMap<Owner, Weak<OwnerShare>>>,
    poller: RefCell<Option<(Poller, Watch)>>,
    now_us: Cell<u64>,
    next_tick_us: Cell<u64>,
    next_sockets_us: Cell<u64>,
    /// Stalled connections to be tried again: of those that there were when memory was given back.
    to_resume: Cell<usize>,
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

/// This thread has no group (it could not be started): a connection that was given to it is closed.
pub fn absent(control: Thread, id: u64) {
    let remains = Remains { slots: None, goodbye: false, stats: Stats::default() };
    let told = control.send(move || Target::with(|target| target.finished(id, remains)));
    assert!(told.is_ok(), "a target thread can't send to the control thread");
}

impl Group {
    /// Makes this thread's group.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn start(options: Options, control: Thread, index: usize) -> spdk::Result<()> {
        let room = options.max_connections as usize;
        let completions = Rc::new(Completions::new(OBJECTS));
        let group = Rc::new(Group {
            options,
            pools: Pools::new(&options, &completions)?,
            completions,
            log: RateLimit::default(),
            dirty: RefCell::new(VecDeque::with_capacity(room)),
            stalled: RefCell::new(VecDeque::with_capacity(room)),
            away: RefCell::new(VecDeque::with_capacity(room)),
            doomed: RefCell::new(Vec::with_capacity(room)),
            sockets: Groups::create()?,
            connections: RefCell::new(BTreeMap::new()),
            owners: RefCell::default(),
            poller: RefCell::new(None),
            now_us: Cell::new(now_us()),
            next_tick_us: Cell::new(0),
            next_sockets_us: Cell::new(0),
            to_resume: Cell::new(0),
            control,
            index,
        });
        GROUP.with(|slot| *slot.borrow_mut() = Some(group));
        Ok(())
    }

    /// Takes this thread's group away. It must have no connections any more.
    pub fn stop() {
        GROUP.with(|slot| {
            if let Some(group) = slot.borrow_mut().take() {
                assert!(group.connections.borrow().is_empty(), "a group is stopped after its connections");
                group.poller.borrow_mut().take();
            }
        });
    }

    /// The time of this poll.
    pub fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    /// Takes a new connection.
    pub fn add(self: &Rc<Self>, id: u64, sock: Sock, peer: SocketAddr) {
        self.now_us.set(now_us());
        let connection = Rc::new(Connection::new(id, peer, Rc::clone(self), self.now_us()));
        self.connections.borrow_mut().insert(id, Rc::clone(&connection));
        match self.sockets.add(&sock, Rc::clone(&connection), Traffic::Little) {
            Ok(member) => connection.set_link(member, sock),
            Err(errno) => {
                self.log.warn(format_args!("DST connection from {peer} can't be polled: {errno}"));
                connection.shut();
                return;
            }
        }
        if self.poller.borrow().is_none() {
            let group = Rc::clone(self);
            // A poller is a small allocation; without one nothing here can go on.
            let poller =
                Poller::resting(0, TICK_US, move || group.poll()).expect("a poller can be registered");
            self.completions.set_waker(poller.waker());
            let watch = self.sockets.watch(&poller.waker()).expect("sockets can be watched");
            *self.poller.borrow_mut() = Some((poller, watch));
        }
    }

    /// There is something to do of which no socket tells. HOT.
    pub fn wake(&self) {
        if let Some((poller, _)) = &*self.poller.borrow() {
            poller.wake();
        }
    }

    fn poll(self: &Rc<Self>) -> Turn {
        let now = now_us();
        self.now_us.set(now);
        let mut events = 0;
        if !self.completions.are_expected() || now >= self.next_sockets_us.get() {
            self.next_sockets_us.set(now + LOOK_US);
            events = self.sockets.poll(SOCKETS_A_POLL).unwrap_or_else(|errno| {
                self.log.warn(format_args!("DST sockets can't be polled: {errno}"));
                0
            });
        }
        events += self.look_after_away();
        let completed = self.completions.collect();
        let sent = self.flush_dirty(events > 0 || completed > 0);
        let mut gave_back = completed > 0 || sent;
        if now >= self.next_tick_us.get() {
            self.next_tick_us.set(now + TICK_US);
            for connection in self.connections.borrow().values() {
                connection.tick(now);
            }
            // Connections that ended give memory back, too.
            gave_back = true;
        }
        if gave_back {
            self.to_resume.set(self.stalled.borrow().len());
        }
        self.resume_stalled();
        self.shut_doomed();
        if events > 0 || completed > 0 || sent {
            Turn::Worked
        } else if !self.dirty.borrow().is_empty()
            || !self.away.borrow().is_empty()
            || self.to_resume.get() > 0
        {
            Turn::Waiting
        } else {
            Turn::Nothing
        }
    }

    /// Workers may be done with what came on some connections.
    fn look_after_away(self: &Rc<Self>) -> usize {
        let count = self.away.borrow().len();
        for _ in 0..count {
            let Some(connection) = self.away.borrow_mut().pop_front() else { break };
            connection.back();
        }
        count
    }

    /// First come, first served: a connection that stalls again goes to the back.
    fn resume_stalled(self: &Rc<Self>) {
        let count = self.to_resume.get().min(RESUMED_A_TURN);
        self.to_resume.set(self.to_resume.get() - count);
        for _ in 0..count {
            let Some(connection) = self.stalled.borrow_mut().pop_front() else { return };
            connection.resume();
        }
    }

    /// Sends what waits, but for answers that others are to go with: as long as each turn brings some.
    fn flush_dirty(self: &Rc<Self>, more_to_come: bool) -> bool {
        let count = self.dirty.borrow().len();
        let mut sent = false;
        for _ in 0..count {
            let Some(connection) = self.dirty.borrow_mut().pop_front() else { break };
            if more_to_come && connection.gathers(self.now_us()) {
                self.dirty.borrow_mut().push_back(connection);
            } else {
                connection.flush();
                sent = true;
            }
        }
        sent
    }

    fn shut_doomed(self: &Rc<Self>) {
        loop {
            let connection = self.doomed.borrow_mut().pop();
            match connection {
                Some(connection) => connection.shut(),
                None => return,
            }
        }
    }

    /// Asks control what to do with a connection.
    pub fn ask_control(&self, id: u64, hello: Hello, peer: SocketAddr) {
        self.tell_control(move |target| target.hello(id, hello, peer));
    }

    /// Asks control whether a connection's client has the key that it says to have.
    pub fn ask_to_secure(&self, id: u64, message: Vec<u8>, peer: SocketAddr) {
        self.tell_control(move |target| target.secure(id, &message, peer));
    }

    /// A connection's socket is shut; the backend still has something of it.
    pub fn draining(&self, id: u64) {
        self.tell_control(move |target| target.draining(id));
    }

    /// A connection is gone and nothing of it is left.
    pub fn finished(&self, id: u64, remains: Remains) {
        self.connections.borrow_mut().remove(&id);
        if self.connections.borrow().is_empty() {
            // Dropped inside its own call or not: an idle core is not polled.
            self.poller.borrow_mut().take();
        }
        self.tell_control(move |target| target.finished(id, remains));
    }

    fn tell_control(&self, f: impl FnOnce(&Rc<Target>) + Send + 'static) {
        if let Err(errno) = self.control.send(move || Target::with(f)) {
            // Control would wait for ever for what it was not told.
            panic!("group {} can't send to the control thread: {errno}", self.index);
        }
    }

    /// A connection that control has something for.
    fn connection(&self, id: u64) -> Option<Rc<Connection>> {
        self.wake();
        self.connections.borrow().get(&id).cloned()
    }

    /// Control lets a connection in.
    pub fn welcome(&self, id: u64, welcome: &Welcome, join: Option<Join>) {
        self.now_us.set(now_us());
        let place = (welcome.session.id, welcome.session.queue);
        let connection = self.connection(id);
        let queue = match (join, &connection) {
            (None, _) => None,
            (Some(join), None) => return self.return_slots(id, place, join.slots),
            (Some(join), Some(connection)) => match join.bdev.channel() {
                Ok(channel) => {
                    let queue = Queue::new(Setup {
                        device: join.device,
                        max_transfer: join.max_transfer,
                        has_digests: join.has_digests,
                        slots: join.slots,
                        owner: self.share_of(join.owner),
                    });
                    Some((queue, channel))
                }
                Err(errno) => {
                    let peer = connection.peer;
                    self.log.warn(format_args!("DST connection from {peer}: no I/O channel: {errno}"));
                    connection.shut();
                    return self.return_slots(id, place, join.slots);
                }
            },
        };
        if let Some(connection) = connection {
            connection.welcome(welcome, queue);
        }
    }

    /// What this owner has of the pools.
    fn share_of(&self, owner: Owner) -> Rc<OwnerShare> {
        let mut owners = self.owners.borrow_mut();
        if let Some(share) = owners.get(&owner).and_then(Weak::upgrade) {
            return share;
        }
        // Here, and not when its last connection goes: that may be on the I/O path.
        owners.retain(|_, share| share.strong_count() > 0);
        let share = Rc::default();
        owners.insert(owner, Rc::downgrade(&share));
        share
    }

    /// The connection that a record was meant for is gone already.
    fn return_slots(&self, id: u64, place: (SessionId, u16), slots: Slots) {
        self.tell_control(move |target| target.returned(id, place, slots));
    }

    /// A connection's client has the key.
    pub fn secure(&self, id: u64, answer: &[u8], secured: Secured) {
        if let Some(connection) = self.connection(id) {
            connection.secure(answer, secured);
        }
    }

    /// Control does not let a connection in.
    pub fn refuse(&self, id: u64, refusal: &Refusal) {
        if let Some(connection) = self.connection(id) {
            connection.refuse(refusal);
        }
    }

    /// Tells a connection's client that something changed.
    pub fn event(&self, id: u64, event: Event) {
        if let Some(connection) = self.connection(id) {
            connection.event(event);
        }
    }

    /// Ends a connection, after sending what it can send at once.
    pub fn close(&self, id: u64) {
        if let Some(connection) = self.connection(id) {
            connection.flush();
            connection.shut();
        }
    }

    /// What each connection did so far, and does.
    pub fn activities(&self) -> Vec<(u64, Activity)> {
        self.connections.borrow().iter().map(|(&id, connection)| (id, connection.activity())).collect()
    }
}
