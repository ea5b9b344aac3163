//! The end of an export, with a backend that may hang.
//!
//! Its sessions end at once. The bdev is closed when the backend has given back what it had of them. If
//! that takes longer than [`crate::Limits::drain_timeout_ms`] the bdev is reset; if it takes as long
//! again, whoever asked for the deletion is told, and the deletion goes on without them.

use crate::broker::Broker;
use crate::error::Rejection;
use crate::export::Deletion;
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
        if export.deletion.is_some() {
            return Err(Rejection::ExportBusy(name.to_owned()));
        }
        export.deletion = Some(Deletion::default());
        self.end_sessions(name, "its export is deleted", |_, _| true);
        self.end_handshakes(name, |_| true);
        self.export_idle(name);
        self.stop_if_idle();
        Ok(())
    }

    /// Something of an export is gone. Ends its deletion if nothing is left.
    pub(crate) fn export_idle(&mut self, name: &str) {
        let deletion = self.exports.get(name).and_then(|export| export.deletion.as_ref());
        let Some(&Deletion { late, is_resetting: false }) = deletion else { return };
        let mut seats = self.connections.values().filter_map(|entry| entry.seat());
        if seats.any(|seat| seat.owner.export == name) {
            return;
        }
        self.exports.remove(name);
        self.output(Output::ExportGone { export: name.to_owned(), was_late: late > 0 });
    }

    fn deletion(&mut self, name: &str) -> Option<&mut Deletion> {
        self.exports.get_mut(name)?.deletion.as_mut()
    }

    /// The drain time-out has passed.
    pub(crate) fn drain_timeout(&mut self, export: String) {
        let Some(deletion) = self.deletion(&export) else { return };
        deletion.late += 1;
        let lateness = if deletion.late == 1 { Lateness::Once } else { Lateness::Twice };
        self.output(Output::CountInFlight { export, lateness });
    }

    /// It is known how many requests the backend has of an export whose deletion is late.
    pub(crate) fn counted_in_flight(&mut self, export: String, lateness: Lateness, in_flight: usize) {
        let drain_ms = u64::from(self.limits.drain_timeout_ms);
        let Some(deletion) = self.deletion(&export) else { return };
        let next = match lateness {
            // Everybody's I/O to the bdev ends: what else could still help.
            Lateness::Once => {
                deletion.is_resetting = true;
                Output::ResetBackend { export, in_flight, waited_ms: drain_ms }
            }
            Lateness::Twice => Output::BackendHangs { export, in_flight, waited_ms: 2 * drain_ms },
        };
        self.output(next);
    }

    /// The reset of an export's bdev has ended.
    pub(crate) fn reset_ended(&mut self, export: &str) {
        if let Some(deletion) = self.deletion(export) {
            deletion.is_resetting = false;
        }
        self.export_idle(export);
    }
}
