//! A connection whose socket is open: its stream, what waits to be sent on it, and sending.

use dst_session::Violation;
use dst_transport::{Broken, Outbox, Receiver, Stream};
use dst_wire::Kind;
use spdk::iov::Iov;
use spdk::sock::Sock;

use super::end::End;
use crate::pools::Pools;
use crate::receive_buffer::ReceiveBuffer;
use crate::stage::{Counted, HandshakeStep, HandshakeTimer, Stage};

/// The state of a connection whose socket is open.
pub struct OpenConnection {
    pub stream: Stream,
    pub receiver: Receiver,
    /// The receive buffer, if it has bytes that could not be processed yet.
    pub unprocessed: Option<ReceiveBuffer>,
    /// Control frames to be sent.
    pub outbox: Outbox,
    /// Whether the stream has bytes that the socket did not take yet.
    has_unsent: bool,
    pub stage: Stage,
}

impl OpenConnection {
    /// Returns the state of a connection that was accepted at this socket.
    pub fn new(sock: Sock, timer: HandshakeTimer) -> OpenConnection {
        OpenConnection {
            stream: Stream::new(sock),
            receiver: Receiver::new(),
            unprocessed: None,
            outbox: Outbox::new(),
            has_unsent: false,
            stage: Stage::Handshake { timer, step: HandshakeStep::FIRST },
        }
    }

    /// Returns true if the connection has something to send.
    pub fn wants_to_send(&self) -> bool {
        !self.outbox.is_empty()
            || self.has_unsent
            || self.stage.requests().is_some_and(|requests| requests.queue.wants_to_send())
    }

    /// Returns how the connection ends if it is closed now.
    pub fn end(&self) -> End {
        let said_goodbye = matches!(&self.stage, Stage::Ready(ready) if ready.said_goodbye);
        End { counted: Counted::Nothing, said_goodbye }
    }

    /// Sends waiting frames, as many bytes as the socket takes. HOT.
    ///
    /// # Errors
    /// Fails if the connection is over.
    pub fn flush(&mut self, pools: &Pools, now_us: u64) -> Result<(), Broken> {
        let OpenConnection { stream, outbox, stage, .. } = self;
        loop {
            if let Some(requests) = stage.requests_mut() {
                requests.queue.traces.sending();
            }
            let requests = stage.requests();
            let mut iov = Iov::new();
            let is_mid_frame = requests.is_some_and(|requests| requests.queue.is_mid_frame());
            let control = if is_mid_frame { &[] } else { outbox.pending() };
            let control_len = control.len();
            iov.push(control);
            if let Some(requests) = requests {
                // A frame in the outbox may refer to a request whose Answer follows the first
                // frame, so the outbox has to follow directly after the first frame.
                let is_first_only = is_mid_frame && !outbox.is_empty();
                requests.queue.outgoing(&mut iov, is_first_only);
            }
            let (wanted, unsent) = (iov.len_bytes(), stream.unsent());
            if wanted == 0 && unsent == 0 {
                break;
            }
            let sent = stream.writev(&iov)?;
            let of_control = sent.min(control_len);
            outbox.sent(of_control);
            if let Stage::Ready(ready) = stage {
                // Encrypted bytes that wait in the stream do not count as sent.
                ready.send_progress.sent((unsent + sent).saturating_sub(stream.unsent()), now_us);
                if let Some(requests) = &mut ready.requests {
                    requests.queue.sent(sent - of_control, pools);
                }
            }
            if sent < wanted || wanted == 0 {
                break;
            }
        }
        self.has_unsent = stream.unsent() > 0;
        self.flushed(now_us)
    }

    /// Handles the consequences of sending: notes progress, and ends steps of the handshake.
    ///
    /// # Errors
    /// Fails if the connection is over.
    fn flushed(&mut self, now_us: u64) -> Result<(), Broken> {
        let wants_to_send = self.wants_to_send();
        match &mut self.stage {
            Stage::Ready(ready) => {
                if !wants_to_send {
                    ready.send_progress.all_sent(now_us);
                }
            }
            Stage::Handshake { step: HandshakeStep::Refused, .. } if !wants_to_send => {
                return Err(Broken::Closed);
            }
            Stage::Handshake { step: step @ HandshakeStep::Securing(_), .. } if self.outbox.is_empty() => {
                // A client must not send anything in clear behind its part of the key agreement.
                if self.receiver.is_mid_stream() {
                    return Err(Violation::Unexpected(Kind::Secure).into());
                }
                if let HandshakeStep::Securing(secured) = std::mem::replace(step, HandshakeStep::SECURED) {
                    self.stream.secure(*secured);
                }
            }
            Stage::Handshake { .. } => {}
        }
        Ok(())
    }
}
