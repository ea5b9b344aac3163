use super::*;
use crate::backend_resets::BackendResets;
use crate::completion::Completions;
use crate::holds::GroupHolds;
use crate::options::Options;
use crate::pools::OBJECTS;
use dst_broker::ClientId;
use dst_wire::{Crc32c, HEADER_LEN, Kind, OpSet};

mod aborts;

const BLOCK: u32 = 512;
const CREDITS: u16 = 16;
/// The lease of these tests lasts until then, µs.
const LEASE_US: u64 = 1000;

mod kept;
mod resets;

/// A queue with pools of its own, whose backend is the test.
struct Rig {
    pools: Pools,
    share: Rc<ClientShare>,
    group: GroupHolds,
    backend_resets: Arc<BackendResets>,
    queue: Queue,
    lease: Granted,
    /// What was sent.
    wire: Vec<u8>,
}

fn host() -> ClientId {
    ClientId { export: "disk".to_owned(), host: "client".to_owned() }
}

fn device() -> Device {
    Device {
        uuid: [0; 16],
        num_blocks: 1000,
        block_size: BLOCK,
        write_unit_size: 1,
        optimal_io_boundary: 0,
        compare_and_write_max: 1,
        write_cache: false,
        read_only: false,
        ops: Op::ALL.into_iter().collect(),
    }
}

fn id(sequence: u64, slot: u16) -> u64 {
    sequence << 16 | u64::from(slot)
}

impl Rig {
    fn new(device: Device, has_digests: bool) -> Rig {
        let share = Rc::new(ClientShare::default());
        let slots = Slots::new(CREDITS);
        let group = GroupHolds::default();
        let holds = group.of(&host());
        let backend_resets = Arc::new(BackendResets::default());
        let queue = Queue::new(Setup {
            device,
            max_transfer: 1 << 20,
            has_digests,
            slots,
            client_share: Rc::clone(&share),
            holds,
            connection: 7,
            backend_resets: Arc::clone(&backend_resets),
            required_alignment: 1,
        });
        let options = Options { buffer_mib: 4, ..Options::default() };
        let pools = Pools::new(&options, &Rc::new(Completions::new(OBJECTS))).unwrap();
        let lease = Granted::new(1, 0);
        Rig { pools, share, group, backend_resets, queue, lease, wire: Vec::new() }
    }

    fn plain() -> Rig {
        Rig::new(device(), false)
    }

    /// A request's header.
    fn request(op: Op, id: u64, start: u64, count: u64) -> Header {
        let data_len = op.request_data(count * u64::from(BLOCK)) as u32;
        Header { code: op as u8, id, start, count, data_len, ..Header::new(Kind::Request) }
    }

    fn header(&mut self, header: &Header) -> Result<Flow, Violation> {
        self.queue.header(header, None, &self.pools)
    }

    fn end(&mut self, now_us: u64) -> Dispatch {
        self.queue.end(&self.lease, &self.pools, || now_us)
    }

    /// A whole request comes. Returns what is submitted for it.
    fn comes(&mut self, header: &Header, data: &[u8]) -> Option<Submission> {
        assert_eq!(self.header(header), Ok(Flow::Go));
        self.queue.data(data);
        match self.end(0) {
            Dispatch::Submit(submission) => Some(submission),
            Dispatch::Nothing => None,
            Dispatch::LeaseOver(now_us) => panic!("the lease was over at {now_us}"),
        }
    }

    fn complete(&mut self, submission: Submission, status: Status) {
        if self.queue.is_special(&submission.io) {
            let ended = self.part_ends(submission, status, 0);
            return assert!(matches!(ended, Dispatch::Nothing), "it was only a part");
        }
        self.queue.completed(submission.io, status, 0, &self.pools);
    }

    /// The backend finishes a part at this time.
    fn part_ends(&mut self, part: Submission, status: Status, now_us: u64) -> Dispatch {
        self.queue.special_completed(part.io, status, &self.pools, Some(&self.lease), || now_us).0
    }

    /// Sends at most so many bytes of what waits. Returns how many were sent.
    fn send(&mut self, most: usize) -> usize {
        let mut iov = Iov::new();
        self.queue.outgoing(&mut iov, false);
        let pieces = (0..).map_while(|i| iov.slice(i));
        let bytes: Vec<u8> = pieces.flatten().copied().take(most).collect();
        self.queue.sent(bytes.len(), &self.pools);
        self.wire.extend_from_slice(&bytes);
        bytes.len()
    }

