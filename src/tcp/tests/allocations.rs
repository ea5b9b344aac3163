//! Once connections are warm, I/O allocates nothing, with however many connections.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use dst_tcp::{Config, ConnectionId, Datagram, Event, Outgoing, Payload, Secret, Stack};

/// A frame's bytes, as a network card's memory pool has them.
type Pool = Rc<RefCell<Vec<Box<[u8]>>>>;

struct Frame {
    bytes: Option<Box<[u8]>>,
    length: usize,
    pool: Pool,
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref().map_or(&[], |bytes| &bytes[..self.length])
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.pool.borrow_mut().extend(self.bytes.take());
    }
}

#[derive(Debug)]
struct Bytes(usize);

impl Payload for Bytes {
    fn size(&self) -> usize {
        self.0
    }
}

struct Packet {
    source: IpAddr,
    destination: IpAddr,
    frame: Frame,
}

const REQUEST: usize = 48;
const ANSWER: usize = 48 + 4096;

struct Pair {
    now: u64,
    pool: Pool,
    stacks: [Stack<Frame, Bytes>; 2],
    wire: [VecDeque<Packet>; 2],
    /// Bytes of the current message that have come, by connection.
    progress: [Vec<usize>; 2],
    /// By the index of the connection's id.
    ids: [Vec<ConnectionId>; 2],
    answers: u64,
}

fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host as u8 + 1], 4460))
}

impl Pair {
    fn new(connections: usize) -> Pair {
        let pool: Pool = Rc::default();
        pool.borrow_mut().extend((0..40_000).map(|_| vec![0; 2048].into_boxed_slice()));
        let stack = |host: u8| Stack::new(Config::default(), Secret([host; 16]));
        let mut pair = Pair {
            now: 1_000_000,
            pool,
            stacks: [stack(1), stack(2)],
            wire: [VecDeque::new(), VecDeque::new()],
            progress: [vec![0; connections], vec![0; connections]],
            ids: [Vec::new(), Vec::new()],
            answers: 0,
        };
        let listener = pair.stacks[1].listen(address(1), connections).expect("nothing listens yet");
        for _ in 0..connections {
            let local = SocketAddr::new(address(0).ip(), 0);
            let id = pair.stacks[0].connect(local, address(1), pair.now).expect("there is room");
            pair.ids[0].push(id);
            while pair.ids[1].len() < pair.ids[0].len() {
                pair.turn();
                pair.ids[1].extend(pair.stacks[1].accept(listener, pair.now));
            }
        }
        pair
    }

    /// Both stacks send and receive; the second one answers requests.
    fn turn(&mut self) {
        self.now += 20;
        for host in 0..2 {
            let (pool, wire) = (&self.pool, &mut self.wire[1 - host]);
            self.stacks[host].transmit(self.now, usize::MAX, |segment: &Outgoing<'_, Bytes>| {
                let mut bytes = pool.borrow_mut().pop().expect("the pool is large enough");
                let header = segment.header_len();
                segment.write_header(&mut bytes[..header]);
                let length = header + segment.payload_len;
                let frame = Frame { bytes: Some(bytes), length, pool: pool.clone() };
                wire.push_back(Packet {
                    source: segment.local.ip(),
                    destination: segment.remote.ip(),
                    frame,
                });
            });
        }
        for host in 0..2 {
            while let Some(Packet { source, destination, frame }) = self.wire[host].pop_front() {
                let range = 0..frame.length;
                self.stacks[host]
                    .receive(Datagram { source, destination, frame, range, is_verified: true }, self.now);
            }
            self.stacks[host].on_time(self.now);
            while let Some(event) = self.stacks[host].event() {
                if let Event::Readable(id) = event {
                    self.read(host, id);
                }
            }
        }
    }

    fn read(&mut self, host: usize, id: ConnectionId) {
        let size = [ANSWER, REQUEST][host];
        let index = self.ids[host].iter().position(|other| *other == id).expect("it is known");
        while let Some(chunk) = self.stacks[host].read(id, self.now) {
            self.progress[host][index] += chunk.range.len();
            while self.progress[host][index] >= size {
                self.progress[host][index] -= size;
                if host == 0 {
                    self.answers += 1;
                    self.request(id);
                } else {
                    self.stacks[1].send(id, Bytes(ANSWER)).expect("there is room");
                }
            }
        }
    }

    fn request(&mut self, id: ConnectionId) {
        self.stacks[0].send(id, Bytes(REQUEST)).expect("there is room");
    }

    fn run(&mut self, answers: u64) {
        let until = self.answers + answers;
        while self.answers < until {
            self.turn();
        }
    }
}

fn allocations(connections: usize) -> u64 {
    let mut pair = Pair::new(connections);
    // 128 requests in flight, or one on each connection.
    for index in 0..connections.max(128) {
        pair.request(pair.ids[0][index % connections]);
    }
    pair.run(10_000);
    allocation_counter::measure(|| pair.run(5_000)).count_total
}

#[test]
fn io_on_one_connection_allocates_nothing() {
    assert_eq!(allocations(1), 0);
}

#[test]
fn io_on_a_hundred_connections_allocates_nothing() {
    assert_eq!(allocations(100), 0);
}

#[test]
fn io_on_a_thousand_connections_allocates_nothing() {
    assert_eq!(allocations(1_000), 0);
}
