//! Receives the frames of the handshake, and events.

use dst_session::Violation;
use dst_transport::{Flow, Frames, Here};
use dst_wire::{Event, Header, Kind, Refusal, Welcome};
use spdk::iov::IovMut;

/// A received frame that is not an Answer.
#[derive(Debug)]
pub enum Message {
    /// The target admits the client.
    Welcome(Box<Welcome>),
    /// The target does not admit the client.
    Refusal(Refusal),
    /// The target's part of the key agreement, as encoded attributes.
    Secured(Vec<u8>),
    /// The export has changed.
    Event(Event),
    /// The connection ends on purpose.
    Goodbye,
}

/// Collects the frames of a connection that carries no transactions, or none yet.
#[derive(Debug, Default)]
pub struct Messages {
    frame: Option<Header>,
    data: Vec<u8>,
    /// The received messages, in order. The caller takes them out after each call.
    pub inbox: Vec<Message>,
    /// The number of the newest keep-alive whose acknowledgement has come. The caller takes the
    /// number out.
    pub acknowledged: Option<u64>,
}

impl Frames for Messages {
    type Buffer = [u8];

    fn header(&mut self, header: &Header, _: Option<Here<'_, [u8]>>) -> Result<Flow, Violation> {
        match header.kind {
            Kind::Welcome
            | Kind::Refusal
            | Kind::Secured
            | Kind::Event
            | Kind::KeepAliveAck
            | Kind::Goodbye => {
                self.frame = Some(*header);
                self.data.clear();
                Ok(Flow::Go)
            }
            other => Err(Violation::Unexpected(other)),
        }
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    fn place<'a>(&'a mut self, _iov: &mut IovMut<'a>) -> usize {
        0
    }

    fn received_in_place(&mut self, _len: usize) {}

    fn end(&mut self) -> Result<(), Violation> {
        let Some(header) = self.frame.take() else { return Ok(()) };
        match header.kind {
            Kind::Welcome => {
                self.inbox.push(Message::Welcome(Box::new(Welcome::decode(&self.data)?)));
            }
            Kind::Secured => self.inbox.push(Message::Secured(std::mem::take(&mut self.data))),
            Kind::Goodbye => self.inbox.push(Message::Goodbye),
            Kind::KeepAliveAck => self.acknowledged = self.acknowledged.max(Some(header.id)),
            Kind::Refusal => self.inbox.push(Message::Refusal(Refusal::decode(&self.data)?)),
            Kind::Event => {
                self.inbox.extend(Event::decode(header.code, &self.data)?.map(Message::Event));
            }
            _ => {}
        }
        Ok(())
    }
}
