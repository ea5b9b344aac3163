//! The load that the clients generate, and its measurement.

use std::io;
use std::time::{Duration, Instant};

use dst_wire::Op;
use rustix::event::epoll;
use rustix::time::Timespec;

use crate::client::Client;

/// The size of the receive buffer that all clients share, in bytes.
const RECEIVE_BUFFER: usize = 256 << 10;

/// The maximum number of sockets that one call of epoll reports.
const EVENTS: usize = 1024;

/// The load.
pub struct Load {
    pub op: Op,
    /// The size of a request's blocks in bytes.
    pub bytes: u32,
    /// The total number of outstanding requests of all clients.
    pub outstanding: usize,
    pub time: Duration,
}

/// The choice of the next client and its blocks.
struct Source<'a> {
    load: &'a Load,
    data: Vec<u8>,
    random: u64,
    /// The client whose turn it is, if there are fewer requests than clients.
    turn: usize,
}

impl Source<'_> {
    fn request(&mut self, client: &mut Client) {
        let count = u64::from(self.load.bytes / client.block_size);
        // Marsaglia's xorshift64 suffices: any sequence that does not repeat soon will do.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let start = self.random % (client.blocks / count) * count;
        client.request(self.load.op, start, count, &self.data);
    }
}

impl Load {
    /// Runs the load and returns a JSON object: `iops`, and `idle`, the part of the time in which
    /// nothing had come. If `idle` is small, the clients are the bottleneck and not the target.
    pub fn run(&self, clients: &mut [Client]) -> io::Result<String> {
        let rotating = self.outstanding < clients.len();
        let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, client) in clients.iter().enumerate() {
            epoll::add(
                &watch,
                client.socket(),
                epoll::EventData::new_u64(number as u64),
                epoll::EventFlags::IN,
            )?;
        }
        let data = if self.op == Op::Write { vec![0x5a; self.bytes as usize] } else { Vec::new() };
        let mut source = Source { load: self, data, random: 0x9e37_79b9_7f4a_7c15, turn: 0 };
        for number in 0..self.outstanding {
            let client = &mut clients[number % clients.len()];
            if client.credits() == 0 {
                return Err(io::Error::other("more requests outstanding than the target grants credits for"));
            }
            source.request(client);
        }
        source.turn = if rotating { self.outstanding } else { 0 };
        // The clients whose requests did not fit into their sockets.
        let mut stuck: Vec<usize> = (0..clients.len()).collect();
        let mut buffer = vec![0; RECEIVE_BUFFER];
        let mut events = Vec::with_capacity(EVENTS);
        let (mut answers, mut idle) = (0u64, Duration::ZERO);
        let begun = Instant::now();
        let mut now = begun;
        while now - begun < self.time {
            let mut still = Vec::new();
            for &number in &stuck {
                if !clients[number].flush()? {
                    still.push(number);
                }
            }
            stuck = still;
            events.clear();
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&watch, rustix::buffer::spare_capacity(&mut events), Some(&at_once))?;
            let found = !events.is_empty();
            for event in &events {
                let number = event.data.u64() as usize;
                let more = clients[number].receive(&mut buffer)?;
                answers += more as u64;
                for _ in 0..more {
                    let to = if rotating { source.next(clients) } else { number };
                    source.request(&mut clients[to]);
                    if to != number && !clients[to].flush()? {
                        stuck.push(to);
                    }
                }
                if !clients[number].flush()? {
                    stuck.push(number);
                }
            }
            let before = std::mem::replace(&mut now, Instant::now());
            if !found {
                idle += now - before;
            }
        }
        let seconds = (now - begun).as_secs_f64();
        let (iops, idle) = (answers as f64 / seconds, idle.as_secs_f64() / seconds);
        Ok(format!("{{\"iops\": {iops:.0}, \"idle\": {idle:.3}}}"))
    }
}

impl Source<'_> {
    /// Returns the next client that has a credit.
    fn next(&mut self, clients: &[Client]) -> usize {
        loop {
            self.turn = (self.turn + 1) % clients.len();
            if clients[self.turn].credits() > 0 {
                return self.turn;
            }
        }
    }
}
