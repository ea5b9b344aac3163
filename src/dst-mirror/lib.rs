//! Mirrors: SPDK bdevs whose blocks are on several other bdevs. The rules are in `src/mirror` (the
//! crate `dst-mirror`). This crate (`dst-mirror-bdev`) opens the devices, carries out what the rules
//! ask for, and offers the result to SPDK.
//!
//! All of a mirror is on the control thread (SPDK's app thread). I/O of other threads is forwarded
//! there, with the user's buffers, which the members get as they are: nothing is copied, and nothing
//! is allocated below the highest number of I/Os so far.

#![forbid(unsafe_code)]

mod arrivals;
mod bdev;
mod buffers;
mod changes;
mod changing;
mod device;
mod devices;
mod disk;
mod error;
mod exports;
mod info;
mod life;
mod mirror;
mod options;
mod registry;
mod request;
mod requests;
mod search;
mod sharing;
mod submission;
mod taking;
mod users;
mod verification;

pub use device::Wanted;
pub use dst_mirror::metadata::Found;
pub use dst_mirror::report::{
    Condition, Difference, State, Verification, VerificationState, WitnessCondition,
};
pub use dst_mirror::takeover::Standing;
pub use dst_mirror::{Device, MEMBER_NAME_MAX, MEMBERS_MAX, Report};
pub use error::Error;
pub use exports::{Exports, set_exports};
pub use info::{DeviceInfo, DeviceState, Info};
pub use mirror::Mirror;
pub use options::{Limits, Options, Plan, Start, Waits};
pub use registry::{
    add_member, add_witness, bdev_appeared, bdev_lost_cache, bdev_reachable, bdev_taken_over, create, delete,
    find, limits, list, remove_member, remove_witness, set_limits, stop_begins, wait,
};
pub use search::{Seen, search};
pub use sharing::waiting_to_copy;
pub use users::Latency;
