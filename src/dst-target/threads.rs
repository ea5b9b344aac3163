//! The groups' threads, one on each core, which are started with the first listener.

use std::rc::Rc;

use dst_broker::{EVICTIONS_MAX, Input};
use spdk::poller::Poller;
use spdk::thread::{Thread, cores};

use crate::control::{Target, limits};
use crate::error::Error;
use crate::group;
use crate::groups::{GroupThreads, Started};
use crate::messages::{ControlSender, ToControl, ToGroup};

/// The period of the broker's ticks, µs.
const TICK_US: u64 = 500_000;

/// The number of connections for which one more open file is reserved for socket groups. A socket
/// group has one or two files (`epoll`, for each of SPDK's socket implementations) and 32 sockets,
/// but sockets with requests and other sockets are in different groups, and not all groups are
/// full.
const CONNECTIONS_A_FILE: u64 = 8;

/// The number of open files reserved for everything other than connections, and for evicted
/// connections that are not closed yet.
const SPARE_FILES: u64 = 64;
const _: () = assert!(SPARE_FILES >= 2 * EVICTIONS_MAX as u64);

impl Target {
    /// Starts the groups if that was not done yet, and calls `then` with the outcome. A failure
    /// leaves nothing behind.
    pub(crate) fn start_groups(self: &Rc<Self>, then: impl FnOnce(Result<(), Error>) + 'static) {
        let mut groups = self.groups.borrow_mut();
        match &mut *groups {
            GroupThreads::None => drop(groups),
            GroupThreads::Starting { then: all, .. } => return all.push(Box::new(then)),
            GroupThreads::Started(_) => {
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
        *self.groups.borrow_mut() = GroupThreads::Starting { threads, missing, failure: None, then };
    }

    fn start_group(&self, core: u32) -> spdk::Result<Thread> {
        let options = self.options.get();
        let control =
            ControlSender::new(self.thread, |message| Target::with(|target| target.handle_message(message)));
        let thread = Thread::create(&format!("dst_target_{core}"), core)?;
        thread.send(move || {
            let result = group::start(options, control, core);
            control.tell(ToControl::Started { core, result });
        })?;
        Ok(thread)
    }

    /// Notes that a group has started or failed to.
    pub(crate) fn group_started(self: &Rc<Self>, core: u32, result: spdk::Result<()>) {
        let mut groups = self.groups.borrow_mut();
        let GroupThreads::Starting { missing, failure, .. } = &mut *groups else { return };
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
        let GroupThreads::Starting { threads, failure, then, .. } = std::mem::take(&mut *groups) else {
            return;
        };
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
        *self.groups.borrow_mut() = GroupThreads::Started(threads);
        self.tell(Input::GroupsStarted(count));
        Ok(())
    }

    /// Ends the groups, which have no connections any more, and their threads.
    pub(crate) fn stop_groups(&self) {
        match std::mem::take(&mut *self.groups.borrow_mut()) {
            GroupThreads::None => {}
            GroupThreads::Starting { threads, .. } | GroupThreads::Started(threads) => {
                Self::stop_threads(&threads)
            }
        }
    }

    fn stop_threads(threads: &[Thread]) {
        for &thread in threads {
            if let Err(errno) = thread.send(|| group::handle_message(ToGroup::Stop)) {
                spdk::error!("a DST target thread can't be told to stop: {errno}");
            }
        }
    }

    /// Sends a message to a group's thread.
    ///
    /// # Errors
    /// Fails if SPDK can't take the message, which is then lost.
    pub(crate) fn send(&self, group: usize, message: ToGroup) -> spdk::Result<()> {
        let thread = self.groups.borrow().threads()[group];
        thread.send(move || group::handle_message(message))
    }

    /// Sends a message to a group's thread.
    ///
    /// # Panics
    /// Panics if SPDK can't take the message: the control thread would no longer know the state of
    /// a group that has missed one.
    pub(crate) fn tell_group(&self, group: usize, message: ToGroup) {
        if let Err(errno) = self.send(group, message) {
            panic!("control can't send to DST target thread {group}: {errno}");
        }
    }

    /// Tells the broker that some time has passed. Returns true if that ended a session.
    fn tick(self: &Rc<Self>) -> bool {
        let before = self.broker.borrow().sessions_timed_out();
        self.tick_stop();
        self.tell(Input::Tick);
        self.broker.borrow().sessions_timed_out() != before
    }

    /// Limits the number of connections to what the process's limit on open files allows.
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
