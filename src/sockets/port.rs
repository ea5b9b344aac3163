//! What a port has to do.

use dst_net::{Headers, Verified};

/// A network port: bursts of Ethernet frames, without check sequences.
pub trait Port {
    /// A received frame, in a buffer that goes back to the port when the frame is dropped.
    type Frame: AsRef<[u8]>;

    /// Receives a burst of frames. Returns their number.
    fn receive(&mut self, take: impl FnMut(Self::Frame, Verified)) -> usize;

    /// Returns true if few buffers are left for received frames. Then frames that wait to be read
    /// are copied.
    fn is_low(&self) -> bool;

    /// Returns the number of frames that [`Port::fill`] takes now.
    fn room(&mut self) -> usize;

    /// Adds a frame of `len` bytes, which `write` writes, to a burst. The port completes the
    /// checksums if there are `headers`.
    fn fill(&mut self, len: usize, headers: Option<Headers>, write: impl FnOnce(&mut [u8]));

    /// Sends the burst. What the port does not take is sent before anything else later.
    fn flush(&mut self);
}
