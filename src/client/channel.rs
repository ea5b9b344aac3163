//! One SPDK thread's connection to the target, and the I/O that goes through it.
//!
//! A submission only queues the I/O. The channel's poller does the rest: all I/O that was submitted
//! in one turn of the reactor is sent with one system call, and all Answers that have come are
//! received with one. `outage.rs` has the time without a connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use dst_session::deadline::{Availability, Deadlines, Fate, Overdue};
use dst_session::homing::Homing;
use dst_session::large_frames::OfEachPath;
use dst_session::mutation::{self, Mutation};
use dst_session::paths::PathNote;
use dst_transport::{Broken, RECEIVE_BUFFER};
use dst_wire::Device;
use spdk::bdev_io::BdevIo;
use spdk::clock::now_us;
use spdk::poller::{Poller, Turn};

use crate::address::Address;
use crate::channel_io::ChannelIo;
use crate::channels::Standing;
use crate::link::{Link, REST_US};
use crate::log::LogLimit;
use crate::membership::Membership;
use crate::reset::ChannelResets;
use crate::shared::Shared;
use crate::waiting::WaitingIo;

mod outage;

/// The period of checks, µs: a connection without outstanding I/O is read, and every connection's
/// silence, lease and deadlines are checked. A resting poller has the same period.
const CHECK_PERIOD_US: u64 = REST_US;

/// The number of outstanding transactions from which on the channel pauses between two reads of the
/// socket, so that each read finds several Answers. A read that finds none takes the socket's lock
/// from the kernel, which is about to put data there.
const BUSY: usize = 16;

/// The pause between two reads, µs: long enough for a batch of Answers, short enough that the
/// target does not run out of work. See docs/performance.md.
const BUSY_GAP_US: u64 = 5;

/// A thread's channel.
pub struct Channel {
    /// The I/O that is not begun yet. It is not part of `inner`, because the user may submit an I/O
    /// inside a completion, while `inner` is borrowed.
    waiting: Rc<WaitingIo>,
    inner: RefCell<Inner>,
    poller: RefCell<Option<Poller>>,
}

/// A channel's state, except for the queue of submitted I/O.
struct Inner {
    shared: Arc<Shared>,
    standing: Arc<Standing>,
    /// The device as it was when the bdev was registered.
    device: Device,
    queue: u16,
    link: Link,
    io: ChannelIo,
    membership: Membership,
    resets: ChannelResets,
    deadlines: Deadlines,
    /// Whether the log already says that I/O fails in this outage.
    has_logged_expiry: bool,
    /// For each path, whether lost connections suggest that large frames do not pass.
    large_frames: OfEachPath<Address>,
    homing: Homing,
    /// The value of [`Places::path_changes`](crate::places::Places::path_changes) when `homing` was
    /// set.
    path_change: u64,
    log: LogLimit,
    /// A limit of its own for lines about failed I/O, which lines about connections must not crowd
    /// out.
    ended_log: LogLimit,
    next_check_us: u64,
    next_look_us: u64,
}

impl Channel {
    /// Returns a channel that begins to connect.
    ///
    /// # Errors
    /// Fails if memory is short, or if the bdev has 65,535 channels.
    pub fn open(shared: &Arc<Shared>, device: Device) -> spdk::Result<Rc<Channel>> {
        let now = now_us();
        let (queue, standing) = shared.channels().open(shared.resets()).ok_or(spdk::Errno::ENOMEM)?;
        let waiting = Rc::new(WaitingIo::default());
        let options = shared.options();
        let inner = Inner {
            shared: Arc::clone(shared),
            device,
            queue,
            link: Link::new(Arc::clone(shared), queue, RECEIVE_BUFFER, now),
            io: ChannelIo::new(shared, &standing, device, Rc::clone(&waiting)),
            membership: Membership::new(shared, &standing),
            resets: ChannelResets::new(shared, &standing),
            deadlines: Deadlines::new(options.transaction_timeout_ms, options.keep_alive_timeout_ms, now),
            standing,
            has_logged_expiry: false,
            large_frames: OfEachPath::default(),
            homing: Homing::Home,
            path_change: 0,
            log: LogLimit::default(),
            ended_log: LogLimit::default(),
            next_check_us: 0,
            next_look_us: 0,
        };
        let channel = Rc::new(Channel { waiting, inner: RefCell::new(inner), poller: RefCell::new(None) });
        let polled = Rc::downgrade(&channel);
        let turn = move || polled.upgrade().map_or(Turn::Nothing, |channel| channel.poll());
        match Poller::resting(0, REST_US, turn) {
            Ok(poller) => {
                channel.inner.borrow_mut().link.set_waker(poller.waker());
                *channel.poller.borrow_mut() = Some(poller);
            }
            Err(errno) => {
                channel.close();
                return Err(errno);
            }
        }
        Ok(channel)
    }

