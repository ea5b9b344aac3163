//! Targets and clients: how the simulator starts, sets up and queries them, and the names and
//! addresses that they have.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use world::store::{self, StoreConfig};

use crate::plan::Plan;

mod client_side;
mod target_side;

pub use client_side::ClientSide;
pub use target_side::TargetSide;

/// The name of every export.
pub const EXPORT: &str = "vol";

/// The file with the key of all hosts.
pub const KEY_FILE: &str = "/key";

/// The file in which a target keeps the owner of its export.
pub const STATE_FILE: &str = "/state";

/// The name of every bdev, on both sides.
pub const BDEV: &str = "disk";

/// The port of every target.
const PORT: u16 = 4420;

/// The outcome of an operator's call, once there is one.
pub type Told = Rc<RefCell<Option<Result<(), String>>>>;

/// Returns one of a target's addresses.
fn address(target: usize, number: usize) -> SocketAddr {
    let network = if number == 0 { 0 } else { 20 + number as u8 };
    SocketAddr::new(IpAddr::from([10, 0, network, target as u8 + 1]), PORT)
}

/// Returns all addresses of a target.
fn addresses(plan: &Plan, target: usize) -> impl Iterator<Item = SocketAddr> {
    (0..plan.addresses).map(move |number| address(target, number))
}

/// Returns a client's name for itself.
fn host(client: usize) -> String {
    format!("host{client}")
}

/// Creates a store as the plan describes.
pub fn new_store(plan: &Plan, number: u8) -> u32 {
    store::create(StoreConfig {
        uuid: [number + 1; 16],
        block_size: plan.block_size,
        num_blocks: plan.num_blocks,
        write_cache: plan.write_cache,
        in_process: plan.in_process,
        latency_us: plan.latency_us,
        errors: plan.errors,
        reset_works: plan.reset_works,
    })
}