    /// Sends all that waits. Returns the answers that are on the wire: id, status and data of each.
    fn answers(&mut self) -> Vec<(u64, Status, Vec<u8>)> {
        while self.send(usize::MAX) > 0 {}
        let mut answers = Vec::new();
        let mut rest = self.wire.as_slice();
        while let Some((bytes, behind)) = rest.split_first_chunk() {
            let header = Header::decode(bytes).unwrap();
            assert_eq!(header.kind, Kind::Answer);
            let (data, behind) = behind.split_at(header.data_len as usize);
            assert_eq!(
                header.flags.contains(Flags::DIGEST),
                self.queue.setup.has_digests && !data.is_empty()
            );
            assert!(header.digest == 0 || header.digest == Crc32c::of(data));
            answers.push((header.id, Status::from_code(header.code), data.to_vec()));
            rest = behind;
        }
        self.wire.clear();
        answers
    }

    /// Whether everything is back in the pools.
    fn holds_nothing(&self) -> bool {
        self.share.get() == Default::default()
    }
}

#[test]
fn a_write_goes_to_the_backend_with_its_data_and_is_answered_once() {
    let mut rig = Rig::plain();
    let data: Vec<u8> = (0..2 * BLOCK).map(|i| i as u8).collect();
    let header = Rig::request(Op::Write, id(1, 3), 7, 2);
    assert_eq!(rig.header(&header), Ok(Flow::Go));
    // Some of it through a buffer, the rest straight to its place.
    rig.queue.data(&data[..100]);
    let mut iov = IovMut::new();
    assert_eq!(rig.queue.place(&mut iov), 924);
    iov.slice_mut(0).unwrap().copy_from_slice(&data[100..]);
    drop(iov);
    rig.queue.received_in_place(924);
    let Dispatch::Submit(submission) = rig.end(0) else { panic!("it is not submitted") };
    assert_eq!((submission.op, submission.start, submission.count), (Op::Write, 7, 2));
    assert_eq!(submission.io.data.slice(0), data);
    assert_eq!((rig.queue.in_backend(), rig.queue.wants_to_send()), (1, false));
    rig.complete(submission, Status::Success);
    assert!(rig.holds_nothing(), "an answer without data keeps no memory");
    assert_eq!(rig.answers(), [(id(1, 3), Status::Success, vec![])]);
    assert_eq!((rig.queue.in_backend(), rig.queue.wants_to_send()), (0, false));
    let stats = &rig.queue.stats;
    assert_eq!((stats.writes, stats.written_bytes, stats.errors), (1, 1024, 0));
}

#[test]
fn a_read_is_answered_with_its_data_and_without_when_it_failed() {
    for has_digests in [false, true] {
        let mut rig = Rig::new(device(), has_digests);
        let mut read = rig.comes(&Rig::request(Op::Read, id(1, 0), 0, 1), &[]).unwrap();
        let failed = rig.comes(&Rig::request(Op::Read, id(1, 1), 1, 1), &[]).unwrap();
        read.io.data.copy_in(0, &[7; BLOCK as usize]);
        rig.complete(read, Status::Success);
        rig.complete(failed, Status::Failed);
        assert!(!rig.holds_nothing(), "the data is sent from where it is");
        let data = vec![7; BLOCK as usize];
        assert_eq!(rig.answers(), [(id(1, 0), Status::Success, data), (id(1, 1), Status::Failed, vec![])]);
        assert!(rig.holds_nothing());
        assert_eq!((rig.queue.stats.reads, rig.queue.stats.errors), (2, 1));
    }
}

#[test]
fn a_flush_is_of_the_whole_device() {
    let mut rig = Rig::plain();
    let flush = rig.comes(&Rig::request(Op::Flush, id(1, 0), 0, 0), &[]).unwrap();
    assert_eq!((flush.start, flush.count), (0, 1000));
    rig.queue.resized(2000);
    let flush = rig.comes(&Rig::request(Op::Flush, id(1, 1), 0, 0), &[]).unwrap();
    assert_eq!((flush.start, flush.count), (0, 2000));
}

#[test]
fn nothing_is_submitted_once_the_lease_is_over() {
    let mut rig = Rig::plain();
    let write = Rig::request(Op::Write, id(1, 0), 0, 1);
    rig.header(&write).unwrap();
    rig.queue.data(&[1; BLOCK as usize]);
    let ended = rig.end(LEASE_US);
    assert!(matches!(ended, Dispatch::LeaseOver(LEASE_US)));
    assert!(rig.holds_nothing() && rig.answers().is_empty());
    assert_eq!((rig.queue.stats.dropped, rig.queue.stats.writes), (1, 0));
    // The record does not say that it was executed: when it comes again, it is.
    rig.header(&write).unwrap();
    rig.queue.data(&[1; BLOCK as usize]);
    assert!(matches!(rig.end(LEASE_US - 1), Dispatch::Submit(_)));
}

