//! Promise 10, removal ends: deleting a bdev or an export, and stopping a client's process, end in
//! time and leave nothing behind.

use world::store;

use crate::model::{ClientFacts, Model};
use crate::plan::{Fault, Plan};

/// A deletion or a stop does not end in time.
pub const REMOVAL: &str = "10 (removal ends)";

/// The targets' `drain_timeout_ms`: how long a deletion waits for the backend before it resets the
/// bdev, and after that before it reports an error.
pub const DRAIN_MS: u32 = 300;

/// How long taking everything down may take, in µs.
pub const TEAR_DOWN_US: u64 = 20_000_000;

/// How much longer than promised a removal may take, in µs.
const GRACE_US: u64 = 400_000;

/// How long a turn of a thread and the pause before it may take, in µs: the world's longest pause
/// without an event is 20 ms.
const TURN_US: u64 = 21_000;

/// Checks how long the deletion of an export has taken so far.
pub fn check_export(plan: &Plan, deleting_us: u64) {
    let is_stopped = plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::StopTarget { .. }));
    if !is_stopped && deleting_us > 2 * u64::from(DRAIN_MS) * 1000 + GRACE_US {
        let text = format!("an export is not deleted after {deleting_us} us, and nobody was told why");
        world::violation(REMOVAL, text);
    }
}

/// Checks how long the deletion of a client's bdev has taken so far.
pub fn check_bdev(plan: &Plan, client: usize, deleting_us: u64) {
    if deleting_us > 3 * plan.lease_us() + 2 * GRACE_US {
        let text = format!("bdev of client {client} is not deleted after {deleting_us} us");
        world::violation(REMOVAL, text);
    }
}

/// Finds I/O that keeps a process from ending. On dead targets, all I/O of the process shares one
/// patience, and requests that were sent end with the lease of their connection.
pub fn check_stops(model: &Model, plan: &Plan) {
    for &number in &model.outstanding {
        let io = &model.ios[number as usize - 1];
        let client = &model.clients[io.client];
        // What is submitted after that patience fails in its thread's next turn.
        let since_us = io.submitted.map_or(client.active_us, |submitted| submitted.active_us);
        if client.active_us.saturating_sub(since_us) < TURN_US {
            continue;
        }
        let Some(stop) = client.stop.filter(|stop| stop.targets_are_dead) else { continue };
        let stopping_us = client.active_us.saturating_sub(stop.active_us);
        if stopping_us > client.deadline_us + 2 * plan.lease_us() + GRACE_US {
            let text = format!(
                "I/O {number} is outstanding {stopping_us} us after the stop of its process, which has {} us of patience",
                client.deadline_us
            );
            return world::violation(REMOVAL, text);
        }
    }
}

/// Checks that a bdev whose target has been lost for too long is being removed.
pub fn check_loss(facts: &ClientFacts, client: usize) {
    let Some(out_since_us) = facts.contact.out_since_us().filter(|_| facts.loss_us > 0) else { return };
    let out_us = facts.active_us.saturating_sub(out_since_us);
    if out_us > facts.loss_us + GRACE_US {
        let text = format!(
            "bdev of client {client} is there after {out_us} us without a connection, of {}",
            facts.loss_us
        );
        world::violation(REMOVAL, text);
    }
}

/// Checks an export that the target reports as gone.
pub fn export_is_gone(store: u32, process: u32) {
    if store::is_busy_for(store, process) {
        let text = "an export is said to be gone, the backend has something of it".to_owned();
        world::violation(REMOVAL, text);
    }
}

/// Reports that not everything was taken down within [`TEAR_DOWN_US`].
pub fn not_taken_down(bdevs_gone: bool, targets_stopped: bool, open: usize) {
    let text = format!(
        "not all is taken down: bdevs gone {bdevs_gone}, targets stopped {targets_stopped}, {open} open"
    );
    world::violation(REMOVAL, text);
}
