//! The machine's CPUs: the world has none on which threads of the code under test could run.

use std::thread::JoinHandle;

use crate::errno::{Errno, Result};

/// Fails.
///
/// # Errors
///
/// `EINVAL`, always: work that ran beside the world's one thread could not be replayed.
pub fn pin_thread<T>(_thread: &JoinHandle<T>, _cpu: u32) -> Result<()> {
    Err(Errno::EINVAL)
}