#[test]
fn data_that_does_not_match_its_digest_is_not_executed_and_may_come_again() {
    let mut rig = Rig::new(device(), true);
    let data = [5; BLOCK as usize];
    let plain = Rig::request(Op::Write, id(1, 0), 0, 1);
    assert_eq!(rig.header(&plain), Err(Violation::Digest(id(1, 0), false)));
    let write = Header { flags: Flags::DIGEST, digest: Crc32c::of(&data), ..plain };
    assert!(rig.comes(&write, &[4; BLOCK as usize]).is_none());
    assert_eq!(rig.answers(), [(id(1, 0), Status::Corrupt, vec![])]);
    assert!(rig.holds_nothing());
    let submission = rig.comes(&write, &data).expect("it is executed now");
    rig.complete(submission, Status::Success);
    assert_eq!(rig.answers(), [(id(1, 0), Status::Success, vec![])]);
    assert_eq!((rig.queue.stats.corrupt, rig.queue.stats.writes), (1, 1));
}

#[test]
fn what_was_executed_is_answered_from_the_record() {
    let mut rig = Rig::plain();
    let write = Rig::request(Op::Write, id(1, 0), 0, 1);
    let submission = rig.comes(&write, &[1; BLOCK as usize]).unwrap();
    rig.complete(submission, Status::Failed);
    rig.answers();
    assert!(rig.comes(&write, &[1; BLOCK as usize]).is_none(), "it is executed twice");
    assert!(rig.holds_nothing(), "its data needs no memory");
    assert_eq!(rig.answers(), [(id(1, 0), Status::Failed, vec![])]);
    assert_eq!((rig.queue.stats.repeated, rig.queue.stats.writes), (1, 1));
    // Although it could not be executed any more: the device has become smaller, for instance.
    rig.queue.resized(0);
    assert!(rig.comes(&write, &[1; BLOCK as usize]).is_none());
    assert_eq!(rig.answers(), [(id(1, 0), Status::Failed, vec![])]);
}

#[test]
fn what_cannot_be_executed_is_answered_behind_its_data() {
    let device = Device { ops: OpSet::NONE.with(Op::Read).with(Op::Write), ..device() };
    let mut rig = Rig::new(device, false);
    let behind_the_end = Rig::request(Op::Write, id(1, 0), 1000, 1);
    assert_eq!(rig.header(&behind_the_end), Ok(Flow::Go));
    assert!(rig.holds_nothing(), "its data is kept");
    let mut iov = IovMut::new();
    assert_eq!(rig.queue.place(&mut iov), 0);
    drop(iov);
    assert!(!rig.queue.wants_to_send(), "it is answered before its data has come");
    rig.queue.data(&[1; BLOCK as usize]);
    assert!(matches!(rig.end(0), Dispatch::Nothing));
    assert!(rig.comes(&Rig::request(Op::Unmap, id(1, 1), 0, 1), &[]).is_none());
    let answers = [(id(1, 0), Status::OutOfRange, vec![]), (id(1, 1), Status::NotSupported, vec![])];
    assert_eq!(rig.answers(), answers);
}

#[test]
fn a_slot_is_free_when_its_answer_has_been_sent_completely() {
    let mut rig = Rig::plain();
    let first = Rig::request(Op::Read, id(1, 0), 0, 1);
    let submission = rig.comes(&first, &[]).unwrap();
    let next = Rig::request(Op::Read, id(2, 0), 0, 1);
    let busy = Err(Violation::SlotBusy { id: id(2, 0), other: id(1, 0) });
    assert_eq!(rig.header(&next), busy, "the backend has it");
    assert_eq!(rig.share.get().objects, 1, "a request that is refused keeps no memory");
    rig.complete(submission, Status::Success);
    assert_eq!(rig.header(&next), busy, "its answer waits");
    assert_eq!(rig.send(HEADER_LEN + 511), HEADER_LEN + 511);
    assert!(rig.queue.is_mid_frame());
    assert_eq!(rig.header(&next), busy, "a byte of its answer waits");
    assert_eq!(rig.send(1), 1);
    assert!(!rig.queue.is_mid_frame());
    assert!(rig.comes(&next, &[]).is_some());
    let none = Err(Violation::Slot { id: id(1, CREDITS), slot: CREDITS, credits: CREDITS });
    assert_eq!(rig.header(&Rig::request(Op::Read, id(1, CREDITS), 0, 1)), none);
}

