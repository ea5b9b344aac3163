//! Submission of requests to the backend.

use std::rc::Rc;

use dst_wire::Op;
use spdk::backend::BackendChannel;

use crate::completion::{Io, Submitter};

/// A request, or a part of one, that is to be submitted to the backend.
pub struct Submission {
    /// The I/O object, with the data or memory for it.
    pub io: Io,
    pub op: Op,
    /// The first block of the range.
    pub start: u64,
    /// The number of blocks in the range.
    pub count: u64,
}

/// Submits a request to the backend. `submitter` gets the completion in a later turn. HOT.
#[inline]
pub fn submit(channel: &BackendChannel, submission: Submission, submitter: Rc<dyn Submitter>) {
    let Submission { mut io, op, start, count } = submission;
    io.ctx.submitted_by(submitter);
    match op {
        Op::Read => channel.read(io, start, count),
        Op::Write => channel.write(io, start, count),
        Op::Flush => channel.flush(io, start, count),
        Op::Unmap => channel.unmap(io, start, count),
        Op::WriteZeroes => channel.write_zeroes(io, start, count),
        Op::CompareAndWrite => channel.compare_and_write(io, start, count),
        Op::Reset => unreachable!("the control thread resets"),
    }
}

/// Submits an I/O to the backend once more, unchanged.
pub fn submit_again(channel: &BackendChannel, mut io: Io, submitter: Rc<dyn Submitter>) {
    io.ctx.submitted_by(submitter);
    channel.again(io);
}
