//! Interfaces on ports with several queue pairs: a shard for each.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use dst_net::{Config, Headers, MacAddress, Prefix, Receiver, Shard, Verified};
use dst_sockets::{Connect, Exchange, Port, SocketId, Sockets, TransferError};
use dst_tcp::Secret;

/// How a port spreads the frames that it receives.
#[derive(Clone, Copy, PartialEq)]
enum Spread {
    /// As shards do.
    ByHash,
    /// Over all queues in turn, whatever they contain.
    InTurn,
}

/// What one port has received.
struct Received {
    spread: Spread,
    queues: RefCell<Vec<VecDeque<Vec<u8>>>>,
    next: Cell<usize>,
    /// The frames that have not gone back, and whether the last queue pair is gone.
    held: Cell<usize>,
    open: Cell<usize>,
}

impl Received {
    fn new(queues: u16, spread: Spread) -> Rc<Received> {
        let queues: Vec<_> = (0..queues).map(|_| VecDeque::new()).collect();
        let (open, zero) = (Cell::new(queues.len()), Cell::new(0));
        Rc::new(Received { spread, queues: RefCell::new(queues), next: zero.clone(), held: zero, open })
    }

    fn take(&self, frame: Vec<u8>) {
        let mut queues = self.queues.borrow_mut();
        let count = queues.len();
        let queue = match (self.spread, Shard::new(0, count as u16, 0).receiver(&frame)) {
            (Spread::ByHash, Receiver::One(queue)) => queue,
            (Spread::ByHash, _) => 0,
            (Spread::InTurn, _) => self.next.replace(self.next.get() + 1) % count,
        };
        queues[queue].push_back(frame);
    }
}

struct Counted(Vec<u8>, Rc<Received>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert!(self.1.open.get() > 0, "a frame outlives its port");
        self.1.held.set(self.1.held.get() - 1);
    }
}

/// A queue pair.
struct Queue {
    index: usize,
    from: Rc<Received>,
    to: Rc<Received>,
    burst: Vec<Vec<u8>>,
}

const BURST: usize = 32;

impl Port for Queue {
    type Frame = Counted;

