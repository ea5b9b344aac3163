//! Once connections are warm, sockets allocate nothing: neither for reading, nor for writing, nor
//! for telling which are ready.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::rc::Rc;

use dst_net::{Config, Headers, MacAddress, Prefix, Verified};
use dst_sockets::{Connect, Port, SocketId, Sockets, TransferError};
use dst_tcp::Secret;

const MTU: usize = 9000;

/// The longest Ethernet frame, in bytes.
const FRAME: usize = MTU + 14;

/// The number of frames in a ring, and of a port's buffers.
const RING: usize = 4096;

const REQUEST: usize = 48;
const ANSWER: usize = 4144;

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
}

impl Port for RingPort {
    type Frame = Pooled;

    fn receive(&mut self, mut take: impl FnMut(Pooled, Verified)) -> usize {
        for count in 0..32 {
            let Some(frame) = self.from.borrow_mut().pop_front() else { return count };
            take(frame, Verified::default());
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

struct Pair {
    now: u64,
    sides: [Sockets<RingPort>; 2],
    sockets: [Vec<SocketId>; 2],
    /// The bytes of the message under way that each socket has read.
    progress: [Vec<usize>; 2],
    /// The bytes that each socket has yet to write.
    owed: [Vec<usize>; 2],
    answers: usize,
    room: Vec<u8>,
}

impl Pair {
    fn new(connections: usize) -> Pair {
        let rings: [Ring; 2] = std::array::from_fn(|_| Rc::new(RefCell::new(VecDeque::with_capacity(RING))));
        let side = |index: usize| {
            let last = index as u8 + 1;
            let pool = (0..RING).map(|_| vec![0; FRAME].into_boxed_slice()).collect();
            let port = RingPort {
                from: Rc::clone(&rings[index]),
                to: Rc::clone(&rings[1 - index]),
                pool: Rc::new(RefCell::new(pool)),
            };
            let addresses = vec![Prefix::new([10, 0, 0, last], 24)];
            let mut config = Config::new(MacAddress([2, 0, 0, 0, 0, last]), addresses);
            (config.detect_duplicates, config.mtu) = (false, MTU as u16);
            Sockets::new(port, config, Secret([last; 16]), 1_000_000).expect("the settings are right")
        };
        let none = || [vec![0; connections], vec![0; connections]];
        let mut pair = Pair {
            now: 1_000_000,
            sides: [side(0), side(1)],
            sockets: [Vec::new(), Vec::new()],
            progress: none(),
            owed: none(),
            answers: 0,
            room: vec![0; 64 << 10],
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
        let sizes = [(ANSWER, REQUEST), (REQUEST, ANSWER)][side];
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
        for token in 0..self.sockets[side].len() {
            while self.owed[side][token] > 0 {
                let len = self.owed[side][token].min(self.room.len());
                match self.sides[side].write(self.sockets[side][token], &[IoSlice::new(&self.room[..len])]) {
                    Ok(written) => self.owed[side][token] -= written,
                    Err(error) => {
                        assert_eq!(error, TransferError::WouldBlock);
                        break;
                    }
                }
            }
        }
    }

    fn run(&mut self, answers: usize) {
        let until = self.answers + answers;
        while self.answers < until {
            self.turn();
            self.serve(1);
            self.serve(0);
        }
    }
}

#[test]
fn io_allocates_nothing() {
    for (connections, depth) in [(1, 128), (100, 2)] {
        let mut pair = Pair::new(connections);
        pair.owed[0].fill(depth * REQUEST);
        pair.serve(0);
        pair.run(3_000);
        let count = allocation_counter::measure(|| pair.run(1_000));
        assert_eq!(count.count_total, 0, "{connections} connections");
    }
}
