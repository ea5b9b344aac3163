//! Promise 9, bounded: requests outstanding on a connection, and a target's sockets, have limits.

use world::net;

use crate::frames::{Excess, Frames};
use crate::plan::Plan;

/// Something exceeds its limit.
pub const BOUNDED: &str = "9 (bounded)";

/// Checks the requests on all connections against the credits that were granted.
pub fn check_credits(frames: &Frames) {
    for Excess { outstanding, granted } in frames.take_excess() {
        world::violation(BOUNDED, format!("{outstanding} requests outstanding, {granted} were granted"));
    }
}

/// Checks how many sockets a target has.
pub fn check_sockets(plan: &Plan, process: u32) {
    // Each thread's connection and the control connection, each with one that waits for it to be
    // fenced, and some whose end has not been heard of yet.
    let most = 4 * plan.clients * (plan.client_threads + 1) + 16;
    let sockets = net::open_sockets(process);
    if sockets > most {
        world::violation(BOUNDED, format!("a target has {sockets} sockets"));
    }
}
