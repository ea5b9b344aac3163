//! Looking for a mirror's metadata on a device of which nothing is known.
//!
//! They are at the end that the device had when they were written. If it has grown since, that is somewhere
//! before its end, and is found by reading backwards. What is found there counts only if it says that the
//! device ended there: a volume within the device may be a member of another mirror.

use super::error::MetadataError;
use super::layout::{Layout, LayoutError, SUPERBLOCK_BYTES, SUPERBLOCK_ROOM, WITNESS_BYTES};
use super::record::Record;
use super::superblock::{self, Superblock};
use crate::extents::Extent;
use crate::ids::MemberId;

/// The most bytes that are read at once.
pub const SEARCH_BYTES: u64 = 1 << 20;

/// A member or a witness that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which one it is.
    pub own: MemberId,
    /// What its newest superblock says.
    pub record: Record,
    /// The size of the device when it was last used, in blocks.
    pub device_blocks: u64,
}

/// The next step of a search.
#[derive(Debug)]
pub enum SearchStep {
    /// Read these blocks, of at most [`SEARCH_BYTES`], and call [`Search::supply`] with their content.
    Read(Extent),
    /// The metadata that were found, or the reason why none can be used: that of the superblock nearest to the
    /// end of the device, if there is one at all.
    Done(Result<Box<Found>, MetadataError>),
}

/// A search on one device.
#[derive(Debug)]
pub struct Search {
    block_size: u32,
    /// The byte up to which is read: a multiple of [`SUPERBLOCK_ROOM`].
    floor: u64,
    /// The byte at which the next read ends.
    end: u64,
    found: Option<Box<Found>>,
    problem: Option<MetadataError>,
}

impl Search {
    /// Begins a search on a device of `device_blocks` blocks of `block_size` bytes: at its end, and
    /// `back_bytes` before that.
    ///
    /// # Errors
    /// The device is none that a mirror can have.
    pub fn new(device_blocks: u64, block_size: u32, back_bytes: u64) -> Result<Search, LayoutError> {
        let end = Layout::witness(device_blocks, block_size)?.end();
        let floor = end.saturating_sub(WITNESS_BYTES).saturating_sub(back_bytes);
        let floor = floor - floor % SUPERBLOCK_ROOM;
        Ok(Search { block_size, floor, end, found: None, problem: None })
    }

    /// Returns the next step.
    pub fn step(&mut self) -> SearchStep {
        // The other superblock is in the room before.
        let is_over = match &self.found {
            Some(found) => self.end + WITNESS_BYTES <= self.end_of(found).unwrap_or(u64::MAX),
            None => false,
        };
        if is_over || self.end <= self.floor {
            let problem = self.problem.unwrap_or(MetadataError::Nothing);
            return SearchStep::Done(self.found.take().ok_or(problem));
        }
        let block_size = u64::from(self.block_size);
        SearchStep::Read(Extent::between(self.start() / block_size, self.end / block_size))
    }

    /// The byte at which the next read begins.
    fn start(&self) -> u64 {
        self.end.saturating_sub(SEARCH_BYTES).max(self.floor)
    }

    /// The blocks were read for which [`SearchStep::Read`] asked. `bytes` is their content.
    pub fn supply(&mut self, bytes: &[u8]) {
        let start = self.start();
        let mut at = self.end;
        while at > start {
            at -= SUPERBLOCK_ROOM;
            let within = (at - start) as usize;
            match bytes.get(within..within + SUPERBLOCK_BYTES).map(superblock::read_anywhere) {
                Some(Ok(superblock)) => self.consider(superblock, at),
                Some(Err(MetadataError::Nothing)) | None => {}
                Some(Err(problem)) => {
                    self.problem.get_or_insert(problem);
                }
            }
        }
        self.end = start;
    }

    /// Keeps what a superblock at this byte says, if it says that it belongs there and none newer was found.
    fn consider(&mut self, superblock: Superblock, at: u64) {
        let Superblock { own, record, .. } = superblock;
        let configuration = &record.configuration;
        let witness = configuration.witness.as_ref().filter(|witness| witness.id == own);
        let recorded = configuration.member(own).map(|member| member.device_blocks);
        let device_blocks = recorded.or(witness.map(|witness| witness.device_blocks)).unwrap_or(0);
        if recorded.is_some() && record.block_size != self.block_size {
            let problem = MetadataError::BlockSize { recorded: record.block_size, found: self.block_size };
            self.problem.get_or_insert(problem);
            return;
        }
        let found = Box::new(Found { own, record, device_blocks });
        let belongs = self.end_of(&found).is_some_and(|end| {
            let first = end - WITNESS_BYTES;
            at == first || at == first + SUPERBLOCK_ROOM
        });
        let is_newer = match &self.found {
            None => true,
            Some(other) => {
                other.own == found.own
                    && other.device_blocks == found.device_blocks
                    && other.record.configuration.number < found.record.configuration.number
            }
        };
        if belongs && is_newer {
            self.found = Some(found);
        }
    }

    /// Returns the byte behind the metadata of what was found, if a device of that size can have any.
    fn end_of(&self, found: &Found) -> Option<u64> {
        let layout = match found.is_witness() {
            true => Layout::witness(found.device_blocks, self.block_size),
            false => Layout::member(found.device_blocks, self.block_size),
        };
        layout.ok().map(|layout| layout.end())
    }
}

