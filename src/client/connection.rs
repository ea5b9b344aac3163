//! A connection to a target: its stream, keep-alives and lease.

use dst_security::Secured;
use dst_session::Violation;
use dst_session::lease::Held;
use dst_session::silence::Silence;
use dst_transport::{Broken, Outbox, Receiver, Stream};
use dst_wire::{Header, Kind};
use spdk::clock;
use spdk::interrupt::Watch;
use spdk::iov::Iov;

use crate::message::{Message, Messages};

/// A connection that has a socket.
pub struct Connection {
    /// Dropped before the stream, so that a closed socket wakes no poller.
    pub watch: Watch,
    pub stream: Stream,
    pub receiver: Receiver,
    pub outbox: Outbox,
    /// Watches for how long the target has been silent.
    pub silence: Silence,
    /// The lease, until whose end the target may execute requests of this connection.
    pub lease: Held,
}

impl Connection {
    /// Sends the outbox, as many bytes as the socket takes.
    pub fn send_control(&mut self) -> Result<(), Broken> {
        if self.outbox.is_empty() && self.stream.unsent() == 0 {
            return Ok(());
        }
        let mut iov = Iov::new();
        iov.push(self.outbox.pending());
        let sent = self.stream.writev(&iov)?;
        self.outbox.sent(sent);
        Ok(())
    }

    /// Returns true if the poller rests and is woken by the socket.
    pub fn rests(&self) -> bool {
        self.watch.is_on()
    }

    /// Returns true if there is work for this connection that the socket does not report.
    pub fn has_more(&self) -> bool {
        !self.outbox.is_empty()
            || self.stream.unsent() > 0
            || self.stream.is_with_workers()
            || self.stream.holds_bytes()
    }

    /// Continues a handshake. Returns the first message that came, if one did, and whether the
    /// connection is still usable.
    pub fn await_first(
        &mut self,
        buffer: &mut [u8],
        messages: &mut Messages,
    ) -> (Option<Message>, Result<(), Broken>) {
        let sent = self.send_control();
        let pumped = sent.and_then(|()| self.receiver.pump(&mut self.stream, buffer, messages));
        if messages.inbox.is_empty() && messages.acknowledged.is_some() {
            // No keep-alive was sent yet.
            return (None, Err(Violation::Unexpected(Kind::KeepAliveAck).into()));
        }
        let first = (!messages.inbox.is_empty()).then(|| messages.inbox.remove(0));
        (first, pumped.map(|_| ()))
    }

    /// Encrypts and decrypts everything that follows.
    pub fn secure(&mut self, secured: Secured) {
        self.stream.secure(secured);
    }

    /// Renews the lease when that is due. `acknowledged` is the number of a keep-alive whose
    /// acknowledgement has come.
    ///
    /// # Errors
    /// Fails if the target was silent for too long.
    pub fn keep_alive(&mut self, acknowledged: Option<u64>, now_us: u64) -> Result<(), Broken> {
        if let Some(id) = acknowledged {
            // The time at the beginning of this turn is too old: if the process was stopped since
            // then, the acknowledgement may have come later.
            self.lease.acknowledged(id, clock::now_us());
        }
        if self.silence.is_too_long(now_us) {
            return Err(Broken::Silent(now_us.saturating_sub(self.silence.heard_us()) / 1000));
        }
        if let Some((id, has)) = self.lease.ask(now_us) {
            self.outbox.push(Header { id, start: has, ..Header::new(Kind::KeepAlive) }, &[]);
        }
        Ok(())
    }

    /// Tells the target that the connection ends on purpose, if the socket takes the frame at once.
    pub fn goodbye(&mut self) {
        self.outbox.push(Header::new(Kind::Goodbye), &[]);
        // The connection is closed next. If the Goodbye does not get through, the target notices
        // the close.
        let _ = self.send_control();
    }
}
