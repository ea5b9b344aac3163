//! A process's clock: monotonic, of its own rate.

use crate::world::with;

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
    with(|w| {
        let Some(process) = w.current_process() else { return w.now };
        // A process may be held up between any two instructions; it matters where it looks at the clock next.
        let (per_million, most_us) = w.processes[&process].hiccups;
        if per_million > 0 && w.rng.below(1_000_000) < per_million {
            let held_up_us = w.rng.below(most_us);
            w.now += held_up_us;
            w.held_up_us += held_up_us;
            w.note(|| format!("held up for {held_up_us} us"));
        }
        w.processes[&process].clock(w.now)
    })
}
