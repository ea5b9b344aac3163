use proptest::prelude::*;

use super::*;

const FIRST: u32 = u32::MAX - 20;

fn at(offset: u64) -> Seq {
    Seq::initial(FIRST) + offset
}

/// A frame whose bytes are their own positions in the stream.
fn chunk(start: u64, end: u64) -> Chunk<Vec<u8>> {
    Chunk { frame: (start..end).map(|byte| byte as u8).collect(), range: 0..(end - start) as usize }
}

fn insert(to: &mut Reassembly<Vec<u8>>, start: u64, end: u64) -> Arrival {
    to.insert(at(start), chunk(start, end), 100)
}

fn read_all(from: &mut Reassembly<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(chunk) = from.read() {
        bytes.extend_from_slice(&chunk.frame[chunk.range]);
    }
    bytes
}

#[test]
fn a_gap_is_filled() {
    let mut data = Reassembly::new(at(0));
    assert_eq!(insert(&mut data, 0, 10), Arrival::InOrder { bytes: 10, filled: false });
    assert_eq!(insert(&mut data, 20, 30), Arrival::Early);
    assert_eq!(insert(&mut data, 25, 30), Arrival::Duplicate);
    assert_eq!(insert(&mut data, 5, 10), Arrival::Duplicate);
    assert_eq!(data.blocks::<3>(), [Some((at(20), at(30))), None, None]);
    assert_eq!(insert(&mut data, 5, 22), Arrival::InOrder { bytes: 20, filled: true });
    assert!(!data.has_gap());
    assert_eq!(read_all(&mut data), (0..30).collect::<Vec<u8>>());
    assert_eq!((data.unread(), data.frames()), (0, 0));
}

#[test]
fn the_newest_block_comes_first() {
    let mut data = Reassembly::new(at(0));
    for start in [10, 30, 50, 70] {
        insert(&mut data, start, start + 5);
    }
    insert(&mut data, 35, 40);
    assert_eq!(data.blocks::<3>(), [Some((at(30), at(40))), Some((at(70), at(75))), Some((at(50), at(55)))]);
    insert(&mut data, 15, 30);
    assert_eq!(data.blocks::<2>(), [Some((at(10), at(40))), Some((at(70), at(75)))]);
}

#[test]
fn frames_are_bounded_but_the_next_one_always_fits() {
    let mut data = Reassembly::new(at(0));
    for start in 1..=4 {
        assert_eq!(data.insert(at(2 * start), chunk(2 * start, 2 * start + 1), 4), Arrival::Early);
    }
    assert_eq!(data.insert(at(20), chunk(20, 21), 4), Arrival::NoRoom);
    assert!(matches!(data.insert(at(0), chunk(0, 2), 4), Arrival::InOrder { bytes: 3, filled: true }));
    assert!(matches!(data.insert(at(3), chunk(3, 9), 4), Arrival::InOrder { .. }));
    assert!(matches!(data.insert(at(9), chunk(9, 10), 4), Arrival::InOrder { .. }));
    assert_eq!(data.insert(at(10), chunk(10, 11), 4), Arrival::NoRoom, "nothing was read");
}

#[test]
fn gaps_are_bounded_but_the_next_segment_always_fits() {
    let mut data = Reassembly::new(at(0));
    let mut put = |start, end| data.insert(at(start), chunk(start, end), 10_000);
    for island in 1..=MAX_ISLANDS as u64 {
        assert_eq!(put(4 * island, 4 * island + 2), Arrival::Early);
    }
    assert_eq!(put(4_000, 4_001), Arrival::NoRoom, "it would be one more");
    assert_eq!(put(4 * 100 + 3, 4 * 100 + 4), Arrival::Early, "it extends one");
    assert_eq!(put(4 * 100 + 2, 4 * 100 + 3), Arrival::Early, "it joins two");
    assert_eq!(put(4_000, 4_001), Arrival::Early);
    assert_eq!(put(5_000, 5_001), Arrival::NoRoom);
    assert_eq!(put(0, 4), Arrival::InOrder { bytes: 6, filled: true });
    assert_eq!(put(5_000, 5_001), Arrival::Early);
}

proptest! {
    /// Pieces in any order, overlapping in any way, sent until all have arrived, give the stream.
    #[test]
    fn any_order_gives_the_stream(pieces in prop::collection::vec((0u64..200, 1u64..40), 1..60)) {
        let mut data = Reassembly::new(at(0));
        let mut read = Vec::new();
        let all: Vec<_> = (0..240).step_by(17).map(|start| (start, 17)).collect();
        // The stream once more behind them, twice, since a piece across several islands is cut.
        for (start, length) in pieces.into_iter().chain(all.clone()).chain(all) {
            let end = (start + length).min(240);
            data.insert(at(start), chunk(start, end), 1000);
            let mut last = data.next();
            for island in &data.islands {
                prop_assert!(island.start > last && island.end > island.start);
                last = island.end;
            }
            let held: u64 = data.early.iter().map(|early| early.end - early.start).sum();
            prop_assert_eq!(held, data.islands.iter().map(|i| i.end - i.start).sum::<u64>());
            read.extend(read_all(&mut data));
        }
        prop_assert_eq!(read, (0..240).map(|byte| byte as u8).collect::<Vec<u8>>());
    }
}