impl Found {
    /// Returns whether this is the witness.
    pub fn is_witness(&self) -> bool {
        self.record.configuration.member(self.own).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::Slot;
    use super::super::superblock::encode;
    use super::super::testing::example;
    use super::super::tree::TreeRef;
    use super::*;
    use crate::configuration::MEMBERS_MAX;

    /// A device of which only some pieces are not zero.
    struct Device {
        blocks: u64,
        pieces: Vec<(u64, Vec<u8>)>,
    }

    impl Device {
        /// Returns the bytes of a range of blocks of 4 KiB.
        fn read(&self, range: Extent) -> Vec<u8> {
            let mut bytes = vec![0; range.count as usize * 4096];
            for (at, piece) in &self.pieces {
                if let Some(within) = at.checked_sub(range.start * 4096)
                    && within < bytes.len() as u64
                {
                    bytes[within as usize..][..piece.len()].copy_from_slice(piece);
                }
            }
            bytes
        }

        /// Searches the device. Also returns the number of bytes that were read.
        fn search(&self, back_bytes: u64) -> (Result<Box<Found>, MetadataError>, u64) {
            let mut search = Search::new(self.blocks, 4096, back_bytes).expect("there is room");
            let mut read = 0;
            loop {
                match search.step() {
                    SearchStep::Read(range) => {
                        assert!(range.count > 0 && range.end() <= self.blocks, "{range:?}");
                        read += range.count * 4096;
                        search.supply(&self.read(range));
                    }
                    SearchStep::Done(found) => return (found, read),
                }
            }
        }
    }

    /// The bytes of a superblock of the member 1 or 2, or the witness 99, with this number.
    fn superblock(own: u128, number: u64) -> Vec<u8> {
        let (_, mut record) = example();
        record.configuration.number = number;
        encode(MemberId(own), &record, &[TreeRef::empty(Slot::First); MEMBERS_MAX])
    }

    /// The member 1 of the example, whose device has grown by so many blocks.
    fn grown(by: u64, numbers: [u64; 2]) -> Device {
        let (layout, _) = example();
        let first = layout.superblocks().start * 4096;
        let pieces =
            vec![(first, superblock(1, numbers[0])), (first + SUPERBLOCK_ROOM, superblock(1, numbers[1]))];
        Device { blocks: layout.device_blocks() + by, pieces }
    }

    #[test]
    fn the_newest_superblock_counts_wherever_the_device_ended() {
        let (layout, _) = example();
        // Also where a read ends between the two superblocks.
        for by in [0, 1, 15, 16, 17, 240, 241, 255, 256, 257, 4096, 100_000] {
            for numbers in [[0x0109, 0x010a], [0x010b, 0x010a]] {
                let (found, _) = grown(by, numbers).search(by * 4096);
                let found = found.unwrap_or_else(|error| panic!("grown by {by}: {error}"));
                assert_eq!(found.record.configuration.number, numbers[0].max(numbers[1]), "grown by {by}");
                assert_eq!((found.own, found.is_witness()), (MemberId(1), false));
                assert_eq!(found.device_blocks, layout.device_blocks());
            }
        }
    }

    #[test]
    fn no_more_is_read_than_asked_for() {
        let device = grown(100_000, [0x0109, 0x010a]);
        let (found, read) = device.search(0);
        assert_eq!((found, read), (Err(MetadataError::Nothing), WITNESS_BYTES));
        let (found, read) = device.search(10 << 20);
        assert_eq!((found, read), (Err(MetadataError::Nothing), WITNESS_BYTES + (10 << 20)));
        // Nor than needed.
        let (found, read) = grown(0, [0x0109, 0x010a]).search(u64::MAX);
        assert!(found.is_ok() && read <= SEARCH_BYTES, "{read}");
    }

    #[test]
    fn a_witness_is_found() {
        // Of 2,048 blocks, by the example.
        let first = 2048 * 4096 - WITNESS_BYTES;
        let device = Device { blocks: 4096, pieces: vec![(first, superblock(99, 0x0109))] };
        let found = device.search(u64::MAX).0.expect("it is there");
        assert!(found.is_witness());
        assert_eq!((found.own, found.device_blocks), (MemberId(99), 2048));
    }

    #[test]
    fn a_member_within_the_device_is_not_the_device() {
        let (layout, _) = example();
        // A volume that begins a MiB behind the beginning of the device.
        let first = layout.superblocks().start * 4096 + (1 << 20);
        let device =
            Device { blocks: layout.device_blocks() + 512, pieces: vec![(first, superblock(1, 0x0109))] };
        assert_eq!(device.search(u64::MAX).0, Err(MetadataError::Nothing));
    }

    #[test]
    fn a_damaged_superblock_is_named_unless_the_other_is_whole() {
        let mut device = grown(16, [0x0109, 0x010a]);
        device.pieces[1].1[100] ^= 1;
        assert!(device.search(u64::MAX).0.is_ok());
        device.pieces[0].1[100] ^= 1;
        assert!(matches!(device.search(u64::MAX).0, Err(MetadataError::Crc { .. })));
        device.pieces.clear();
        assert_eq!(device.search(u64::MAX).0, Err(MetadataError::Nothing));
    }

    #[test]
    fn the_smallest_devices_are_searched() {
        for blocks in [32, 33, 47, 48, 300] {
            assert_eq!(Device { blocks, pieces: Vec::new() }.search(u64::MAX).0, Err(MetadataError::Nothing));
        }
        assert!(Search::new(31, 4096, 0).is_err());
    }
}
