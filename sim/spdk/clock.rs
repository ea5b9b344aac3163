//! A process's clock: monotonic, of its own rate.

use world::{World, with};

/// The tick counter: microseconds.
pub fn ticks() -> u64 {
    now_us()
}

/// Ticks in a second.
pub fn ticks_hz() -> u64 {
    1_000_000
}

/// Microseconds since some moment before the application started.
pub fn now_us() -> u64 {
    with(World::look_at_clock)
}

/// The time of day in seconds since 1970: the world began a million seconds after.
pub fn unix_s() -> u64 {
    1_000_000 + now_us() / 1_000_000
}
