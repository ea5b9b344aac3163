//! How far a connection has come, and what it owns there.

use dst_broker::Stats;
use dst_security::Secured;
use dst_session::Violation;
use dst_session::lease::Granted;
use dst_transport::Broken;
use dst_wire::{Kind, Welcome, WireError};
use spdk::backend::BackendChannel;

use crate::queue::{Queue, is_over};
use crate::send_progress::SendProgress;

/// A client that takes next to nothing of what waits for it is closed after its keep-alive time, at
/// the latest after this, ms: it holds memory that others want.
const NOT_TAKING_MS: u32 = 30_000;

/// The time that a connection has from its accept until it is admitted.
#[derive(Debug, Clone, Copy)]
pub struct HandshakeTimer {
    timeout_us: u64,
    began_us: u64,
}

impl HandshakeTimer {
    /// Starts the timer.
    pub fn new(timeout_ms: u32, now_us: u64) -> HandshakeTimer {
        HandshakeTimer { timeout_us: u64::from(timeout_ms) * 1000, began_us: now_us }
    }

    /// Returns why the connection is over, if its time is.
    pub fn over(&self, now_us: u64) -> Option<Broken> {
        let taken_us = now_us.saturating_sub(self.began_us);
        (taken_us >= self.timeout_us).then_some(Broken::HandshakeTime(taken_us / 1000))
    }
}

/// How far an open connection has come.
pub enum Stage {
    /// It is not admitted yet.
    Handshake { timer: HandshakeTimer, step: Step },
    /// It carries requests; a session's first connection carries keep-alives and events.
    Ready(Ready),
}

impl Stage {
    /// Returns the queue with its channel, if the connection has one.
    pub fn requests(&self) -> Option<&Requests> {
        if let Stage::Ready(ready) = self { ready.requests.as_deref() } else { None }
    }

    /// As [`Stage::requests`], to be changed.
    pub fn requests_mut(&mut self) -> Option<&mut Requests> {
        if let Stage::Ready(ready) = self { ready.requests.as_deref_mut() } else { None }
    }
}

/// A step of the handshake.
pub enum Step {
    /// A Hello is awaited, or what the connection is to be secured with. `is_secured`: only a Hello.
    Awaiting { is_secured: bool, message: Option<Message> },
    /// The control thread has the message and decides.
    Asking,
    /// The last message in clear is on its way. Everything behind it is sent and received with these.
    Securing(Box<Secured>),
    /// The control thread has refused: the connection ends when the refusal is sent.
    Refused,
}

impl Step {
    /// The first step of a connection.
    pub const FIRST: Step = Step::Awaiting { is_secured: false, message: None };
    /// The step behind the key agreement.
    pub const SECURED: Step = Step::Awaiting { is_secured: true, message: None };
}

/// The message of the handshake that is coming in, as far as it has come.
pub enum Message {
    Hello(Vec<u8>),
    Secure(Vec<u8>),
}

/// What an admitted connection has.
pub struct Ready {
    pub lease: Granted,
    /// How long each lease is granted for, ms.
    keep_alive_ms: u32,
    pub send_progress: SendProgress,
    /// When the client last got a sign of life that it had not asked for.
    spoke_us: u64,
    /// The frame whose header came last.
    pub frame: Frame,
    /// The client has ended the connection on purpose.
    pub said_goodbye: bool,
    /// None on a session's first connection.
    pub requests: Option<Box<Requests>>,
    /// Whether the client may abort requests.
    pub has_aborts: bool,
}

/// A frame that is coming in on an admitted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// None has come yet.
    Nothing,
    Request,
    /// `id`: its number; `has`: that of the newest acknowledgement that the client has.
    KeepAlive {
        id: u64,
        has: u64,
    },
    Goodbye,
    /// `id`: the request's.
    Abort {
        id: u64,
    },
}

/// A queue, and where its requests are executed.
pub struct Requests {
    pub queue: Queue,
    /// The export's bdev, on this thread.
    pub channel: BackendChannel,
}

impl Ready {
    /// Returns the state of a connection that is admitted now.
    pub fn new(welcome: &Welcome, requests: Option<Box<Requests>>, now_us: u64) -> Ready {
        let keep_alive_ms = welcome.keep_alive_ms;
        Ready {
            lease: Granted::new(keep_alive_ms, now_us),
            keep_alive_ms,
            send_progress: SendProgress::new(keep_alive_ms.min(NOT_TAKING_MS), now_us),
            spoke_us: now_us,
            frame: Frame::Nothing,
            said_goodbye: false,
            requests,
            has_aborts: welcome.aborts,
        }
    }

    /// Returns the end of a connection whose lease is over: how long ago it was last renewed.
    pub fn lease_over(&self, now_us: u64) -> Broken {
        let left_us = now_us.saturating_sub(self.lease.until_us());
        Broken::LeaseOver(left_us / 1000 + u64::from(self.keep_alive_ms))
    }

    /// Returns why the connection is over, if it is: its client takes nothing, or its lease has run
    /// out.
    pub fn over(&mut self, wants_to_send: bool, now_us: u64) -> Option<Broken> {
        if !wants_to_send {
            self.send_progress.all_sent(now_us);
        } else if let Some(since_ms) = self.send_progress.is_too_long(now_us) {
            return Some(Broken::NotTaking(since_ms));
        }
        is_over(&self.lease, now_us).then(|| self.lease_over(now_us))
    }

    /// Returns whether a client that is not heard for lack of memory should get a sign of life now,
    /// and notes that it does. Without one it would take the target for dead before its lease ends.
    pub fn must_speak(&mut self, now_us: u64) -> bool {
        let third_us = u64::from(self.keep_alive_ms) * 1000 / 3;
        let must = now_us.saturating_sub(self.spoke_us) >= third_us;
        if must {
            self.spoke_us = now_us;
        }
        must
    }
}

/// What the end of a connection counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    Nothing,
    LeaseExpiry,
    HandshakeTimeout,
    HandshakeBytesExceeded,
    Violation,
}

impl Counted {
    /// Returns what the end of a connection counts as that had come this far.
    pub fn of(why: &Broken, stage: &Stage) -> Counted {
        match (why, stage) {
            (Broken::LeaseOver(_), _) => Counted::LeaseExpiry,
            (Broken::HandshakeTime(_), _) => Counted::HandshakeTimeout,
            (
                Broken::Violation(Violation::Wire(WireError::DataLen { kind, .. })),
                Stage::Handshake { step: Step::Awaiting { .. }, .. },
            ) if [Kind::Hello as u8, Kind::Secure as u8].contains(kind) => Counted::HandshakeBytesExceeded,
            (Broken::Violation(_), Stage::Ready(_)) => Counted::Violation,
            _ => Counted::Nothing,
        }
    }

    /// Adds the end to a connection's counts.
    pub fn add_to(self, stats: &mut Stats) {
        match self {
            Counted::Nothing => {}
            Counted::LeaseExpiry => stats.lease_expiries += 1,
            Counted::HandshakeTimeout => stats.handshake_timeouts += 1,
            Counted::HandshakeBytesExceeded => stats.handshake_bytes_exceeded += 1,
            Counted::Violation => stats.violations += 1,
        }
    }
}
