//! The control thread's side: the start and the end of it all, options and listeners.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use dst_wire::{Hello, SessionRef};
use spdk::clock::now_us;
use spdk::instance::Instance;
use spdk::poller::Poller;
use spdk::thread::{Thread, cores};

use crate::error::Error;
use crate::export::Export;
use crate::group::{self, Group};
use crate::listener::{ListenAddress, Listener};
use crate::options::Options;
use crate::rate::RateLimit;
use crate::room::{EVICTIONS_MAX, Room};
use crate::secure::Proof;
use crate::sessions::{Owner, Session, SessionId, Sessions};
use crate::stats::Stats;

/// How often abandoned sessions are looked for.
const TICK_US: u64 = 500_000;

/// For so many connections one more open file is left to their groups: a group has a file or two (`epoll`, for each of SPDK's
/// socket implementations) and 32 sockets, but those that requests come through are not with the others, and not all are full.
const CONNECTIONS_A_FILE: u64 = 8;

/// Open files that are left to everything else than connections, and to those that were evicted and are not closed yet.
const SPARE_FILES: u64 = 64;
const _: () = assert!(SPARE_FILES >= 2 * EVICTIONS_MAX as u64);

spdk::thread_local! {
    static TARGET: RefCell<Option<Rc<Target>>> = const { RefCell::new(None) };
}

/// One core's group, as control sees it.
pub(crate) struct GroupHandle {
    pub thread: Thread,
}

/// A connection, as control sees it: from when it was accepted until nothing of it is left.
pub(crate) struct ConnectionEntry {
    pub group: usize,
    pub peer: SocketAddr,
    /// When it was accepted.
    pub since_us: u64,
    /// Its place in a session, once it was let in or waits to be.
    pub place: Option<SessionRef>,
    /// Whose that session is.
    pub owner: Option<Owner>,
    /// Its hello, which opens a session once the backend has finished what is left of the closed
    /// connections that its host had at the export.
    pub opens: Option<Box<Hello>>,
    /// What its client has shown to have, if the connection is secured.
    pub proof: Option<Proof>,
    /// Whether it was let in.
    pub welcomed: bool,
    /// Its socket is shut, or about to be: what is left of it is in the backend.
    pub closed: bool,
}

impl ConnectionEntry {
    /// Whether it may come in, once the backend has finished what is left of others.
    pub fn is_waiting(&self) -> bool {
        !self.welcomed && !self.closed && (self.place.is_some() || self.opens.is_some())
    }

