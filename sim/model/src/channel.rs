//! A client's channel: its connection, its slab, and its waiting I/O.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use dst_session::fence::Fence;
use dst_session::lease::Held;
use dst_session::transactions::{Request, Transactions};
use dst_wire::{HEADER_LEN, Hello};

use crate::ledger::{Io, Ledger};
use crate::wire::{Key, Up, Wire};

/// The size of a block in bytes.
pub const BLOCK: u64 = 512;

/// The id of a session.
pub type SessionId = [u8; 16];

/// A channel's connection, or its attempt to connect.
#[derive(Debug, Clone)]
pub enum Link {
    /// The channel has no connection.
    Down,
    /// The Hello was sent.
    Greeting {
        /// The connection.
        key: Key,
        /// The Hello.
        hello: Box<Hello>,
    },
    /// The target has admitted the connection.
    Up {
        /// The connection.
        key: Key,
        /// How long the target executes what is sent on the connection; `None` in a world in which
        /// leases do not end.
        lease: Option<Held>,
    },
}

impl Link {
    /// Returns the connection.
    pub fn key(&self) -> Option<Key> {
        match self {
            Link::Down => None,
            Link::Greeting { key, .. } | Link::Up { key, .. } => Some(*key),
        }
    }

    /// Returns true if the target has admitted the connection.
    pub fn is_up(&self) -> bool {
        matches!(self, Link::Up { .. })
    }

    /// Adds to the hash whatever determines the behaviour from `now_us` on.
    pub fn canonical(&self, now_us: u64, hasher: &mut impl Hasher) {
        match self {
            Link::Down => 0.hash(hasher),
            Link::Greeting { key, hello } => (1, key, hello).hash(hasher),
            Link::Up { key, lease } => {
                (2, key, lease.as_ref().map(|lease| lease.canonical(now_us))).hash(hasher)
            }
        }
    }
}

/// A thread's channel: one queue of the session.
#[derive(Debug, Clone)]
pub struct ModelChannel {
    /// Its connection.
    pub link: Link,
    /// The session in which the outstanding transactions were last sent.
    pub session: Option<SessionId>,
    /// The count of the session's changes up to the one that the channel acted on last.
    pub session_change: u64,
    /// The slab.
    pub transactions: Transactions<Io>,
    /// I/O that waits for a connection or a credit.
    pub waiting: VecDeque<Io>,
    /// Whether requests that were sent may fail.
    pub fence: Fence,
    /// All I/O with lower numbers than this has reached its deadline.
    pub overdue: Io,
}

impl ModelChannel {
    /// Returns a channel with room for this many transactions.
    pub fn new(credits: u16) -> ModelChannel {
        ModelChannel {
            link: Link::Down,
            session: None,
            session_change: 0,
            transactions: Transactions::new(credits),
            waiting: VecDeque::new(),
            fence: Fence::default(),
            overdue: 0,
        }
    }

    /// Returns the oldest I/O that was sent. Its number stands for the time of its submission.
    fn oldest(&self) -> Option<Io> {
        self.transactions.oldest_us().map(|io| io as Io)
    }

    /// Returns whether the oldest I/O that was sent has reached its deadline.
    pub fn has_overdue(&self) -> bool {
        self.oldest().is_some_and(|io| io < self.overdue)
    }

    /// Sends the requests that wait to be sent.
    fn flush(&mut self, wire: &mut Wire) {
        let mut bytes = 0;
        for frame in self.transactions.outgoing() {
            let header: [u8; HEADER_LEN] = frame.header.try_into().expect("frames are sent as a whole");
            bytes += HEADER_LEN + frame.data_len;
            wire.up.push_back(Up::Request { header, io: *frame.user });
        }
        self.transactions.sent(bytes);
    }

    /// Begins waiting I/O as far as there are credits, and sends it.
    pub fn begin(&mut self, ledger: &Ledger, wire: &mut Wire) {
        while self.transactions.has_credit()
            && let Some(io) = self.waiting.pop_front()
        {
            let op = ledger.record(io).script.op;
            let (request_len, answer_len) = (op.request_data(BLOCK) as u32, op.answer_data(BLOCK) as u32);
            let request = Request { op, start: 0, count: 1, request_len, answer_len };
            self.transactions.begin(request, io, io.into(), None).expect("there is credit");
        }
        self.flush(wire);
    }

    /// Adds to the hash whatever determines the behaviour from `now_us` on.
    pub fn canonical(&self, now_us: u64, hasher: &mut impl Hasher) {
        let ModelChannel { link, session, session_change, transactions, waiting, fence, overdue } = self;
        link.canonical(now_us, hasher);
        (session, session_change, transactions, waiting, fence.canonical(now_us), overdue).hash(hasher);
    }

    /// Fails the I/O that was sent and has to fail. The caller knows that the target does not
    /// execute it any more.
    pub fn expire(&mut self, is_over: bool, ledger: &mut Ledger) {
        while (is_over && self.oldest().is_some() || self.has_overdue())
            && let Some(io) = self.transactions.abandon_oldest()
        {
            ledger.complete(io, false, None);
        }
    }
}
