//! The connections of one core.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use dst_security::Secured;
use dst_session::slots::Slots;
use dst_transport::Broken;
use dst_wire::{Device, Event, Hello, Refusal, Status, Welcome};
use spdk::Errno;
use spdk::bdev::DescRef;
use spdk::clock::now_us;
use spdk::interrupt::Watch;
use spdk::poller::{Poller, Turn};
use spdk::sock::{self, Groups, Sock, SockReady, Traffic};
use spdk::thread::Thread;

use crate::completion::{Completions, Io, Submitter};
use crate::connection::{Connection, Ending, Question, Remains, Shut};
use crate::control::Target;
use crate::options::Options;
use crate::pools::{OBJECTS, Pools};
use crate::queue::{Queue, Setup};
use crate::rate::RateLimit;
use crate::report::Activity;
use crate::sessions::{Owner, SessionId};
use crate::share::OwnerShare;
use crate::stage::Requests;
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

/// One core's connections, and the pools that they are served from.
pub struct Group {
    options: Options,
    pools: Pools,
    completions: Rc<Completions>,
    log: RateLimit,
    /// Connections with something to send.
    dirty: RefCell<VecDeque<Rc<Member>>>,
    /// Connections with a frame that could not be taken.
    stalled: RefCell<VecDeque<Rc<Member>>>,
    /// Connections of which workers have some of what came.
    away: RefCell<VecDeque<Rc<Member>>>,
    /// Connections that are over, to be shut after the turn.
    over: RefCell<Vec<Rc<Member>>>,
    /// Polls the connections' sockets.
    sockets: Groups,
    members: RefCell<BTreeMap<u64, Rc<Member>>>,
    /// What each owner holds of the pools, as long as one of its connections is here.
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

/// A connection in its group.
struct Member {
    group: Rc<Group>,
    /// Its socket's place among the sockets that are polled. Ends before the socket is closed.
    polled: RefCell<Option<sock::Member>>,
    connection: RefCell<Connection>,
    /// Whether it is in the group's list of this name.
    dirty: Cell<bool>,
    /// When it was put there, µs.
    dirty_since_us: Cell<u64>,
    stalled: Cell<bool>,
    away: Cell<bool>,
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
            over: RefCell::new(Vec::with_capacity(room)),
            sockets: Groups::create()?,
            members: RefCell::new(BTreeMap::new()),
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
                assert!(group.members.borrow().is_empty(), "a group is stopped after its connections");
                group.poller.borrow_mut().take();
            }
        });
    }

    /// Starts to poll.
    fn start_poller(self: &Rc<Self>) {
        let group = Rc::clone(self);
        // A poller is a small allocation; without one nothing here can go on.
        let poller = Poller::resting(0, TICK_US, move || group.poll()).expect("a poller can be registered");
        self.completions.set_waker(poller.waker());
        let watch = self.sockets.watch(&poller.waker()).expect("sockets can be watched");
        *self.poller.borrow_mut() = Some((poller, watch));
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
            for member in self.members.borrow().values() {
                member.tick(now);
            }
            // Connections that ended give memory back, too.
            gave_back = true;
        }
        if gave_back {
            self.to_resume.set(self.stalled.borrow().len());
        }
        self.resume_stalled();
        self.shut_over();
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
    fn look_after_away(&self) -> usize {
        let count = self.away.borrow().len();
        for _ in 0..count {
            let Some(member) = self.away.borrow_mut().pop_front() else { break };
            member.away.set(false);
            member.receive();
        }
        count
    }

    /// First come, first served: a connection that stalls again goes to the back.
    fn resume_stalled(&self) {
        let count = self.to_resume.get().min(RESUMED_A_TURN);
        self.to_resume.set(self.to_resume.get() - count);
        for _ in 0..count {
            let Some(member) = self.stalled.borrow_mut().pop_front() else { return };
            member.stalled.set(false);
            member.receive();
        }
    }

    /// Sends what waits, except answers that others are to go with: as long as each turn brings some.
    /// Returns whether something was sent.
    fn flush_dirty(&self, more_to_come: bool) -> bool {
        let count = self.dirty.borrow().len();
        let mut sent = false;
        for _ in 0..count {
            let Some(member) = self.dirty.borrow_mut().pop_front() else { break };
            if more_to_come && member.gathers() {
                self.dirty.borrow_mut().push_back(member);
            } else {
                member.flush();
                sent = true;
            }
        }
        sent
    }

    fn shut_over(&self) {
        loop {
            let member = self.over.borrow_mut().pop();
            match member {
                Some(member) => member.shut(),
                None => return,
            }
        }
    }

    /// Returns what this owner holds of the pools.
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
            owner: self.share_of(join.owner),
        });
        Ok(Box::new(Requests { queue, channel }))
    }
}

