//! What a target tells of its own accord: the first byte is the header's code.
#![no_main]

use dst_wire::{BLOCK_SIZES, Device, Event, OpSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&code, message)) = data.split_first() else { return };
    if let Ok(Some(event)) = Event::decode(code, message) {
        assert_eq!(event.code(), code);
        assert_eq!(Event::decode(code, &event.encode()), Ok(Some(event)));
        if let Event::Resized(num_blocks) = event {
            resize(num_blocks);
        }
    }
});

/// Gives a device of each block size this many blocks, which is refused past 2^63 - 1 bytes.
fn resize(num_blocks: u64) {
    let (smallest, largest) = BLOCK_SIZES.into_inner();
    for shift in smallest.ilog2()..=largest.ilog2() {
        let device = Device {
            uuid: [1; 16],
            num_blocks: 1,
            block_size: 1 << shift,
            write_unit_size: 1,
            optimal_io_boundary: 0,
            compare_and_write_max: 0,
            write_cache: false,
            read_only: false,
            ops: OpSet::NONE,
        };
        let fits = u128::from(num_blocks) << shift <= i64::MAX as u128;
        let resized = device.resized(num_blocks);
        assert_eq!(resized.is_ok(), fits);
        assert!(resized.is_err() || resized == Ok(Device { num_blocks, ..device }));
    }
}
