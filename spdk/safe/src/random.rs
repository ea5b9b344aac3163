//! Random numbers.

/// Fills `bytes` with random bytes from the system. Any thread may call it.
///
/// # Panics
/// If the system has no random numbers, since nothing unique could be made.
pub fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has random numbers");
}
