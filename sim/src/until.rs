//! Runs the world until something has happened, for tests of one scene.

/// The number of steps within which what is waited for must happen: minutes of the world's time.
const STEPS_MAX: u32 = 5_000_000;

/// Steps the world until `found` returns a value, and returns that.
///
/// # Panics
/// If it does not within [`STEPS_MAX`] steps; `what` says what was waited for.
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..STEPS_MAX {
        if let Some(value) = found() {
            return value;
        }
        world::step();
        while world::next_timer().is_some() {}
    }
    panic!("waited for {what}");
}
