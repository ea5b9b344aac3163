//! Writes whose data stays where it was received.

use super::*;
use dst_transport::Buffer;

const LEN: usize = BLOCK as usize;
/// Where the data begins, behind one header.
const AT: usize = HEADER_LEN;

/// A queue whose write, of a block of `byte` in `slot`, has come into a buffer.
struct Came {
    header: Header,
    buffer: ReceiveBuffer,
}

impl Came {
    fn new(rig: &Rig, slot: u16, byte: u8) -> Came {
        let header = Rig::request(Op::Write, id(1, slot), 0, 1);
        let mut buffer = rig.pools.take_receive();
        buffer.room()[AT..AT + LEN].fill(byte);
        Came { header, buffer }
    }

    fn header_to(&self, rig: &mut Rig, at: usize) -> Result<Flow, Violation> {
        let here = Here { buffer: &self.buffer, data: at..at + self.header.data_len as usize };
        rig.queue.header(&self.header, Some(here), &rig.pools)
    }

    /// Brings it to the backend, if its data stays.
    fn is_submitted(&self, rig: &mut Rig) -> Option<Submission> {
        let flow = self.header_to(rig, AT).unwrap();
        if flow != Flow::Keep {
            rig.queue.data(&self.buffer.bytes()[AT..AT + LEN]);
        }
        let Dispatch::Submit(submission) = rig.end(0) else { panic!("it is not submitted") };
        assert_eq!(submission.io.data.slice(0).len(), LEN);
        assert_eq!(submission.io.data.pins() > 0, flow == Flow::Keep);
        Some(submission)
    }
}

/// Overwrites all buffers that anybody may receive into, whatever was received.
fn overwrite_the_rest(rig: &Rig) {
    let mut buffers = Vec::new();
    loop {
        let mut buffer = rig.pools.take_receive();
        buffer.room().fill(0xee);
        buffer.bytes();
        if matches!(buffer, ReceiveBuffer::Spare(_)) {
            return;
        }
        buffers.push(buffer);
    }
}

/// The data as the backend finds it.
fn found(submission: &mut Submission) -> Vec<u8> {
    submission.io.data.now().to_vec()
}

#[test]
fn data_that_stays_takes_no_other_memory_and_is_let_go_when_the_backend_is_done() {
    let mut rig = Rig::plain();
    let came = Came::new(&rig, 0, 7);
    let mut submission = came.is_submitted(&mut rig).unwrap();
    assert_eq!((rig.share.get().small, rig.share.get().pinned), (0, 1));
    drop(came);
    overwrite_the_rest(&rig);
    assert_eq!(found(&mut submission), [7; LEN]);
    rig.complete(submission, Status::Success);
    assert!(rig.holds_nothing());
    assert_eq!(rig.answers(), [(id(1, 0), Status::Success, vec![])]);
}

#[test]
fn two_writes_of_one_buffer_pin_it_once_until_the_second_is_done() {
    let mut rig = Rig::plain();
    let mut came = Came::new(&rig, 0, 7);
    let first = came.is_submitted(&mut rig).unwrap();
    came.header = Rig::request(Op::Write, id(1, 1), 0, 1);
    let mut second = came.is_submitted(&mut rig).unwrap();
    assert_eq!((rig.share.get().objects, rig.share.get().pinned), (2, 1));
    drop(came);
    rig.complete(first, Status::Success);
    assert_eq!(rig.share.get().pinned, 1);
    overwrite_the_rest(&rig);
    assert_eq!(found(&mut second), [7; LEN]);
    rig.complete(second, Status::Failed);
    assert!(rig.holds_nothing());
}

#[test]
fn whoever_goes_on_receiving_gets_another_buffer() {
    let mut rig = Rig::plain();
    let mut came = Came::new(&rig, 0, 7);
    let mut submission = came.is_submitted(&mut rig).unwrap();
    came.buffer.room().fill(0xee);
    came.buffer.bytes();
    assert_eq!(found(&mut submission), [7; LEN]);
    // Even if there is none left.
    let mut others = Vec::new();
    while !matches!(came.buffer, ReceiveBuffer::Spare(_)) {
        others.push(std::mem::replace(&mut came.buffer, rig.pools.take_receive()));
    }
    assert!(came.buffer.room().len() >= 512);
    assert_eq!(came.header_to(&mut rig, AT), Err(Violation::SlotBusy { id: id(1, 0), other: id(1, 0) }));
    rig.complete(submission, Status::Success);
    assert_eq!(rig.answers().len(), 1);
    came.header = Rig::request(Op::Write, id(2, 0), 0, 1);
    assert_eq!(came.header_to(&mut rig, AT), Ok(Flow::Go), "data stays in memory that devices can't reach");
}