    fn receive(&mut self, mut take: impl FnMut(Counted, Verified)) -> usize {
        let frames: Vec<_> = {
            let queue = &mut self.from.queues.borrow_mut()[self.index];
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
        false
    }

    fn room(&mut self) -> usize {
        BURST - self.burst.len()
    }

    fn fill(&mut self, len: usize, _: Option<Headers>, write: impl FnOnce(&mut [u8])) {
        let mut frame = vec![0; len];
        write(&mut frame);
        self.burst.push(frame);
    }

    fn flush(&mut self) {
        self.burst.drain(..).for_each(|frame| self.to.take(frame));
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.from.open.set(self.from.open.get() - 1);
    }
}

/// Two interfaces, 10.0.0.1 and 10.0.0.2, with so many shards.
struct Pair {
    now: u64,
    sides: [Vec<Sockets<Queue>>; 2],
    ports: [Rc<Received>; 2],
}

/// A socket: its shard, and its id there.
type Place = (usize, SocketId);

fn server() -> SocketAddr {
    "10.0.0.2:4460".parse().expect("valid")
}

impl Pair {
    fn new(counts: [u16; 2], spread: Spread) -> Pair {
        let ports = counts.map(|count| Received::new(count, spread));
        let side = |index: usize| {
            let last = index as u8 + 1;
            #[expect(
                clippy::arc_with_non_send_sync,
                reason = "shards share it so, and this test has one thread"
            )]
            let exchange = Arc::new(Exchange::new(counts[index].into()));
            let shard = |shard: u16| {
                let (from, to) = (Rc::clone(&ports[index]), Rc::clone(&ports[1 - index]));
                let queue = Queue { index: shard.into(), from, to, burst: Vec::new() };
                let addresses = vec![Prefix::new([10, 0, 0, last], 24)];
                let mut config = Config::new(MacAddress([2, 0, 0, 0, 0, last]), addresses);
                config.shard = Shard::new(shard, counts[index], 0);
                Sockets::shard(queue, config, &exchange, Secret([last; 16]), 0)
                    .expect("the settings are right")
            };
            (0..counts[index]).map(shard).collect()
        };
        let mut pair = Pair { now: 0, sides: [side(0), side(1)], ports: ports.clone() };
        // Nobody else has the addresses.
        pair.until(|pair| pair.sides.iter().all(|side| side[0].is_decided()).then_some(()));
        pair.turn();
        pair
    }

    fn turn(&mut self) {
        self.now += 20;
        for shard in self.sides.iter_mut().flatten() {
            shard.turn(self.now, |_| {});
        }
    }

    fn until<T>(&mut self, mut found: impl FnMut(&mut Pair) -> Option<T>) -> T {
        let limit = self.now + 10_000_000;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(self.now < limit, "it does not happen within 10 s");
            self.turn();
        }
    }

    /// Opens connections, some in each shard of the client. Returns both ends of each.
    fn connected(&mut self, count: usize) -> Vec<[Place; 2]> {
        let listeners: Vec<_> =
            self.sides[1].iter_mut().map(|shard| shard.listen(server()).expect("nothing listens")).collect();
        let mut ends = Vec::new();
        for n in 0..count {
            let from = n % self.sides[0].len();
            let client = self.sides[0][from].connect(server(), self.now).expect("it is a neighbour");
            let accepted = self.until(|pair| {
                let accept = |(index, shard): (usize, &mut Sockets<Queue>)| {
                    shard.accept(listeners[index], pair.now).map(|id| (index, id))
                };
                pair.sides[1].iter_mut().enumerate().find_map(accept)
            });
            self.until(|pair| (pair.sides[0][from].attempt(client) == Connect::Open).then_some(()));
            ends.push([(from, client), accepted]);
        }
        ends
    }

    /// Sends bytes from one side to the other, and checks that they arrive.
    fn carry(&mut self, [from, to]: [Place; 2], sender: usize, bytes: &[u8]) {
        let (mut sent, mut received) = (0, Vec::new());
        self.until(|pair| {
            let rest = [IoSlice::new(&bytes[sent..])];
            match pair.sides[sender][from.0].write(from.1, &rest) {
                Ok(count) => sent += count,
                Err(error) => assert_eq!(error, TransferError::WouldBlock),
            }
            let mut room = [0; 50_000];
            match pair.sides[1 - sender][to.0].read(to.1, &mut [IoSliceMut::new(&mut room)], pair.now) {
                Ok(count) => received.extend_from_slice(&room[..count]),
                Err(error) => assert_eq!(error, TransferError::WouldBlock),
            }
            (received.len() == bytes.len()).then_some(())
        });
        assert!(received == bytes, "bytes are missing or misplaced");
    }

    /// Returns the frames that a side has passed on to the right shard, and those that it has lost.
    fn steered(&mut self, side: usize) -> (u64, u64) {
        let counters =
            self.sides[side].iter_mut().map(|shard| shard.counters().expect("it is there").0.steered);
        counters.fold((0, 0), |sum, of| (sum.0 + of.passed, sum.1 + of.lost))
    }

    /// Deletes both interfaces, and checks that their ports have all frames back.
    fn delete(mut self) {
        let now = self.now;
        self.sides.iter_mut().flatten().for_each(|shard| shard.delete(now));
        for port in &self.ports {
            assert_eq!((port.held.get(), port.open.get()), (0, 0));
        }
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Carries data over connections, and returns what each side passed on and lost.
fn carry_all(pair: &mut Pair) -> [(u64, u64); 2] {
    let ends = pair.connected(24);
    for (n, [client, accepted]) in ends.iter().enumerate() {
        pair.carry([*client, *accepted], 0, &pattern(1_000 + 7_001 * n));
        pair.carry([*accepted, *client], 1, &pattern(200_000));
    }
    // Whoever listens has some of the connections.
    for shard in 0..pair.sides[1].len() {
        assert!(ends.iter().any(|[_, accepted]| accepted.0 == shard), "shard {shard} has none of {ends:?}");
    }
    [pair.steered(0), pair.steered(1)]
}

#[test]
fn connections_are_where_the_port_puts_their_frames() {
    for counts in [[2, 1], [3, 2], [1, 4]] {
        let mut pair = Pair::new(counts, Spread::ByHash);
        assert_eq!(carry_all(&mut pair), [(0, 0); 2], "{counts:?}");
        pair.delete();
    }
}

#[test]
fn frames_in_the_wrong_queue_are_passed_on() {
    let mut pair = Pair::new([3, 2], Spread::InTurn);
    for (passed, lost) in carry_all(&mut pair) {
        assert!(passed > 300 && lost == 0, "{passed} were passed on, {lost} were lost");
    }
    pair.delete();
}

#[test]
fn a_shard_that_nobody_polls_loses_frames_and_holds_no_more_than_its_share() {
    let mut pair = Pair::new([1, 2], Spread::InTurn);
    let ends = pair.connected(8);
    let [client, accepted] = *ends.iter().find(|[_, accepted]| accepted.0 == 1).expect("some are there");
    let mut sent = 0;
    for _ in 0..50_000 {
        pair.now += 20;
        // The server's second shard makes no turn.
        pair.sides[0][0].turn(pair.now, |_| {});
        pair.sides[1][0].turn(pair.now, |_| {});
        if let Ok(count) = pair.sides[0][client.0].write(client.1, &[IoSlice::new(&[1; 9_000])]) {
            sent += count;
        }
        // Strangers' segments for it: no connection is theirs.
        pair.ports[1].queues.borrow_mut()[0].push_back(stranger());
    }
    let (passed, lost) = pair.steered(1);
    assert!(passed >= 512 && lost > 1_000, "{passed} were passed on, {lost} were lost");
    assert!(pair.ports[1].held.get() <= 512, "{} frames are held", pair.ports[1].held.get());
    let mut received = 0;
    pair.until(|pair| {
        let mut room = [0; 50_000];
        let read = pair.sides[1][1].read(accepted.1, &mut [IoSliceMut::new(&mut room)], pair.now);
        received += read.unwrap_or_default();
        (received == sent).then_some(())
    });
    pair.delete();
}

/// Returns a TCP segment for the second one of two shards of the server.
fn stranger() -> Vec<u8> {
    let frame = |port: u8| {
        let mut frame = vec![0; 54];
        frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9, 8, 0]);
        frame[14..34].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 9, 10, 0, 0, 2]);
        frame[34..38].copy_from_slice(&[9, port, 9, 9]);
        frame
    };
    let is_second = |frame: &Vec<u8>| Shard::new(0, 2, 0).receiver(frame) == Receiver::One(1);
    (0..=u8::MAX).map(frame).find(is_second).expect("there is one")
}

#[test]
fn what_is_not_tcp_is_answered_once() {
    let mut pair = Pair::new([1, 4], Spread::InTurn);
    let question: Vec<u8> = [
        &[0xff; 6][..],
        &[2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1],
        &[0, 0, 0, 0, 0, 0, 10, 0, 0, 2],
        &[0; 18],
    ]
    .concat();
    for queue in 0..4 {
        // What answers, is not received: the client makes no turn.
        pair.ports[0].queues.borrow_mut()[0].clear();
        pair.ports[1].queues.borrow_mut()[queue].push_back(question.clone());
        for _ in 0..10 {
            pair.now += 20;
            pair.sides[1].iter_mut().for_each(|shard| _ = shard.turn(pair.now, |_| {}));
        }
        let answers = pair.ports[0].queues.borrow()[0].len();
        assert_eq!(answers, 1, "the question came to queue {queue}");
    }
    pair.delete();
}
