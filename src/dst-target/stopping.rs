//! How far the stop of the target is. `stop.rs` drives it.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use dst_broker::stop_note::Noted;
use spdk::backend::BackendChannel;
use spdk::durable_file::Replacing;
use spdk::poller::Poller;

/// The callback for the end of a stop.
pub(crate) type Stopped = Box<dyn FnOnce()>;

/// How far the stop of the target is.
#[derive(Default)]
pub(crate) enum Stopping {
    /// The target is not stopping.
    #[default]
    No,
    /// Connections and exports end, and then bdevs are flushed.
    Ending(Box<Ending>),
    /// Nothing is left but the note, if there is to be one.
    LeavingNote(Stopped, Option<Writing>),
}

/// A note that is being written.
pub(crate) struct Writing {
    pub replacing: Replacing,
    /// The timer of the time that this may take.
    pub _timer: Poller,
}

/// The end of connections and exports.
pub(crate) struct Ending {
    pub done: Stopped,
    /// The exports that the stop ends and that are not gone yet. Those that an operator has deleted
    /// before are not among them: their clients were told that they are gone for good.
    pub exports: Vec<String>,
    /// Those of them that have no timer of the drain time-out, because memory is short, and the time at
    /// which it passes next for them, µs.
    pub untimed: Vec<String>,
    pub untimed_due_us: u64,
    /// The exports of which nothing is left and whose bdevs are to be flushed.
    pub unflushed: VecDeque<Unflushed>,
    /// The flush that is under way. There is one at a time, once nothing is left of all exports: that of
    /// an aio bdev holds up its thread, and the time-outs of others would pass meanwhile.
    pub flushing: Option<Flushing>,
    /// The exports of which nothing is left and whose data is durable.
    pub noted: BTreeMap<String, Noted>,
    /// The first reason for which the stop is not an orderly one.
    pub failure: Option<String>,
}

impl Ending {
    /// Notes that the stop is not an orderly one because of this export.
    pub fn fail(&mut self, export: &str, why: &str) {
        self.failure.get_or_insert_with(|| format!("export {export}: {why}"));
    }
}

impl Stopping {
    /// Returns the end of connections and exports, if it is under way.
    pub fn ending(&mut self) -> Option<&mut Ending> {
        if let Stopping::Ending(ending) = self { Some(ending) } else { None }
    }
}

/// A bdev that is to be flushed.
pub(crate) struct Unflushed {
    /// The name of the export.
    pub export: String,
    pub noted: Noted,
    /// A channel of the bdev, which keeps it open.
    pub channel: Rc<BackendChannel>,
    pub num_blocks: u64,
}

/// A flush that is under way.
pub(crate) struct Flushing {
    pub of: Unflushed,
    /// The timer of the drain time-out.
    pub _timer: Poller,
}
