//! The callback of an attempt to connect.

use crate::errno::Result;
use crate::sock::Sock;

/// Called once with the result, on the SPDK thread that started the attempt.
pub(super) type Done = Box<dyn FnOnce(Result<Sock>)>;
