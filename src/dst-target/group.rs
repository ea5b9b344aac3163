//! The group of one core, and its communication with the control thread.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use dst_broker::{ClientId, ConnectionId};
use dst_session::slots::Slots;
use dst_wire::{SessionRef, Welcome};
use spdk::Errno;
use spdk::interrupt::Watch;
use spdk::poller::{Poller, Turn};
use spdk::sock::Sock;
use spdk::thread::Thread;

use crate::holds::{GroupHolds, HoldNotice};
use crate::members::{Member, Members, TICK_US};
use crate::messages::{ControlSender, Join, ToControl, ToGroup};
use crate::options::Options;
use crate::queue::{Queue, Setup};
use crate::share::ClientShares;
use crate::stage::Requests;

spdk::thread_local! {
    /// The group of this thread. Each group has a core, and so an OS thread, of its own.
    static GROUP: RefCell<Option<Rc<Group>>> = const { RefCell::new(None) };
}

/// The group of one core.
pub struct Group {
    members: Rc<Members>,
    clients: ClientShares<ClientId>,
    holds: GroupHolds,
    /// The poller of the connections, and the watch of their sockets; `None` without connections.
    poller: RefCell<Option<(Poller, Watch)>>,
    control: ControlSender,
    core: u32,
}

/// Creates this thread's group.
///
/// # Errors
/// Fails if memory is short.
pub fn start(options: Options, control: ControlSender, core: u32) -> spdk::Result<()> {
    let members = Rc::new(Members::new(options)?);
    let (clients, holds, poller) = (ClientShares::default(), GroupHolds::default(), RefCell::default());
    let group = Group { members, clients, holds, poller, control, core };
    GROUP.with(|slot| *slot.borrow_mut() = Some(Rc::new(group)));
    Ok(())
}

/// Handles a message of the control thread.
pub fn handle_message(message: ToGroup) {
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
        (Some(group), message) => group.handle_message(message),
        // This thread's group could not be started, so the control thread does not use it.
        (None, _) => {}
    }
}

impl Group {
    /// Ends the group, which has no connections any more.
    fn stop(&self) {
        assert!(self.members.is_empty(), "a group is stopped after its connections");
        self.poller.borrow_mut().take();
    }

    /// Handles a message of the control thread.
    fn handle_message(self: &Rc<Self>, message: ToGroup) {
        match message {
            ToGroup::Adopt { connection, sock, peer } => self.adopt(connection, sock, peer),
            ToGroup::Secure { connection, answer, secured } => {
                self.with_member(connection, |member| member.secure(&answer, *secured));
            }
            ToGroup::Welcome { connection, welcome, join } => self.welcome(connection, &welcome, join),
            ToGroup::Refuse { connection, refusal } => {
                self.with_member(connection, |member| member.refuse(&refusal));
            }
            ToGroup::Event { connection, event } => {
                self.with_member(connection, |member| member.event(event))
            }
            ToGroup::Reset { connection, step } => {
                self.with_member(connection, |member| member.reset_step(step));
            }
            ToGroup::Close { connection } => self.with_member(connection, |member| member.close()),
            ToGroup::Leave { connection } => self.with_member(connection, |member| member.leave()),
            ToGroup::Count { question } => {
                let counts = self.members.activities();
                self.control.tell(ToControl::Counted { question, counts });
            }
            ToGroup::Holds { by, notices } => self.take_holds(by, &notices),
            ToGroup::Held(ids) => {
                for id in ids.iter() {
                    self.with_member(id.connection, |member| member.held(id.request));
                }
            }
            ToGroup::Stop => unreachable!("the thread takes this message"),
        }
    }

    fn start_poller(self: &Rc<Self>) {
        let group = Rc::clone(self);
        // A poller is a small allocation, without which the group cannot work.
        let poller = Poller::resting(0, TICK_US, move || group.turn()).expect("a poller can be registered");
        let watch = self.members.set_waker(&poller.waker()).expect("sockets can be watched");
        *self.poller.borrow_mut() = Some((poller, watch));
    }

