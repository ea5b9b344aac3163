//! Network ports that bypass the kernel: bursts of Ethernet frames. An application has them if it
//! is linked with `spdk/ports`.

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::{fmt, slice};

use spdk_sys as sys;

use crate::errno::Errno;

/// The maximum number of frames of a burst.
pub const BURST: usize = sys::DST_PORT_BURST as usize;

/// The space for an error's text in bytes: an error names a device and a reason.
const ERROR_SIZE: usize = 512;

/// The reason why no port was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// The application was linked without ports.
    NoPorts,
    /// DPDK does not open this device.
    Device(Errno, String),
}

/// The lengths of the headers in a frame whose checksums the port completes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderLens {
    /// The Ethernet header.
    pub link: usize,
    /// The IP header.
    pub network: usize,
    /// The TCP header.
    pub transport: usize,
    /// Whether IP is version 4.
    pub is_ipv4: bool,
}

/// The checksums of a received frame that the port has found to be correct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedSums {
    /// The checksum of the IPv4 header.
    pub ipv4: bool,
    /// The checksum of the TCP segment.
    pub tcp: bool,
}

/// What a port reports about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Received frames that were lost because no buffer was free, or because they were longer than
    /// the MTU.
    pub missed: u64,
    /// Frames that were damaged, or that the port failed to send.
    pub errors: u64,
    /// Received frames that wait to be read, and buffers that the port has for further ones.
    pub received_buffers: u32,
    /// Frames that the port has not sent, or has not let go of.
    pub sent_buffers: u32,
    /// Whether the link is up.
    pub is_up: bool,
}

/// A received frame. Its buffer goes back to the port when it is dropped, on whatever thread; but
/// before the port is dropped.
#[derive(Debug)]
pub struct PortFrame {
    buffer: NonNull<libc::c_void>,
    data: NonNull<u8>,
    len: usize,
    release: unsafe extern "C" fn(*mut libc::c_void),
}

// SAFETY: the buffer has one owner, and pools take buffers back on any thread.
unsafe impl Send for PortFrame {}

impl AsRef<[u8]> for PortFrame {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the buffer holds `len` bytes, which nothing changes until it is released.
        unsafe { slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl Drop for PortFrame {
    fn drop(&mut self) {
        // SAFETY: a buffer of a port that is open, released once.
        unsafe { (self.release)(self.buffer.as_ptr()) }
    }
}

/// A port. One thread at a time may use it.
pub struct Port {
    raw: NonNull<sys::dst_port>,
    ops: &'static sys::dst_port_ops,
    mac: [u8; 6],
    sends_checksums: bool,
    /// Frames of `sending` below `sent` were sent, those below `filled` are to be sent, and those
    /// below `allocated` are empty.
    sending: [sys::dst_port_frame; BURST],
    sent: usize,
    filled: usize,
    allocated: usize,
}

// SAFETY: ports and their pools know no threads; whoever has the `&mut Port` uses them alone.
unsafe impl Send for Port {}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("mac", &self.mac).finish_non_exhaustive()
    }
}

const NO_FRAME: sys::dst_port_frame = sys::dst_port_frame {
    buffer: ptr::null_mut(),
    data: ptr::null_mut(),
    len: 0,
    verified: 0,
    link_len: 0,
    network_len: 0,
    transport_len: 0,
    is_ipv4: false,
};

impl Port {
    /// Opens a device: a vdev with its arguments, such as `net_memif0,id=0`, or a PCI address.
    /// Received IP packets have up to `mtu` bytes. Call it on the app thread.
    pub fn open(device: &str, mtu: u16) -> Result<Port, OpenError> {
        // SAFETY: returns a table of functions that lives for ever, or null.
        let ops = unsafe { sys::dst_port_ops().as_ref() }.ok_or(OpenError::NoPorts)?;
        let invalid = |_| OpenError::Device(Errno::EINVAL, "the device's name contains a NUL".to_owned());
        let device = CString::new(device).map_err(invalid)?;
        let mut info = sys::dst_port_info { mac: [0; 6], sends_checksums: false };
        let mut raw = ptr::null_mut();
        let mut error = [0u8; ERROR_SIZE];
        // SAFETY: a string, and places that can be written; `error` has the length given.
        let rc = unsafe {
            let open = ops.open.expect("the table is complete");
            open(device.as_ptr(), mtu, &mut info, &mut raw, error.as_mut_ptr().cast(), error.len())
        };
        match NonNull::new(raw).filter(|_| rc == 0) {
            Some(raw) => Ok(Port {
                raw,
                ops,
                mac: info.mac,
                sends_checksums: info.sends_checksums,
                sending: [NO_FRAME; BURST],
                sent: 0,
                filled: 0,
                allocated: 0,
            }),
            None => {
                let text = CStr::from_bytes_until_nul(&error).unwrap_or_default();
                Err(OpenError::Device(Errno(-rc), text.to_string_lossy().into_owned()))
            }
        }
    }

    /// Returns the port's link-layer address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Returns true if the port computes the checksums of IPv4 and TCP in the frames that it sends.
    pub fn sends_checksums(&self) -> bool {
        self.sends_checksums
    }

