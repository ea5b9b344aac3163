//! The rate that all mirrors of this process have in common, on the control thread. Mirrors are named
//! by their serial numbers.

use std::cell::RefCell;

use dst_mirror::Turns;
use spdk::clock::now_us;

spdk::thread_local! {
    static TURNS: RefCell<Turns> = const { RefCell::new(Turns::new()) };
}

/// Returns the number of mirrors that wait for their turns to copy.
pub fn waiting_to_copy() -> usize {
    TURNS.with_borrow(Turns::waiting)
}

/// Returns the rate in bytes per second; 0: no limit.
pub(crate) fn rate() -> u64 {
    TURNS.with_borrow(Turns::rate)
}

/// Sets the rate in bytes per second; 0: no limit.
pub(crate) fn set_rate(rate: u64) {
    TURNS.with_borrow_mut(|turns| turns.set_rate(rate));
}

/// A mirror wants to copy so many bytes. Returns true if it has its turn at once.
pub(crate) fn want(serial: u64, bytes: u64) -> bool {
    TURNS.with_borrow_mut(|turns| turns.want(now_us(), serial, bytes))
}

/// Returns the mirror that has its turn now, if there is one.
pub(crate) fn next(now: u64) -> Option<u64> {
    TURNS.with_borrow_mut(|turns| turns.next(now))
}

/// A mirror is forgotten.
pub(crate) fn leave(serial: u64) {
    TURNS.with_borrow_mut(|turns| turns.leave(serial));
}
