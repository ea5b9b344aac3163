//! Two interfaces in one process, whose ports pass frames as net_ring does: by pointers. Requests and
//! answers go to and fro.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::rc::Rc;

use dst_net::{Config, Headers, MacAddress, Offloads, Prefix, Verified};
use dst_sockets::{Connect, Port, SocketId, Sockets, TransferError};
use dst_tcp::Secret;

/// The length of an Ethernet header, in bytes.
const LINK_HEADER: usize = 14;

/// The number of frames in a ring, and of a port's buffers.
const RING: usize = 4096;

/// What is exchanged, and how. Lengths are bytes.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    pub connections: usize,
    /// The number of requests that each connection has under way.
    pub depth: usize,
    pub request: usize,
    pub answer: usize,
    pub mtu: u16,
    /// Whether the ports compute checksums, which costs nothing here.
    pub offloads: bool,
}

/// The buffers of a port.
type Pool = Rc<RefCell<Vec<Box<[u8]>>>>;

/// A frame in a buffer, which goes back when it is dropped.
struct Pooled {
    bytes: Option<Box<[u8]>>,
    len: usize,
    pool: Pool,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref().map_or(&[], |bytes| &bytes[..self.len])
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.borrow_mut().extend(self.bytes.take());
    }
}

type Ring = Rc<RefCell<VecDeque<Pooled>>>;

/// A port that passes buffers to another one, as net_ring does.
struct RingPort {
    from: Ring,
    to: Ring,
    pool: Pool,
    offloads: bool,
}

impl Port for RingPort {
    type Frame = Pooled;

    fn receive(&mut self, mut take: impl FnMut(Pooled, Verified)) -> usize {
        for count in 0..32 {
            let Some(frame) = self.from.borrow_mut().pop_front() else { return count };
            take(frame, Verified { ipv4: self.offloads, tcp: self.offloads });
        }
        32
    }

    fn is_low(&self) -> bool {
        false
    }

    fn room(&mut self) -> usize {
        32.min(RING - self.to.borrow().len()).min(self.pool.borrow().len())
    }

    fn fill(&mut self, len: usize, _: Option<Headers>, write: impl FnOnce(&mut [u8])) {
        let mut bytes = self.pool.borrow_mut().pop().expect("there is room");
        write(&mut bytes[..len]);
        self.to.borrow_mut().push_back(Pooled { bytes: Some(bytes), len, pool: Rc::clone(&self.pool) });
    }

    fn flush(&mut self) {}
}

/// Two interfaces, whose connections exchange requests and answers.
pub struct Pair {
    work: Work,
    now: u64,
    sides: [Sockets<RingPort>; 2],
    sockets: [Vec<SocketId>; 2],
    /// The bytes of the message under way that each socket has read.
    progress: [Vec<usize>; 2],
    /// The bytes that each socket has yet to write.
    owed: [Vec<usize>; 2],
    /// The sockets that could not write all of it.
    blocked: [VecDeque<usize>; 2],
    /// The answers that have arrived.
    pub answers: usize,
    room: Vec<u8>,
}

impl Pair {
    /// Returns two interfaces with connections. The first requests are under way.
    pub fn new(work: Work) -> Pair {
        let Work { connections, depth, request, mtu, offloads, .. } = work;
        let frame = usize::from(mtu) + LINK_HEADER;
        let rings: [Ring; 2] = std::array::from_fn(|_| Rc::new(RefCell::new(VecDeque::with_capacity(RING))));
        let side = |index: usize| {
            let last = index as u8 + 1;
            let pool = (0..RING).map(|_| vec![0; frame].into_boxed_slice()).collect();
            let port = RingPort {
                from: Rc::clone(&rings[index]),
                to: Rc::clone(&rings[1 - index]),
                pool: Rc::new(RefCell::new(pool)),
                offloads,
            };
            let addresses = vec![Prefix::new([10, 0, 0, last], 24)];
            let mut config = Config::new(MacAddress([2, 0, 0, 0, 0, last]), addresses);
            (config.detect_duplicates, config.mtu) = (false, mtu);
            config.offloads =
                Offloads { ipv4_checksum: offloads, tcp_checksum: offloads, segmentation: false };
            Sockets::new(port, config, Secret([last; 16]), 1_000_000).expect("the settings are right")
        };
        let none = || [vec![0; connections], vec![0; connections]];
        let mut pair = Pair {
            work,
            now: 1_000_000,
            sides: [side(0), side(1)],
            sockets: [Vec::new(), Vec::new()],
            progress: none(),
            owed: none(),
            blocked: std::array::from_fn(|_| VecDeque::with_capacity(connections)),
            answers: 0,
            room: vec![0; 128 << 10],
        };
        let server: SocketAddr = "10.0.0.2:4460".parse().expect("valid");
        let listener = pair.sides[1].listen(server).expect("nothing listens yet");
        for token in 0..connections {
            let client = pair.sides[0].connect(server, pair.now).expect("it is a neighbour");
            let accepted = loop {
                pair.turn();
                if let Some(accepted) = pair.sides[1].accept(listener, pair.now) {
                    break accepted;
                }
            };
            assert_eq!(pair.sides[0].attempt(client), Connect::Open);
            for (side, id) in [(0, client), (1, accepted)] {
                pair.sides[side].join(id, 0, token);
                pair.sockets[side].push(id);
            }
        }
        pair.owed[0].fill(depth * request);
        (0..connections).for_each(|token| pair.write(0, token));
        pair
    }

    fn turn(&mut self) {
        self.now += 20;
        for side in &mut self.sides {
            side.turn(self.now, |_| {});
        }
    }

    /// Reads what is ready, and writes as many answers and requests as messages were read.
    fn serve(&mut self, side: usize) {
        let mut tokens = [0; 32];
        let mut count = 0;
        self.sides[side].ready(0, 32, |token| {
            tokens[count] = token;
            count += 1;
        });
        let Work { request, answer, .. } = self.work;
        let sizes = [(answer, request), (request, answer)][side];
        for &token in &tokens[..count] {
            let id = self.sockets[side][token];
            match self.sides[side].read(id, &mut [IoSliceMut::new(&mut self.room)], self.now) {
                Ok(read) => self.progress[side][token] += read,
                Err(error) => assert_eq!(error, TransferError::WouldBlock),
            }
            let messages = self.progress[side][token] / sizes.0;
            self.progress[side][token] %= sizes.0;
            self.owed[side][token] += messages * sizes.1;
            self.answers += if side == 0 { messages } else { 0 };
        }
        // Those that could not write all of it before.
        for _ in 0..self.blocked[side].len() {
            let token = self.blocked[side].pop_front().expect("it was counted");
            self.write(side, token);
        }
        for &token in &tokens[..count] {
            self.write(side, token);
        }
    }

    fn write(&mut self, side: usize, token: usize) {
        while self.owed[side][token] > 0 {
            let len = self.owed[side][token].min(self.room.len());
            match self.sides[side].write(self.sockets[side][token], &[IoSlice::new(&self.room[..len])]) {
                Ok(written) => self.owed[side][token] -= written,
                Err(error) => {
                    assert_eq!(error, TransferError::WouldBlock);
                    if !self.blocked[side].contains(&token) {
                        self.blocked[side].push_back(token);
                    }
                    break;
                }
            }
        }
    }

    /// Makes turns until so many answers have arrived.
    pub fn run(&mut self, answers: usize) {
        let until = self.answers + answers;
        while self.answers < until {
            self.turn();
            self.serve(1);
            self.serve(0);
        }
    }
}
