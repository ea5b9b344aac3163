//! A simulator for `src/tcp` and `src/net`: a network that loses, reorders, repeats, delays and
//! corrupts packets, hosts that stall, and users that read slowly. A seed decides everything, and
//! the rules that must hold are checked throughout.
//!
//! | module | contents |
//! | --- | --- |
//! | [`plan`] | what a seed decides |
//! | [`network`] | packets on their way, and what happens to them |
//! | [`application`] | what the users of a connection send and check |
//! | [`user`] | the user of the stack under test |
//! | [`lan`] | hosts with interfaces on an Ethernet, from a seed |
//! | [`ours`], [`smol`] | hosts: one with the stack under test, one with smoltcp's TCP |
//! | [`lossy`] | filters that lose given packets |
//! | [`relay`] | a relay for frames to a real kernel, which loses and delays some |
//! | [`observer`] | a check of every packet |
//! | [`script`] | one stack, with the test as its peer |
//! | [`lab`] | one interface, with the test as all other hosts on its Ethernet |
//! | [`run`] | one seed, from its beginning to its end |

pub mod application;
pub mod lab;
pub mod lan;
pub mod lossy;
pub mod network;
pub mod observer;
pub mod ours;
pub mod plan;
pub mod relay;
pub mod run;
pub mod script;
pub mod smol;
pub mod user;

pub use plan::Plan;
pub use run::{Outcome, run};
