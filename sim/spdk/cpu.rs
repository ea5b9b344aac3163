//! The machine's CPUs: the world has none that threads of its own could run on.

use std::thread::JoinHandle;

use crate::errno::{Errno, Result};

/// Never does.
///
/// # Errors
/// `EINVAL`, always: what runs beside the world's one thread could not be played again.
pub fn pin_thread<T>(_thread: &JoinHandle<T>, _cpu: u32) -> Result<()> {
    Err(Errno::EINVAL)
}
