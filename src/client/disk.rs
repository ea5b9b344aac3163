//! The bdev that SPDK sees.

use std::rc::Rc;
use std::sync::Arc;

use dst_wire::Device;
use serde_json::{Value, json};
use spdk::bdev_io::{BdevIo, IoKind};
use spdk::bdev_module::{DestructDone, Disk, DiskInfo};
use spdk::thread::Thread;

use crate::answers::op_of;
use crate::channel::Channel;
use crate::options::BdevUuid;
use crate::shared::Shared;

/// Makes the registry forget the client of a bdev. On the control thread.
pub type Forget = fn(&Arc<Shared>);

/// A DST bdev.
pub struct DstDisk {
    pub shared: Arc<Shared>,
    pub device: Device,
    /// The control thread, which has the [`crate::Client`].
    pub control: Thread,
    pub forget: Forget,
}

impl Disk for DstDisk {
    type Channel = Channel;

    fn create_channel(&self) -> spdk::Result<Rc<Channel>> {
        Channel::open(&self.shared, self.device)
    }

    fn destroy_channel(channel: Rc<Channel>) {
        channel.close();
    }

    fn submit(channel: &Rc<Channel>, io: BdevIo) {
        channel.submit(io);
    }

    fn supports(&self, kind: IoKind) -> bool {
        op_of(kind).is_some_and(|op| self.shared.ops().contains(op))
    }

    fn dump_info(&self) -> Value {
        let peer = self.shared.peer();
        let at = self.shared.places().current();
        json!({
            "traddr": at.address.map(|address| address.to_string()),
            "trsvcid": at.port.to_string(),
            "export": peer.export,
            "host": peer.host,
            "read_only": self.shared.device().unwrap_or(self.device).read_only,
        })
    }

    /// The module's own configuration has all clients, those without a bdev too.
    fn write_config(&self) -> Vec<Value> {
        Vec::new()
    }

    fn destruct(&self, done: DestructDone) {
        self.shared.close();
        let (shared, forget) = (Arc::clone(&self.shared), self.forget);
        if let Err(errno) = self.control.send(move || forget(&shared)) {
            spdk::error!("DST bdev {}: its connection stays open: {errno}", self.shared.name());
        }
        done.done();
    }
}

/// Returns the UUID of the bdev of an export with this UUID, which is the same after every attach.
pub fn uuid_of(export: [u8; 16], kind: BdevUuid) -> [u8; 16] {
    match kind {
        BdevUuid::Inherited => export,
        BdevUuid::Derived => derived(export),
    }
}

/// Returns a UUID that depends on the export's alone and differs from it: the export's with its
/// bits inverted, marked as version 8 ("vendor specific", RFC 9562, section 5.8).
fn derived(export: [u8; 16]) -> [u8; 16] {
    let mut uuid = export.map(|byte| !byte);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// Longer I/O is split, bytes: while one part is on the wire the backend works for another, and
/// nothing else waits for all of it. Of 1 MiB, which went whole before, reads at depth 32 are 1.2
/// times as fast, writes at depth 1 1.35 times.
const PART: u32 = 256 << 10;

/// Most bytes of a transaction, if the target takes `max_transfer`. Whole units of writing.
pub fn longest(device: &Device, max_transfer: u32) -> u32 {
    let unit = device.block_size * device.write_unit_size;
    max_transfer.min((PART / unit).max(1) * unit)
}

/// Returns the number of blocks at whose multiples I/O is split, so that nothing longer than
/// `longest` bytes arrives. A boundary of the backend that is nearer is kept, unless it would split
/// a unit of writing, as that of a raid5f does.
fn boundary(device: &Device, longest: u32) -> u32 {
    let max_blocks = longest / device.block_size;
    let backend = device.optimal_io_boundary;
    let is_usable = backend > 0 && backend <= max_blocks && backend.is_multiple_of(device.write_unit_size);
    if is_usable { backend } else { max_blocks }
}

/// What SPDK is told of the bdev, whose transactions have so many bytes at most.
pub fn disk_info(name: &str, device: &Device, longest: u32, kind: BdevUuid) -> DiskInfo {
    DiskInfo {
        name: name.to_owned(),
        product_name: "DST Disk",
        uuid: uuid_of(device.uuid, kind),
        block_size: device.block_size,
        num_blocks: device.num_blocks,
        write_unit_size: device.write_unit_size,
        optimal_io_boundary: boundary(device, longest),
        split_on_boundary: true,
        acwu: device.compare_and_write_max.clamp(1, u16::MAX.into()) as u16,
        required_alignment_log2: 0,
        write_cache: device.write_cache,
    }
}

#[cfg(test)]
mod tests {
    use dst_wire::OpSet;

    use super::*;

    const DEVICE: Device = Device {
        uuid: [7; 16],
        num_blocks: 1000,
        block_size: 512,
        write_unit_size: 1,
        optimal_io_boundary: 0,
        compare_and_write_max: 0,
        write_cache: false,
        read_only: false,
        ops: OpSet::NONE,
    };

    #[test]
    fn no_unit_of_writing_is_split() {
        for (write_unit_size, optimal_io_boundary) in
            (1..100).flat_map(|unit| (0..300).map(move |b| (unit, b)))
        {
            let device = Device { write_unit_size, optimal_io_boundary, ..DEVICE };
            for units in [1, 3, 1000] {
                let max_transfer = units * device.block_size * write_unit_size;
                let longest = longest(&device, max_transfer);
                let boundary = boundary(&device, longest);
                let what = format!("{write_unit_size}, {optimal_io_boundary}, {max_transfer}: {boundary}");
                assert!(boundary > 0 && boundary.is_multiple_of(write_unit_size), "{what}");
                assert!(boundary * device.block_size <= longest && longest <= max_transfer, "{what}");
                let is_backends = optimal_io_boundary > 0
                    && optimal_io_boundary * device.block_size <= longest
                    && optimal_io_boundary.is_multiple_of(write_unit_size);
                assert!(!is_backends || boundary == optimal_io_boundary, "{what}");
            }
        }
    }

    #[test]
    fn transactions_are_of_whole_units_and_not_too_long() {
        let device = |block_size, write_unit_size| Device { block_size, write_unit_size, ..DEVICE };
        assert_eq!(longest(&device(512, 1), 1 << 20), PART);
        assert_eq!(longest(&device(4096, 1), 64 << 10), 64 << 10, "no more than the target takes");
        assert_eq!(longest(&device(4096, 24), 960 << 10), 192 << 10);
        assert_eq!(longest(&device(4096, 96), 768 << 10), 384 << 10, "one unit at least");
    }

    #[test]
    fn the_uuid_is_another_one_unless_it_is_inherited() {
        let export = [7; 16];
        assert_ne!(derived(export), export);
        assert_eq!(derived(export)[6] >> 4, 8);
        assert_ne!(derived([8; 16]), derived(export));
        assert_eq!(disk_info("x", &DEVICE, PART, BdevUuid::Derived).uuid, derived(export));
        assert_eq!(disk_info("x", &DEVICE, PART, BdevUuid::Inherited).uuid, export);
    }
}
