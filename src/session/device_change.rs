//! What a target's events mean for the device that a client has, and for the bdev that shows it.

use dst_wire::{Device, Event, WireError};

/// What became of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChange {
    /// The device has another size; this is the device with that size.
    Resized(Device),
    /// The export is gone for good, or this host's right to the export.
    Removed,
}

/// Returns the change that counts among `events`, which are in the order of arrival: the last one.
/// A newer size replaces an older one, and a removed device has no size.
///
/// # Errors
/// Any of the events, not only the last one, names a size that `device` can't have. The connection
/// is to be closed.
pub fn newest(
    device: &Device,
    events: impl IntoIterator<Item = Event>,
) -> Result<Option<DeviceChange>, WireError> {
    let mut newest = None;
    for event in events {
        newest = Some(match event {
            Event::Resized(num_blocks) => DeviceChange::Resized(device.resized(num_blocks)?),
            Event::Removed => DeviceChange::Removed,
        });
    }
    Ok(newest)
}

/// The size of the bdev, which may differ from that of the target's device: SPDK does not shrink a
/// bdev that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BdevSize {
    /// Both have this many blocks.
    Current(u64),
    /// SPDK refused the device's size.
    Kept {
        /// Blocks of the bdev.
        blocks: u64,
        /// Blocks of the device.
        refused: u64,
    },
}

impl BdevSize {
    /// Returns the bdev's size in blocks.
    pub fn blocks(self) -> u64 {
        match self {
            BdevSize::Current(blocks) | BdevSize::Kept { blocks, .. } => blocks,
        }
    }

    /// Returns the size after SPDK refused to make it `refused` blocks, and whether that is news:
    /// SPDK had not refused the same before.
    pub fn refuse(self, refused: u64) -> (BdevSize, bool) {
        let kept = BdevSize::Kept { blocks: self.blocks(), refused };
        (kept, kept != self)
    }

    /// Returns what users are told of a size that SPDK refused.
    pub fn note(self) -> Option<String> {
        match self {
            BdevSize::Current(_) => None,
            BdevSize::Kept { blocks, refused } => Some(format!(
                "the target's device has {refused} blocks now, but the bdev keeps its {blocks}: SPDK does not \
                 shrink a bdev that is open"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dst_wire::OpSet;
    use proptest::prelude::*;

    fn device(block_size: u32) -> Device {
        Device {
            uuid: [3; 16],
            num_blocks: 1000,
            block_size,
            write_unit_size: 1,
            optimal_io_boundary: 0,
            compare_and_write_max: 0,
            write_cache: false,
            read_only: false,
            ops: OpSet::NONE,
        }
    }

    #[test]
    fn the_last_event_counts() {
        let device = device(4096);
        let resized = |num_blocks| DeviceChange::Resized(Device { num_blocks, ..device });
        let newest = |events: &[Event]| newest(&device, events.iter().copied());
        assert_eq!(newest(&[]), Ok(None));
        assert_eq!(newest(&[Event::Resized(7), Event::Resized(8)]), Ok(Some(resized(8))));
        assert_eq!(newest(&[Event::Resized(7), Event::Removed]), Ok(Some(DeviceChange::Removed)));
    }

    #[test]
    fn a_size_is_checked_with_the_block_size_even_if_a_newer_event_follows() {
        // The event itself allows this size, as it does not know the block size.
        let blocks = 1 << 51;
        assert_eq!(Event::decode(1, &Event::Resized(blocks).encode()), Ok(Some(Event::Resized(blocks))));
        assert!(newest(&device(512), [Event::Resized(blocks)]).is_ok());
        for events in [[Event::Resized(blocks), Event::Resized(8)], [Event::Resized(blocks), Event::Removed]]
        {
            assert!(newest(&device(4096), events).is_err(), "{events:?}");
        }
    }

    #[test]
    fn a_size_that_spdk_refuses_is_news_once_and_changes_nothing() {
        let (size, is_news) = BdevSize::Current(10).refuse(8);
        assert!(is_news && size.blocks() == 10);
        assert_eq!(size.refuse(8), (size, false));
        let (size, is_news) = size.refuse(7);
        assert!(is_news && size.blocks() == 10);
        let note = size.note().unwrap();
        assert!(note.contains("has 7 blocks") && note.contains("keeps its 10"), "{note}");
        assert_eq!(BdevSize::Current(10).note(), None);
    }

    proptest! {
        #[test]
        fn no_accepted_size_has_more_bytes_than_the_protocol_allows(
            shift in 9u32..=16,
            num_blocks in any::<u64>(),
        ) {
            let device = device(1 << shift);
            let bytes = u128::from(num_blocks) << shift;
            let fits = num_blocks > 0 && bytes < 1 << 63;
            match newest(&device, [Event::Resized(num_blocks)]) {
                Ok(change) => {
                    prop_assert!(fits);
                    let expected = DeviceChange::Resized(Device { num_blocks, ..device });
                    prop_assert_eq!(change, Some(expected));
                }
                Err(_) => prop_assert!(!fits),
            }
        }
    }
}
