//! SPDK's clock: monotonic, the same on every core, cheap.

use std::sync::atomic::{AtomicU64, Ordering};

use spdk_sys as sys;

use crate::thread;

const US_PER_S: u128 = 1_000_000;

/// Returns the tick counter. HOT.
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: reads a counter; takes nothing.
    unsafe { sys::spdk_get_ticks() }
}

/// Returns the number of ticks in a second.
pub fn ticks_hz() -> u64 {
    // SAFETY: reads what the environment measured when it started.
    unsafe { sys::spdk_get_ticks_hz() }
}

/// Returns the microseconds since some moment before the application started. HOT.
#[inline]
pub fn now_us() -> u64 {
    us(ticks())
}

/// Returns about what [`now_us`] returns, without a look at the counter, which is slow on virtual machines:
/// the time at which the SPDK thread that calls ended its turn before this one. That is long ago only where
/// the thread was not polled for long, or where this turn lasts long. HOT.
///
/// # Panics
/// If no SPDK thread calls.
#[inline]
pub fn turn_us() -> u64 {
    let thread = thread::current_ptr();
    assert!(!thread.is_null(), "only an SPDK thread has turns");
    // SAFETY: reads a field of the running thread, which only this thread writes.
    us(unsafe { sys::spdk_thread_get_last_tsc(thread) })
}

#[inline]
fn us(ticks: u64) -> u64 {
    // Microseconds per tick as a 0.64 fixed-point number, so that each call multiplies and does not
    // divide.
    static US_PER_TICK: AtomicU64 = AtomicU64::new(0);
    let mut scale = US_PER_TICK.load(Ordering::Relaxed);
    if scale == 0 {
        scale = us_per_tick(ticks_hz());
        US_PER_TICK.store(scale, Ordering::Relaxed);
    }
    scaled(ticks, scale)
}

fn us_per_tick(hz: u64) -> u64 {
    // No CPU that SPDK runs on counts at 1 MHz or less; one that did would need more than 64 bits
    // here.
    assert!(u128::from(hz) > US_PER_S, "a tick counter of {hz} Hz is too slow");
    ((US_PER_S << 64) / u128::from(hz)) as u64
}

fn scaled(ticks: u64, scale: u64) -> u64 {
    ((u128::from(ticks) * u128::from(scale)) >> 64) as u64
}

/// Returns the time of day in seconds since 1970, for people to read; it may jump. 0 before 1970.
pub fn unix_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_of_ticks_is_a_year_of_microseconds() {
        let hz = 2_995_200_000;
        let year_s = 365 * 24 * 3600;
        let us = scaled(hz * year_s, us_per_tick(hz));
        assert!((year_s * 1_000_000).abs_diff(us) <= 1, "{us}");
    }
}
