//! The checkers: one for each promise of docs/failures.md, under its number there.
//!
//! A checker reports a broken promise to the world, with a label that begins with the promise's
//! number. A promise that can be broken in several ways has a label for each, with the way after a
//! colon: a plan is made smaller only as long as it fails in the same way. `sim/tests/promises.rs`
//! compares the labels with the document.
//!
//! This file passes each record of what happened to the checkers that it concerns, and keeps the
//! model up to date for them.

pub mod p10_removal_ends;
pub mod p11_one_owner;
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
use p11_one_owner as p11;

/// All labels.
pub const ALL: [&str; 17] = [
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
    p11::OWNER,
];

/// The label of a panic. No promise of the document forbids panics, but the code promises itself
/// that it has none.
pub const NO_PANIC: &str = "no panic";

/// What the checkers remember in addition to the model.
#[derive(Debug, Default)]
pub struct Promises {
    losses: p6::Losses,
    /// The owners of the export, if it has owners. A bdev is an owner, because each new one gets
    /// another ownership.
    reigns: Option<p11::Reigns>,
}

impl Promises {
    /// Returns the checkers of a run, in which the export may have owners.
    pub fn new(is_owned: bool) -> Promises {
        Promises { losses: p6::Losses::default(), reigns: is_owned.then(p11::Reigns::default) }
    }

    /// Notes that a backend has died with its target, with everything that it had.
    pub fn backend_died(&mut self) {
        if let Some(reigns) = &mut self.reigns {
            reigns.backend_died();
        }
    }

    /// Checks a record and updates the model.
    pub fn check(&mut self, model: &mut Model, record: &Record) {
        if let (Some(reigns), Record::Stored(fact)) = (&mut self.reigns, record)
            && let Some(broken) = reigns.note(fact, |write| model.io(write).map(|io| io.disk))
        {
            world::violation(p11::OWNER, broken);
        }
        match *record {
            Record::Submitted { seq, io, clock_us } => model.submitted(seq, io, clock_us),
            Record::Completed { seq, io, status, ref data, by_layer, on_its_thread } => {
                p5::on_its_thread(io, on_its_thread);
                self.completed(model, (seq, io, status), data, by_layer);
            }
            Record::Stored(Fact::Handed { seq, request, origin, .. }) => handed(model, seq, request, origin),
            Record::Stored(Fact::Executed { seq, request, count, write, .. }) => {
                let Some(io) = model.io_mut(write) else { return };
                io.executed.push(Execution { at: seq, offset: request.offset, count });
                p2::executed(model, seq, request.offset, count, write);
            }
            Record::Stored(Fact::Lost { seq, write, .. }) => self.losses.lost(model, seq, write),
            Record::DiskIsThere { .. }
            | Record::DiskGoes { .. }
            | Record::DiskGone { .. }
            | Record::DiskResized { .. } => {}
        }
    }

    /// Drops the losses not yet reported to a client whose process died or whose bdev was removed:
    /// nobody is left to be told.
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

/// Checks an operation that is handed to a store.
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
