//! The connections of one core, and the turns in which they are served.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

use dst_broker::{ConnectionActivity, ConnectionId, Remains};
use dst_transport::Broken;
use dst_wire::Status;
use spdk::clock::now_us;
use spdk::interrupt::Watch;
use spdk::poller::{Turn, Waker};
use spdk::sock::{self, Groups, Sock, SockReady, Traffic};

use crate::completion::{Completions, Io, Submitter};
use crate::connection::resets::Attended;
use crate::connection::{Completed, Connection, Ending, HandshakeQuestion, Shut};
use crate::holds::HoldReports;
use crate::log_limit::LogLimit;
use crate::messages::ToControl;
use crate::options::Options;
use crate::pools::{OBJECTS, Pools};

mod orders;

/// The maximum number of readable sockets handled in one poll. The others wait for the next poll.
const SOCKETS_A_POLL: usize = 32;

/// The interval between polls of the sockets while the backend has I/O of the group, µs. Requests
/// that come meanwhile are received with one system call.
const LOOK_US: u64 = 10;

/// The maximum number of stalled connections that are tried again in one turn. With thousands of
/// them, most attempts would only find that memory is still short.
const RESUMED_A_TURN: usize = 32;

/// The interval between checks of the connections' time-outs, µs.
pub const TICK_US: u64 = 50_000;

/// The connections of a group, and the pools from which they are served.
pub struct Members {
    options: Options,
    pools: Pools,
    completions: Rc<Completions>,
    pub log: LogLimit,
    /// Connections with something to send.
    dirty: RefCell<VecDeque<Rc<Member>>>,
    /// Connections with a frame that could not be taken.
    stalled: RefCell<VecDeque<Rc<Member>>>,
    /// Connections whose received bytes are partly with workers.
    with_workers: RefCell<VecDeque<Rc<Member>>>,
    /// Connections for which resets wait, or with I/O that a reset has ended.
    attended: RefCell<Vec<Rc<Member>>>,
    /// Connections that are over. Their sockets are closed after the turn.
    over: RefCell<Vec<Rc<Member>>>,
    /// Polls the connections' sockets.
    sockets: Groups,
    members: RefCell<BTreeMap<u64, Rc<Member>>>,
    now_us: Cell<u64>,
    next_tick_us: Cell<u64>,
    next_sockets_us: Cell<u64>,
    /// The number of stalled connections that are still to be tried again since memory was last
    /// given back.
    to_resume: Cell<usize>,
    /// Messages for the control thread, in the order of the events.
    notices: RefCell<VecDeque<ToControl>>,
    /// Reports of holds for the control thread.
    pub hold_reports: RefCell<HoldReports>,
}

/// A connection in its group; not a mirror's member.
pub struct Member {
    group: Rc<Members>,
    /// The registration of the socket for polling. Dropped before the socket is closed.
    polled: RefCell<Option<sock::Member>>,
    connection: RefCell<Connection>,
    /// Whether the connection is in the group's list of the same name; likewise the flags below.
    dirty: Cell<bool>,
    /// The time at which the connection was put in the list `dirty`, µs.
    dirty_since_us: Cell<u64>,
    stalled: Cell<bool>,
    with_workers: Cell<bool>,
    attended: Cell<bool>,
}

impl Members {
    /// Returns an empty group of connections.
    ///
    /// # Errors
    /// Fails if memory is short.
    pub fn new(options: Options) -> spdk::Result<Members> {
        let room = options.max_connections as usize;
        let completions = Rc::new(Completions::new(OBJECTS));
        Ok(Members {
            options,
            pools: Pools::new(&options, &completions)?,
            completions,
            log: LogLimit::default(),
            dirty: RefCell::new(VecDeque::with_capacity(room)),
            stalled: RefCell::new(VecDeque::with_capacity(room)),
            with_workers: RefCell::new(VecDeque::with_capacity(room)),
            attended: RefCell::default(),
            over: RefCell::new(Vec::with_capacity(room)),
            sockets: Groups::create()?,
            members: RefCell::default(),
            now_us: Cell::new(now_us()),
            next_tick_us: Cell::new(0),
            next_sockets_us: Cell::new(0),
            to_resume: Cell::new(0),
            notices: RefCell::default(),
            hold_reports: RefCell::default(),
        })
    }

