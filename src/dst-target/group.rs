//! The connections of one core.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use dst_broker::{Activity, ConnectionId, Owner, Remains};
use dst_security::Secured;
use dst_session::slots::Slots;
use dst_wire::{Event, Hello, Refusal, SessionRef, Welcome};
use spdk::clock::now_us;
use spdk::interrupt::Watch;
use spdk::iov::IOV_MAX_BATCH;
use spdk::poller::{Poller, Turn};
use spdk::sock::{Groups, Sock, Traffic};
use spdk::thread::Thread;

use crate::backend::{OwnerShare, Pools, collect};
use crate::connection::Connection;
use crate::messages::{Control, Join, ToControl, ToGroup};
use crate::options::Options;
use crate::queue::Setup;
use crate::rate::RateLimit;

/// Sockets looked at in one poll; more wait for the next one.
const SOCKETS_A_POLL: usize = 32;

/// How long the sockets may go unlooked at while the backend works for the group: what comes meanwhile is
/// received with one system call.
const LOOK_US: u64 = 10;

/// How long an answer may wait for others while the backend works for the connection. SPDK hands completions
/// over eight messages a turn, and a system call for each eight is what small I/O can't pay. A turn that
/// brings nothing ends the wait, so it is this long only where the core has no idle moment; see
/// docs/performance.md for what each of these numbers gives.
const GATHER_US: u64 = 40;

/// With so many answers waiting, sending them need not wait for more: they fill one system call's vectors.
pub const GATHERED: usize = IOV_MAX_BATCH / 2;

/// The same for so many bytes. Of large answers fewer at once are slower, more are not faster.
pub const GATHERED_BYTES: usize = 1 << 20;

/// With fewer transactions in the backend an answer is sent at once: there latency is what counts.
pub const GATHER_FROM: usize = 8;

/// Most stalled connections that are tried again in a turn: with thousands of them each turn would only find out
/// that there is still no memory for most.
const RESUMED_A_TURN: usize = 32;

/// How often silent connections are looked for.
const TICK_US: u64 = 50_000;

spdk::thread_local! {
    /// The group of this thread. Groups have a core, and so an OS thread, of their own.
    static GROUP: RefCell<Option<Rc<Group>>> = const { RefCell::new(None) };
}

/// One core's connections and the pools they are served from.
pub struct Group {
    pub options: Options,
    pub pools: Pools,
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
    control: Control,
}

/// Makes this thread's group.
///
/// # Errors
/// Not enough memory.
pub fn start(options: Options, control: Control) -> spdk::Result<()> {
    let group = Group::new(options, control)?;
    GROUP.with(|slot| *slot.borrow_mut() = Some(Rc::new(group)));
    Ok(())
}

/// Takes a message of the control thread.
pub fn hear(control: Control, message: ToGroup) {
    let group = GROUP.with(|slot| slot.borrow().clone());
    match (group, message) {
        (group, ToGroup::Stop) => {
            if let Some(group) = group {
                group.stop();
            }
            GROUP.with(|slot| slot.borrow_mut().take());
            if let Some(thread) = Thread::current() {
                thread.exit();
            }
        }
        (Some(group), message) => group.hear(message),
        // This thread's group could not be started: a connection that was given to it is closed.
        (None, ToGroup::Adopt { connection, .. }) => {
            control.tell(ToControl::Finished { connection, remains: Box::default() });
        }
        (None, ToGroup::Count { question }) => {
            control.tell(ToControl::Counted { question, counts: Vec::new() });
        }
        // For connections that the group does not have.
        (
            None,
            ToGroup::Secure { .. }
            | ToGroup::Welcome { .. }
            | ToGroup::Refuse { .. }
            | ToGroup::Event { .. }
            | ToGroup::Close { .. },
        ) => {}
    }
}

impl Group {
    fn new(options: Options, control: Control) -> spdk::Result<Group> {
        let room = options.max_connections as usize;
        Ok(Group {
            options,
            pools: Pools::new(&options)?,
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
        })
    }

    /// Ends the group, which has no connections any more.
    fn stop(&self) {
        assert!(self.connections.borrow().is_empty(), "a group is stopped after its connections");
        self.poller.borrow_mut().take();
    }

    /// Takes a message of the control thread.
    fn hear(self: &Rc<Self>, message: ToGroup) {
        match message {
            ToGroup::Adopt { connection, sock, peer } => self.add(connection, sock, peer),
            ToGroup::Secure { connection, answer, secured } => self.secure(connection, &answer, *secured),
            ToGroup::Welcome { connection, welcome, join } => self.welcome(connection, &welcome, join),
            ToGroup::Refuse { connection, refusal } => self.refuse(connection, &refusal),
            ToGroup::Event { connection, event } => self.event(connection, event),
            ToGroup::Close { connection } => self.close(connection),
            ToGroup::Count { question } => {
                let counts = self.activities();
                self.control.tell(ToControl::Counted { question, counts });
            }
            ToGroup::Stop => unreachable!("the thread takes this message"),
        }
    }

