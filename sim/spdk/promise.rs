//! What a violation is of: the promises of docs/failures.md, by their numbers there.
//!
//! A promise that can be broken in several ways has a label for each, with the way behind a colon: a plan is made
//! smaller only as long as it fails in the same way. `sim/tests/promises.rs` compares this list with the document.

/// A write that was acknowledged is in no backend.
pub const LOST: &str = "1 (nothing acknowledged is lost)";
/// A backend is given something else than what was written.
pub const DATA: &str = "1 (nothing acknowledged is lost: data)";
/// A write is handed over, or executed, too late.
pub const OLD: &str = "2 (nothing old comes back)";
/// Something is executed again.
pub const ONCE: &str = "3 (at most once)";
/// A backend is given what nobody asked for.
pub const UNASKED: &str = "3 (at most once: unasked)";
/// A read returns what it must not.
pub const CURRENT: &str = "4 (reads are current)";
/// An I/O fails for no reason.
pub const SHORT: &str = "5 (a failure shorter than the user's patience is only latency)";
/// An I/O does not complete once, or not on its thread.
pub const ONE_COMPLETION: &str =
    "5 (a failure shorter than the user's patience is only latency: one completion)";
/// A reset completes before what it ends.
pub const RESET: &str = "5 (a failure shorter than the user's patience is only latency: a reset ends all)";
/// An I/O outlives its deadline.
pub const DEADLINE: &str = "5 (a failure shorter than the user's patience is only latency: deadline)";
/// I/O does not go on after the last failure.
pub const RECOVERY: &str = "5 (a failure shorter than the user's patience is only latency: recovery)";
/// A flush succeeds that does not cover what it should.
pub const FLUSH: &str = "6 (flush means flush)";
/// A write reaches another device.
pub const DEVICE: &str = "7 (the right device)";
/// A host does what it has no right to.
pub const RIGHTS: &str = "8 (nobody in without a right)";
/// Something exceeds its limit.
pub const BOUNDED: &str = "9 (bounded)";
/// A deletion, or a stop, does not end in time.
pub const REMOVAL: &str = "10 (removal ends)";

/// All labels.
pub const ALL: [&str; 16] = [
    LOST,
    DATA,
    OLD,
    ONCE,
    UNASKED,
    CURRENT,
    SHORT,
    ONE_COMPLETION,
    RESET,
    DEADLINE,
    RECOVERY,
    FLUSH,
    DEVICE,
    RIGHTS,
    BOUNDED,
    REMOVAL,
];

/// The label of a panic, which is no promise of the document: it breaks what the code promises itself.
pub const NO_PANIC: &str = "no panic";
