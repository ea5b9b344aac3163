//! How far the stop of the target is. `stop.rs` drives it.

use std::collections::BTreeMap;
use std::rc::Rc;

use dst_broker::stop_note::Noted;
use spdk::backend::BackendChannel;
use spdk::poller::Poller;

/// The callback for the end of a stop.
pub(crate) type Stopped = Box<dyn FnOnce()>;

/// How far the stop of the target is.
#[derive(Default)]
pub(crate) enum Stopping {
    /// The target is not stopping.
    #[default]
    No,
    /// Connections and exports end, and bdevs are flushed.
    Ending(Ending),
    /// Nothing is left but the note, which is being written.
    LeavingNote(Stopped),
}

/// The end of connections and exports.
pub(crate) struct Ending {
    pub done: Stopped,
    /// The exports that the stop ends and that are not gone yet. Those that an operator has deleted
    /// before are not among them: their clients were told that they are gone for good.
    pub exports: Vec<String>,
    /// The exports whose bdevs are being flushed.
    pub flushing: BTreeMap<String, Flushing>,
    /// The exports of which nothing is left and whose data is durable.
    pub noted: BTreeMap<String, Noted>,
    /// The first reason for which the stop is not an orderly one.
    pub failure: Option<String>,
    /// Whether no connection and no export is left.
    pub is_idle: bool,
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

/// A flush that is under way.
pub(crate) struct Flushing {
    pub noted: Noted,
    pub channel: Rc<BackendChannel>,
    /// The timer of the drain time-out.
    pub _timer: Poller,
}