    pub fn new(group: usize, peer: SocketAddr, since_us: u64) -> ConnectionEntry {
        ConnectionEntry {
            group,
            peer,
            since_us,
            place: None,
            owner: None,
            opens: None,
            proof: None,
            welcomed: false,
            closed: false,
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub groups: Vec<GroupHandle>,
    pub next_group: usize,
    pub listeners: Vec<Listener>,
    pub exports: BTreeMap<String, Export>,
    pub sessions: Sessions,
    pub connections: BTreeMap<u64, ConnectionEntry>,
    pub next_id: u64,
    pub room: Room,
    /// Since the start.
    pub refused_hellos: u64,
    /// Those of them who may come later.
    pub refused_busy: u64,
    /// Since the start: sessions that nobody came back to.
    pub sessions_timed_out: u64,
    /// Counts of sessions that are gone.
    pub past: Stats,
    pub stopping: Option<Box<dyn FnOnce()>>,
}

impl State {
    /// Whether something may be left in the backend of a connection that this owner had and that is closed.
    pub fn is_draining(&self, owner: &Owner) -> bool {
        self.connections.values().any(|entry| entry.closed && entry.owner.as_ref() == Some(owner))
    }

    /// Where a session is used from now: each of its connections may come from another address than the first, and one that
    /// has none has to show anew what it may do when it comes back.
    pub fn addresses(&self, session: &Session) -> impl Iterator<Item = IpAddr> {
        let entries = session.connections().filter_map(|id| self.connections.get(&id));
        entries.filter(|entry| entry.welcomed && !entry.closed).map(|entry| entry.peer.ip())
    }
}

/// The target. One a process, on the app thread.
pub struct Target {
    pub(crate) options: Cell<Options>,
    /// This start of the process. Known to others until the last of its I/O has ended.
    pub(crate) instance: Instance,
    pub(crate) state: RefCell<State>,
    /// Most connections that there can be open files for; known from the first listener on.
    files: Cell<u32>,
    pub(crate) log: RateLimit,
    /// For what anybody can cause by connecting: it must not hide why somebody is refused.
    pub(crate) flood_log: RateLimit,
    /// For those who are told no: the reason is only here, so other lines must not crowd it out.
    pub(crate) refusal_log: RateLimit,
    pub(crate) thread: Thread,
    ticker: RefCell<Option<Poller>>,
}

/// Ends the groups' threads. They have no connections.
fn stop_groups(groups: Vec<GroupHandle>) {
    for group in groups {
        let stop = move || {
            Group::stop();
            if let Some(thread) = Thread::current() {
                thread.exit();
            }
        };
        if let Err(errno) = group.thread.send(stop) {
            spdk::error!("a DST target thread can't be told to stop: {errno}");
        }
    }
}

impl Target {
    /// Makes the process's target, without listeners and exports. On the app thread, once.
    pub fn start() {
        let thread = Thread::current().expect("the target is started on an SPDK thread");
        let target = Rc::new(Target {
            options: Cell::default(),
            instance: Instance::new(),
            state: RefCell::default(),
            files: Cell::new(u32::MAX),
            log: RateLimit::default(),
            flood_log: RateLimit::default(),
            refusal_log: RateLimit::default(),
            thread,
            ticker: RefCell::default(),
        });
        TARGET.with(|slot| *slot.borrow_mut() = Some(target));
    }

    /// Runs `f` with the target; not at all when it was stopped, or on another thread.
    pub fn with(f: impl FnOnce(&Rc<Target>)) {
        if let Some(target) = Target::get() {
            f(&target);
        }
    }

    /// The target; none before the start, after the stop, or on another thread.
    pub fn get() -> Option<Rc<Target>> {
        TARGET.with(|slot| slot.borrow().clone())
    }

    /// Ends it all; `done` is called when nothing is left.
    pub fn stop(self: &Rc<Self>, done: impl FnOnce() + 'static) {
        let mut state = self.state.borrow_mut();
        state.stopping = Some(Box::new(done));
        state.listeners.clear();
        let names: Vec<String> = state.exports.keys().cloned().collect();
        let ids: Vec<u64> = state.connections.keys().copied().collect();
        let sessions: Vec<SessionId> = state.sessions.iter().map(|(id, _)| *id).collect();
        drop(state);
        // Before the exports are deleted, or their clients would be told that they are gone for good. For them this is as a
        // death of the process: another one may come.
        for id in &sessions {
            self.close_session(id, "the target stops");
        }
        for name in names {
            // One that is being deleted already goes on with that.
            let _ = self.delete_export(&name, |_| {});
        }
        for id in ids {
            self.close(id);
        }
        self.stop_if_idle();
    }

    /// The last step of [`Target::stop`], when the last connection and export are gone.
    pub(crate) fn stop_if_idle(self: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        if !state.connections.is_empty() || !state.exports.is_empty() {
            return;
        }
        let Some(done) = state.stopping.take() else { return };
        let groups = std::mem::take(&mut state.groups);
        drop(state);
        stop_groups(groups);
        self.ticker.borrow_mut().take();
        TARGET.with(|slot| slot.borrow_mut().take());
        done();
    }

    /// Target-wide limits and defaults.
    pub fn options(&self) -> Options {
        self.options.get()
    }

    /// Sets them.
    ///
    /// # Errors
    /// Something was made with the old ones already.
    pub fn set_options(&self, options: Options) -> Result<(), Error> {
        let state = self.state.borrow();
        if !state.groups.is_empty() || !state.exports.is_empty() {
            return Err(Error::OptionsInUse);
        }
        self.options.set(options);
        Ok(())
    }

    /// Makes the groups, at the first listener: a process that is only a client has none.
    fn start_groups(self: &Rc<Self>) -> Result<(), Error> {
        if !self.state.borrow().groups.is_empty() {
            return Ok(());
        }
        self.limit_connections();
        let resources = |errno| Error::Resources { what: "threads of the target", errno };
        let target = Rc::downgrade(self);
        let ticker = Poller::register(TICK_US, move || target.upgrade().is_some_and(|target| target.tick()));
        let ticker = ticker.map_err(resources)?;
        let mut groups = Vec::new();
        for (index, core) in cores().into_iter().enumerate() {
            match self.start_group(index, core) {
                Ok(thread) => groups.push(GroupHandle { thread }),
                Err(errno) => {
                    stop_groups(groups);
                    return Err(resources(errno));
                }
            }
        }
        self.state.borrow_mut().groups = groups;
        *self.ticker.borrow_mut() = Some(ticker);
        Ok(())
    }

    /// Most connections at once.
    pub(crate) fn max_connections(&self) -> u32 {
        self.options.get().max_connections.min(self.files.get())
    }

    /// No more connections than the process may have open files.
    fn limit_connections(&self) {
        let wanted = self.options.get().max_connections;
        let (files, in_use) = (spdk::open_files::raise(), spdk::open_files::in_use());
        let left = files.saturating_sub(in_use + SPARE_FILES);
        let left = left - left.div_ceil(CONNECTIONS_A_FILE + 1);
        self.files.set(left.clamp(1, u32::MAX.into()) as u32);
        let max = self.max_connections();
        if max < wanted {
            spdk::warn!(
                "DST target: max_connections is {wanted}, but this process may have {files} open files, of which \
                 {in_use} are in use and {SPARE_FILES} are kept, and {CONNECTIONS_A_FILE} connections take one more: only \
                 {max} connections are taken. Raise the hard limit of open files (LimitNOFILE= of systemd, ulimit -Hn) \
                 to {} at least, or lower max_connections",
                u64::from(wanted) + u64::from(wanted).div_ceil(CONNECTIONS_A_FILE) + in_use + SPARE_FILES
            );
        }
    }

    fn start_group(&self, index: usize, core: u32) -> spdk::Result<Thread> {
        let (options, control) = (self.options.get(), self.thread);
        let thread = Thread::create(&format!("dst_target_{core}"), core)?;
        thread.send(move || {
            if let Err(errno) = Group::start(options, control, index) {
                spdk::error!(
                    "DST target: not enough memory on core {core} for buffer_mib {}: {errno}; \
                     connections on it are refused",
                    options.buffer_mib
                );
            }
        })?;
        Ok(thread)
    }

    /// Ends sessions that nobody came back to, and queues.
    fn tick(self: &Rc<Self>) -> bool {
        let timeout_us = u64::from(self.options.get().session_timeout_ms) * 1000;
        let Some(before) = now_us().checked_sub(timeout_us) else { return false };
        self.state.borrow_mut().sessions.give_up_queues(before);
        let abandoned = self.state.borrow().sessions.abandoned(before);
        self.state.borrow_mut().sessions_timed_out += abandoned.len() as u64;
        for id in &abandoned {
            self.close_session(id, "nobody came back to it in time");
        }
        !abandoned.is_empty()
    }

    /// Runs `f` on a group's thread.
    pub(crate) fn on_group(&self, index: usize, f: impl FnOnce(&Rc<Group>) + Send + 'static) {
        let thread = self.state.borrow().groups[index].thread;
        if let Err(errno) = thread.send(move || group::with(f)) {
            // A group that misses a message is in a state that control does not know.
            panic!("control can't send to target thread {index}: {errno}");
        }
    }

    /// Listens.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn create_listener(self: &Rc<Self>, address: ListenAddress) -> Result<(), Error> {
        if self.state.borrow().listeners.iter().any(|l| l.address.is_same_place(&address)) {
            return Err(Error::ListenerExists(address.to_string()));
        }
        // The groups second: an address that can't be listened on leaves nothing behind.
        let listener = Listener::start(address, self)?;
        self.start_groups()?;
        spdk::notice!("DST target listens on {}", listener.address);
        self.state.borrow_mut().listeners.push(listener);
        Ok(())
    }

    /// Stops listening. Connections stay.
    ///
    /// # Errors
    /// There is no such listener.
    pub fn delete_listener(&self, address: &ListenAddress) -> Result<(), Error> {
        let mut state = self.state.borrow_mut();
        let found = state.listeners.iter().position(|l| l.address.is_same_place(address));
        let index = found.ok_or_else(|| Error::NoListener(address.to_string()))?;
        state.listeners.remove(index);
        Ok(())
    }

    /// Where it listens.
    pub fn listeners(&self) -> Vec<ListenAddress> {
        self.state.borrow().listeners.iter().map(|l| l.address.clone()).collect()
    }

    pub(crate) fn next_id(&self) -> u64 {
        let mut state = self.state.borrow_mut();
        state.next_id += 1;
        state.next_id
    }
}
