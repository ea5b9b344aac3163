//! The reference model and the disks do what they say.

use dst_mirror_sim::disk::{Content, Disk};
use dst_mirror_sim::model::{Model, Wrong};
use world::rng::Rng;

const BLOCK: u64 = 7;

fn blocks() -> impl Iterator<Item = u64> {
    BLOCK..BLOCK + 1
}

/// Two writes, one after the other, the second of which is still in progress.
fn second_in_progress() -> Model {
    let mut model = Model::new(0);
    model.submit(20, blocks(), 1);
    model.complete(20, blocks(), 2);
    model.submit(21, blocks(), 3);
    model
}

#[test]
fn what_was_overwritten_is_gone() {
    let mut model = second_in_progress();
    assert_eq!(model.judge(BLOCK, 0, 3), Some(Wrong::Gone(0, 21)));
    assert_eq!(model.judge(BLOCK, 20, 3), None);
    assert_eq!(model.judge(BLOCK, 21, 3), None);
    model.complete(21, blocks(), 5);
    assert_eq!(model.judge(BLOCK, 20, 4), None, "the read began before the write was complete");
    assert_eq!(model.judge(BLOCK, 20, 6), Some(Wrong::Gone(20, 21)));
    assert_eq!(model.judge(BLOCK, 22, 6), Some(Wrong::Alien));
}

/// As on any disk: it may also not survive a crash.
#[test]
fn what_is_read_of_a_write_in_progress_does_not_count() {
    let mut model = second_in_progress();
    assert_eq!(model.read(BLOCK, 21, 4, 5), None);
    assert_eq!(model.read(BLOCK, 20, 6, 7), None, "from another member");
    model.settle(21, blocks(), 8);
    assert_eq!(model.judge(BLOCK, 0, 9), Some(Wrong::Gone(0, 21)));
    assert_eq!(model.read(BLOCK, 20, 9, 10), None);
    assert_eq!(model.judge(BLOCK, 21, 11), Some(Wrong::Gone(21, 20)));
}

#[test]
fn after_a_crash_the_first_read_decides() {
    let mut model = second_in_progress();
    model.settle(21, blocks(), 4);
    assert_eq!(model.read(BLOCK, 20, 5, 6), None);
    assert_eq!(model.read(BLOCK, 21, 7, 8), Some(Wrong::Gone(21, 20)));
}

#[test]
fn what_was_flushed_is_never_excused() {
    let mut model = second_in_progress();
    model.complete(21, blocks(), 4);
    model.excuse(BLOCK, 5);
    assert_eq!(model.judge(BLOCK, 0, 6), None);
    assert_eq!(model.judge(BLOCK, 20, 6), None);
    let mut model = second_in_progress();
    model.flushed(3);
    model.complete(21, blocks(), 4);
    model.excuse(BLOCK, 5);
    assert_eq!(model.judge(BLOCK, 0, 6), Some(Wrong::Gone(0, 21)));
    assert_eq!(model.judge(BLOCK, 20, 6), None);
    assert_eq!(model.judge(BLOCK, 21, 6), None);
}

#[test]
fn a_power_loss_forgets_what_was_not_flushed() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let mut disk = Disk::new(512, 16, true, Content::Write(0));
        disk.write(BLOCK, Content::Write(20));
        disk.flush();
        disk.write(BLOCK, Content::Write(21));
        disk.write(BLOCK, Content::Write(22));
        assert_eq!(disk.write_at(BLOCK), Some(22));
        assert_eq!(disk.possible(BLOCK), [20, 21, 22]);
        let changed = disk.lose_power(&mut rng);
        assert_eq!(changed.is_empty(), disk.write_at(BLOCK) == Some(22));
        seen.insert(disk.write_at(BLOCK));
        assert_eq!(disk.possible(BLOCK).len(), 1);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [Some(20), Some(21), Some(22)]);
}

#[test]
fn a_power_loss_tears_blocks_of_metadata() {
    let bytes = |value: u8| Content::Bytes(vec![value; 4096].into());
    let is_torn = |seed| {
        let mut disk = Disk::new(4096, 16, true, bytes(1));
        disk.write(BLOCK, bytes(2));
        disk.lose_power(&mut Rng::new(seed));
        let mut found = vec![0; 4096];
        disk.content(BLOCK).fill(&mut found);
        assert!(found.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        found.contains(&1) && found.contains(&2)
    };
    assert!((0..100).any(is_torn));
}
