//! A mirror's rules, with two members that answer everything at once. The mirror has [`DEPTH`] writes
//! or reads under way, in regions that are hot.

use std::collections::VecDeque;

use dst_mirror::{
    Create, Device, Extent, Input, IoId, Mirror, Op, Options, Outcome, Output, Rare, RequestId, Status,
};

/// The number of I/Os that are under way: a queue of 128 that is always full.
const DEPTH: u32 = 128;

const MEMBERS: u8 = 2;

/// The size of a member in blocks of 4 KiB.
const BLOCKS: u64 = 1 << 16;

/// A mirror and its driver.
pub struct Mirrored {
    mirror: Mirror,
    /// What the members were asked for, the oldest first.
    requests: VecDeque<(RequestId, Device)>,
    /// The number of I/Os that were completed.
    pub completed: u64,
}

impl Mirrored {
    /// Creates a mirror whose blocks that [`Mirrored::submit`] uses are hot.
    pub fn new() -> Mirrored {
        let members = (0..MEMBERS).map(|number| format!("member-{number}")).collect();
        let create = Create { members, witness: None, force: true, is_equal: true };
        let mut id = 0;
        let identifiers = Box::new(move || {
            id += 1;
            id
        });
        let mirror = Mirror::create(create, Options::default(), identifiers);
        let mut mirrored = Mirrored { mirror, requests: VecDeque::new(), completed: 0 };
        for number in 0..MEMBERS {
            let device = Device(number);
            mirrored.mirror.handle(1, Input::Opened { device, blocks: BLOCKS, block_size: 4096 });
        }
        mirrored.settle();
        for number in 0..SPREAD {
            mirrored.submit(Op::Write, number, number as u32 % DEPTH);
            mirrored.settle();
        }
        assert_eq!(mirrored.completed, SPREAD, "the mirror does I/O");
        mirrored.completed = 0;
        mirrored
    }

    /// Moves so many I/Os, with [`DEPTH`] under way.
    pub fn run(&mut self, op: Op, count: u64) {
        for number in 0..u64::from(DEPTH) {
            self.submit(op, number, number as u32);
        }
        for number in u64::from(DEPTH)..count + u64::from(DEPTH) {
            let before = self.completed;
            while self.completed == before {
                self.answer();
            }
            if number < count {
                self.submit(op, number, (number % u64::from(DEPTH)) as u32);
            }
        }
        assert!(self.requests.is_empty(), "all I/O has ended");
    }

    /// Hands a user's I/O to the rules, and takes the requests.
    #[inline(never)]
    fn submit(&mut self, op: Op, number: u64, io: u32) {
        let range = Extent::new(block(number), 1);
        self.mirror.submit(1, IoId(io), op, range);
        self.carry_out();
    }

    /// A member answers the oldest request.
    #[inline(never)]
    fn answer(&mut self) {
        let Some((request, device)) = self.requests.pop_front() else { return };
        self.mirror.done(1, request, device, Outcome::Success);
        self.carry_out();
    }

    #[inline]
    fn carry_out(&mut self) {
        while let Some(output) = self.mirror.poll_output() {
            match output {
                Output::Read { request, device, .. } => self.requests.push_back((request, device)),
                Output::Write { request, devices, .. } => {
                    self.requests.extend(devices.iter().map(|device| (request, device)));
                }
                Output::Complete { status, .. } => {
                    assert_eq!(status, Status::Success, "no member fails");
                    self.completed += 1;
                }
                other => self.prepare(other),
            }
        }
    }

    /// Carries out what there is before the first I/O.
    #[cold]
    #[inline(never)]
    fn prepare(&mut self, output: Output) {
        let input = match output {
            Output::MetadataRead { request, range, .. } => {
                Input::MetadataRead { request, bytes: vec![0; range.count as usize * 4096] }
            }
            Output::Flush { request, device } => return self.requests.push_back((request, device)),
            Output::Rare(rare) => match *rare {
                Rare::MetadataWrite { request, device, .. } => {
                    return self.requests.push_back((request, device));
                }
                Rare::Register { .. } | Rare::Log { .. } => return,
                other => unreachable!("{other:?}, though no member fails"),
            },
            other => unreachable!("{other:?}, though no member fails"),
        };
        self.mirror.handle(1, input);
    }

    fn settle(&mut self) {
        self.carry_out();
        while !self.requests.is_empty() {
            self.answer();
        }
    }
}

/// The number of different blocks.
const SPREAD: u64 = 1 << 13;

/// Returns the block of an I/O: pseudo-random in the first [`SPREAD`] blocks, each once in
/// as many I/Os, so that no two that are under way overlap.
fn block(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b1) % SPREAD
}