    /// Closes the connection. To be called when all I/O has completed.
    pub fn close(&self) {
        self.poller.borrow_mut().take();
        let inner = &mut *self.inner.borrow_mut();
        for path in inner.large_frames.suspects() {
            // No other channel would withdraw this channel's suspicion.
            inner.shared.places().note_path(path, PathNote::Unknown, now_us());
        }
        if inner.link.close_politely() {
            inner.shared.channels().closed_connection();
        }
        inner.shared.channels().close(inner.queue, &inner.standing);
    }

    /// Queues an I/O.
    pub fn submit(&self, io: BdevIo) {
        self.waiting.push(io);
        if let Some(poller) = &*self.poller.borrow() {
            poller.wake();
        }
    }

    fn poll(&self) -> Turn {
        let now = now_us();
        let inner = &mut *self.inner.borrow_mut();
        inner.advance_clock(now);
        if !inner.link.is_up() {
            inner.outage(now);
            // Without a connection, only the time is to be watched for I/O that waits.
            return Turn::Nothing;
        }
        match inner.work(now) {
            Ok(did_work) => did_work,
            Err(broken) => {
                inner.lost(broken, now);
                Turn::Worked
            }
        }
    }
}

impl Inner {
    /// Does a turn with a connection.
    fn work(&mut self, mut now: u64) -> Result<Turn, Broken> {
        // Nothing begins in a session that was given up: a compare-and-write that was sent in it is
        // not sent again in the next one.
        let check = now >= self.next_check_us || !self.membership.is_current();
        let (connection, buffer) = self.link.up().expect("the caller has looked");
        let mut did_work = false;
        let outstanding = self.io.outstanding();
        let patient_us = self.deadlines.now_us();
        // If the poller rests, the socket has woken it, so there is something to receive.
        if check || (outstanding > 0 || connection.rests()) && now >= self.next_look_us {
            let session = self.membership.session().expect("a link that is up has a session");
            if self.io.receive(connection, buffer, session.start, patient_us)? {
                connection.silence.heard(now);
                did_work = true;
            }
            self.next_look_us = if outstanding >= BUSY { now + BUSY_GAP_US } else { now };
        }
        if did_work {
            self.fail_overdue();
            if self.io.oldest_waiting_us().is_some() {
                // A further part of an I/O whose deadline has passed must not be begun.
                self.expire_waiting(self.shared.availability(), true);
            }
            now = self.read_clock_again();
        }
        if check {
            self.next_check_us = now + CHECK_PERIOD_US;
            let (connection, _) = self.link.up().expect("it still is");
            connection.keep_alive(self.io.take_acknowledged(), now)?;
            self.check(now)?;
        }
        if check || self.io.reset_waits() || self.resets.is_draining() || self.io.holds_resets() {
            self.resets.join(&mut self.io, self.deadlines.now_us())?;
            self.read_clock_again();
        }
        if !self.homing.is_pausing() {
            did_work |= self.io.begin_waiting(self.deadlines.now_us());
        }
        let (connection, _) = self.link.up().expect("it still is");
        self.io.send(connection)?;
        if did_work {
            return Ok(Turn::Worked);
        }
        let is_waiting = connection.has_more() || self.io.wants_to_send();
        Ok(if is_waiting { Turn::Waiting } else { Turn::Nothing })
    }

