//! The end of an export, or of its use of a bdev that was removed, with a backend that may hang.
//!
//! The sessions end at once. The bdev is closed when the backend has returned all their requests.
//! If that takes longer than [`crate::Limits::drain_timeout_ms`], the bdev is reset. If the reset
//! takes as long again, the caller that asked for the deletion is told, and the deletion continues
//! without it.

use crate::broker::Broker;
use crate::error::Rejection;
use crate::export::{Drain, Ends};
use crate::output::{Lateness, Output};

impl Broker {
    /// Deletes an export. Its sessions end, and [`Output::ExportGone`] follows when nothing of the
    /// export is left. Until then the driver reports [`crate::Input::DrainTimeout`] each time this
    /// time-out passes.
    ///
    /// # Errors
    /// Fails if there is no such export, or if it is already being deleted.
    pub fn delete_export(&mut self, now_us: u64, name: &str) -> Result<(), Rejection> {
        self.now_us = now_us;
        let export = self.exports.get_mut(name).ok_or_else(|| Rejection::NoExport(name.to_owned()))?;
        if export.is_deleting() {
            return Err(Rejection::ExportBusy(name.to_owned()));
        }
        let is_resetting = export.drain.as_ref().is_some_and(|drain| drain.is_resetting);
        export.drain = Some(Drain { ends: Ends::Export, late: 0, is_resetting });
        self.end_sessions(name, "its export is deleted", |_, _| true);
        self.end_handshakes(name, |_| true);
        self.drained(name);
        self.stop_if_idle();
        Ok(())
    }

    /// Ends the drain of an export if no connection of the export is left and no change of its
    /// ownership is under way. To be called when one of these has ended.
    pub(crate) fn drained(&mut self, name: &str) {
        if self.resets.is_resetting(name) {
            return;
        }
        let drain =
            self.exports.get_mut(name).and_then(|export| export.drain.take_if(|drain| !drain.is_resetting));
        let Some(drain) = drain else { return };
        let mut queues = self.connections.values().filter_map(|entry| entry.queue());
        let is_changing = self.exports.get(name).is_some_and(|export| export.ownership.is_changing());
        // A change of the ownership that becomes durable later must not affect a new export of the
        // same name.
        if is_changing || queues.any(|queue| queue.client.export == name) {
            if let Some(export) = self.exports.get_mut(name) {
                export.drain = Some(drain);
            }
            return;
        }
        let (export, was_late) = (name.to_owned(), drain.late > 0);
        match drain.ends {
            Ends::Backing => self.output(Output::BackingGone { export, was_late }),
            Ends::Export => {
                let removed = self.exports.remove(name);
                let has_failed = removed.is_some_and(|export| export.past.failed_flushes > 0);
                self.output(Output::ExportGone { export, was_late, has_failed });
            }
        }
    }

    fn drain(&mut self, name: &str) -> Option<&mut Drain> {
        self.exports.get_mut(name)?.drain.as_mut()
    }

    /// Handles the passing of the drain time-out: asks how many requests the backend has.
    pub(crate) fn drain_timeout(&mut self, export: String) {
        let Some(drain) = self.drain(&export) else { return };
        drain.late += 1;
        let lateness = if drain.late == 1 { Lateness::Once } else { Lateness::Twice };
        self.output(Output::CountInFlight { export, lateness });
    }

    /// Takes the next step of a late drain, given the number of the export's requests in the
    /// backend.
    pub(crate) fn counted_in_flight(&mut self, export: String, lateness: Lateness, in_flight: usize) {
        let drain_ms = u64::from(self.limits.drain_timeout_ms);
        let Some(drain) = self.drain(&export) else { return };
        let next = match lateness {
            // The export waits for something else, such as its state file. A reset would only end
            // the I/O of others.
            Lateness::Once if in_flight == 0 => return,
            // A reset ends all I/O to the bdev, whoever submitted it. Nothing else could still
            // help.
            Lateness::Once => {
                drain.is_resetting = true;
                Output::ResetBackend { export, in_flight, waited_ms: drain_ms }
            }
            Lateness::Twice => Output::BackendHangs { export, in_flight, waited_ms: 2 * drain_ms },
        };
        self.output(next);
    }

    /// Notes that the reset of an export's bdev has ended.
    pub(crate) fn reset_ended(&mut self, export: &str) {
        if let Some(drain) = self.drain(export) {
            drain.is_resetting = false;
        }
        self.drained(export);
    }
}
