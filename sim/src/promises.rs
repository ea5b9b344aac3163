//! The checkers: one for each promise of docs/failures.md, under its number there.
//!
//! A checker reports what breaks its promise to the world, with a label that begins with the
//! number. A promise that can be broken in several ways has a label for each, with the way behind a
//! colon: a plan is made smaller only as long as it fails in the same way. `sim/tests/promises.rs`
//! compares the labels with the document.
//!
//! This file hands each record of what happened to those whom it concerns, and keeps the model up
//! to date for them.

pub mod p10_removal_ends;
pub mod p1_nothing_acknowledged_is_lost;
pub mod p2_nothing_old_comes_back;
pub mod p3_at_most_once;
pub mod p4_reads_are_current;
pub mod p5_only_latency;
pub mod p6_flush_means_flush;
pub mod p7_right_device;
pub mod p8_rights;
pub mod p9_bounded;

use spdk::backend::IoStatus;
use spdk::bdev_io::IoKind;
use spdk::record::Record;
use world::store::{Fact, Origin, Request};

use crate::model::{Execution, Model};
use p1_nothing_acknowledged_is_lost as p1;
use p2_nothing_old_comes_back as p2;
use p3_at_most_once as p3;
use p4_reads_are_current as p4;
use p5_only_latency as p5;
use p6_flush_means_flush as p6;
use p7_right_device as p7;
use p8_rights as p8;
use p9_bounded as p9;
use p10_removal_ends as p10;

/// All labels.
pub const ALL: [&str; 16] = [
    p1::LOST,
    p1::DATA,
    p2::OLD,
    p3::ONCE,
    p3::UNASKED,
    p4::CURRENT,
    p5::SHORT,
    p5::ONE_COMPLETION,
    p5::RESET,
    p5::DEADLINE,
    p5::RECOVERY,
    p6::FLUSH,
    p7::DEVICE,
    p8::RIGHTS,
    p9::BOUNDED,
    p10::REMOVAL,
];

/// The label of a panic, which is no promise of the document: it breaks what the code promises
/// itself.
pub const NO_PANIC: &str = "no panic";

/// What the checkers remember beside the model.
#[derive(Debug, Default)]
pub struct Promises {
    losses: p6::Losses,
}

impl Promises {
    /// Has a record checked, and the model follow it.
    pub fn check(&mut self, model: &mut Model, record: &Record) {
        match *record {
            Record::Submitted { seq, io } => model.submitted(seq, io),
            Record::Completed { seq, io, status, ref data, by_layer, on_its_thread } => {
                p5::on_its_thread(io, on_its_thread);
                self.completed(model, (seq, io, status), data, by_layer);
            }
            Record::Stored(Fact::Handed { seq, request, origin, .. }) => handed(model, seq, request, origin),
            Record::Stored(Fact::Executed { seq, request, count, write, .. }) => {
                let Some(io) = model.io_mut(write) else { return };
                io.executed.push(Execution { at: seq, offset: request.offset, count });
                p2::executed(model, seq, count, write);
            }
            Record::Stored(Fact::Lost { seq, write, .. }) => self.losses.lost(model, seq, write),
            Record::DiskIsThere { .. }
            | Record::DiskGoes { .. }
            | Record::DiskGone { .. }
            | Record::DiskResized { .. } => {}
        }
    }

    /// A client's process died, or its bdev was taken away: nobody is left to be told of losses.
    pub fn forget(&mut self, client: usize) {
        self.losses.forget(client);
    }

    fn completed(&mut self, model: &mut Model, what: (u64, u64, IoStatus), data: &[u8], by_layer: bool) {
        let (seq, number, status) = what;
        model.outstanding.retain(|other| *other != number);
        model.completed += 1;
        let Some(io) = p5::completed_once(model, seq, number, status) else { return };
        match (status, io.kind) {
            (IoStatus::Success, IoKind::Read) => p4::read(seq, number, &io, data),
            (IoStatus::Success, IoKind::Flush) => self.losses.flushed(model, seq, number, &io),
            (IoStatus::Success, IoKind::Reset) => p5::reset(model, number, &io),
            (IoStatus::Success, _) => p1::acknowledged(number, &io),
            (IoStatus::Miscompare, IoKind::CompareAndWrite) => p3::miscompared(number, &io),
            _ => {
                model.failed += 1;
                if io.kind == IoKind::Flush {
                    self.losses.flush_failed(model, io.client, status);
                }
                if !by_layer {
                    p5::failed(model, seq, number, &io, status);
                }
            }
        }
    }
}

/// A store is given an operation.
fn handed(model: &mut Model, seq: u64, request: Request, origin: Origin) {
    if origin == Origin::Nothing {
        return;
    }
    p3::asked_for(request, origin);
    if !p1::is_the_users(model, request, origin) {
        return;
    }
    let write = origin.write();
    let Some(io) = model.io_mut(write) else { return };
    let before = io.handed.len();
    io.handed.push(seq);
    let io = &model.ios[write as usize - 1];
    p7::handed(write, io, request.store);
    p8::handed(write, io, &model.clients[io.client]);
    p3::handed(write, io, before);
    p2::handed(seq, write, io);
}
