//! The stages of an open connection, with the state of each.

use dst_broker::Stats;
use dst_security::Secured;
use dst_session::Violation;
use dst_session::lease::Granted;
use dst_transport::Broken;
use dst_wire::{Kind, Welcome, WireError};
use spdk::backend::BackendChannel;

use crate::queue::{Queue, is_over};
use crate::send_progress::SendProgress;

/// The maximum time after which a connection is closed whose client receives next to nothing, ms; a
/// shorter keep-alive time counts instead. Such a connection holds memory that others need.
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

    /// Returns the reason for which the connection is over, if its time is up.
    pub fn over(&self, now_us: u64) -> Option<Broken> {
        let taken_us = now_us.saturating_sub(self.began_us);
        (taken_us >= self.timeout_us).then_some(Broken::HandshakeTime(taken_us / 1000))
    }
}

/// The stage of an open connection.
pub enum Stage {
    /// The connection is not admitted yet.
    Handshake { timer: HandshakeTimer, step: HandshakeStep },
    /// The connection is admitted. It carries requests; a control connection carries keep-alives
    /// and events.
    Ready(Ready),
}

impl Stage {
    /// Returns the queue with its channel, if the connection has one.
    pub fn requests(&self) -> Option<&Requests> {
        if let Stage::Ready(ready) = self { ready.requests.as_deref() } else { None }
    }

    /// Like [`Stage::requests`], mutable.
    pub fn requests_mut(&mut self) -> Option<&mut Requests> {
        if let Stage::Ready(ready) = self { ready.requests.as_deref_mut() } else { None }
    }
}

/// A step of the handshake.
pub enum HandshakeStep {
    /// A Hello is awaited, or, unless `is_secured`, the client's part of the key agreement.
    Awaiting { is_secured: bool, message: Option<HandshakeMessage> },
    /// The control thread has the message and decides.
    Asking,
    /// The last message in clear is being sent. Everything behind it is encrypted with these keys.
    Securing(Box<Secured>),
    /// The control thread has refused the client. The connection ends when the refusal is sent.
    Refused,
}

impl HandshakeStep {
    /// The first step of a connection.
    pub const FIRST: HandshakeStep = HandshakeStep::Awaiting { is_secured: false, message: None };
    /// The step behind the key agreement.
    pub const SECURED: HandshakeStep = HandshakeStep::Awaiting { is_secured: true, message: None };
}

/// The message of the handshake that is being received, with the bytes that have come so far.
pub enum HandshakeMessage {
    Hello(Vec<u8>),
    Secure(Vec<u8>),
}

/// The state of an admitted connection.
pub struct Ready {
    pub lease: Granted,
    /// The length of each lease, ms.
    keep_alive_ms: u32,
    pub send_progress: SendProgress,
    /// The time at which the client was last sent a sign of life that it had not asked for, µs.
    spoke_us: u64,
    /// The frame whose header came last.
    pub frame: IncomingFrame,
    /// Whether the client has sent a Goodbye.
    pub said_goodbye: bool,
    /// The queue, or `None` on a control connection.
    pub requests: Option<Box<Requests>>,
    /// Whether the client may abort requests.
    pub has_aborts: bool,
}

/// The frame that is being received on an admitted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncomingFrame {
    /// No frame has come yet.
    Nothing,
    Request,
    /// The keep-alive `id`. `has` is the number of the newest acknowledgement that the client has.
    KeepAlive {
        id: u64,
        has: u64,
    },
    Goodbye,
    /// The Abort of the request `id`.
    Abort {
        id: u64,
    },
}

/// A queue, with the bdev that executes its requests.
pub struct Requests {
    pub queue: Queue,
    /// This thread's channel to the export's bdev.
    pub channel: BackendChannel,
}

impl Ready {
    /// Returns the state of a connection that is being admitted.
    pub fn new(welcome: &Welcome, requests: Option<Box<Requests>>, now_us: u64) -> Ready {
        let keep_alive_ms = welcome.keep_alive_ms;
        Ready {
            lease: Granted::new(keep_alive_ms, now_us),
            keep_alive_ms,
            send_progress: SendProgress::new(keep_alive_ms.min(NOT_TAKING_MS), now_us),
            spoke_us: now_us,
            frame: IncomingFrame::Nothing,
            said_goodbye: false,
            requests,
            has_aborts: welcome.aborts,
        }
    }

    /// Returns the reason for the end of a connection whose lease is over, with the time since its
    /// last renewal.
    pub fn lease_over(&self, now_us: u64) -> Broken {
        let left_us = now_us.saturating_sub(self.lease.until_us());
        Broken::LeaseOver(left_us / 1000 + u64::from(self.keep_alive_ms))
    }

    /// Returns the reason for which the connection is over, if it is: the client receives nothing,
    /// or the lease has run out.
    pub fn over(&mut self, wants_to_send: bool, now_us: u64) -> Option<Broken> {
        if !wants_to_send {
            self.send_progress.all_sent(now_us);
        } else if let Some(since_ms) = self.send_progress.is_too_long(now_us) {
            return Some(Broken::NotTaking(since_ms));
        }
        is_over(&self.lease, now_us).then(|| self.lease_over(now_us))
    }

    /// Returns true if a client whose connection is not read for lack of memory is to be sent a
    /// sign of life now, and notes that. Otherwise, the client would take the target for dead.
    pub fn must_speak(&mut self, now_us: u64) -> bool {
        let third_us = u64::from(self.keep_alive_ms) * 1000 / 3;
        let must = now_us.saturating_sub(self.spoke_us) >= third_us;
        if must {
            self.spoke_us = now_us;
        }
        must
    }
}

/// The counter in which the end of a connection is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    Nothing,
    LeaseExpiry,
    HandshakeTimeout,
    HandshakeBytesExceeded,
    Violation,
}

impl Counted {
    /// Returns the counter for a connection that ends at this stage for the reason `why`.
    pub fn of(why: &Broken, stage: &Stage) -> Counted {
        match (why, stage) {
            (Broken::LeaseOver(_), _) => Counted::LeaseExpiry,
            (Broken::HandshakeTime(_), _) => Counted::HandshakeTimeout,
            (
                Broken::Violation(Violation::Wire(WireError::DataLen { kind, .. })),
                Stage::Handshake { step: HandshakeStep::Awaiting { .. }, .. },
            ) if [Kind::Hello as u8, Kind::Secure as u8].contains(kind) => Counted::HandshakeBytesExceeded,
            (Broken::Violation(_), Stage::Ready(_)) => Counted::Violation,
            _ => Counted::Nothing,
        }
    }

    /// Counts the end in a connection's counts.
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