impl Member {
    /// Takes what the socket has. HOT.
    fn receive(self: &Rc<Self>) {
        let group = &self.group;
        let mut connection = self.connection.borrow_mut();
        let max_handshake_bytes = group.options.max_handshake_bytes;
        match connection.receive(&group.pools, max_handshake_bytes, self, group.now_us.get()) {
            Ok(received) => {
                if received.is_away && !self.away.replace(true) {
                    group.away.borrow_mut().push_back(Rc::clone(self));
                }
                if received.is_stalled && !self.stalled.replace(true) {
                    group.stalled.borrow_mut().push_back(Rc::clone(self));
                }
                let (id, peer) = (connection.id, connection.peer);
                match received.question {
                    None => {}
                    Some(Question::Hello(hello)) => group.ask_control(id, *hello, peer),
                    Some(Question::Secure(message)) => group.ask_to_secure(id, message, peer),
                }
                self.mark_dirty(&connection);
            }
            Err(why) => self.over(&mut connection, &why),
        }
    }

    /// Returns whether what waits to be sent may wait a little longer, for more to go with it.
    fn gathers(&self) -> bool {
        let waited_us = self.group.now_us.get().saturating_sub(self.dirty_since_us.get());
        self.connection.borrow().gathers(waited_us)
    }

    /// Sends what waits, as much as the socket takes. HOT.
    fn flush(self: &Rc<Self>) {
        self.dirty.set(false);
        let mut connection = self.connection.borrow_mut();
        match connection.flush(&self.group.pools, self.group.now_us.get()) {
            Ok(()) => self.mark_dirty(&connection),
            Err(why) => self.over(&mut connection, &why),
        }
    }

    fn tick(self: &Rc<Self>, now_us: u64) {
        let mut connection = self.connection.borrow_mut();
        match connection.tick(self.stalled.get(), now_us) {
            Ok(()) => self.mark_dirty(&connection),
            Err(why) => self.over(&mut connection, &why),
        }
    }

    /// Changes the connection on behalf of the control thread, and sends what comes of it.
    fn change(self: &Rc<Self>, change: impl FnOnce(&mut Connection)) {
        let mut connection = self.connection.borrow_mut();
        change(&mut connection);
        self.mark_dirty(&connection);
    }

    /// Requests will come through the socket: it moves to those of which this is expected.
    fn expect_traffic(self: &Rc<Self>) {
        let mut connection = self.connection.borrow_mut();
        let Some(sock) = connection.sock() else { return };
        let mut polled = self.polled.borrow_mut();
        polled.take();
        match self.group.sockets.add(sock, Rc::clone(self), Traffic::Much) {
            Ok(place) => *polled = Some(place),
            Err(errno) => self.over(&mut connection, &Broken::Socket(errno)),
        }
    }

    /// The connection is over: its group shuts it after the turn.
    fn over(self: &Rc<Self>, connection: &mut Connection, why: &Broken) {
        match connection.over(why) {
            Ending::Known => return,
            Ending::Expected => {}
            Ending::Unexpected => {
                self.group.log.warn(format_args!("DST connection from {} ended: {why}", connection.peer));
            }
        }
        self.group.over.borrow_mut().push(Rc::clone(self));
    }

    /// Closes the socket. Not inside the poll of the sockets.
    fn shut(self: &Rc<Self>) {
        self.polled.borrow_mut().take();
        let mut connection = self.connection.borrow_mut();
        let (id, shut) = (connection.id, connection.shut(&self.group.pools));
        drop(connection);
        match shut {
            Shut::Before => {}
            Shut::Draining => self.group.draining(id),
            Shut::Finished(remains) => self.group.finished(id, *remains),
        }
    }