    /// Sets the waker of the poller that calls [`Members::turn`]. As long as the returned watch
    /// exists, the sockets wake that poller if it rests.
    ///
    /// # Errors
    /// Fails if the sockets cannot be watched.
    pub fn set_waker(&self, waker: &Waker) -> spdk::Result<Watch> {
        self.completions.set_waker(waker.clone());
        self.sockets.watch(waker)
    }

    /// Returns true if there are no connections.
    pub fn is_empty(&self) -> bool {
        self.members.borrow().is_empty()
    }

    /// Returns the connection with this number, unless it is finished.
    pub fn get(&self, id: u64) -> Option<Rc<Member>> {
        self.members.borrow().get(&id).cloned()
    }

    /// Returns the counts of each connection that has counted anything.
    pub fn activities(&self) -> Vec<(ConnectionId, Box<ConnectionActivity>)> {
        let members = self.members.borrow();
        members
            .iter()
            .filter_map(|(&id, member)| Some((id, member.connection.borrow().activity()?)))
            .collect()
    }

    /// Returns true if there are messages for the control thread. HOT.
    #[inline]
    pub fn has_notices(&self) -> bool {
        !self.notices.borrow().is_empty() || self.hold_reports.borrow().is_due()
    }

    /// Returns the next message for the control thread. To be called after each call that may
    /// change a connection, until it returns `None`.
    pub fn next_notice(&self) -> Option<ToControl> {
        self.notices.borrow_mut().pop_front()
    }

    fn note(&self, notice: ToControl) {
        self.notices.borrow_mut().push_back(notice);
    }

    /// Removes a finished connection and notes its remains for the control thread.
    fn finished(&self, id: u64, remains: Box<Remains>) {
        self.members.borrow_mut().remove(&id);
        self.note(ToControl::Finished { connection: id, remains });
    }

    /// Adds a new connection.
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
            with_workers: Cell::new(false),
            attended: Cell::new(false),
        });
        self.members.borrow_mut().insert(id, Rc::clone(&member));
        if let Err(errno) = member.poll_socket(Traffic::Control) {
            self.log.warn(format_args!("DST connection from {peer} can't be polled: {errno}"));
            member.shut();
        }
    }

    /// Submits the parked requests that need not wait any longer, because a hold has ended.
    pub fn unpark(&self) {
        for member in self.members.borrow().values() {
            member.unpark();
        }
    }

    /// Serves the connections once. HOT.
    pub fn turn(&self) -> Turn {
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
        events += self.receive_from_workers();
        let completed = self.completions.collect();
        if !self.attended.borrow().is_empty() {
            self.attend_resets();
        }
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
            || !self.with_workers.borrow().is_empty()
            || self.to_resume.get() > 0
            || !self.attended.borrow().is_empty()
        {
            Turn::Waiting
        } else {
            Turn::Nothing
        }
    }

    /// Continues to receive on the connections whose bytes workers may have finished. Returns their
    /// number.
    fn receive_from_workers(&self) -> usize {
        let count = self.with_workers.borrow().len();
        for _ in 0..count {
            let Some(member) = self.with_workers.borrow_mut().pop_front() else { break };
            member.with_workers.set(false);
            member.receive();
        }
        count
    }

    /// Attends to the connections that resets concern.
    #[cold]
    fn attend_resets(&self) {
        let attended = std::mem::take(&mut *self.attended.borrow_mut());
        for member in attended {
            member.attended.set(false);
            member.attend_resets();
        }
    }

    /// Tries some stalled connections again, in turn. A connection that stalls again goes to the
    /// back.
    fn resume_stalled(&self) {
        let count = self.to_resume.get().min(RESUMED_A_TURN);
        self.to_resume.set(self.to_resume.get() - count);
        for _ in 0..count {
            let Some(member) = self.stalled.borrow_mut().pop_front() else { return };
            member.stalled.set(false);
            member.receive();
        }
    }

    /// Sends waiting frames. Answers that are to be sent together with others wait as long as each
    /// turn brings more. Returns true if anything was sent.
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
}

