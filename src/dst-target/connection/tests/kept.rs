//! Writes whose data stays in the receive buffer, through a socket.

use super::*;
use crate::receive_buffer::ReceiveBuffer;
use world::store::Content;

fn write(sequence: u64, slot: u16, start: u64) -> (Header, Vec<u8>) {
    let id = sequence << 16 | u64::from(slot);
    let header = Header { code: Op::Write as u8, id, start, count: 1, ..Header::new(Kind::Request) };
    let mut data = vec![0; BLOCK as usize];
    store::fill(&mut data, start, Content { write: sequence, zero: false });
    (header, data)
}

/// The user's write that a block is from.
fn written(rig: &Rig, block: u64) -> u64 {
    store::content(rig.store, block).write
}

impl Rig {
    fn writes(&self, sequence: u64, slot: u16, start: u64) {
        let (header, data) = write(sequence, slot, start);
        self.sends(header, &data);
    }

    fn pinned(&self) -> usize {
        self.share.get().pinned
    }
}

#[test]
fn writes_stay_where_they_came_while_more_is_received() {
    let rig = Rig::ready(true, 0);
    store::set_hung(rig.store, true);
    rig.writes(1, 0, 0);
    rig.writes(1, 1, 1);
    rig.receive().unwrap();
    assert_eq!((rig.in_backend(), rig.pinned(), rig.share.get().small), (2, 1, 0));
    for slot in 2..8 {
        rig.writes(2, slot, slot.into());
        rig.receive().unwrap();
    }
    assert_eq!((rig.in_backend(), rig.pinned()), (8, 2), "some are copied");
    store::set_hung(rig.store, false);
    rig.backend_finishes();
    assert_eq!(rig.flush(), [Kind::Answer; 8]);
    let blocks: Vec<u64> = (0..8).map(|block| written(&rig, block)).collect();
    assert_eq!(blocks, [1, 1, 2, 2, 2, 2, 2, 2]);
    assert_eq!(rig.share.get(), Default::default());
}

/// Wherever the stream is cut, the writes behind the cut can stay.
#[test]
fn a_write_behind_one_that_was_cut_is_aligned() {
    for cut in 0..HEADER_LEN + BLOCK as usize {
        let rig = Rig::ready(true, 0);
        let frames = [0, 1].map(|slot| {
            let (header, data) = write(1, slot, slot.into());
            [&Header { data_len: BLOCK, ..header }.encode()[..], &data].concat()
        });
        let bytes = frames.concat();
        if cut > 0 {
            rig.sends_bytes(&bytes[..cut]);
            rig.receive().unwrap();
        }
        rig.sends_bytes(&bytes[cut..]);
        rig.receive().unwrap();
        // The one that was cut behind its header is copied.
        let copied = usize::from(cut >= HEADER_LEN);
        assert_eq!((rig.pinned(), rig.share.get().small), (1, copied), "cut at {cut}");
        rig.backend_finishes();
        assert_eq!((written(&rig, 0), written(&rig, 1)), (1, 1), "cut at {cut}");
    }
}

#[test]
fn the_buffer_outlives_the_connection() {
    let rig = Rig::ready(true, 0);
    store::set_hung(rig.store, true);
    rig.writes(1, 0, 0);
    rig.receive().unwrap();
    assert!(matches!(rig.shut(), Shut::Draining));
    assert_eq!(rig.pinned(), 1);
    // Others receive into all other buffers.
    let mut buffers = Vec::new();
    loop {
        let mut buffer = rig.pools.take_receive();
        dst_transport::Buffer::room(&mut buffer).fill(0xee);
        dst_transport::Buffer::bytes(&buffer);
        if matches!(buffer, ReceiveBuffer::Spare(_)) {
            break;
        }
        buffers.push(buffer);
    }
    store::set_hung(rig.store, false);
    assert!(rig.backend_finishes().is_some());
    assert_eq!((written(&rig, 0), rig.share.get()), (1, Default::default()));
}

#[test]
fn a_write_that_the_removal_of_its_bdev_has_failed_lets_its_buffer_go() {
    let rig = Rig::ready(true, 0);
    store::set_errors(rig.store, 1000);
    rig.writes(1, 0, 0);
    rig.receive().unwrap();
    assert_eq!(rig.pinned(), 1);
    spdk::bdev::remove(rig.process, "disk");
    rig.backend_finishes();
    assert!(rig.flush().is_empty());
    assert_eq!(rig.share.get(), Default::default());
}
