//! How far a connection is that ends because its target stops (`leaving.rs`).

use dst_session::mutation::{Mutation, is_on};
use dst_transport::Broken;
use dst_wire::{Header, Kind};

use super::open::OpenConnection;
use crate::stage::Stage;

/// The maximum time between the Goodbye and the end of the connection, µs. A client that knows what the
/// Goodbye means closes the connection within some ms, and one that does not waits for the target to
/// close it.
const LINGER_US: u64 = 500_000;

/// How far a leaving connection is. It ends at the time `until_us` at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The backend has requests of the connection, or Answers wait to be sent.
    Answering { until_us: u64 },
    /// The Goodbye is sent, or waits to be sent as the last frame.
    SaidGoodbye { until_us: u64 },
}

impl Leave {
    /// Returns true if the Goodbye is due: all requests that were begun are answered.
    pub fn is_goodbye_due(self, open: &OpenConnection) -> bool {
        let is_answered = open.stage.requests().is_none_or(|requests| {
            let is_done = requests.queue.in_backend() == 0 || is_on(Mutation::GoodbyeTooEarly);
            is_done && !requests.queue.wants_to_send()
        });
        matches!(self, Leave::Answering { .. }) && is_answered
    }

    /// Returns true if the client was told, or is about to be.
    pub fn has_said_goodbye(self) -> bool {
        matches!(self, Leave::SaidGoodbye { .. })
    }

    /// Checks the time-out of a leaving connection, and sends a sign of life if one is due.
    ///
    /// # Errors
    /// Fails if the connection's time is up. The connection is then over.
    pub fn tick(self, open: &mut OpenConnection, now_us: u64) -> Result<(), Broken> {
        if now_us >= self.until_us() {
            return Err(Broken::Stopping);
        }
        let is_answering = matches!(self, Leave::Answering { .. });
        if let Stage::Ready(ready) = &mut open.stage
            && is_answering
            && open.outbox.is_empty()
            && ready.must_speak(now_us)
        {
            open.outbox.push(Header::new(Kind::KeepAliveAck), &[]);
        }
        Ok(())
    }

    /// Returns the time at which the connection ends at the latest, µs.
    fn until_us(self) -> u64 {
        let (Leave::Answering { until_us } | Leave::SaidGoodbye { until_us }) = self;
        until_us
    }

    /// Returns the state behind the Goodbye, which is said now.
    pub fn said_goodbye(self, now_us: u64) -> Leave {
        Leave::SaidGoodbye { until_us: self.until_us().min(now_us + LINGER_US) }
    }
}
