//! Error numbers.

pub use spdk_contract::errno::{Errno, Result};
