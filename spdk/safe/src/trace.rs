//! Tracepoints in SPDK's trace, as the group `dst`, which the RPC `trace_enable_tpoint_group` turns
//! on.

use std::sync::Once;

pub use spdk_contract::trace::Point;
use spdk_sys as sys;

/// Registers the group. Call it from a [`constructor!`](crate::constructor!).
pub fn register() {
    static ONCE: Once = Once::new();
    // SAFETY: a constructor, so nothing reads SPDK's list of groups yet.
    ONCE.call_once(|| unsafe { sys::dst_spdk_trace_register() });
}

/// Whether tracepoints are on. It is looked up once for many I/Os, so that an I/O costs one test of a
/// value that is at hand. Points that are off, or were turned off since, record nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tracing(bool);

impl Tracing {
    /// Returns whether any of the points is on now.
    #[inline]
    pub fn now() -> Tracing {
        // SAFETY: reads SPDK's mask.
        Tracing(unsafe { sys::dst_spdk_trace_is_on() })
    }

    /// Returns whether points are to be recorded.
    #[inline]
    pub fn is_on(self) -> bool {
        self.0
    }
}

/// Records a point, if it is on, in the buffer of this core. `size` is in bytes; `arg` is what
/// [`Point`] says.
pub fn record(point: Point, size: u32, object: u64, arg: u64) {
    record_at(0, point, size, object, arg);
}

/// Does the same for something that happened at this time, in ticks, but not before the point that was
/// recorded last on this core.
#[cold]
pub fn record_at(ticks: u64, point: Point, size: u32, object: u64, arg: u64) {
    // SAFETY: writes to this core's buffer, if there is one.
    unsafe { sys::dst_spdk_trace_record(ticks, point as u16, size, object, arg) };
}
