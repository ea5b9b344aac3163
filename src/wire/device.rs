//! The nested list that describes the device behind an export.

use crate::attribute::{Reader, Writer, required};
use crate::{OpSet, WireError};
use std::ops::RangeInclusive;

/// The range of block sizes, in bytes. A block size is a power of two within it.
pub const BLOCK_SIZES: RangeInclusive<u32> = 512..=65_536;

/// The properties of the device behind an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// The export's identity, unchanged for as long as the data is the same.
    pub uuid: [u8; 16],
    /// Size in blocks: at least 1, and at most `i64::MAX` bytes.
    pub num_blocks: u64,
    /// Bytes in a block: a power of two within [`BLOCK_SIZES`].
    pub block_size: u32,
    /// A write must cover a multiple of this many blocks; at least 1.
    pub write_unit_size: u32,
    /// I/O that crosses a multiple of this many blocks is slower; 0: no such boundary.
    pub optimal_io_boundary: u32,
    /// The maximum number of blocks of one compare-and-write, which the maximum transfer limits
    /// too; 0: not supported.
    pub compare_and_write_max: u32,
    /// Whether a power failure of the backend may lose completed writes that were not flushed.
    pub write_cache: bool,
    /// Whether modifying operations are refused.
    pub read_only: bool,
    /// The operations that this connection may request.
    pub ops: OpSet,
}

const LIST: &str = "device";

mod attr {
    pub const UUID: u16 = 1;
    pub const NUM_BLOCKS: u16 = 2;
    pub const BLOCK_SIZE: u16 = 3;
    pub const WRITE_UNIT: u16 = 4;
    pub const BOUNDARY: u16 = 5;
    pub const COMPARE_AND_WRITE_MAX: u16 = 6;
    pub const WRITE_CACHE: u16 = 7;
    pub const READ_ONLY: u16 = 8;
    pub const OPS: u16 = 9;
}

impl Device {
    /// Returns the device with a new size.
    ///
    /// # Errors
    /// The size is 0, or more than `i64::MAX` bytes.
    pub fn resized(self, num_blocks: u64) -> Result<Device, WireError> {
        Device { num_blocks, ..self }.checked()
    }

    fn checked(self) -> Result<Device, WireError> {
        let block_size = self.block_size.is_power_of_two() && BLOCK_SIZES.contains(&self.block_size);
        let bytes = u128::from(self.num_blocks) * u128::from(self.block_size);
        let allowed = [
            (block_size, attr::BLOCK_SIZE),
            (self.num_blocks >= 1 && bytes <= i64::MAX as u128, attr::NUM_BLOCKS),
            (self.write_unit_size >= 1, attr::WRITE_UNIT),
        ];
        WireError::unless_all(LIST, &allowed)?;
        Ok(self)
    }

    pub(crate) fn write(&self) -> Writer {
        let mut w = Writer::new();
        w.bytes(attr::UUID, &self.uuid)
            .u64(attr::NUM_BLOCKS, self.num_blocks)
            .u32(attr::BLOCK_SIZE, self.block_size)
            .u32(attr::WRITE_UNIT, self.write_unit_size)
            .u32(attr::BOUNDARY, self.optimal_io_boundary)
            .u32(attr::COMPARE_AND_WRITE_MAX, self.compare_and_write_max)
            .u8(attr::WRITE_CACHE, self.write_cache.into())
            .u8(attr::READ_ONLY, self.read_only.into())
            .u32(attr::OPS, self.ops.bits());
        w
    }

    pub(crate) fn read(message: &[u8]) -> Result<Device, WireError> {
        let (mut uuid, mut num_blocks, mut block_size, mut ops) = (None, None, None, None);
        let (mut write_unit_size, mut optimal_io_boundary, mut compare_and_write_max) = (1, 0, 0);
        let (mut write_cache, mut read_only) = (false, false);
        let mut reader = Reader::new(LIST, message);
        while let Some(a) = reader.next()? {
            match a.kind {
                attr::UUID => uuid = Some(a.uuid()?),
                attr::NUM_BLOCKS => num_blocks = Some(a.u64()?),
                attr::BLOCK_SIZE => block_size = Some(a.u32()?),
                attr::WRITE_UNIT => write_unit_size = a.u32()?,
                attr::BOUNDARY => optimal_io_boundary = a.u32()?,
                attr::COMPARE_AND_WRITE_MAX => compare_and_write_max = a.u32()?,
                attr::WRITE_CACHE => write_cache = a.u8()? != 0,
                attr::READ_ONLY => read_only = a.u8()? != 0,
                attr::OPS => ops = Some(OpSet::from_bits(a.u32()?)),
                _ => {}
            }
        }
        Device {
            uuid: required(uuid, LIST, attr::UUID)?,
            num_blocks: required(num_blocks, LIST, attr::NUM_BLOCKS)?,
            block_size: required(block_size, LIST, attr::BLOCK_SIZE)?,
            write_unit_size,
            optimal_io_boundary,
            compare_and_write_max,
            write_cache,
            read_only,
            ops: required(ops, LIST, attr::OPS)?,
        }
        .checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttributeRef;
    use crate::testing::*;
    use proptest::prelude::*;

    fn example() -> Device {
        Device {
            uuid: [3; 16],
            num_blocks: 1000,
            block_size: 4096,
            write_unit_size: 1,
            optimal_io_boundary: 0,
            compare_and_write_max: 0,
            write_cache: false,
            read_only: false,
            ops: OpSet::NONE,
        }
    }

    #[test]
    fn impossible_devices_are_refused() {
        let refused = |kind, device: Device| {
            let error = Err(WireError::Value(AttributeRef { list: LIST, kind }));
            assert_eq!(Device::read(&device.write().finish()), error, "{device:?}");
        };
        for block_size in [0, 1, 256, 513, 520, 131_072, 1 << 31, u32::MAX] {
            refused(attr::BLOCK_SIZE, Device { block_size, ..example() });
        }
        for num_blocks in [0, 1 << 51, 1 << 52, u64::MAX] {
            refused(attr::NUM_BLOCKS, Device { num_blocks, ..example() });
            assert!(example().resized(num_blocks).is_err());
        }
        refused(attr::WRITE_UNIT, Device { write_unit_size: 0, ..example() });
        assert_eq!(example().resized((1 << 51) - 1).map(|d| d.num_blocks), Ok((1 << 51) - 1));
    }

    #[test]
    fn what_is_missing_is_named_or_has_a_default() {
        let bytes = example().write().finish();
        for kind in 1..=9 {
            let read = Device::read(&without(&bytes, &[], kind));
            if [1, 2, 3, 9].contains(&kind) {
                assert_eq!(read, Err(WireError::Missing(AttributeRef { list: "device", kind })));
            } else {
                assert_eq!(read, Ok(example()));
            }
        }
    }

    #[test]
    fn any_number_but_0_is_yes() {
        let bytes = with(&example().write().finish(), &[], attr::READ_ONLY, &[2]);
        assert_eq!(Device::read(&bytes), Ok(Device { read_only: true, ..example() }));
    }

    proptest! {
        #[test]
        fn read_undoes_write(device in any_device()) {
            prop_assert_eq!(Device::read(&device.write().finish()), Ok(device));
        }
    }
}
