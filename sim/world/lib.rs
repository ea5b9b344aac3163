//! A simulated world: time, processes with threads, a network, disks, and dice.
//!
//! All of it runs on one OS thread and from one seed: nothing happens but in [`step`], so the same
//! seed gives the same history. The world does not know what runs in it. A layer above gives the
//! threads their work and keeps its own things in the world's [`slots`].
//!
//! | module | what |
//! | --- | --- |
//! | [`state`] | what the world consists of: plain data |
//! | [`world`] | all of it in one value, with its time, its events and its history |
//! | [`life`] | worlds begin and end; processes start, are stopped and continued, and die |
//! | [`turn`] | whose turn it is, and what happens in it |
//! | [`process`] | threads: their messages, what they call again and again, their clocks |
//! | [`net`] | connections, and all that can happen to them |
//! | [`store`] | the disks, and what the world knows of each write |
//! | [`content`] | what bytes say of the write that they are from |
//! | [`slots`] | what layers above keep in the world |
//! | [`rng`] | the dice |

pub mod content;
pub mod life;
pub mod net;
pub mod process;
pub mod rng;
pub mod slots;
pub mod state;
pub mod store;
pub mod turn;
pub mod world;

pub use life::{begin, end};
pub use state::Violation;
pub use turn::step;
pub use world::{
    World, add_digest, dice, digest, held_up_us, history, next_timer, note, now, stamp, steps,
    take_violations, timer, violation, with, with_in_drop,
};
