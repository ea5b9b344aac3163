//! A network that loses, reorders, repeats, delays and corrupts, hosts that stall, users that read
//! slowly: from a seed, which decides everything. What must hold is checked as it goes.
//!
//! | module | what |
//! | --- | --- |
//! | [`plan`] | what a seed stands for |
//! | [`network`] | packets on their way, and what happens to them |
//! | [`application`] | what the users of a connection send, and check |
//! | [`ours`], [`smol`] | hosts: one with the stack under test, one with smoltcp's |
//! | [`lossy`] | tests that choose what is lost |
//! | [`observer`] | what must hold for every packet |
//! | [`script`] | one stack, and a test as its peer |
//! | [`lab`] | one interface, and a test as everybody else on its Ethernet |
//! | [`run`] | one seed, from its beginning to its end |

pub mod application;
pub mod lab;
pub mod lossy;
pub mod network;
pub mod observer;
pub mod ours;
pub mod plan;
pub mod run;
pub mod script;
pub mod smol;

pub use plan::Plan;
pub use run::{Outcome, run};
