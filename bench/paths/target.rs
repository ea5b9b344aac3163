//! The target's side: the processing of requests, its record, and its answers.

use dst_session::deframer::{Deframer, Piece};
use dst_session::request::{Checked, check};
use dst_session::slots::{Arrival, Slots};
use dst_session::transactions::slot_of;
use dst_wire::{Device, Header, Kind, Op, Status};

use crate::{BATCH, BLOCK};

pub struct Target {
    device: Device,
    slots: Slots,
    deframer: Deframer,
    /// The requests in the backend: the slot, and the size of the answer's data.
    executing: Vec<(u16, u32)>,
}

impl Target {
    pub fn new() -> Target {
        let device = Device {
            uuid: [1; 16],
            num_blocks: 1 << 20,
            block_size: BLOCK,
            write_unit_size: 1,
            optimal_io_boundary: 0,
            compare_and_write_max: 1,
            write_cache: false,
            read_only: false,
            ops: Op::ALL.into_iter().collect(),
        };
        Target {
            device,
            slots: Slots::new(256),
            deframer: Deframer::new(),
            executing: Vec::with_capacity(BATCH),
        }
    }

    /// Processes requests without their data, which would be received into the backend's buffers.
    #[inline(never)]
    pub fn parse(&mut self, wire: &[u8]) {
        let mut at = 0;
        while let Some(piece) = self.deframer.next(wire, &mut at).expect("these are frames") {
            let Piece::Header(header) = piece else { unreachable!("data is not copied here") };
            self.deframer.data_received(header.data_len as usize);
            let Ok(Checked::Execute(request)) = check(&header, &self.device, 1 << 20) else {
                unreachable!("it can be executed")
            };
            assert_eq!(self.slots.arrive(header.id, request.op), Ok(Arrival::Execute));
            self.executing.push((slot_of(header.id), request.answer_len));
        }
    }

    #[inline(never)]
    pub fn answer(&mut self, wire: &mut Vec<u8>) {
        for (slot, data_len) in self.executing.drain(..) {
            let id = self.slots.answered(slot, Status::Success);
            let header = Header { code: Status::Success as u8, data_len, id, ..Header::new(Kind::Answer) };
            wire.extend_from_slice(&header.encode());
        }
    }
}
