//! Who may talk to whom, and how nobody else can listen or take part.
//!
//! | module | what |
//! | --- | --- |
//! | [`psk`] | the key that a host and a target share, and the text of its file |
//! | [`handshake`] | how both ends prove that they have it, and agree on keys that nobody else can compute |
//! | [`record`] | encrypting and checking what a connection carries |
//!
//! Nothing here does I/O or reads a clock, and randomness is passed in: the simulator runs this code, and every
//! message of the handshake has a test vector. The mathematics are others' work: the Noise protocol framework
//! through `snow`, the ciphers and HKDF of AWS-LC.

#![forbid(unsafe_code)]

#[cfg(test)]
mod both_ends;
pub mod handshake;
pub mod psk;
pub mod record;
mod secret;

pub use handshake::{Initiator, Rejected, Secured, accept};
pub use psk::Psk;
pub use record::{Keys, RECORD_HEADER_LEN, RECORD_MAX, RECORD_OVERHEAD, RecordError, Ticket};
