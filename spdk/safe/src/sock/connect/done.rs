//! What an attempt to connect ends with.

use crate::errno::Result;
use crate::sock::Sock;

/// Called once, on the SPDK thread that asked, with what came of the attempt.
pub(super) type Done = Box<dyn FnOnce(Result<Sock>)>;
