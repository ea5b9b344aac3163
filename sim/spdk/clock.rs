//! A process's clock: monotonic, with a rate of its own.

use world::{World, with};

/// Returns the tick counter: microseconds.
pub fn ticks() -> u64 {
    now_us()
}

/// Returns the number of ticks in a second.
pub fn ticks_hz() -> u64 {
    1_000_000
}

/// Returns the microseconds since some moment before the application started.
pub fn now_us() -> u64 {
    with(World::look_at_clock)
}

/// Returns the time of day, in seconds since 1970. The world begins a million seconds after that.
pub fn unix_s() -> u64 {
    1_000_000 + now_us() / 1_000_000
}
