//! The control thread's side: what operators configure, and the start and the end of it all.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use dst_session::access::{ANY_HOST, Host, rights};
use dst_wire::Event;
use spdk::bdev::{BdevEvent, Desc};
use spdk::clock::now_us;
use spdk::poller::Poller;
use spdk::thread::{Thread, cores};

use crate::error::Error;
use crate::export::{Export, ExportInfo, HOSTS_MAX, check_suitable};
use crate::group::{self, Group};
use crate::listener::{ListenAddress, Listener};
use crate::options::Options;
use crate::rate::RateLimit;
use crate::sessions::{Session, SessionId, Sessions};
use crate::stats::Stats;

/// How often abandoned sessions are looked for.
const TICK_US: u64 = 500_000;

spdk::thread_local! {
    static TARGET: RefCell<Option<Rc<Target>>> = const { RefCell::new(None) };
}

/// One core's group, as control sees it.
pub(crate) struct GroupHandle {
    pub thread: Thread,
}

/// A connection, as control sees it.
pub(crate) struct ConnectionEntry {
    pub group: usize,
    /// Session and queue, once it was let in or waits to be.
    pub place: Option<(SessionId, u16)>,
    /// The export of that session.
    pub export: Option<String>,
    /// Whether it was let in.
    pub welcomed: bool,
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
    /// Counts of sessions that are gone.
    pub past: Stats,
    pub stopping: Option<Box<dyn FnOnce()>>,
}

/// The target. One a process, on the app thread.
pub struct Target {
    pub(crate) options: Cell<Options>,
    pub(crate) instance: [u8; 16],
    pub(crate) state: RefCell<State>,
    pub(crate) log: RateLimit,
    pub(crate) thread: Thread,
    ticker: RefCell<Option<Poller>>,
}