impl Member {
    /// Receives and handles what the socket has. HOT.
    fn receive(self: &Rc<Self>) {
        let group = &self.group;
        let mut connection = self.connection.borrow_mut();
        let max_handshake_bytes = group.options.max_handshake_bytes;
        match connection.receive(&group.pools, max_handshake_bytes, self, group.now_us.get()) {
            Ok(received) => {
                if received.is_with_workers && !self.with_workers.replace(true) {
                    group.with_workers.borrow_mut().push_back(Rc::clone(self));
                }
                if received.is_stalled && !self.stalled.replace(true) {
                    group.stalled.borrow_mut().push_back(Rc::clone(self));
                }
                let id = connection.id;
                match received.question {
                    None => {}
                    Some(HandshakeQuestion::Hello(hello)) => {
                        group.note(ToControl::Hello { connection: id, hello })
                    }
                    Some(HandshakeQuestion::Secure(message)) => {
                        group.note(ToControl::Secure { connection: id, message })
                    }
                }
                self.note_holds(&mut connection);
                while let Some(slot) = connection.next_reset() {
                    group.note(ToControl::Reset { connection: id, slot });
                }
                self.mark_dirty(&connection);
            }
            Err(why) => {
                self.note_holds(&mut connection);
                self.over(&mut connection, &why);
            }
        }
    }

    /// Adds the connection's notices about aborted requests to the group's reports.
    fn note_holds(&self, connection: &mut Connection) {
        for notice in connection.take_notices() {
            self.group.hold_reports.borrow_mut().add(notice);
        }
    }

    /// Submits the connection's parked requests that need not wait any longer.
    fn unpark(self: &Rc<Self>) {
        let mut connection = self.connection.borrow_mut();
        if let Err(why) = connection.unpark(self) {
            self.over(&mut connection, &why);
        }
    }

    /// Does the connection's part in resets, and comes back to it while more is to be done.
    fn attend_resets(self: &Rc<Self>) {
        let mut connection = self.connection.borrow_mut();
        let Attended { quiesced, is_attended } = match connection.attend_resets(&self.group.pools, self) {
            Ok(attended) => attended,
            Err(why) => return self.over(&mut connection, &why),
        };
        if let Some(round) = quiesced {
            self.group.note(ToControl::Quiesced { connection: connection.id, round });
        }
        if is_attended {
            self.attend();
        }
    }

    /// Adds the connection to those to which the group attends for resets.
    fn attend(self: &Rc<Self>) {
        if !self.attended.replace(true) {
            self.group.attended.borrow_mut().push(Rc::clone(self));
        }
    }

    /// Returns true if waiting Answers should wait a little longer, to be sent together with more.
    fn gathers(&self) -> bool {
        let waited_us = self.group.now_us.get().saturating_sub(self.dirty_since_us.get());
        self.connection.borrow().gathers(waited_us)
    }

    /// Sends waiting frames, as many bytes as the socket takes. HOT.
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

    /// Registers the socket for polling among the sockets with this kind of traffic, in place of an
    /// earlier registration.
    fn poll_socket(self: &Rc<Self>, traffic: Traffic) -> spdk::Result<()> {
        let connection = self.connection.borrow();
        let Some(sock) = connection.sock() else { return Ok(()) };
        let mut polled = self.polled.borrow_mut();
        polled.take();
        *polled = Some(self.group.sockets.add(sock, Rc::clone(self), traffic)?);
        Ok(())
    }

    /// Returns the client's address.
    pub fn peer(&self) -> SocketAddr {
        self.connection.borrow().peer
    }

    /// Ends the connection. Its socket is closed after the turn.
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

    /// Closes the socket. Must not be called inside the poll of the sockets.
    pub fn shut(self: &Rc<Self>) {
        self.polled.borrow_mut().take();
        let mut connection = self.connection.borrow_mut();
        let (id, shut) = (connection.id, connection.shut(&self.group.pools));
        drop(connection);
        match shut {
            Shut::Before => {}
            Shut::Draining => self.group.note(ToControl::Draining { connection: id }),
            Shut::Finished(remains) => self.group.finished(id, remains),
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
        match connection.completed(io, status, now_us, &self.group.pools, &self) {
            Completed::GoesOn => self.mark_dirty(&connection),
            Completed::Special => {
                self.note_holds(&mut connection);
                self.mark_dirty(&connection);
            }
            Completed::Over(why) => {
                self.note_holds(&mut connection);
                self.over(&mut connection, &why);
            }
            Completed::ToExecuteAgain => self.attend(),
            Completed::Finished(remains) => {
                let id = connection.id;
                self.note_holds(&mut connection);
                drop(connection);
                self.group.finished(id, remains);
            }
        }
    }
}
