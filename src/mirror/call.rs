//! How a mirror begins: what an operator's call says.

use crate::handles::Device;

/// Draws a random number other than 0.
pub type Identifiers = Box<dyn FnMut() -> u128>;

/// The devices of a mirror to create: empty ones become its members.
#[derive(Debug, Clone)]
pub struct Create {
    /// The names of the members, which are recorded and shown: one to [`crate::MEMBERS_MAX`] of up
    /// to [`crate::MEMBER_NAME_MAX`] bytes. The data of the first one count.
    pub members: Vec<String>,
    /// The name of the witness, if there is one.
    pub witness: Option<String>,
    /// Whether devices are taken that hold another mirror's metadata, or that do not begin with
    /// zeroes.
    pub force: bool,
    /// Whether the members hold the same data already, as new ones do that hold only zeroes.
    /// Otherwise the first one is copied to the others.
    pub is_equal: bool,
}

/// The devices from which a mirror is assembled.
#[derive(Debug, Clone, Copy)]
pub struct Assemble {
    /// The number of devices that may be members: at most [`crate::MEMBERS_MAX`].
    pub members: usize,
    /// Whether there is a device of a witness.
    pub has_witness: bool,
    /// The member whose data count, whatever the others have, if the operator forces the assembly.
    /// What the devices have that were found by then is overwritten.
    pub force: Option<Device>,
}
