//! Promise 9, bounded: the requests outstanding on a connection and the sockets of a target have
//! limits.

use world::net;

use crate::frames::{Excess, Frames};
use crate::plan::Plan;

/// Something exceeds its limit.
pub const BOUNDED: &str = "9 (bounded)";

/// Checks on all connections that no more requests are outstanding than credits were granted.
pub fn check_credits(frames: &Frames) {
    for Excess { outstanding, granted } in frames.take_excess() {
        world::violation(BOUNDED, format!("{outstanding} requests outstanding, {granted} were granted"));
    }
}

/// Checks how many sockets a target has open.
pub fn check_sockets(plan: &Plan, process: u32) {
    // Each client has a connection for each thread and the control connection. Beside each of these
    // there may be one that waits for its predecessor to be fenced, and some whose end the target
    // has not heard of yet.
    let most = 4 * plan.clients * (plan.client_threads + 1) + 16;
    let sockets = net::open_sockets(process);
    if sockets > most {
        world::violation(BOUNDED, format!("a target has {sockets} sockets"));
    }
}
