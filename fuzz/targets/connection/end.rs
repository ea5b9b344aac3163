//! One of the two ends, with the library's code for its bytes. Decisions are made as in src/client
//! and src/dst-target.

use std::collections::VecDeque;

use dst_security::handshake::ENTROPY_LEN;
use dst_security::{Initiator, Psk, Secured, accept};
use dst_session::Violation;
use dst_transport::{Flow, Frames, Here, RECEIVE_BUFFER, Receiver, Stream};
use dst_wire::secure::{Offer, Secure};
use dst_wire::{Cipher, Header, Kind};
use spdk::iov::{Iov, IovMut};
use spdk::sock::Sock;
use zeroize::Zeroizing;

fn key() -> Psk {
    Psk::new(Zeroizing::new([7; 32]))
}

/// A frame.
type Frame = (Header, Vec<u8>);

/// The received frames.
pub struct Taken {
    /// The kind of frame that may come in clear, once.
    expects: Option<Kind>,
    frame: Option<Frame>,
    filled: usize,
    /// The frame that came in clear.
    message: Option<Vec<u8>>,
    /// The frames that came in records.
    pub taken: Vec<Frame>,
    is_secured: bool,
    /// The number of headers that are refused at first for lack of room.
    pub stalls: u8,
}

impl Frames for Taken {
    type Buffer = [u8];

    fn header(&mut self, header: &Header, _: Option<Here<'_, [u8]>>) -> Result<Flow, Violation> {
        if !self.is_secured && self.expects.take_if(|kind| *kind == header.kind).is_none() {
            return Err(Violation::Unexpected(header.kind));
        }
        if self.is_secured && self.stalls > 0 {
            self.stalls -= 1;
            return Ok(Flow::Stall);
        }
        self.frame = Some((*header, vec![0; header.data_len as usize]));
        self.filled = 0;
        Ok(Flow::Go)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let (_, data) = self.frame.as_mut().expect("data belongs to a frame");
        data[self.filled..][..bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    fn place<'a>(&'a mut self, iov: &mut IovMut<'a>) -> usize {
        let (_, data) = self.frame.as_mut().expect("data belongs to a frame");
        let room = &mut data[self.filled..];
        let len = room.len();
        // The destination has two pieces, as a user's buffer may have.
        let (first, second) = room.split_at_mut(len / 3);
        iov.push(first);
        iov.push(second);
        len
    }

    fn received_in_place(&mut self, len: usize) {
        self.filled += len;
    }

    fn end(&mut self) -> Result<(), Violation> {
        let frame = self.frame.take().expect("a frame ends once");
        assert_eq!(self.filled, frame.1.len(), "a frame is complete");
        if self.is_secured {
            self.taken.push(frame);
        } else {
            self.message = Some(frame.1);
        }
        Ok(())
    }
}

/// The state of an end.
enum Stage {
    /// The client has sent Secure.
    Securing(Initiator),
    /// The target waits for Secure.
    Waiting([u8; ENTROPY_LEN]),
    /// The target's reply is on its way, in clear.
    Answering(Secured),
    Secured,
}

/// One end.
pub struct End {
    stream: Stream,
    receiver: Receiver,
    buffer: Vec<u8>,
    stage: Stage,
    pub frames: Taken,
    /// The frames to send, each with header and data, and how many bytes of the first one are sent.
    out: VecDeque<Vec<u8>>,
    gone: usize,
    /// The frames that were or will be sent in records.
    pub sent: Vec<Frame>,
    /// Whether the end may send in records. A target may not before its client has.
    is_released: bool,
    /// A counter that changes with everything received or sent.
    pub moved: usize,
    pub is_broken: bool,
    /// The error, if received bytes caused the end.
    pub why: String,
    /// The client's part of the key agreement.
    pub begun_with: Option<Vec<u8>>,
    /// The part of a client with which the target has agreed.
    pub agreed_with: Option<Vec<u8>>,
}

impl End {
    fn new(sock: Sock, stage: Stage, expects: Kind) -> End {
        End {
            stream: Stream::new(sock),
            receiver: Receiver::new(),
            buffer: vec![0; RECEIVE_BUFFER],
            stage,
            frames: Taken {
                expects: Some(expects),
                frame: None,
                filled: 0,
                message: None,
                taken: Vec::new(),
                is_secured: false,
                stalls: 0,
            },
            out: VecDeque::new(),
            gone: 0,
            sent: Vec::new(),
            is_released: false,
            moved: 0,
            is_broken: false,
            why: String::new(),
            begun_with: None,
            agreed_with: None,
        }
    }

