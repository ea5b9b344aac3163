//! What is known of a change of the members or the witness that is going on: see `changes.rs` and
//! `witness.rs`.

use crate::configuration::{MemberRecord, WitnessRecord};
use crate::handles::Device;
use crate::metadata::Area;

/// A device that is to become a member, or the witness.
pub(crate) struct Candidate {
    pub(crate) device: Device,
    /// The name that is recorded.
    pub(crate) name: String,
    /// Whether the device is taken whatever it holds.
    pub(crate) force: bool,
    /// Whether the beginning of the device is being read.
    pub(crate) is_probed: bool,
}

/// The change of the members or the witness that is going on.
pub(crate) enum Change {
    None,
    /// A device is read, to see whether it may become a member or the witness.
    Examining(Candidate),
    /// A device becomes a member once all before is recorded.
    Joining {
        /// The device.
        device: Device,
        /// What is to be recorded of the member.
        record: MemberRecord,
        /// Where its metadata are going to be.
        area: Box<Area>,
    },
    /// The configuration has the new member at this place, and is not recorded.
    Joined(usize),
    /// The new member was lost before it counted. The configuration calls it detached, as the recorded one
    /// does; some device may have a record that does not, and is to have a newer one.
    Withdrawn(usize),
    /// The member at this place is out of date, and is to be detached once that is recorded.
    Leaving(usize),
    /// The configuration calls the member at this place detached, and is not recorded.
    Detached(usize),
    /// The witness comes or goes.
    Witness(WitnessChange),
}

/// A change of the witness that is going on.
pub(crate) enum WitnessChange {
    /// The device becomes the witness once all before is recorded.
    Joining {
        /// What is to be recorded of the witness.
        record: WitnessRecord,
        /// Where its metadata are going to be.
        area: Box<Area>,
    },
    /// The configuration has the witness, without a vote, and may not be recorded.
    Listed,
    /// The configuration gives the witness its vote, and is not recorded.
    Joined,
    /// The configuration gives the witness no vote, and is to be without it once that is recorded.
    Leaving {
        /// Why the witness could not be added; `None` if the operator removes it.
        why: Option<String>,
    },
    /// The configuration has no witness, and is not recorded.
    Removed {
        /// As for [`WitnessChange::Leaving`].
        why: Option<String>,
    },
}
