//! Authentication and encryption of connections.
//!
//! | module | subject |
//! | --- | --- |
//! | [`psk`] | the key that a host and a target share, and the text of its file |
//! | [`handshake`] | how both ends prove that they have the key, and agree on keys that nobody else can compute |
//! | [`record`] | encryption and authentication of what a connection carries |
//!
//! This crate does no I/O and reads no clock, and the caller passes randomness in. So the simulator
//! can run this code, and every message of the handshake has a test vector. The cryptography comes
//! from established libraries: the Noise protocol framework from `snow`, the ciphers and HKDF from
//! AWS-LC.

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