    fn turn(&self) -> Turn {
        let turn = self.members.turn();
        // Most turns have no notices.
        if self.members.has_notices() {
            self.tell_notices();
        }
        turn
    }

    /// Returns the connection for which a message of the control thread is, and wakes the poller.
    fn member(&self, id: ConnectionId) -> Option<Rc<Member>> {
        if let Some((poller, _)) = &*self.poller.borrow() {
            // No socket wakes the poller for this.
            poller.wake();
        }
        self.members.get(id)
    }

    /// Calls `f` with a connection, unless the connection is finished.
    fn with_member(&self, id: ConnectionId, f: impl FnOnce(&Rc<Member>)) {
        if let Some(member) = self.member(id) {
            f(&member);
            self.tell_notices();
        }
    }

    /// Handles notices about requests that are to be held from now on, or no longer.
    fn take_holds(&self, by: u32, notices: &[HoldNotice]) {
        let mut has_released = false;
        for notice in notices {
            match notice {
                HoldNotice::Hold(hold) => self.holds.hold(hold),
                HoldNotice::Release { client, id } => {
                    self.holds.release(client, *id);
                    has_released = true;
                }
            }
        }
        if by == self.core {
            self.members.hold_reports.borrow_mut().taken();
        }
        if has_released {
            self.members.unpark();
        }
        self.tell_notices();
    }

    /// Sends the connections' notices to the control thread.
    fn tell_notices(&self) {
        let report = self.members.hold_reports.borrow_mut().next();
        if let Some(notices) = report {
            self.control.tell(ToControl::Holds { by: self.core, notices });
        }
        while let Some(notice) = self.members.next_notice() {
            if matches!(notice, ToControl::Finished { .. }) && self.members.is_empty() {
                // A group without connections is not polled. The poller may be dropped inside its
                // own call.
                self.poller.borrow_mut().take();
            }
            self.control.tell(notice);
        }
    }

    /// Returns a queue with a channel to its bdev, for a connection of this thread.
    ///
    /// # Errors
    /// Returns the record, and SPDK's error, if the bdev has no channel for this thread.
    fn requests(&self, connection: ConnectionId, join: Join) -> Result<Box<Requests>, (Slots, Errno)> {
        let Join { bdev, joining, backend_resets } = join;
        let channel = match bdev.channel() {
            Ok(channel) => channel,
            Err(errno) => return Err((joining.slots, errno)),
        };
        let queue = Queue::new(Setup {
            device: joining.device,
            max_transfer: joining.max_transfer,
            has_digests: joining.has_digests,
            slots: joining.slots,
            holds: self.holds.of(&joining.client),
            client_share: self.clients.share_of(joining.client),
            connection,
            backend_resets,
            required_alignment: channel.required_alignment(),
        });
        Ok(Box::new(Requests { queue, channel }))
    }

    /// Adds a new connection.
    fn adopt(self: &Rc<Self>, id: ConnectionId, sock: Sock, peer: SocketAddr) {
        self.members.add(id, sock, peer);
        self.tell_notices();
        let must_start = !self.members.is_empty() && self.poller.borrow().is_none();
        if must_start {
            self.start_poller();
        }
    }

    /// Admits a connection. With `join`, the connection gets a queue.
    fn welcome(&self, id: ConnectionId, welcome: &Welcome, join: Option<Box<Join>>) {
        let place = &welcome.session;
        let Some(member) = self.member(id) else {
            if let Some(join) = join {
                self.return_slots(id, place, join.joining.slots);
            }
            return;
        };
        let unused = match join.map(|join| self.requests(id, *join)).transpose() {
            Ok(mut requests) => {
                if let Some(requests) = &mut requests {
                    requests.queue.traces.begin(place);
                }
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

    /// Sends a record back that was meant for a connection which is gone already.
    fn return_slots(&self, connection: ConnectionId, place: &SessionRef, slots: Slots) {
        let (session, queue) = (place.id, place.queue);
        self.control.tell(ToControl::Returned { connection, session, queue, slots });
    }
}