    pub fn client(sock: Sock, cipher: u8, entropy: &[u8; ENTROPY_LEN]) -> End {
        let offer = Offer { versions: (1, 1), export: "v".into(), host: "h".into(), ciphers: vec![cipher] };
        let (initiator, message) = Initiator::begin(&key(), &offer, entropy);
        let mut end = End::new(sock, Stage::Securing(initiator), Kind::Secured);
        end.push(Header::new(Kind::Secure), &message);
        end.begun_with = Some(message);
        // The client's hello.
        end.send(100, 1);
        end
    }

    pub fn target(sock: Sock, entropy: [u8; ENTROPY_LEN]) -> End {
        End::new(sock, Stage::Waiting(entropy), Kind::Secure)
    }

    pub fn is_secured(&self) -> bool {
        self.frames.is_secured
    }

    /// Queues a frame, which is sent once that is allowed.
    pub fn send(&mut self, len: usize, value: u8) {
        let mut header = Header::new(if self.begun_with.is_some() { Kind::Request } else { Kind::Answer });
        header.id = self.sent.len() as u64;
        header.data_len = len as u32;
        let data: Vec<u8> = (0..len).map(|at| value.wrapping_add((at / 251) as u8)).collect();
        if self.is_released {
            self.push(header, &data);
        }
        self.sent.push((header, data));
    }

    fn push(&mut self, mut header: Header, data: &[u8]) {
        header.data_len = data.len() as u32;
        self.out.push_back(header.encode().to_vec());
        self.out.extend((!data.is_empty()).then(|| data.to_vec()));
    }

    /// Receives and sends as much as possible.
    pub fn turn(&mut self) {
        if self.is_broken {
            return;
        }
        let pumped = self.receiver.pump(&mut self.stream, &mut self.buffer[..], &mut self.frames);
        self.moved += pumped.map_or(0, |pumped| pumped.received);
        if let Err(broken) = &pumped {
            self.why = broken.to_string();
        }
        let goes_on = pumped.is_ok() && self.agree();
        self.release();
        self.is_broken = !(goes_on && self.flush());
    }

    /// Continues the key agreement. Returns false if the connection has ended.
    fn agree(&mut self) -> bool {
        let Some(message) = self.frames.message.take() else { return true };
        match std::mem::replace(&mut self.stage, Stage::Secured) {
            Stage::Securing(initiator) => {
                let is_all = !self.receiver.is_mid_stream() && self.out.is_empty();
                let secured = initiator.finish(&message).ok().filter(|_| is_all);
                secured.map(|secured| self.secure(secured)).is_some()
            }
            Stage::Waiting(entropy) => {
                let Ok(secure) = Secure::decode(&message) else { return false };
                let Ok((answer, secured)) = accept(&[key()], &secure, &entropy) else { return false };
                self.push(Header::new(Kind::Secured), &answer);
                self.agreed_with = Some(message);
                self.stage = Stage::Answering(secured);
                true
            }
            Stage::Answering(_) | Stage::Secured => unreachable!("one message in clear is taken"),
        }
    }

    fn secure(&mut self, secured: Secured) {
        assert_ne!(secured.cipher, Cipher::None);
        self.stream.secure(secured);
        self.frames.is_secured = true;
    }

    fn release(&mut self) {
        let is_client = self.begun_with.is_some();
        if self.is_secured() && !self.is_released && (is_client || !self.frames.taken.is_empty()) {
            self.is_released = true;
            for (header, data) in self.sent.clone() {
                self.push(header, &data);
            }
        }
    }

    /// Sends. Returns false if the connection has ended.
    fn flush(&mut self) -> bool {
        loop {
            let mut iov = Iov::new();
            for (number, piece) in self.out.iter().enumerate() {
                iov.push(if number == 0 { &piece[self.gone..] } else { piece });
            }
            let (wanted, unsent) = (iov.len_bytes(), self.stream.unsent());
            if wanted == 0 && unsent == 0 {
                break;
            }
            let Ok(taken) = self.stream.writev(&iov) else { return false };
            drop(iov);
            // Bytes that the stream has taken but not passed to the socket do not count. Records
            // add a few bytes to what is in them.
            self.moved = self.moved.wrapping_add(taken + unsent).wrapping_sub(self.stream.unsent());
            self.gone += taken;
            while let Some(piece) = self.out.front()
                && piece.len() <= self.gone
            {
                self.gone -= piece.len();
                self.out.pop_front();
            }
            if taken == 0 {
                break;
            }
        }
        if self.out.is_empty() && matches!(self.stage, Stage::Answering(_)) {
            let Stage::Answering(secured) = std::mem::replace(&mut self.stage, Stage::Secured) else {
                unreachable!("it was just now")
            };
            if self.receiver.is_mid_stream() {
                return false;
            }
            self.secure(secured);
        }
        true
    }
}
