//! A mirror's rules: who belongs to it, what is durable before what, and what may be read from where.

#![forbid(unsafe_code)]

mod assembly;
mod call;
mod change;
mod changes;
#[cfg(test)]
mod changes_tests;
pub mod configuration;
mod copying;
mod creation;
mod credit;
#[cfg(test)]
mod decision_tests;
mod departures;
mod differences;
#[cfg(test)]
mod durability_tests;
pub mod extents;
mod flushes;
mod founding;
pub mod generation;
pub mod handles;
#[cfg(test)]
mod handover_tests;
pub mod ids;
pub mod input;
mod joining;
mod locks;
pub mod metadata;
mod mirror;
mod missed;
pub mod mutation;
pub mod options;
pub mod output;
#[cfg(test)]
mod owners_tests;
mod ports;
pub mod quorum;
mod reads;
mod recording;
mod region_size;
pub mod regions;
pub mod report;
mod reporting;
mod requests;
mod resync;
mod roles;
mod running;
mod shared;
mod stopping;
pub mod takeover;
#[cfg(test)]
mod takeover_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod turns;
mod verification;
#[cfg(test)]
mod verification_tests;
mod verifying;
#[cfg(test)]
mod waiting_tests;
#[cfg(test)]
mod withdrawal_tests;
mod witness;
#[cfg(test)]
mod witness_tests;
mod writes;

pub use call::{Assemble, Create, Identifiers};
pub use configuration::{
    Configuration, MEMBER_NAME_MAX, MEMBERS_MAX, MemberRecord, MemberState, Standing, WitnessRecord,
    WitnessState,
};
pub use differences::differences;
pub use extents::{Extent, Extents};
pub use generation::{Generation, Generations, Relation};
pub use handles::{Device, Devices, IoId, RequestId, SlotId};
pub use ids::{MemberId, MirrorId};
pub use input::{Input, Op, Outcome};
pub use mirror::Mirror;
pub use options::Options;
pub use output::{Level, Output, Rare, Status};
pub use report::Report;
pub use turns::Turns;
