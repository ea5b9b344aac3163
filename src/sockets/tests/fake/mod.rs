//! Two interfaces on fake ports, and the cable between them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::rc::Rc;

use dst_net::{Config, Headers, MacAddress, Prefix, Verified};
use dst_sockets::{Connect, Port, SocketId, Sockets, TransferError};
use dst_tcp::Secret;

/// One direction of the cable.
#[derive(Default)]
pub struct Cable {
    frames: RefCell<VecDeque<Vec<u8>>>,
    /// True if nothing is taken: the link is down.
    pub is_down: Cell<bool>,
    /// The received frames that have not gone back to the port.
    pub held: Cell<usize>,
    pub is_low: Cell<bool>,
    /// True once the port is dropped.
    pub is_closed: Cell<bool>,
}

/// A received frame, which is counted until it is dropped.
pub struct Counted(Vec<u8>, Rc<Cable>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert!(!self.1.is_closed.get(), "a frame outlives its port");
        self.1.held.set(self.1.held.get() - 1);
    }
}

/// A port with a burst of 8 frames, of which it takes 5 at a time.
pub struct FakePort {
    from: Rc<Cable>,
    to: Rc<Cable>,
    burst: VecDeque<Vec<u8>>,
}

impl Drop for FakePort {
    fn drop(&mut self) {
        self.from.is_closed.set(true);
    }
}

const BURST: usize = 8;
const TAKEN: usize = 5;

impl Port for FakePort {
    type Frame = Counted;

    fn receive(&mut self, mut take: impl FnMut(Counted, Verified)) -> usize {
        let frames: Vec<_> = {
            let mut queue = self.from.frames.borrow_mut();
            let count = queue.len().min(BURST);
            queue.drain(..count).collect()
        };
        let count = frames.len();
        for frame in frames {
            self.from.held.set(self.from.held.get() + 1);
            take(Counted(frame, Rc::clone(&self.from)), Verified::default());
        }
        count
    }

    fn is_low(&self) -> bool {
        self.from.is_low.get()
    }

    fn room(&mut self) -> usize {
        if self.burst.is_empty() { BURST } else { 0 }
    }

    fn fill(&mut self, len: usize, _: Option<Headers>, write: impl FnOnce(&mut [u8])) {
        assert!(self.burst.len() < BURST, "a frame without room for it");
        let mut frame = vec![0; len];
        write(&mut frame);
        self.burst.push_back(frame);
    }

    fn flush(&mut self) {
        if !self.to.is_down.get() {
            let count = self.burst.len().min(TAKEN);
            self.to.frames.borrow_mut().extend(self.burst.drain(..count));
        }
    }
}

/// Data that a test lends.
#[derive(Debug, Clone)]
pub struct Lent(pub Rc<Vec<u8>>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

pub type Side = Sockets<FakePort, Lent>;

/// Two interfaces, 10.0.0.1 and 10.0.0.2.
pub struct Pair {
    pub now: u64,
    pub sides: [Side; 2],
    /// The direction to each side.
    pub cables: [Rc<Cable>; 2],
}

pub fn server() -> SocketAddr {
    "10.0.0.2:4460".parse().expect("valid")
}

/// The group and the token of the sockets that tests make.
pub const GROUP: u64 = 7;

impl Pair {
    pub fn new() -> Pair {
        let cables: [Rc<Cable>; 2] = Default::default();
        let side = |index: usize| {
            let last = index as u8 + 1;
            let port = FakePort {
                from: Rc::clone(&cables[index]),
                to: Rc::clone(&cables[1 - index]),
                burst: VecDeque::new(),
            };
            let addresses = vec![Prefix::new([10, 0, 0, last], 24)];
            let mut config = Config::new(MacAddress([2, 0, 0, 0, 0, last]), addresses);
            config.detect_duplicates = false;
            Sockets::new(port, config, Secret([last; 16]), 1_000_000).expect("the settings are right")
        };
        Pair { now: 1_000_000, sides: [side(0), side(1)], cables }
    }

    /// Lets 20 µs pass on both sides.
    pub fn turn(&mut self) {
        self.now += 20;
        for side in &mut self.sides {
            side.turn(self.now, |_| {});
        }
    }

    /// Makes turns until `found` returns something, for at most 10 s.
    pub fn until<T>(&mut self, mut found: impl FnMut(&mut Pair) -> Option<T>) -> T {
        let limit = self.now + 10_000_000;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(self.now < limit, "it does not happen within 10 s");
            self.turn();
        }
    }

    /// Opens a connection from the first side to the second, both ends of which are in [`GROUP`]
    /// with the tokens 0 and 1. Returns the ends, and the listener.
    pub fn connected(&mut self) -> ([SocketId; 2], SocketId) {
        let listener = self.sides[1].listen(server()).expect("nothing listens yet");
        let client = self.sides[0].connect(server(), self.now).expect("it is a neighbour");
        assert_eq!(self.sides[0].attempt(client), Connect::Pending);
        let accepted = self.until(|pair| pair.sides[1].accept(listener, pair.now));
        self.until(|pair| (pair.sides[0].attempt(client) == Connect::Open).then_some(()));
        self.sides[0].join(client, GROUP, 0);
        self.sides[1].join(accepted, GROUP, 1);
        ([client, accepted], listener)
    }

    pub fn write(&mut self, side: usize, id: SocketId, bytes: &[u8]) -> Result<usize, TransferError> {
        // Two parts and an empty one, as users have them.
        let (one, other) = bytes.split_at(bytes.len() / 3);
        self.sides[side].write(id, &[IoSlice::new(one), IoSlice::new(&[]), IoSlice::new(other)])
    }

    /// Writes all bytes, with turns in between.
    pub fn write_all(&mut self, side: usize, id: SocketId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = self.until(|pair| pair.write(side, id, bytes).ok());
            bytes = &bytes[count..];
        }
    }

    pub fn read(&mut self, side: usize, id: SocketId, most: usize) -> Result<Vec<u8>, TransferError> {
        let mut bytes = vec![0; most];
        let (one, other) = bytes.split_at_mut(most / 3);
        let parts = &mut [IoSliceMut::new(one), IoSliceMut::new(&mut []), IoSliceMut::new(other)];
        let count = self.sides[side].read(id, parts, self.now)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Returns the tokens of the sockets of a side that are ready.
    pub fn ready(&mut self, side: usize) -> Vec<usize> {
        let mut tokens = Vec::new();
        let count = self.sides[side].ready(GROUP, 32, |token| tokens.push(token));
        assert_eq!(count, tokens.len());
        tokens
    }

    /// Returns the frames that have not gone back to either port.
    pub fn held(&self) -> usize {
        self.cables.iter().map(|cable| cable.held.get()).sum()
    }
}

/// Returns bytes from which a missing or misplaced byte can be told.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}
