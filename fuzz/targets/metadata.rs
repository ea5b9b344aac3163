//! The metadata at the end of a mirror's device: the input is the superblocks, whose checksums are
//! mended, and what is read for each tree. Whatever is read is asked for within the metadata, and
//! what is accepted is written as it was.
#![no_main]

use dst_mirror::metadata::{Layout, Load, Loader, METADATA_BYTES, SUPERBLOCK_BYTES};
use libfuzzer_sys::fuzz_target;

const BLOCK_SIZE: u32 = 4096;

fuzz_target!(|data: &[u8]| {
    // A device with 256 blocks of data.
    let blocks = METADATA_BYTES / u64::from(BLOCK_SIZE) + 256;
    let Some((&kind, data)) = data.split_first() else { return };
    let layout = if kind & 1 == 0 { Layout::member } else { Layout::witness };
    let layout = layout(blocks, BLOCK_SIZE).expect("there is room");
    let (superblock, trees) = data.split_at(data.len().min(SUPERBLOCK_BYTES));
    let mut loader = Loader::new(layout);
    let mut has_superblocks = false;
    loop {
        match loader.step() {
            Load::Flush => loader.flushed(),
            Load::Read(at) => {
                assert!(at.start >= layout.data_blocks() && at.end() <= blocks);
                let mut content = vec![0; at.count as usize * BLOCK_SIZE as usize];
                if has_superblocks {
                    let len = trees.len().min(content.len());
                    content[..len].copy_from_slice(&trees[..len]);
                } else {
                    let start = if kind & 2 == 0 { 0 } else { content.len() / 2 };
                    content[start..start + superblock.len()].copy_from_slice(superblock);
                    mend(&mut content[start..start + SUPERBLOCK_BYTES]);
                }
                has_superblocks = true;
                loader.supply(&content);
            }
            Load::Done(Err(error)) => {
                assert!(!error.to_string().is_empty());
                return;
            }
            Load::Done(Ok(loaded)) => {
                let (record, mut area) = (loaded.record, loaded.area);
                assert_eq!(loaded.missed.len(), record.configuration.members.len());
                let changed: Vec<_> = loaded.missed.iter().enumerate().collect();
                let update = area.update(&record, &changed);
                area.written();
                let mut expected = superblock.to_vec();
                expected.resize(SUPERBLOCK_BYTES, 0);
                mend(&mut expected);
                assert!(
                    !loaded.missed.iter().all(|tree| tree.is_empty()) || update.superblock.bytes == expected
                );
                return;
            }
        }
    }
});

/// Puts in the CRC32C of a superblock.
fn mend(superblock: &mut [u8]) {
    superblock[12..16].fill(0);
    let crc = crc32c::crc32c(superblock);
    superblock[12..16].copy_from_slice(&crc.to_le_bytes());
}
