//! The groups' threads: one a core, started with the first listener.

use std::rc::Rc;

use dst_broker::{EVICTIONS_MAX, Input};
use spdk::poller::Poller;
use spdk::thread::{Thread, cores};

use crate::control::{Target, limits};
use crate::error::Error;
use crate::group;
use crate::groups::{Groups, Started};
use crate::messages::{Control, ToControl, ToGroup};

/// How often abandoned sessions are looked for, µs.
const TICK_US: u64 = 500_000;

/// For so many connections one more open file is left to their groups: a group has a file or two
/// (`epoll`, for each of SPDK's socket implementations) and 32 sockets, but those that requests come
/// through are not with the others, and not all are full.
const CONNECTIONS_A_FILE: u64 = 8;

/// Open files that are left to everything else than connections, and to those that were evicted and
/// are not closed yet.
const SPARE_FILES: u64 = 64;
const _: () = assert!(SPARE_FILES >= 2 * EVICTIONS_MAX as u64);

impl Target {
    /// Starts the groups, at the first listener, and calls `then` when they are there. If they can't be
    /// had, nothing is left behind.
    pub(crate) fn start_groups(self: &Rc<Self>, then: impl FnOnce(Result<(), Error>) + 'static) {
        let mut groups = self.groups.borrow_mut();
        match &mut *groups {
            Groups::None => drop(groups),
            Groups::Starting { then: all, .. } => return all.push(Box::new(then)),
            Groups::Started(_) => {
                drop(groups);
                return then(Ok(()));
            }
        }
        self.limit_connections();
        let mut threads = Vec::new();
        for core in cores() {
            match self.start_group(core) {
                Ok(thread) => threads.push(thread),
                Err(errno) => {
                    Self::stop_threads(&threads);
                    return then(Err(Error::Resources { what: "threads of the target", errno }));
                }
            }
        }
        let (missing, then) = (threads.len(), vec![Box::new(then) as Started]);
        *self.groups.borrow_mut() = Groups::Starting { threads, missing, failure: None, then };
    }

    fn start_group(&self, core: u32) -> spdk::Result<Thread> {
        let options = self.options.get();
        let control = Control::new(self.thread, |message| Target::with(|target| target.hear(message)));
        let thread = Thread::create(&format!("dst_target_{core}"), core)?;
        thread.send(move || {
            let result = group::start(options, control, core);
            control.tell(ToControl::Started { core, result });
        })?;
        Ok(thread)
    }

    /// A group is there, or has found no memory.
    pub(crate) fn group_started(self: &Rc<Self>, core: u32, result: spdk::Result<()>) {
        let mut groups = self.groups.borrow_mut();
        let Groups::Starting { missing, failure, .. } = &mut *groups else { return };
        *missing -= 1;
        if let Err(errno) = result
            && failure.is_none()
        {
            let mib = self.options.get().buffer_mib;
            *failure = Some(Error::Memory { core, mib, errno });
        }
        if *missing > 0 {
            return;
        }
        let Groups::Starting { threads, failure, then, .. } = std::mem::take(&mut *groups) else { return };
        drop(groups);
        let result = match failure {
            None => self.use_groups(threads),
            Some(error) => {
                Self::stop_threads(&threads);
                Err(error)
            }
        };
        for then in then {
            then(result.clone());
        }
    }

    fn use_groups(self: &Rc<Self>, threads: Vec<Thread>) -> Result<(), Error> {
        let target = Rc::downgrade(self);
        let tick = move || target.upgrade().is_some_and(|target| target.tick());
        match Poller::register(TICK_US, tick) {
            Ok(ticker) => *self.ticker.borrow_mut() = Some(ticker),
            Err(errno) => {
                Self::stop_threads(&threads);
                return Err(Error::Resources { what: "a timer of the target", errno });
            }
        }
        let count = threads.len();
        *self.groups.borrow_mut() = Groups::Started(threads);
        self.tell(Input::GroupsStarted(count));
        Ok(())
    }

    /// Ends the groups' threads. They have no connections.
    pub(crate) fn stop_groups(&self) {
        match std::mem::take(&mut *self.groups.borrow_mut()) {
            Groups::None => {}
            Groups::Starting { threads, .. } | Groups::Started(threads) => Self::stop_threads(&threads),
        }
    }

    fn stop_threads(threads: &[Thread]) {
        for &thread in threads {
            if let Err(errno) = thread.send(|| group::hear(ToGroup::Stop)) {
                spdk::error!("a DST target thread can't be told to stop: {errno}");
            }
        }
    }

    /// Sends a message to a group's thread.
    ///
    /// # Errors
    /// SPDK can't take the message, which is lost.
    pub(crate) fn send(&self, group: usize, message: ToGroup) -> spdk::Result<()> {
        let thread = self.groups.borrow().threads()[group];
        thread.send(move || group::hear(message))
    }

    /// Sends a message to a group's thread.
    ///
    /// # Panics
    /// SPDK can't take the message: a group that misses one is in a state that control does not know.
    pub(crate) fn tell_group(&self, group: usize, message: ToGroup) {
        if let Err(errno) = self.send(group, message) {
            panic!("control can't send to DST target thread {group}: {errno}");
        }
    }

    /// Some time has passed. Returns true if there was something to do.
    fn tick(self: &Rc<Self>) -> bool {
        let before = self.broker.borrow().sessions_timed_out();
        self.tell(Input::Tick);
        self.broker.borrow().sessions_timed_out() != before
    }

    /// Allows no more connections than the process may have open files.
    fn limit_connections(&self) {
        let options = self.options.get();
        let wanted = u64::from(options.max_connections);
        let (files, in_use) = (spdk::open_files::raise(), spdk::open_files::in_use());
        let left = files.saturating_sub(in_use + SPARE_FILES);
        let left = left - left.div_ceil(CONNECTIONS_A_FILE + 1);
        let limits = limits(&options, left.clamp(1, u32::MAX.into()) as u32);
        self.broker.borrow_mut().set_limits(limits);
        let max = limits.max_connections;
        if max < options.max_connections {
            spdk::warn!(
                "DST target: max_connections is {wanted}, but this process may have {files} open files, of which \
                 {in_use} are in use and {SPARE_FILES} are kept, and {CONNECTIONS_A_FILE} connections take one more: only \
                 {max} connections are taken. Raise the hard limit of open files (LimitNOFILE= of systemd, ulimit -Hn) \
                 to {} at least, or lower max_connections",
                wanted + wanted.div_ceil(CONNECTIONS_A_FILE) + in_use + SPARE_FILES
            );
        }
    }
}