    /// The time of this poll.
    pub fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    /// Takes a new connection.
    fn add(self: &Rc<Self>, id: ConnectionId, sock: Sock, peer: SocketAddr) {
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
        if self.pools.in_backend.get() == 0 || now >= self.next_sockets_us.get() {
            self.next_sockets_us.set(now + LOOK_US);
            events = self.sockets.poll(SOCKETS_A_POLL).unwrap_or_else(|errno| {
                self.log.warn(format_args!("DST sockets can't be polled: {errno}"));
                0
            });
        }
        events += self.look_after_away();
        let completed = collect(self);
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
            if more_to_come && connection.gathers(self.now_us(), GATHER_US) {
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
    pub fn ask_control(&self, connection: ConnectionId, hello: Hello) {
        self.control.tell(ToControl::Hello { connection, hello: Box::new(hello) });
    }

    /// Asks control whether a connection's client has the key that it says to have.
    pub fn ask_to_secure(&self, connection: ConnectionId, message: Vec<u8>) {
        self.control.tell(ToControl::Secure { connection, message });
    }

    /// A connection's socket is shut; the backend still has something of it.
    pub fn draining(&self, connection: ConnectionId) {
        self.control.tell(ToControl::Draining { connection });
    }

    /// A connection is gone and nothing of it is left.
    pub fn finished(&self, connection: ConnectionId, remains: Remains) {
        self.connections.borrow_mut().remove(&connection);
        if self.connections.borrow().is_empty() {
            // Dropped inside its own call or not: an idle core is not polled.
            self.poller.borrow_mut().take();
        }
        self.control.tell(ToControl::Finished { connection, remains: Box::new(remains) });
    }

    /// A connection that control has something for.
    fn connection(&self, id: ConnectionId) -> Option<Rc<Connection>> {
        self.wake();
        self.connections.borrow().get(&id).cloned()
    }

    /// Control lets a connection in.
    fn welcome(&self, id: ConnectionId, welcome: &Welcome, join: Option<Box<Join>>) {
        self.now_us.set(now_us());
        let place = &welcome.session;
        let connection = self.connection(id);
        let setup = match (join, &connection) {
            (None, _) => None,
            (Some(join), None) => return self.return_slots(id, place, join.joining.slots),
            (Some(join), Some(connection)) => {
                let Join { bdev, joining } = *join;
                match bdev.channel() {
                    Ok(channel) => Some(Setup {
                        channel,
                        device: joining.device,
                        max_transfer: joining.max_transfer,
                        has_digests: joining.has_digests,
                        slots: joining.slots,
                        owner: self.share_of(joining.owner),
                    }),
                    Err(errno) => {
                        let peer = connection.peer;
                        self.log.warn(format_args!("DST connection from {peer}: no I/O channel: {errno}"));
                        connection.shut();
                        return self.return_slots(id, place, joining.slots);
                    }
                }
            }
        };
        if let Some(connection) = connection {
            connection.welcome(welcome, setup);
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
    fn return_slots(&self, connection: ConnectionId, place: &SessionRef, slots: Slots) {
        let (session, queue) = (place.id, place.queue);
        self.control.tell(ToControl::Returned { connection, session, queue, slots });
    }

    /// A connection's client has the key.
    fn secure(&self, id: ConnectionId, answer: &[u8], secured: Secured) {
        if let Some(connection) = self.connection(id) {
            connection.secure(answer, secured);
        }
    }

    /// Control does not let a connection in.
    fn refuse(&self, id: ConnectionId, refusal: &Refusal) {
        if let Some(connection) = self.connection(id) {
            connection.refuse(refusal);
        }
    }

    /// Tells a connection's client that something changed.
    fn event(&self, id: ConnectionId, event: Event) {
        if let Some(connection) = self.connection(id) {
            connection.event(event);
        }
    }

    /// Ends a connection, after sending what it can send at once.
    fn close(&self, id: ConnectionId) {
        if let Some(connection) = self.connection(id) {
            connection.flush();
            connection.shut();
        }
    }

    /// What each connection did so far, and does.
    fn activities(&self) -> Vec<(ConnectionId, Activity)> {
        self.connections.borrow().iter().map(|(&id, connection)| (id, connection.activity())).collect()
    }
}
