//! A simulated world: time, processes with threads, a network, disks, and random numbers.
//!
//! All of it runs on one OS thread and from one seed. Nothing happens except in [`step`], so the
//! same seed gives the same history. The world does not know what runs in it: a layer above gives
//! the threads their work and keeps its own data in the world's [`slots`].
//!
//! | module | contents |
//! | --- | --- |
//! | [`state`] | what the world consists of: plain data |
//! | [`world`] | a whole world in one value, with its time, events and history |
//! | [`life`] | the beginning and end of worlds; the start, stop and death of processes |
//! | [`turn`] | whose turn it is, and what happens in the turn |
//! | [`process`] | threads: their messages, the closures that they call repeatedly, their clocks |
//! | [`net`] | connections, and everything that can happen to them |
//! | [`store`] | the disks, and what the world knows of each write |
//! | [`content`] | the content of blocks, which identifies the write that it came from |
//! | [`slots`] | data that the layers above keep in the world |
//! | [`rng`] | random numbers |

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