#[test]
fn what_the_backend_does_not_take_from_there_is_copied() {
    for (required_alignment, at, flow) in [
        (1, 48, Flow::Keep),
        (16, 64, Flow::Keep),
        (1, 56, Flow::Go),
        (32, 48, Flow::Go),
        (32, 64, Flow::Keep),
        (4096, 64, Flow::Go),
    ] {
        let mut rig = Rig::plain();
        rig.queue.setup.required_alignment = required_alignment;
        let came = Came::new(&rig, 0, 7);
        assert_eq!(came.header_to(&mut rig, at), Ok(flow), "at {at} for {required_alignment}");
        assert_eq!(rig.share.get().small, usize::from(flow == Flow::Go));
    }
    let mut rig = Rig::plain();
    let mut came = Came::new(&rig, 0, 7);
    came.header = Rig::request(Op::CompareAndWrite, id(1, 0), 0, 1);
    assert_eq!(came.header_to(&mut rig, AT), Ok(Flow::Go), "its halves have vectors of their own");
}

/// However slow the backend is, the connection goes on, and most buffers are left to receive into.
#[test]
fn only_so_much_is_pinned_and_the_rest_is_copied() {
    let mut rig = Rig::plain();
    let mut submitted = Vec::new();
    for slot in 0..OBJECTS as u16 / 2 {
        submitted.push(Came::new(&rig, slot, slot as u8).is_submitted(&mut rig).unwrap());
    }
    assert_eq!((rig.share.get().pinned, rig.share.get().small), (2, OBJECTS / 2 - 2));
    overwrite_the_rest(&rig);
    for (slot, mut submission) in submitted.into_iter().enumerate() {
        assert_eq!(found(&mut submission), [slot as u8; LEN]);
        rig.complete(submission, Status::Success);
    }
    assert!(rig.holds_nothing());
    rig.answers();
    let mut came = Came::new(&rig, 0, 7);
    came.header = Rig::request(Op::Write, id(2, 0), 0, 1);
    assert_eq!(came.header_to(&mut rig, AT), Ok(Flow::Keep), "it is not pinned again");
}

#[test]
fn what_is_not_executed_keeps_nothing() {
    let mut rig = Rig::new(device(), true);
    let mut came = Came::new(&rig, 0, 7);
    came.header.flags = Flags::DIGEST;
    assert_eq!(came.header_to(&mut rig, AT), Ok(Flow::Keep));
    assert!(matches!(rig.end(0), Dispatch::Nothing), "its digest is another one");
    assert!(rig.holds_nothing() && rig.queue.stats.corrupt == 1);
    rig.answers();
    came.header.digest = Crc32c::of(&[7; LEN]);
    assert_eq!(came.header_to(&mut rig, AT), Ok(Flow::Keep));
    assert!(matches!(rig.end(LEASE_US), Dispatch::LeaseOver(_)));
    assert!(rig.holds_nothing());
    assert_eq!(came.header_to(&mut rig, AT), Ok(Flow::Keep));
    rig.queue.disconnected(&rig.pools);
    assert!(rig.holds_nothing());
    let submission = came.is_submitted(&mut rig).unwrap();
    rig.complete(submission, Status::Success);
    rig.answers();
    assert_eq!(came.header_to(&mut rig, AT), Ok(Flow::Go), "it is answered from the record");
    rig.queue.data(&[7; LEN]);
    assert!(matches!(rig.end(0), Dispatch::Nothing) && rig.holds_nothing());
}

#[test]
fn what_a_reset_has_ended_is_executed_again_with_its_data() {
    let mut rig = Rig::plain();
    let came = Came::new(&rig, 0, 7);
    let ended = came.is_submitted(&mut rig).unwrap().io;
    drop(came);
    rig.backend_resets.begin();
    assert!(rig.queue.is_executed_again(&ended, Status::Aborted));
    rig.queue.keep_ended(ended, 10);
    overwrite_the_rest(&rig);
    rig.backend_resets.end(20);
    let mut again = rig.queue.next_ended(21).expect("the reset is over");
    assert_eq!(again.data.now(), [7; LEN]);
    rig.queue.completed(again, Status::Success, 22, &rig.pools);
    assert!(rig.holds_nothing());
}

#[test]
fn a_lost_connection_leaves_the_backend_its_data() {
    let mut rig = Rig::plain();
    let came = Came::new(&rig, 0, 7);
    let mut busy = came.is_submitted(&mut rig).unwrap();
    rig.queue.disconnected(&rig.pools);
    drop(came);
    overwrite_the_rest(&rig);
    assert_eq!(found(&mut busy), [7; LEN]);
    rig.queue.withdraw(busy.io, 0, &rig.pools);
    assert!(rig.holds_nothing());
}