/// 16 random bytes.
pub(crate) fn random_id() -> [u8; 16] {
    let mut id = [0; 16];
    spdk::random::fill(&mut id);
    id
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
            instance: random_id(),
            state: RefCell::default(),
            log: RateLimit::default(),
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
        drop(state);
        for name in names {
            // One that is being deleted already goes on with that.
            let _ = self.delete_export(&name, || {});
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

    /// Ends sessions that nobody came back to.
    fn tick(self: &Rc<Self>) -> bool {
        let timeout_us = u64::from(self.options.get().session_timeout_ms) * 1000;
        let Some(before) = now_us().checked_sub(timeout_us) else { return false };
        let abandoned = self.state.borrow().sessions.abandoned(before);
        for id in &abandoned {
            self.close_session(id);
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

    /// Exports a bdev, to nobody yet. Without a `uuid` it has the bdev's: some bdevs have another one after
    /// each start, and clients take that for another device.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn create_export(
        &self,
        name: &str,
        bdev_name: &str,
        uuid: Option<[u8; 16]>,
        read_only: bool,
    ) -> Result<(), Error> {
        if self.state.borrow().exports.contains_key(name) {
            return Err(Error::ExportExists(name.to_owned()));
        }
        let info = spdk::bdev::info(bdev_name).ok_or_else(|| Error::NoBdev(bdev_name.to_owned()))?;
        check_suitable(&info, self.options.get().max_transfer)?;
        let export = name.to_owned();
        let on_event = move |event| Target::with(|target| target.bdev_event(&export, event));
        let desc = Desc::open(bdev_name, !read_only, on_event)
            .map_err(|errno| Error::Open { name: bdev_name.to_owned(), errno })?;
        let export = Export {
            bdev_name: bdev_name.to_owned(),
            uuid: uuid.unwrap_or(info.uuid),
            read_only,
            hosts: Vec::new(),
            info: desc.info(),
            desc,
            deleting: None,
        };
        self.state.borrow_mut().exports.insert(name.to_owned(), export);
        spdk::notice!(
            "DST export {name} of bdev {bdev_name} is there; nobody can attach before dst_export_add_host"
        );
        Ok(())
    }

    /// Takes an export away: its sessions end, and `done` is called when the backend has finished what it
    /// had of them and the bdev is closed.
    ///
    /// # Errors
    /// There is no such export, or it is being deleted already; `done` is not called then.
    pub fn delete_export(self: &Rc<Self>, name: &str, done: impl FnOnce() + 'static) -> Result<(), Error> {
        let mut state = self.state.borrow_mut();
        let export = state.exports.get_mut(name).ok_or_else(|| Error::NoExport(name.to_owned()))?;
        if export.deleting.is_some() {
            return Err(Error::ExportBusy(name.to_owned()));
        }
        export.deleting = Some(vec![Box::new(done)]);
        drop(state);
        self.end_sessions(name, |_| true);
        self.export_idle(name);
        Ok(())
    }

    /// The last step of [`Target::delete_export`], when its last connection is gone.
    pub(crate) fn export_idle(self: &Rc<Self>, name: &str) {
        let mut state = self.state.borrow_mut();
        let in_use = state.connections.values().any(|entry| entry.export.as_deref() == Some(name));
        if in_use || state.exports.get(name).is_none_or(|export| export.deleting.is_none()) {
            return;
        }
        let export = state.exports.remove(name).expect("it was just there");
        drop(state);
        let Export { desc, deleting, .. } = export;
        drop(desc);
        for done in deleting.into_iter().flatten() {
            done();
        }
        self.stop_if_idle();
    }

    /// The exports, or the one with this name.
    pub fn exports(&self, name: Option<&str>) -> Result<Vec<ExportInfo>, Error> {
        let state = self.state.borrow();
        if let Some(name) = name
            && !state.exports.contains_key(name)
        {
            return Err(Error::NoExport(name.to_owned()));
        }
        let wanted = state.exports.iter().filter(|(key, _)| name.is_none_or(|name| name == *key));
        let show = |(name, export): (&String, &Export)| ExportInfo {
            name: name.clone(),
            bdev_name: export.bdev_name.clone(),
            uuid: export.uuid,
            read_only: export.read_only,
            block_size: export.info.block_size,
            num_blocks: export.info.num_blocks,
            hosts: export.hosts.clone(),
            sessions: state.sessions.iter().filter(|(_, session)| session.export == *name).count(),
        };
        Ok(wanted.map(show).collect())
    }

    /// Lets a host in.
    ///
    /// # Errors
    /// No such export, or it has an entry for this host already.
    pub fn add_host(self: &Rc<Self>, export: &str, host: Host) -> Result<(), Error> {
        let mut state = self.state.borrow_mut();
        let entry = state.exports.get_mut(export).ok_or_else(|| Error::NoExport(export.to_owned()))?;
        if entry.hosts.iter().any(|other| other.name == host.name) {
            return Err(Error::HostExists { export: export.to_owned(), host: host.name });
        }
        if entry.hosts.len() >= HOSTS_MAX {
            let errno = spdk::Errno(28);
            return Err(Error::Resources { what: "host: an export has at most 4096 hosts", errno });
        }
        spdk::notice!("DST export {export}: host {} may attach without a key", host.name);
        entry.hosts.push(host.clone());
        let any = entry.hosts.iter().find(|other| other.name == ANY_HOST).cloned();
        drop(state);
        // Its own entry may give a host less than `*` gave it.
        self.end_sessions(export, |session| {
            let of = |entry: &Host| rights(std::slice::from_ref(entry), &session.host, session.peer.ip());
            session.host == host.name && of(&host) < any.as_ref().and_then(of)
        });
        Ok(())
    }

    /// Ends those sessions of an export of which `which` says so.
    fn end_sessions(&self, export: &str, which: impl Fn(&Session) -> bool) {
        let state = self.state.borrow();
        let found = state.sessions.iter().filter(|(_, session)| session.export == export && which(session));
        let ids: Vec<SessionId> = found.map(|(id, _)| *id).collect();
        drop(state);
        for id in &ids {
            self.end_session(id);
        }
    }

    /// Lets a host in no more; its sessions end at once.
    ///
    /// # Errors
    /// No such export, or it has no entry for this host.
    pub fn remove_host(self: &Rc<Self>, export: &str, host: &str) -> Result<(), Error> {
        let mut state = self.state.borrow_mut();
        let entry = state.exports.get_mut(export).ok_or_else(|| Error::NoExport(export.to_owned()))?;
        let found = entry.hosts.iter().position(|other| other.name == host);
        let index =
            found.ok_or_else(|| Error::NoHost { export: export.to_owned(), host: host.to_owned() })?;
        entry.hosts.remove(index);
        let hosts = entry.hosts.clone();
        drop(state);
        // The host itself, whatever else lets it in from now on, and whoever came in by `*`.
        self.end_sessions(export, |session| {
            session.host == host || rights(&hosts, &session.host, session.peer.ip()).is_none()
        });
        Ok(())
    }

    /// Something happened to an export's bdev.
    fn bdev_event(self: &Rc<Self>, name: &str, event: BdevEvent) {
        match event {
            BdevEvent::Remove => {
                spdk::warn!("DST export {name}: its bdev was removed, so the export is deleted");
                // One that is being deleted already goes on with that.
                let _ = self.delete_export(name, || {});
            }
            BdevEvent::Resize => {
                let mut state = self.state.borrow_mut();
                let Some(export) = state.exports.get_mut(name) else { return };
                export.info = export.desc.info();
                let event = Event::Resized(export.info.num_blocks);
                spdk::notice!("DST export {name} has {} blocks now", export.info.num_blocks);
                let connections: Vec<(u64, usize)> = state
                    .connections
                    .iter()
                    .filter(|(_, entry)| entry.export.as_deref() == Some(name))
                    .map(|(&id, entry)| (id, entry.group))
                    .collect();
                drop(state);
                for (id, group) in connections {
                    self.on_group(group, move |group| group.event(id, event));
                }
            }
        }
    }

    pub(crate) fn next_id(&self) -> u64 {
        let mut state = self.state.borrow_mut();
        state.next_id += 1;
        state.next_id
    }
}