#[test]
fn answers_leave_whole_however_few_bytes_the_socket_takes() {
    let mut expected = Vec::new();
    for most in [usize::MAX, 1, 7, HEADER_LEN, HEADER_LEN + 1, 500, 513] {
        let mut rig = Rig::plain();
        let mut submitted = Vec::new();
        for slot in 0..6 {
            let op = if slot % 2 == 0 { Op::Read } else { Op::Unmap };
            submitted.push(rig.comes(&Rig::request(op, id(1, slot), 0, 1), &[]).unwrap());
        }
        for mut submission in submitted.into_iter().rev() {
            let slot = submission.io.ctx.slot as u8;
            if submission.op == Op::Read {
                submission.io.data.copy_in(0, &[slot; BLOCK as usize]);
            }
            rig.complete(submission, Status::Success);
            // Sends go between completions.
            rig.send(most.min(100));
        }
        while rig.send(most) > 0 {}
        assert!(rig.holds_nothing());
        let answers = rig.answers();
        let ids: Vec<u64> = answers.iter().map(|(id, ..)| *id).collect();
        assert_eq!(ids, [5, 4, 3, 2, 1, 0].map(|slot| id(1, slot)), "{most} bytes at once");
        if expected.is_empty() {
            expected = answers;
        } else {
            assert_eq!(answers, expected, "{most} bytes at once");
        }
    }
}

#[test]
fn the_backlog_is_what_waits_and_what_is_to_come() {
    let mut rig = Rig::plain();
    let read = rig.comes(&Rig::request(Op::Read, id(1, 0), 0, 1), &[]).unwrap();
    let unmap = rig.comes(&Rig::request(Op::Unmap, id(1, 1), 0, 1), &[]).unwrap();
    assert_eq!(rig.queue.backlog(), Backlog { in_backend: 2, answers: 0, bytes: 0 });
    rig.complete(read, Status::Success);
    let bytes = HEADER_LEN + BLOCK as usize;
    assert_eq!(rig.queue.backlog(), Backlog { in_backend: 1, answers: 1, bytes });
    rig.complete(unmap, Status::Success);
    assert_eq!(rig.queue.backlog(), Backlog { in_backend: 0, answers: 2, bytes: bytes + HEADER_LEN });
    rig.send(bytes);
    assert_eq!(rig.queue.backlog(), Backlog { in_backend: 0, answers: 1, bytes: HEADER_LEN });
}

#[test]
fn a_request_without_memory_stalls_until_there_is_some() {
    let mut rig = Rig::plain();
    let mut submitted = Vec::new();
    // A connection may have half of the objects.
    for slot in 0..OBJECTS as u16 / 2 {
        submitted.push(rig.comes(&Rig::request(Op::Unmap, id(1, slot), 0, 1), &[]).unwrap());
    }
    let next = Rig::request(Op::Read, id(1, CREDITS - 1), 0, 1);
    for _ in 0..3 {
        assert_eq!(rig.header(&next), Ok(Flow::Stall));
    }
    assert_eq!(rig.queue.stats.stalls, 1, "it is one request, however often it is tried");
    let done = submitted.pop().unwrap();
    rig.complete(done, Status::Success);
    assert!(rig.comes(&next, &[]).is_some());
}

#[test]
fn a_lost_connection_keeps_nothing_but_what_the_backend_has() {
    let mut rig = Rig::plain();
    let unsent = rig.comes(&Rig::request(Op::Read, id(1, 0), 0, 1), &[]).unwrap();
    let busy = rig.comes(&Rig::request(Op::Write, id(1, 1), 0, 1), &[1; BLOCK as usize]).unwrap();
    rig.complete(unsent, Status::Success);
    rig.send(10);
    let half = Rig::request(Op::Write, id(1, 2), 0, 1);
    rig.header(&half).unwrap();
    rig.queue.data(&[1; 100]);
    rig.queue.disconnected(&rig.pools);
    assert_eq!(rig.share.get().objects, 1);
    assert!(!rig.queue.wants_to_send() && !rig.queue.is_mid_frame());
    rig.complete(busy, Status::Success);
    rig.queue.drop_answers(&rig.pools);
    assert!(rig.holds_nothing() && rig.answers().is_empty());
    // The queue's next connection finds what was executed, and not what was not.
    let mut slots = rig.queue.into_slots();
    assert_eq!(slots.arrive(id(1, 1), Op::Write), Ok(Arrival::Repeat(Status::Success)));
    assert_eq!(slots.arrive(id(1, 2), Op::Write), Ok(Arrival::Execute));
}

