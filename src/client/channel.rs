//! One SPDK thread's connection to the target, and the I/O that goes through it.
//!
//! A submission only queues. The channel's poller does the rest, so that all that was submitted in
//! one turn of the reactor goes out with one system call, and all answers that are there come in
//! with one. What happens without a connection is in `outage.rs`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use dst_session::deadline::{Availability, Deadlines, Fate, Overdue};
use dst_session::homing::Homing;
use dst_session::large_frames::OfEachPath;
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
use crate::log::Limit;
use crate::membership::Membership;
use crate::reset::Resets;
use crate::shared::Shared;
use crate::waiting::Waiting;

mod outage;

/// How often a connection without outstanding I/O is looked at, and every connection's silence,
/// lease and deadlines, µs. As often as when the poller rests.
const CHECK_PERIOD_US: u64 = REST_US;

/// With this many transactions outstanding, looking for answers waits a little after each look, so
/// that more come at once: an empty look takes the socket's lock from the side that is about to
/// fill it.
const BUSY: usize = 16;

/// How long it waits, µs: long enough for a batch, short enough that the target does not run out of
/// work. See docs/performance.md.
const BUSY_GAP_US: u64 = 5;

/// A thread's channel.
pub struct Channel {
    /// Apart from the rest, because a completion may submit while the rest is borrowed.
    waiting: Rc<Waiting>,
    inner: RefCell<Inner>,
    poller: RefCell<Option<Poller>>,
}

/// What a channel is, but for the submission of I/O.
struct Inner {
    shared: Arc<Shared>,
    standing: Arc<Standing>,
    /// The device as it was when the bdev was made.
    device: Device,
    queue: u16,
    link: Link,
    io: ChannelIo,
    membership: Membership,
    resets: Resets,
    deadlines: Deadlines,
    /// Whether it was logged, in this outage, that I/O fails.
    told_expired: bool,
    /// What lost connections say of their paths.
    large_frames: OfEachPath<Address>,
    homing: Homing,
    /// [`Places::path_changes`](crate::places::Places::path_changes) when `homing` was set.
    path_change: u64,
    log: Limit,
    /// For I/O that fails, which what is said of connections must not hide.
    ended_log: Limit,
    next_check_us: u64,
    next_look_us: u64,
}

impl Channel {
    /// A channel that begins to connect.
    ///
    /// # Errors
    /// Not enough memory, or too many channels.
    pub fn open(shared: &Arc<Shared>, device: Device) -> spdk::Result<Rc<Channel>> {
        let now = now_us();
        let (queue, standing) = shared.channels().open(shared.resets()).ok_or(spdk::Errno::ENOMEM)?;
        let waiting = Rc::new(Waiting::default());
        let options = shared.options();
        let inner = Inner {
            shared: Arc::clone(shared),
            device,
            queue,
            link: Link::new(Arc::clone(shared), queue, RECEIVE_BUFFER, now),
            io: ChannelIo::new(shared, &standing, device, Rc::clone(&waiting)),
            membership: Membership::new(shared, &standing),
            resets: Resets::new(shared, &standing),
            deadlines: Deadlines::new(options.transaction_timeout_ms, options.keep_alive_timeout_ms, now),
            standing,
            told_expired: false,
            large_frames: OfEachPath::default(),
            homing: Homing::Home,
            path_change: 0,
            log: Limit::default(),
            ended_log: Limit::default(),
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

    /// Ends the connection. All I/O has completed before.
    pub fn close(&self) {
        self.poller.borrow_mut().take();
        let inner = &mut *self.inner.borrow_mut();
        for path in inner.large_frames.suspects() {
            // Nobody else would say that it is over.
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
        let stalled = inner.deadlines.turn(now);
        if !inner.link.is_up() {
            inner.outage(now);
            // Until there is a connection nothing can be done for what waits but to look at the
            // time.
            return Turn::Nothing;
        }
        if stalled && let Some((connection, _)) = inner.link.up() {
            // It was we who did not listen.
            connection.silence.heard(now);
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
    /// A turn with a connection.
    fn work(&mut self, now: u64) -> Result<Turn, Broken> {
        let check = now >= self.next_check_us;
        let (connection, buffer) = self.link.up().expect("the caller has looked");
        let mut did_work = false;
        let outstanding = self.io.outstanding();
        let patient_us = self.deadlines.now_us();
        // Where the poller rests it was the socket that woke it.
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
                // A further part of an I/O whose time is up is not begun.
                self.expire_waiting(self.shared.availability(), true);
            }
        }
        if check {
            self.next_check_us = now + CHECK_PERIOD_US;
            let (connection, _) = self.link.up().expect("it still is");
            connection.keep_alive(self.io.take_acknowledged(), now)?;
            self.check(now)?;
        }
        if check || self.io.reset_waits() || self.resets.is_draining() || self.io.holds_resets() {
            self.resets.join(&mut self.io, patient_us)?;
        }
        if !self.homing.is_pausing() {
            did_work |= self.io.begin_waiting(patient_us);
        }
        let (connection, _) = self.link.up().expect("it still is");
        self.io.send(connection)?;
        if did_work {
            return Ok(Turn::Worked);
        }
        let is_waiting = connection.has_more() || self.io.wants_to_send();
        Ok(if is_waiting { Turn::Waiting } else { Turn::Nothing })
    }

    /// What is looked at now and then: deadlines, the session, the numbers that people see.
    fn check(&mut self, now: u64) -> Result<(), Broken> {
        self.io.count_now();
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
        self.io.look_at_waiting(patient_us);
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

    /// Fails what was aborted, as the target has let go of it.
    #[inline]
    fn fail_overdue(&mut self) {
        while let Some(io) = self.io.take_overdue() {
            self.fail(io, Fate::Expired, Availability::Available);
        }
    }

    /// Returns whether the connection is to be closed now, because the channel's own address is
    /// another one and can be used again.
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
        // A target that holds a transaction admits no other connection of the queue before the
        // backend is done. A bdev that is being removed or stopped would not connect again.
        let may_leave = !self.io.reset_waits()
            && !self.resets.is_draining()
            && !self.io.holds_resets()
            && !self.io.has_held()
            && !self.shared.availability().is_over()
            && !self.shared.stop().has_begun();
        self.homing.look(self.io.outstanding(), may_leave, now)
    }

    /// The next turn does all there is to do.
    fn look_at_once(&mut self) {
        self.next_check_us = 0;
        self.next_look_us = 0;
    }
}