    /// Reads the clock again in a turn that has completed I/O. What the user submitted inside a
    /// completion gets this time: with the turn's first, it would fail too early by as long as the
    /// process did not run in between.
    #[inline]
    fn read_clock_again(&mut self) -> u64 {
        let now = now_us();
        if !mutation::is_on(Mutation::OldTime) {
            self.advance_clock(now);
        }
        now
    }

    #[inline]
    fn advance_clock(&mut self, now: u64) {
        if self.deadlines.advance(now)
            && let Some((connection, _)) = self.link.up()
        {
            // This process was stopped. That it heard nothing says nothing about the target.
            connection.silence.heard(now);
        }
    }

    /// Checks what need not be checked in each turn: deadlines, the session, the address. Updates
    /// the counters that are shown.
    fn check(&mut self, now: u64) -> Result<(), Broken> {
        self.io.count_now();
        if self.io.was_told_goodbye() {
            return Err(Broken::Goodbye);
        }
        if let Some((at, life)) = self.link.address().zip(self.link.life())
            && self.large_frames.look(at, life)
            && self.shared.places().note_path(at, PathNote::Passes, now)
        {
            spdk::notice!("DST bdev {}: large frames to {at} pass now", self.shared.name());
        }
        if !self.membership.is_current() {
            return Err(Broken::SessionOver);
        }
        if self.link.repoint() != self.shared.places().repoints() {
            return Err(Broken::Repointed);
        }
        if self.is_to_go_home(now) {
            return Err(Broken::Homing);
        }
        self.deadlines.look_at_stop(self.shared.stop(), now);
        let patient_us = self.deadlines.now_us();
        self.io.stamp_new(patient_us);
        let availability = self.shared.availability();
        self.expire_waiting(availability, true);
        if self.deadlines.is_stop_over(true) {
            return Err(Broken::Stopping);
        }
        let Some(since) = self.io.oldest_sent_us() else { return Ok(()) };
        match self.deadlines.overdue(availability, self.io.has_aborts(), since) {
            Overdue::Wait => {}
            Overdue::Abort => {
                let (connection, _) = self.link.up().expect("it is looked at with a connection");
                self.io.abort(connection, |since_us| self.deadlines.is_late(since_us));
            }
            Overdue::GiveUp => {
                if self.deadlines.hangs_in_stop(since) {
                    self.shared.stop().give_up();
                }
                return Err(Broken::Unanswered(patient_us.saturating_sub(since) / 1000));
            }
        }
        Ok(())
    }

    /// Fails the aborted I/O that the target no longer executes.
    #[inline]
    fn fail_overdue(&mut self) {
        while let Some(io) = self.io.take_overdue() {
            self.fail(io, Fate::Expired, Availability::Available);
        }
    }

    /// Returns true if the connection is to be closed now, because it is not to the channel's own
    /// address, which can be used again.
    fn is_to_go_home(&mut self, now: u64) -> bool {
        let change = self.shared.places().path_changes();
        if change != self.path_change {
            self.path_change = change;
            let is_better =
                self.link.address().is_some_and(|at| self.shared.places().is_better(self.queue, at));
            self.homing.set(is_better, now);
        }
        if self.homing == Homing::Home {
            return false;
        }
        // As long as the target holds a transaction, it admits no other connection of the queue. A
        // bdev that is being removed or stopped would not connect again.
        let may_leave = !self.io.reset_waits()
            && !self.resets.is_draining()
            && !self.io.holds_resets()
            && !self.io.has_held()
            && !self.shared.availability().is_over()
            && !self.shared.stop().has_begun();
        self.homing.look(self.io.outstanding(), may_leave, now)
    }

    /// Makes the next turn read the socket and do all checks.
    fn check_at_once(&mut self) {
        self.next_check_us = 0;
        self.next_look_us = 0;
    }
}
