//! Random numbers.

/// Fills `bytes` with random ones from the system. Any thread.
///
/// # Panics
/// The system has none: nothing that has to be unique could be made.
pub fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has random numbers");
}
