//! The target's check of whether it can execute a request.

use dst_wire::{Device, Header, Kind, Op, Status};

use crate::Violation;
use crate::transactions::Request;

/// The result of checking a request's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// The request can be executed once its data is complete.
    Execute(Request),
    /// The request is answered with this status, once its data has been skipped.
    Reject(Status),
}

/// Checks a request against what was negotiated.
///
/// # Errors
/// The frame is not a request, the operation is unknown, or the amount of data does not match the
/// range, so the client's intent cannot be known.
pub fn check(header: &Header, device: &Device, max_transfer: u32) -> Result<Checked, Violation> {
    if header.kind != Kind::Request {
        return Err(Violation::Unexpected(header.kind));
    }
    let op = Op::from_code(header.code)?;
    let bytes = if op.has_range() { header.count.saturating_mul(device.block_size.into()) } else { 0 };
    let expected = op.request_data(bytes);
    if u64::from(header.data_len) != expected {
        return Err(Violation::Data { id: header.id, found: header.data_len, expected });
    }
    let reject = |status| Ok(Checked::Reject(status));
    if device.read_only && op.modifies() {
        return reject(Status::ReadOnly);
    }
    if !device.ops.contains(op) {
        return reject(Status::NotSupported);
    }
    if op.has_range() {
        let inside = header.start.checked_add(header.count).is_some_and(|end| end <= device.num_blocks);
        let too_long = op.carries_data() && bytes > max_transfer.into()
            || op == Op::CompareAndWrite && header.count > device.compare_and_write_max.into();
        if !inside || too_long || header.count == 0 {
            return reject(Status::OutOfRange);
        }
    }
    Ok(Checked::Execute(Request {
        op,
        start: header.start,
        count: header.count,
        request_len: header.data_len,
        answer_len: op.answer_data(bytes) as u32,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dst_wire::OpSet;
    use proptest::prelude::*;

    const MAX: u32 = 1 << 20;

    fn device() -> Device {
        Device {
            uuid: [0; 16],
            num_blocks: 1000,
            block_size: 512,
            write_unit_size: 1,
            optimal_io_boundary: 0,
            compare_and_write_max: 1,
            write_cache: false,
            read_only: false,
            ops: Op::ALL.into_iter().collect(),
        }
    }

    fn header(op: Op, start: u64, count: u64, data_len: u32) -> Header {
        Header { code: op as u8, start, count, data_len, ..Header::new(Kind::Request) }
    }

    #[test]
    fn the_edge_of_the_device() {
        let ok = |op, start, count, len| {
            matches!(check(&header(op, start, count, len), &device(), MAX), Ok(Checked::Execute(_)))
        };
        assert!(ok(Op::Read, 999, 1, 0));
        assert!(ok(Op::Write, 0, 2, 1024));
        assert!(ok(Op::Unmap, 0, 1000, 0));
        assert!(ok(Op::Flush, 0, 0, 0));
        assert!(ok(Op::CompareAndWrite, 0, 1, 1024));
        for (op, start, count, len) in [
            (Op::Read, 1000, 1, 0),
            (Op::Read, 999, 2, 0),
            (Op::Read, 0, 0, 0),
            (Op::Unmap, u64::MAX, 2, 0),
            (Op::Unmap, 2, u64::MAX, 0),
            (Op::CompareAndWrite, 0, 2, 2048),
        ] {
            let got = check(&header(op, start, count, len), &device(), MAX);
            assert_eq!(got, Ok(Checked::Reject(Status::OutOfRange)), "{op:?} {start} {count}");
        }
        assert_eq!(
            check(&header(Op::Write, 0, 2, 1024), &device(), 512),
            Ok(Checked::Reject(Status::OutOfRange))
        );
    }

    #[test]
    fn read_only_and_unsupported_are_told_apart() {
        let read_only = Device { read_only: true, ..device() };
        for op in Op::ALL {
            let len = op.request_data(512) as u32;
            let got = check(&header(op, 0, 1, len), &read_only, MAX).unwrap();
            assert_eq!(got == Checked::Reject(Status::ReadOnly), op.modifies(), "{op:?}");
        }
        let bare = Device { ops: OpSet::NONE.with(Op::Read), ..device() };
        assert_eq!(check(&header(Op::Unmap, 0, 1, 0), &bare, MAX), Ok(Checked::Reject(Status::NotSupported)));
    }

    proptest! {
        #[test]
        fn what_is_executed_is_inside(code: u8, start: u64, count in 0u64..3000, data_len in 0u32..4096) {
            let header = Header { code, start: start % 2000, count, data_len, ..Header::new(Kind::Request) };
            if let Ok(Checked::Execute(request)) = check(&header, &device(), MAX) {
                prop_assert!(!request.op.has_range() || request.start + request.count <= 1000);
                prop_assert_eq!(u64::from(request.request_len), request.op.request_data(request.count * 512));
                prop_assert!(request.answer_len <= MAX);
            }
        }
    }
}
