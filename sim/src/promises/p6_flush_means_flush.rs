//! Promise 6, flush means flush: a flush that succeeds covers all writes completed before it, and a
//! flush fails after a restart of the target that may have lost some of them.

use std::collections::BTreeMap;

use spdk::backend::IoStatus;
use world::store;

use crate::model::{Io, Model};

/// A flush succeeds without covering what it should.
pub const FLUSH: &str = "6 (flush means flush)";

/// Writes that were acknowledged to clients and that backends have lost.
#[derive(Debug, Default)]
pub struct Losses {
    /// For each client, the writes that were acknowledged, then lost, and whose loss was not yet
    /// reported: the stamp of the loss, and the write.
    lost: BTreeMap<usize, Vec<(u64, u64)>>,
    /// For each client, the stamp up to which the client was told that writes may be lost, before
    /// any were.
    told: BTreeMap<usize, u64>,
}

impl Losses {
    /// Notes that a backend lost a write.
    pub fn lost(&mut self, model: &Model, seq: u64, write: u64) {
        let Some(io) = model.io(write).filter(|io| !io.orphan) else { return };
        let Some(ended) = io.succeeded_at() else { return };
        if self.told.get(&io.client).is_none_or(|told| ended >= *told) {
            self.lost.entry(io.client).or_default().push((seq, write));
        }
    }

    /// Notes that a client's flush failed, which tells the client of its losses.
    pub fn flush_failed(&mut self, model: &Model, client: usize, status: IoStatus) {
        self.lost.remove(&client);
        if status == IoStatus::Failed && model.excuses.restarted > 0 {
            self.told.insert(client, model.excuses.restarted);
        }
    }

    /// Drops the losses of a client that nobody is left to be told of.
    pub fn forget(&mut self, client: usize) {
        self.lost.remove(&client);
        self.told.remove(&client);
    }

    /// Checks a flush that succeeded.
    pub fn flushed(&self, model: &Model, seq: u64, number: u64, io: &Io) {
        let covers = |write: u64| {
            model
                .io(write)
                .is_some_and(|w| !w.orphan && w.succeeded_at().is_some_and(|at| at < io.submitted_at()))
        };
        // A user of another bdev, or in another process, cannot be told.
        let of_disk = |write: u64| model.io(write).is_some_and(|write| write.disk == io.disk);
        let lost = self.lost.get(&io.client).into_iter().flatten();
        if let Some((_, write)) = lost.into_iter().find(|(at, w)| *at < seq && covers(*w) && of_disk(*w)) {
            let text = format!("flush {number} succeeds, write {write} was lost and nobody was told");
            world::violation(FLUSH, text);
        }
        for (block, write) in store::not_durable(io.store) {
            if covers(write) {
                let text = format!("flush {number} succeeds, write {write} in block {block} is not durable");
                world::violation(FLUSH, text);
            }
        }
    }
}