    fn mark_dirty(self: &Rc<Self>, connection: &Connection) {
        if connection.wants_to_send() && !self.dirty.replace(true) {
            self.dirty_since_us.set(self.group.now_us.get());
            self.group.dirty.borrow_mut().push_back(Rc::clone(self));
        }
    }
}

impl SockReady for Member {
    fn readable(self: Rc<Self>) {
        self.receive();
    }
}

impl Submitter for Member {
    fn completed(self: Rc<Self>, io: Io, status: Status, now_us: u64) {
        let mut connection = self.connection.borrow_mut();
        match connection.completed(io, status, now_us, &self.group.pools) {
            None => self.mark_dirty(&connection),
            Some(remains) => {
                let id = connection.id;
                drop(connection);
                self.group.finished(id, *remains);
            }
        }
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
        self.members.borrow_mut().remove(&id);
        if self.members.borrow().is_empty() {
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
        self.now_us.set(now_us());
        let connection =
            Connection::new(id, peer, sock, self.options.handshake_timeout_ms, self.now_us.get());
        let member = Rc::new(Member {
            group: Rc::clone(self),
            polled: RefCell::default(),
            connection: RefCell::new(connection),
            dirty: Cell::new(false),
            dirty_since_us: Cell::new(0),
            stalled: Cell::new(false),
            away: Cell::new(false),
        });
        self.members.borrow_mut().insert(id, Rc::clone(&member));
        let added = {
            let connection = member.connection.borrow();
            let sock = connection.sock().expect("a new connection has a socket");
            self.sockets.add(sock, Rc::clone(&member), Traffic::Little)
        };
        match added {
            Ok(place) => *member.polled.borrow_mut() = Some(place),
            Err(errno) => {
                self.log.warn(format_args!("DST connection from {peer} can't be polled: {errno}"));
                return member.shut();
            }
        }
        if self.poller.borrow().is_none() {
            self.start_poller();
        }
    }

    /// Returns a connection that the control thread has something for.
    fn member(&self, id: u64) -> Option<Rc<Member>> {
        if let Some((poller, _)) = &*self.poller.borrow() {
            // No socket tells of it.
            poller.wake();
        }
        self.members.borrow().get(&id).cloned()
    }

    /// Admits a connection, with a queue unless it is a session's first one.
    pub fn welcome(&self, id: u64, welcome: &Welcome, join: Option<Join>) {
        self.now_us.set(now_us());
        let place = (welcome.session.id, welcome.session.queue);
        let Some(member) = self.member(id) else {
            if let Some(join) = join {
                self.return_slots(id, place, join.slots);
            }
            return;
        };
        let requests = match join.map(|join| self.requests(join)).transpose() {
            Ok(requests) => requests,
            Err((slots, errno)) => {
                let peer = member.connection.borrow().peer;
                self.log.warn(format_args!("DST connection from {peer}: no I/O channel: {errno}"));
                member.shut();
                return self.return_slots(id, place, slots);
            }
        };
        if requests.is_some() {
            member.expect_traffic();
        }
        member.change(|connection| connection.welcome(welcome, requests, self.now_us.get()));
    }

    /// A connection's client has the key.
    pub fn secure(&self, id: u64, answer: &[u8], secured: Secured) {
        if let Some(member) = self.member(id) {
            member.change(|connection| connection.secure(answer, secured));
        }
    }

    /// Does not admit a connection.
    pub fn refuse(&self, id: u64, refusal: &Refusal) {
        if let Some(member) = self.member(id) {
            member.change(|connection| connection.refuse(refusal));
        }
    }

    /// Tells a connection's client that something changed.
    pub fn event(&self, id: u64, event: Event) {
        if let Some(member) = self.member(id) {
            member.change(|connection| connection.event(event));
        }
    }

    /// Ends a connection, after sending what it can send at once.
    pub fn close(&self, id: u64) {
        if let Some(member) = self.member(id) {
            member.flush();
            member.shut();
        }
    }

    /// Returns what each connection did so far, and does.
    pub fn activities(&self) -> Vec<(u64, Activity)> {
        let activity = |member: &Member| {
            let (stats, in_flight) = member.connection.borrow().activity();
            Activity { stats, in_flight }
        };
        self.members.borrow().iter().map(|(&id, member)| (id, activity(member))).collect()
    }
}
