//! The end of an export, or of its use of a bdev that was removed, with a backend that may hang.
//!
//! The sessions end at once. The bdev is closed when the backend has given back what it had of them. If
//! that takes longer than [`crate::Limits::drain_timeout_ms`] the bdev is reset; if it takes as long
//! again, whoever asked for the deletion is told, and it goes on without them.

use crate::broker::Broker;
use crate::error::Rejection;
use crate::export::{Drain, Ends};
use crate::output::{Lateness, Output};

impl Broker {
    /// Takes an export away: its sessions end, and [`Output::ExportGone`] follows when nothing of it is
    /// left. From now on the driver says [`crate::Input::DrainTimeout`] each time it passes.
    ///
    /// # Errors
    /// There is no such export, or it is being deleted already.
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

    /// Something of an export is gone. Ends its drain if nothing is left.
    pub(crate) fn drained(&mut self, name: &str) {
        if self.resets.is_resetting(name) {
            return;
        }
        let drain =
            self.exports.get_mut(name).and_then(|export| export.drain.take_if(|drain| !drain.is_resetting));
        let Some(drain) = drain else { return };
        let mut queues = self.connections.values().filter_map(|entry| entry.queue());
        if queues.any(|queue| queue.owner.export == name) {
            if let Some(export) = self.exports.get_mut(name) {
                export.drain = Some(drain);
            }
            return;
        }
        let (export, was_late) = (name.to_owned(), drain.late > 0);
        match drain.ends {
            Ends::Backing => self.output(Output::BackingGone { export, was_late }),
            Ends::Export => {
                self.exports.remove(name);
                self.output(Output::ExportGone { export, was_late });
            }
        }
    }

    fn drain(&mut self, name: &str) -> Option<&mut Drain> {
        self.exports.get_mut(name)?.drain.as_mut()
    }

    /// The drain time-out has passed.
    pub(crate) fn drain_timeout(&mut self, export: String) {
        let Some(drain) = self.drain(&export) else { return };
        drain.late += 1;
        let lateness = if drain.late == 1 { Lateness::Once } else { Lateness::Twice };
        self.output(Output::CountInFlight { export, lateness });
    }

    /// It is known how many requests the backend has of an export whose drain is late.
    pub(crate) fn counted_in_flight(&mut self, export: String, lateness: Lateness, in_flight: usize) {
        let drain_ms = u64::from(self.limits.drain_timeout_ms);
        let Some(drain) = self.drain(&export) else { return };
        let next = match lateness {
            // Everybody's I/O to the bdev ends: what else could still help.
            Lateness::Once => {
                drain.is_resetting = true;
                Output::ResetBackend { export, in_flight, waited_ms: drain_ms }
            }
            Lateness::Twice => Output::BackendHangs { export, in_flight, waited_ms: 2 * drain_ms },
        };
        self.output(next);
    }

    /// The reset of an export's bdev has ended.
    pub(crate) fn reset_ended(&mut self, export: &str) {
        if let Some(drain) = self.drain(export) {
            drain.is_resetting = false;
        }
        self.drained(export);
    }
}
