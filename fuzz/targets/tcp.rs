//! A TCP connection whose peer sends anything: segments around the positions that count, with any
//! flags and options, between calls of the user and pauses. Nothing may panic, no buffer may be
//! kept or given back twice, and in the end nothing remains.
//!
//! The input is a list of steps: a byte that says which, and what it needs.
#![no_main]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use dst_tcp::{Config, ConnectionId, Datagram, Event, Payload, Secret, Stack};
use libfuzzer_sys::fuzz_target;

#[derive(Debug)]
struct Buffer {
    number: u32,
    size: usize,
}

impl Payload for Buffer {
    fn size(&self) -> usize {
        self.size
    }
}

/// The steps that are left.
struct Steps<'a>(&'a [u8]);

impl Steps<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }
}

struct World {
    stack: Stack<Vec<u8>, Buffer>,
    now: u64,
    local: SocketAddr,
    peer: SocketAddr,
    id: Option<ConnectionId>,
    held: BTreeSet<u32>,
    sent: u32,
    /// What the stack sent last: its position and its ACK.
    last: (u32, u32),
    closed: bool,
}

impl World {
    fn new(config: Config) -> World {
        let local = SocketAddr::from(([10, 0, 0, 1], 1));
        let mut stack = Stack::new(config, Secret([1; 16]));
        stack.listen(local, 2).expect("nothing listens yet");
        World {
            stack,
            now: 1_000_000,
            local,
            peer: SocketAddr::from(([10, 0, 0, 2], 2)),
            id: None,
            held: BTreeSet::new(),
            sent: 0,
            last: (0, 0),
            closed: false,
        }
    }

    fn segment(&mut self, seq: u32, ack: u32, flags: u8, window: u16, options: &[u8], data: usize) {
        let mut frame = Vec::with_capacity(60 + data);
        frame.extend(self.peer.port().to_be_bytes());
        frame.extend(self.local.port().to_be_bytes());
        frame.extend(seq.to_be_bytes());
        frame.extend(ack.to_be_bytes());
        frame.push(((20 + options.len()) as u8 / 4) << 4);
        frame.push(flags);
        frame.extend(window.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(options);
        frame.resize(frame.len() + data, 7);
        let (source, destination, range) = (self.peer.ip(), self.local.ip(), 0..frame.len());
        self.stack.receive(Datagram { source, destination, frame, range, is_verified: true }, self.now);
    }

    fn events(&mut self) {
        while let Some(event) = self.stack.event() {
            match event {
                Event::Incoming(listener) => self.id = self.stack.accept(listener, self.now).or(self.id),
                Event::Released(_, buffer) => assert!(self.held.remove(&buffer.number), "released twice"),
                Event::Closed(id, _) if self.id == Some(id) => self.closed = true,
                Event::Closed(..) | Event::Connected(_) | Event::Readable(_) => {}
            }
        }
    }

    fn transmit(&mut self) {
        let last = &mut self.last;
        let count = self.stack.transmit(self.now, 1000, |segment| {
            let mut bytes = [0; 60];
            segment.write_header(&mut bytes[..segment.header_len()]);
            let word =
                |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            *last = (word(4).wrapping_add(segment.payload_len as u32), word(8));
            let pieces: usize = segment.payload.clone().map(|(_, range)| range.len()).sum();
            assert_eq!(pieces, segment.payload_len);
        });
        assert!(count < 1000, "it sends without end");
        self.events();
    }

    fn pass(&mut self, time: u64) {
        let until = self.now + time;
        for _ in 0..10_000 {
            self.transmit();
            match self.stack.deadline() {
                Some(at) if at <= until => self.now = self.now.max(at),
                _ => {
                    self.now = until;
                    return;
                }
            }
            self.stack.on_time(self.now);
        }
        panic!("time stands still at {}", self.now);
    }

    fn step(&mut self, steps: &mut Steps<'_>) -> Option<()> {
        match steps.byte()? % 8 {
            0..=2 => {
                let flags = steps.byte()?;
                // Near to what the stack expects, or near to what it has sent.
                let (seq, ack) = (steps.word()? as i16, steps.word()? as i16);
                let (window, data) = (steps.word()?, usize::from(steps.word()? % 3000));
                let words = usize::from(steps.byte()? % 11);
                let mut options: Vec<u8> = (0..4 * words).map_while(|_| steps.byte()).collect();
                options.resize(4 * words, 1);
                let seq = self.last.1.wrapping_add_signed(i32::from(seq));
                let ack = self.last.0.wrapping_add_signed(i32::from(ack));
                self.segment(seq, ack, flags, window, &options, data);
            }
            3 => {
                // What it sent last is acknowledged.
                let (last, window) = (self.last, steps.word()?);
                self.segment(last.1, last.0, 0x10, window, &[], 0);
            }
            4 => {
                let size = usize::from(steps.word()?);
                if let Some(id) = self.id
                    && self.held.len() < 100
                    && self.stack.send(id, Buffer { number: self.sent, size }).is_ok()
                {
                    self.held.insert(self.sent);
                    self.sent += 1;
                }
            }
            5 => {
                if let Some(id) = self.id {
                    for _ in 0..steps.byte()? {
                        self.stack.read(id, self.now);
                    }
                }
            }
            6 => {
                let time = 1 << (steps.byte()? % 26);
                self.pass(time);
            }
            _ => {
                let how = steps.byte()?;
                if let Some(id) = self.id {
                    match how % 8 {
                        0 => self.stack.close(id, self.now),
                        1 => self.stack.abort(id, self.now),
                        2 => self.stack.shutdown(id, self.now),
                        _ => {}
                    }
                }
            }
        }
        self.events();
        self.transmit();
        Some(())
    }
}

/// The options of the SYN: none, or MSS, SACK, timestamps and a window scale.
const OPTIONS: [&[u8]; 2] = [&[], &[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 2]];

fuzz_target!(|input: &[u8]| {
    let mut steps = Steps(input);
    let Some(first) = steps.byte() else { return };
    let config = Config {
        timestamps: first & 2 != 0,
        initial_receive_window: if first & 4 != 0 { 2_000 } else { 100_000 },
        offload_bytes: if first & 8 != 0 { 20_000 } else { 0 },
        max_held_frames: 16,
        ..Config::default()
    };
    let mut world = World::new(config);
    world.segment(1000, 0, 2, 0xffff, OPTIONS[usize::from(first & 1)], 0);
    world.transmit();
    let last = world.last;
    world.segment(1001, last.0.wrapping_add(1), 0x10, 0xffff, &[], 0);
    world.events();
    world.transmit();
    while world.step(&mut steps).is_some() {}
    if let Some(id) = world.id {
        world.stack.abort(id, world.now);
        world.events();
        assert!(world.closed, "its end was not told");
    }
    assert!(world.held.is_empty(), "buffers are kept");
    world.pass(200_000_000);
    world.stack.connections(|id, information| {
        // A peer's half-closed connection that nobody accepted stays until it is accepted.
        assert!(information.state.is_synchronized(), "{id:?} remains: {information:?}");
    });
});