#[test]
#[should_panic = "the record is not final while the backend works"]
fn a_record_is_not_handed_on_before_the_backend_has_finished() {
    let mut rig = Rig::plain();
    let _busy = rig.comes(&Rig::request(Op::Unmap, id(1, 0), 0, 1), &[]);
    rig.queue.disconnected(&rig.pools);
    rig.queue.into_slots();
}

/// The length of the first part of an operation in the simulator, blocks.
const PART: u64 = 8;

#[test]
fn a_long_operation_goes_in_parts_one_after_another_and_is_answered_once() {
    for op in [Op::Unmap, Op::WriteZeroes] {
        let mut rig = Rig::plain();
        let request = Rig::request(op, id(1, 0), 3, PART + 12);
        let part = rig.comes(&request, &[]).unwrap();
        assert_eq!((part.op, part.start, part.count), (op, 3, PART - 3), "parts are aligned");
        let Dispatch::Submit(part) = rig.part_ends(part, Status::Success, 0) else { panic!("there is more") };
        assert_eq!((part.op, part.start, part.count, part.io.ctx.slot), (op, PART, PART, 0));
        assert!(!rig.queue.wants_to_send() && rig.queue.in_backend() == 1);
        let busy = Violation::SlotBusy { id: id(1, 0), other: id(1, 0) };
        assert_eq!(rig.header(&request), Err(busy), "the slot is in use all the while");
        // It took long: the rest goes in smaller parts.
        let Dispatch::Submit(part) = rig.part_ends(part, Status::Success, LEASE_US - 1) else {
            panic!("more")
        };
        assert_eq!((part.start, part.count), (2 * PART, 7));
        rig.complete(part, Status::Success);
        assert_eq!(rig.answers(), [(id(1, 0), Status::Success, vec![])]);
        assert!(rig.holds_nothing() && rig.queue.in_backend() == 0);
        assert_eq!((rig.queue.stats.others, rig.queue.stats.errors), (1, 0));
    }
}

#[test]
fn the_failure_of_a_part_is_that_of_the_whole() {
    let mut rig = Rig::plain();
    let request = Rig::request(Op::WriteZeroes, id(1, 0), 0, 3 * PART);
    let part = rig.comes(&request, &[]).unwrap();
    let Dispatch::Submit(part) = rig.part_ends(part, Status::Success, 0) else { panic!("there is more") };
    rig.complete(part, Status::Aborted);
    assert_eq!(rig.answers(), [(id(1, 0), Status::Aborted, vec![])]);
    assert!(rig.comes(&request, &[]).is_none(), "it is executed again");
    assert_eq!(rig.answers(), [(id(1, 0), Status::Aborted, vec![])]);
    assert!(rig.holds_nothing());
}

#[test]
fn no_part_is_begun_without_a_lease_and_the_request_may_come_again() {
    let mut rig = Rig::plain();
    let request = Rig::request(Op::Unmap, id(1, 0), 0, 5 * PART);
    let part = rig.comes(&request, &[]).unwrap();
    assert!(matches!(rig.part_ends(part, Status::Success, LEASE_US), Dispatch::LeaseOver(LEASE_US)));
    assert!(rig.holds_nothing() && rig.answers().is_empty() && rig.queue.in_backend() == 0);
    let part = rig.comes(&request, &[]).expect("it was not executed");
    rig.queue.disconnected(&rig.pools);
    let ended = rig.queue.special_completed(part.io, Status::Success, &rig.pools, None, || 0).0;
    assert!(matches!(ended, Dispatch::Nothing));
    assert!(rig.holds_nothing() && rig.answers().is_empty());
    assert_eq!(rig.queue.stats.dropped, 2);
    assert_eq!(rig.queue.into_slots().arrive(id(1, 0), Op::Unmap), Ok(Arrival::Execute));
}

#[test]
fn a_part_that_fails_as_the_bdev_is_removed_leaves_nothing_behind() {
    let mut rig = Rig::plain();
    let part = rig.comes(&Rig::request(Op::Unmap, id(1, 0), 0, 2 * PART), &[]).unwrap();
    rig.queue.withdraw(part.io, 9, &rig.pools);
    let read = rig.comes(&Rig::request(Op::Read, id(2, 0), 0, 1), &[]).unwrap();
    assert!(!rig.queue.is_special(&read.io), "the slot still has a part of the request before");
}
