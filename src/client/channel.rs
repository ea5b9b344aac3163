//! One SPDK thread's connection to the target, and the I/O that goes through it.
//!
//! A submission only queues. The channel's poller does the rest, so that all that was submitted in one
//! turn of the reactor goes out with one system call, and all answers that are there come in with one.
//! What happens without a connection is in `outage.rs`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use dst_session::patience::Patience;
use dst_session::transactions::{Request, Transactions};
use dst_transport::{Broken, RECEIVE_BUFFER};
use dst_wire::{Device, Op};
use spdk::backend::IoStatus;
use spdk::bdev_io::{BdevIo, BdevIoQueue, IoKind};
use spdk::clock::now_us;
use spdk::iov::Iov;
use spdk::poller::{Poller, Turn};

use crate::answers::{Answers, Incoming, Pending, Record, digest_of, op_of};
use crate::counters::Counters;
use crate::link::{Connection, Link};
use crate::log::Limit;
use crate::shared::{Session, Shared};

/// How often a connection without outstanding I/O is looked at, and every connection's silence, lease and
/// deadlines.
const IDLE_PERIOD_US: u64 = 10_000;

/// With this many transactions outstanding, looking for answers waits a little after each look, so that
/// more come at once: an empty look takes the socket's lock from the side that is about to fill it.
const BUSY: usize = 16;

/// How long it waits: long enough for a batch, short enough that the target does not run out of work. See
/// docs/performance.md.
const BUSY_GAP_US: u64 = 5;

/// A thread's channel.
pub struct Channel {
    /// Submitted and not begun. Apart from the rest, because a completion may submit while the rest is
    /// borrowed.
    waiting: Waiting,
    inner: RefCell<Inner>,
    poller: RefCell<Option<Poller>>,
}

/// I/O that waits for a credit or a connection, in the order of submission. Each has its submission's time
/// as its stamp.
#[derive(Default)]
pub struct Waiting {
    queue: RefCell<BdevIoQueue>,
    /// Submitted since the channel looked last, without a stamp. The time of that look is no stamp: the
    /// process may have been stopped since.
    new: RefCell<BdevIoQueue>,
    /// How many of all are resets.
    resets: Cell<usize>,
}

impl Waiting {
    fn push(&self, io: BdevIo) {
        if io.kind() == IoKind::Reset {
            self.resets.set(self.resets.get() + 1);
        }
        self.new.borrow_mut().push_back(io);
    }

    /// The first, with its stamp; `patient_us` if it has none yet.
    #[inline]
    fn next(&self, patient_us: u64) -> Option<BdevIo> {
        if let Some(io) = self.pop() {
            return Some(io);
        }
        let mut io = self.new.borrow_mut().pop_front()?;
        io.set_stamp(patient_us);
        self.count_out(&io);
        Some(io)
    }

    /// Stamps what came since the last time.
    pub fn look(&self, patient_us: u64) {
        let (mut new, mut queue) = (self.new.borrow_mut(), self.queue.borrow_mut());
        while let Some(mut io) = new.pop_front() {
            io.set_stamp(patient_us);
            queue.push_back(io);
        }
    }

    pub fn pop(&self) -> Option<BdevIo> {
        let io = self.queue.borrow_mut().pop_front()?;
        self.count_out(&io);
        Some(io)
    }

    fn count_out(&self, io: &BdevIo) {
        if io.kind() == IoKind::Reset {
            self.resets.set(self.resets.get() - 1);
        }
    }

    pub fn len(&self) -> usize {
        self.queue.borrow().len() + self.new.borrow().len()
    }

    /// When the first was submitted.
    pub fn oldest_us(&self) -> Option<u64> {
        self.queue.borrow().first_stamp()
    }

    pub fn has_reset(&self) -> bool {
        self.resets.get() > 0
    }
}

