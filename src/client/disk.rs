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

/// A function that removes the client of a bdev from the registry. To be called on the control
/// thread.
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
        let target = self.shared.target();
        let at = self.shared.places().current();
        json!({
            "traddr": at.address.map(|address| address.to_string()),
            "trsvcid": at.port.to_string(),
            "export": target.export,
            "host": target.host,
            "read_only": self.shared.device().unwrap_or(self.device).read_only,
        })
    }

    /// Returns nothing: the module writes the configuration of all clients, including those without
    /// a bdev.
    fn write_config(&self) -> Vec<Value> {
        Vec::new()
    }

    fn destruct(&self, done: DestructDone) {
        self.shared.close();
        let (shared, forget) = (Arc::clone(&self.shared), self.forget);
        if let Err(errno) = self.control.send(move || forget(&shared)) {
            spdk::error!("DST bdev {}: its control connection can't be closed: {errno}", self.shared.name());
        }
        done.done();
    }
}

/// Returns the UUID of a bdev whose export has this UUID. It is the same after every attach.
pub fn uuid_of(export: [u8; 16], kind: BdevUuid) -> [u8; 16] {
    match kind {
        BdevUuid::Inherited => export,
        BdevUuid::Derived => derived(export),
    }
}

/// Returns a UUID that depends only on the export's and differs from it: the export's with inverted
/// bits, marked as version 8 ("vendor specific", RFC 9562, section 5.8).
fn derived(export: [u8; 16]) -> [u8; 16] {
    let mut uuid = export.map(|byte| !byte);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// The length in bytes beyond which I/O is split. While one part is on the wire, the backend works
/// on another, and other I/O has to wait only for a part. Compared with unsplit I/O of 1 MiB, reads
/// at depth 32 are 1.2 times as fast, and writes at depth 1 are 1.35 times as fast.
const PART: u32 = 256 << 10;

/// Returns the maximum length of a transaction in bytes, a multiple of the write unit, for a target
/// that accepts `max_transfer` bytes.
pub fn max_request_len(device: &Device, max_transfer: u32) -> u32 {
    let unit = device.block_size * device.write_unit_size;
    max_transfer.min((PART / unit).max(1) * unit)
}

/// Returns the number of blocks at whose multiples I/O is split, so that nothing longer than
/// `max_request_len` bytes arrives. A boundary of the backend that is nearer is kept, unless it
/// would split a unit of writing, as that of a raid5f does.
fn boundary(device: &Device, max_request_len: u32) -> u32 {
    let max_blocks = max_request_len / device.block_size;
    let backend = device.optimal_io_boundary;
    let is_usable = backend > 0 && backend <= max_blocks && backend.is_multiple_of(device.write_unit_size);
    if is_usable { backend } else { max_blocks }
}

/// Returns the description of the bdev for SPDK. `max_request_len` is the maximum length of a
/// transaction in bytes.
pub fn disk_info(name: &str, device: &Device, max_request_len: u32, kind: BdevUuid) -> DiskInfo {
    DiskInfo {
        name: name.to_owned(),
        product_name: "DST Disk",
        uuid: uuid_of(device.uuid, kind),
        block_size: device.block_size,
        num_blocks: device.num_blocks,
        write_unit_size: device.write_unit_size,
        optimal_io_boundary: boundary(device, max_request_len),
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
                let max_request_len = max_request_len(&device, max_transfer);
                let boundary = boundary(&device, max_request_len);
                let what = format!("{write_unit_size}, {optimal_io_boundary}, {max_transfer}: {boundary}");
                assert!(boundary > 0 && boundary.is_multiple_of(write_unit_size), "{what}");
                assert!(
                    boundary * device.block_size <= max_request_len && max_request_len <= max_transfer,
                    "{what}"
                );
                let is_backends = optimal_io_boundary > 0
                    && optimal_io_boundary * device.block_size <= max_request_len
                    && optimal_io_boundary.is_multiple_of(write_unit_size);
                assert!(!is_backends || boundary == optimal_io_boundary, "{what}");
            }
        }
    }

    #[test]
    fn transactions_are_of_whole_units_and_not_too_long() {
        let device = |block_size, write_unit_size| Device { block_size, write_unit_size, ..DEVICE };
        assert_eq!(max_request_len(&device(512, 1), 1 << 20), PART);
        assert_eq!(max_request_len(&device(4096, 1), 64 << 10), 64 << 10, "no more than the target takes");
        assert_eq!(max_request_len(&device(4096, 24), 960 << 10), 192 << 10);
        assert_eq!(max_request_len(&device(4096, 96), 768 << 10), 384 << 10, "one unit at least");
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
