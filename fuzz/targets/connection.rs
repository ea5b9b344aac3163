//! A whole connection, with the code that both ends use for its bytes: the key agreement, then
//! frames in records, over sockets that transfer any number of bytes at a time. An attacker on the
//! path changes, cuts, repeats, reorders, drops and returns what passes, and inserts what it
//! recorded of another connection with the same key.
//!
//! An end accepts a prefix of what the other end has sent on this connection, and all of it if
//! there was no attack. After the first thing that it rejects, it accepts nothing more.
//!
//! The input consists of the cipher, the behaviour of the sockets, and commands of three bytes.
#![no_main]

#[path = "connection/end.rs"]
mod end;
#[path = "connection/way.rs"]
mod way;

use std::sync::OnceLock;

use dst_security::handshake::ENTROPY_LEN;
use libfuzzer_sys::fuzz_target;
use spdk::sock::Sock;
use world::net::{self, NetConfig};

use end::End;
use way::Way;

/// Both ends of a connection, and the attacker between them.
struct Connection {
    /// The client and the target.
    ends: [End; 2],
    /// The directions to the target and to the client.
    ways: [Way; 2],
}

impl Connection {
    fn new(cipher: u8, partial: u64, entropy: &[[u8; ENTROPY_LEN]; 2]) -> Connection {
        world::begin(u64::from(cipher), false);
        net::configure(NetConfig { delay_us: 0, buffer: (4096, 200_000), partial });
        let ((client, near), (far, target)) = (Sock::pair(), Sock::pair());
        let (near, far) = (std::rc::Rc::new(near), std::rc::Rc::new(far));
        Connection {
            ends: [End::client(client, 1 + cipher % 3, &entropy[0]), End::target(target, entropy[1])],
            ways: [Way::new(near.clone(), far.clone()), Way::new(far, near)],
        }
    }

    /// Lets each end make progress. With `forwards`, the attacker forwards bytes, too.
    fn turn(&mut self, forwards: bool) {
        for end in &mut self.ends {
            end.turn();
        }
        world::step();
        for way in &mut self.ways {
            way.hear();
            if forwards {
                way.forward();
            }
        }
        world::step();
        self.check();
    }

    /// Checks that everything accepted was sent.
    fn check(&self) {
        let [client, target] = &self.ends;
        for (taker, sender) in [(client, target), (target, client)] {
            let taken = &taker.frames.taken;
            assert!(taken.len() <= sender.sent.len(), "more was taken than sent");
            for (number, (taken, sent)) in taken.iter().zip(&sender.sent).enumerate() {
                assert!(taken == sent, "frame {number} is another one");
            }
        }
        if client.is_secured() {
            assert!(target.agreed_with.as_ref() == client.begun_with.as_ref(), "agreed with somebody else");
        }
        if target.is_secured() && target.agreed_with != client.begun_with {
            assert!(target.frames.taken.is_empty(), "an old key agreement was believed");
        }
    }

    /// Delivers everything that is under way.
    fn settle(&mut self) {
        let mut rest = 1000;
        loop {
            let before = self.progress();
            // The sockets may accept less than they could a limited number of times.
            (0..4).for_each(|_| self.turn(true));
            if self.progress() == before {
                return;
            }
            rest -= 1;
            assert!(rest > 0, "it does not end");
        }
    }

    fn progress(&self) -> (usize, usize, usize) {
        (self.ends[0].moved, self.ends[1].moved, self.ways.iter().map(|way| way.forwarded).sum())
    }
}

/// What was recorded of another connection in each direction, one entry for each frame or record.
fn heard(cipher: u8) -> &'static [Vec<Vec<u8>>; 2] {
    static HEARD: [OnceLock<[Vec<Vec<u8>>; 2]>; 3] = [const { OnceLock::new() }; 3];
    HEARD[usize::from(cipher % 3)].get_or_init(|| {
        let mut old = Connection::new(cipher, 0, &[[3; 32], [4; 32]]);
        for number in 0..20 {
            old.ends[number % 2].send(number * 7, number as u8);
            old.settle();
        }
        assert!(old.ends.iter().all(|end| end.is_secured() && end.frames.taken.len() >= 10));
        old.ways.map(|way| way.heard)
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((&[cipher, partial], mut commands)) = input.split_first_chunk() else { return };
    let heard = heard(cipher);
    let mut connection = Connection::new(cipher, u64::from(partial % 4) * 200, &[[8; 32], [9; 32]]);
    let mut is_changed = false;
    // More commands would only take longer.
    for _ in 0..200 {
        let Some((&[what, at, value], rest)) = commands.split_first_chunk() else { break };
        commands = rest;
        let side = usize::from(what >> 7);
        let (end, way) = (&mut connection.ends[side], &mut connection.ways[side]);
        let which = if way.queue.is_empty() { 0 } else { usize::from(at) % way.queue.len() };
        match what % 16 {
            0 => end.send(0, value),
            1 => end.send(at.into(), value),
            2 => end.send(usize::from(at) * 200, value),
            3 => end.frames.stalls = at % 4,
            4..=6 => connection.turn(what % 2 == 0),
            7 => way.forward_one(),
            8 => way.split(which, value.into()),
            _ if what % 16 == 15 => {
                let old = &heard[usize::from(value >> 7)];
                way.queue.insert(which, old[usize::from(value) % old.len()].clone());
                is_changed = true;
            }
            _ if way.queue.is_empty() => {}
            9 => {
                let position = usize::from(value) % way.queue[which].len();
                way.queue[which][position] ^= at | 1;
                is_changed = true;
            }
            10 => {
                let copy = way.queue[which].clone();
                way.queue.push_back(copy);
                is_changed = true;
            }
            11 => {
                way.queue.remove(which);
                is_changed = true;
            }
            12 => {
                way.queue.swap(0, which);
                is_changed |= which > 0;
            }
            13 => {
                let len = way.queue[which].len();
                way.queue[which].truncate(usize::from(value).max(1));
                is_changed |= way.queue[which].len() < len;
            }
            _ => {
                let back = way.queue.remove(which).expect("it is there");
                connection.ways[1 - side].queue.push_back(back);
                is_changed = true;
            }
        }
    }
    connection.settle();
    if !is_changed {
        let [client, target] = &connection.ends;
        assert!(client.is_secured() && target.is_secured(), "there was no attack");
        for (taker, sender) in [(client, target), (target, client)] {
            let (taken, sent) = (taker.frames.taken.len(), sender.sent.len());
            assert!(
                taken == sent,
                "{taken} of {sent} frames arrive, the connection is over: {}",
                taker.is_broken
            );
        }
    }
});