/// What a channel is, but for the queue of what waits.
pub struct Inner {
    pub shared: Arc<Shared>,
    pub device: Device,
    pub queue: u16,
    /// The session in which the outstanding transactions were sent last.
    pub session: Option<Session>,
    /// The count of changes of the session that this one was seen with.
    pub session_change: u64,
    pub link: Link,
    pub transactions: Transactions<Pending>,
    pub incoming: Incoming,
    pub counters: Arc<Counters>,
    pub patience: Patience,
    /// From when on nothing is executed any more that was sent on connections that are lost.
    pub fenced_us: u64,
    /// Whether, for a reset, what is outstanding has to end without the target: there was no connection, or it was lost.
    pub aborting: bool,
    /// Whether, for a reset, what is outstanding is waited for.
    pub draining: bool,
    /// Resets that complete when all else has.
    pub resets: BdevIoQueue,
    /// The newest of the bdev's resets ([`Shared::resets`]) that this channel takes part in.
    pub resets_seen: u64,
    /// How many losses of the target's cache this channel has reported.
    pub losses_seen: u64,
    /// Since when the bdev is being deleted, as deadlines are counted.
    pub closing_since_us: Option<u64>,
    /// Whether it was logged, in this outage, that I/O fails.
    pub told_expired: bool,
    pub log: Limit,
    /// For I/O that fails, which what is said of connections must not hide.
    pub ended_log: Limit,
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
        let queue = shared.take_queue().ok_or(spdk::Errno::ENOMEM)?;
        let inner = Inner {
            shared: Arc::clone(shared),
            device,
            queue,
            session: None,
            session_change: shared.session_changes(),
            link: Link::new(Arc::clone(shared), queue, RECEIVE_BUFFER, now),
            transactions: Transactions::new(shared.options.queue_depth),
            incoming: Incoming::default(),
            counters: shared.add_counters(),
            patience: Patience::new(now),
            fenced_us: 0,
            aborting: false,
            draining: false,
            resets: BdevIoQueue::new(),
            resets_seen: shared.resets.load(Acquire),
            losses_seen: shared.durability.reported(),
            closing_since_us: None,
            told_expired: false,
            log: Limit::default(),
            ended_log: Limit::default(),
            next_check_us: 0,
            next_look_us: 0,
        };
        inner.counters.resets_joined.store(inner.resets_seen, Release);
        let waiting = Waiting::default();
        let channel = Rc::new(Channel { waiting, inner: RefCell::new(inner), poller: RefCell::new(None) });
        let polled = Rc::downgrade(&channel);
        let turn = move || polled.upgrade().map_or(Turn::Nothing, |channel| channel.poll());
        match Poller::resting(0, IDLE_PERIOD_US, turn) {
            Ok(poller) => {
                channel.inner.borrow_mut().link.waker = poller.waker();
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
        if let Some((connection, _)) = inner.link.up() {
            connection.goodbye();
            inner.shared.connected.fetch_sub(1, Release);
        }
        inner.link.close();
        // All I/O has completed: these say what is now, and are in the sum of those before from here on.
        inner.counters.outstanding.store(0, Relaxed);
        inner.counters.waiting.store(0, Relaxed);
        inner.shared.remove_channel(inner.queue, &inner.counters);
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
        let stalled = inner.patience.turn(now);
        if !inner.link.is_up() {
            self.waiting.look(inner.patience.now_us());
            inner.outage(now, &self.waiting);
            // Until there is a connection nothing can be done for what waits but to look at the time.
            return Turn::Nothing;
        }
        if stalled && let Some((connection, _)) = inner.link.up() {
            // It was we who did not listen.
            connection.silence.heard(now);
        }
        match inner.work(now, &self.waiting) {
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
    fn work(&mut self, now: u64, waiting: &Waiting) -> Result<Turn, Broken> {
        let check = now >= self.next_check_us;
        let (connection, buffer) = self.link.up().expect("the caller has looked");
        let mut did_work = false;
        let outstanding = self.transactions.outstanding();
        // Where the poller rests it was the socket that woke it.
        if check || (outstanding > 0 || connection.rests()) && now >= self.next_look_us {
            let record = Record {
                durability: &self.shared.durability,
                start: self.session.expect("a link that is up has a session").start,
                is_volatile: self.device.write_cache,
            };
            let mut answers = Answers {
                transactions: &mut self.transactions,
                incoming: &mut self.incoming,
                counters: &self.counters,
                resets: &mut self.resets,
                record,
                patient_us: self.patience.now_us(),
            };
            let pumped = connection.receiver.pump(&mut connection.stream, buffer, &mut answers)?;
            if pumped.received > 0 {
                connection.silence.heard(now);
                did_work = true;
            }
            self.next_look_us = if outstanding >= BUSY { now + BUSY_GAP_US } else { now };
        }
        if check {
            self.next_check_us = now + IDLE_PERIOD_US;
            connection.keep_alive(self.incoming.acknowledged.take(), now)?;
            self.check(waiting)?;
        }
        if check || waiting.has_reset() || self.draining || !self.resets.is_empty() {
            self.join_resets(waiting)?;
        }
        // A reset is no transaction like others: the next turn begins with it.
        while self.transactions.has_credit() && !waiting.has_reset() {
            let Some(io) = waiting.next(self.patience.now_us()) else { break };
            self.begin(io);
            did_work = true;
        }
        let (connection, _) = self.link.up().expect("it still is");
        flush(connection, &mut self.transactions)?;
        if did_work {
            return Ok(Turn::Worked);
        }
        let is_waiting = connection.has_more() || self.transactions.wants_to_send();
        Ok(if is_waiting { Turn::Waiting } else { Turn::Nothing })
    }

    /// What is looked at now and then: deadlines, the session, the numbers that people see.
    fn check(&mut self, waiting: &Waiting) -> Result<(), Broken> {
        self.counters.outstanding.store(self.transactions.outstanding() as u64, Relaxed);
        self.counters.waiting.store(waiting.len() as u64, Relaxed);
        if self.shared.session_changes() != self.session_change {
            return Err(Broken::SessionOver);
        }
        let now = self.patience.now_us();
        waiting.look(now);
        self.expire_waiting(waiting);
        let since = self.transactions.oldest_us();
        let Some(since) = since.filter(|&since| self.is_overdue(since)) else { return Ok(()) };
        // What was sent may still be executed: only a fence, or the end of the lease, lets it fail.
        Err(Broken::Unanswered(now.saturating_sub(since) / 1000))
    }

    /// The next turn does all there is to do.
    pub fn look_at_once(&mut self) {
        self.next_check_us = 0;
        self.next_look_us = 0;
    }

    /// Makes a transaction of an I/O. There is credit.
    pub fn begin(&mut self, io: BdevIo) {
        let fail = |io: BdevIo| {
            Counters::add(&self.counters.errors, 1);
            io.complete(IoStatus::Failed);
        };
        let Some(op) = op_of(io.kind()).filter(|&op| self.device.ops.contains(op)) else { return fail(io) };
        let (start, count) = if op.has_range() { (io.offset_blocks(), io.num_blocks()) } else { (0, 0) };
        let bytes = count.saturating_mul(self.device.block_size.into());
        let (request_len, answer_len) = (op.request_data(bytes), op.answer_data(bytes));
        let (Ok(request_len), Ok(answer_len)) = (request_len.try_into(), answer_len.try_into()) else {
            return fail(io);
        };
        let mut flush = 0;
        if op == Op::Flush && self.device.write_cache {
            let durability = &self.shared.durability;
            if durability.must_report(&mut self.losses_seen) {
                return fail(io);
            }
            flush = durability.flush_begins();
        }
        Counters::add(&self.counters.transactions, 1);
        let request = Request { op, start, count, request_len, answer_len };
        let stamp = io.stamp();
        let has_digest = request_len > 0 && self.transactions.has_digests();
        let digest = has_digest.then(|| digest_of(&io, request_len as usize));
        if let Err(pending) = self.transactions.begin(request, Pending { io, flush }, stamp, digest) {
            pending.io.complete(IoStatus::Failed);
        }
    }
}

/// Sends what waits, as much as the socket takes.
fn flush(connection: &mut Connection, transactions: &mut Transactions<Pending>) -> Result<(), Broken> {
    loop {
        if connection.outbox.is_empty() && !transactions.wants_to_send() {
            if connection.stream.unsent() > 0 {
                connection.stream.writev(&Iov::new())?;
            }
            return Ok(());
        }
        let mut iov = Iov::new();
        let mut control = 0;
        if !transactions.is_mid_frame() {
            control = connection.outbox.pending().len();
            iov.push(connection.outbox.pending());
        }
        for out in transactions.outgoing() {
            // A header alone would be sent without its data, which is no error, only one more call.
            if iov.remaining_capacity() < 2 {
                break;
            }
            iov.push(out.header);
            if iov.push_io(&out.user.io, out.data_from, out.data_len) < out.data_len {
                break;
            }
        }
        let wanted = iov.len_bytes();
        let sent = connection.stream.writev(&iov)?;
        let of_control = sent.min(control);
        connection.outbox.sent(of_control);
        transactions.sent(sent - of_control);
        if sent < wanted {
            return Ok(());
        }
    }
}
