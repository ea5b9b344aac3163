//! The state of one slot's request, from its submission to the backend until its Answer is sent.

use dst_session::parts::InParts;
use dst_wire::{Flags, HEADER_LEN, Header, Kind, Op, Status};

use crate::completion::{Io, digest_of};

/// The state of a slot.
pub struct SlotState {
    /// The id of the transaction whose Answer waits to be sent or is partly sent, or 0 if there is
    /// none.
    pub unsent: u64,
    /// The header of the Answer.
    pub header: [u8; HEADER_LEN],
    /// The I/O object with the Answer's data, if it has data.
    pub io: Option<Io>,
    /// The length in bytes of the Answer's data; while the backend has the request, of the data that
    /// the Answer has if the request succeeds.
    pub data_len: usize,
    pub op: Op,
    /// The first block of the range, while the backend has the request; likewise `count`.
    pub start: u64,
    pub count: u64,
    pub begun_us: u64,
    pub course: Course,
}

/// The course of a request through the backend.
#[derive(Debug, Clone, Copy)]
pub enum Course {
    /// The backend gets the whole request, and its completion is answered.
    Whole,
    /// The backend gets the request in parts, of which this one is under way.
    Parts(InParts),
    /// The client has aborted the request. `is_held` says that requests which overlap it are
    /// parked. `is_cut` says that the request had more parts, which are not begun.
    Aborted { is_held: bool, is_cut: bool },
}

impl SlotState {
    /// Returns the state of a slot that is not in use.
    pub fn unused() -> SlotState {
        SlotState {
            unsent: 0,
            header: [0; HEADER_LEN],
            io: None,
            data_len: 0,
            op: Op::Read,
            start: 0,
            count: 0,
            begun_us: 0,
            course: Course::Whole,
        }
    }

    /// Makes the Answer to the transaction `id`. `io` has its data, if it has data.
    #[inline]
    pub fn answer(&mut self, id: u64, status: Status, io: Option<Io>, has_digests: bool) {
        if io.is_none() {
            self.data_len = 0;
        }
        let mut header = Header::new(Kind::Answer);
        if let Some(io) = &io
            && has_digests
        {
            header.flags = Flags::DIGEST;
            header.digest = digest_of(io, self.data_len);
        }
        self.io = io;
        self.unsent = id;
        header.code = status as u8;
        header.id = id;
        header.data_len = self.data_len as u32;
        self.header = header.encode();
    }

    /// Returns the length in bytes of the Answer.
    #[inline]
    pub fn answer_len(&self) -> usize {
        HEADER_LEN + self.data_len
    }

    /// Ends the use of the slot, because its Answer was sent or is dropped. Returns the I/O object
    /// with the Answer's data.
    #[inline]
    pub fn end(&mut self) -> Option<Io> {
        self.unsent = 0;
        self.io.take()
    }
}