    /// Receives up to [`BURST`] frames, and returns their number. HOT.
    pub fn receive(&mut self, mut take: impl FnMut(PortFrame, VerifiedSums)) -> usize {
        let mut frames = [NO_FRAME; BURST];
        let receive = self.ops.receive.expect("the table is complete");
        let release = self.ops.release.expect("the table is complete");
        // SAFETY: an open port; the list has room for `BURST` frames.
        let count = unsafe { receive(self.raw.as_ptr(), frames.as_mut_ptr(), BURST as u16) };
        for frame in &frames[..usize::from(count)] {
            let (Some(buffer), Some(data)) = (NonNull::new(frame.buffer), NonNull::new(frame.data)) else {
                continue;
            };
            let verified = VerifiedSums {
                ipv4: frame.verified & sys::DST_PORT_IPV4_VERIFIED != 0,
                tcp: frame.verified & sys::DST_PORT_TCP_VERIFIED != 0,
            };
            take(PortFrame { buffer, data, len: frame.len as usize, release }, verified);
        }
        usize::from(count)
    }

    /// Returns true if few buffers are left for received frames. HOT.
    pub fn is_low(&self) -> bool {
        // SAFETY: an open port.
        unsafe { self.ops.is_low.expect("the table is complete")(self.raw.as_ptr()) }
    }

    /// Returns the number of frames that [`Port::fill`] takes now. It is 0 as long as the port has
    /// not taken the frames of the last burst, or if no buffers are free. HOT.
    pub fn room(&mut self) -> usize {
        if self.filled > 0 && !self.flush() {
            return 0;
        }
        if self.allocated == 0 {
            let allocate = self.ops.allocate.expect("the table is complete");
            // SAFETY: an open port; the list has room for `BURST` frames.
            if unsafe { allocate(self.raw.as_ptr(), self.sending.as_mut_ptr(), BURST as u16) } {
                self.allocated = BURST;
            }
        }
        self.allocated
    }

    /// Adds a frame of `len` bytes, which `write` writes, to the burst. The port completes the
    /// checksums if there are `headers`. HOT.
    ///
    /// # Panics
    /// If there is no room, or if the frame is longer than a buffer.
    pub fn fill(&mut self, len: usize, headers: Option<HeaderLens>, write: impl FnOnce(&mut [u8])) {
        assert!(self.filled < self.allocated, "a frame is sent without room for it");
        let frame = &mut self.sending[self.filled];
        assert!(len <= frame.len as usize, "a frame of {len} bytes is sent in a buffer of {}", frame.len);
        // SAFETY: an allocated buffer with room for `frame.len` bytes, which nobody else uses;
        // mbufs are initialised memory.
        write(unsafe { slice::from_raw_parts_mut(frame.data, len) });
        frame.len = len as u32;
        let lens = headers.map_or((0, 0, 0, false), |lens| {
            (lens.link as u16, lens.network as u16, lens.transport as u16, lens.is_ipv4)
        });
        (frame.link_len, frame.network_len, frame.transport_len, frame.is_ipv4) = lens;
        self.filled += 1;
    }

    /// Hands the burst to the port. Returns false if the port did not take all of it; then
    /// [`Port::room`] tries again. HOT.
    pub fn flush(&mut self) -> bool {
        let burst = &mut self.sending[self.sent..self.filled];
        if !burst.is_empty() {
            let send = self.ops.send.expect("the table is complete");
            // SAFETY: an open port; the frames are allocated and filled, and not yet sent.
            let count = unsafe { send(self.raw.as_ptr(), burst.as_mut_ptr(), burst.len() as u16) };
            self.sent += usize::from(count);
        }
        if self.sent < self.filled {
            return false;
        }
        // The rest moves to the front.
        self.sending.copy_within(self.filled..self.allocated, 0);
        self.allocated -= self.filled;
        (self.sent, self.filled) = (0, 0);
        true
    }

    /// Returns what the port reports about itself.
    pub fn counters(&self) -> PortCounters {
        let mut counters = sys::dst_port_counters {
            missed: 0,
            errors: 0,
            received_buffers: 0,
            sent_buffers: 0,
            is_up: false,
        };
        // SAFETY: an open port.
        unsafe { self.ops.counters.expect("the table is complete")(self.raw.as_ptr(), &mut counters) };
        // Buffers without a frame are allocated a burst at a time.
        let empty = (self.allocated - self.filled) as u32;
        PortCounters {
            missed: counters.missed,
            errors: counters.errors,
            received_buffers: counters.received_buffers,
            sent_buffers: counters.sent_buffers.saturating_sub(empty),
            is_up: counters.is_up,
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        for frame in &self.sending[self.sent..self.allocated] {
            // SAFETY: an allocated buffer that the port has not taken.
            unsafe { self.ops.release.expect("the table is complete")(frame.buffer) };
        }
        // SAFETY: an open port, closed once.
        let missing = unsafe { self.ops.close.expect("the table is complete")(self.raw.as_ptr()) };
        if missing != 0 {
            crate::error!("{missing} buffers of a network port were not released; its memory is not freed");
        }
    }
}
