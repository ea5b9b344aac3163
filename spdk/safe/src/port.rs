//! Network ports that bypass the kernel: bursts of Ethernet frames. An application has them if it
//! is linked with `spdk/ports`.

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::{fmt, slice};

use spdk_sys as sys;

use crate::errno::Errno;

/// The maximum number of frames of a burst.
pub const BURST: usize = sys::DST_PORT_BURST as usize;

/// The maximum number of queue pairs of a port.
pub const QUEUES_MAX: u16 = sys::DST_PORT_QUEUES as u16;

/// The 16 bits that a port's key of receive-side scaling repeats.
pub const RSS_KEY: u16 = sys::DST_PORT_RSS_KEY as u16;

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

/// What a port reports about a queue pair; the first one's counters include those of the port as a
/// whole.
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

/// A port that is open.
struct Opened {
    raw: NonNull<sys::dst_port>,
    ops: &'static sys::dst_port_ops,
    info: PortInfo,
}

// SAFETY: ports and their pools know no threads. Whoever has the `&mut PortQueue` uses the queue pair
// alone, and queue pairs share nothing.
unsafe impl Send for Opened {}
// SAFETY: as above.
unsafe impl Sync for Opened {}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: an open port, closed once.
        let missing = unsafe { self.ops.close.expect("the table is complete")(self.raw.as_ptr()) };
        if missing != 0 {
            crate::error!("{missing} buffers of a network port were not released; its memory is not freed");
        }
    }
}

/// What is known about a port when it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortInfo {
    /// The link-layer address.
    pub mac: [u8; 6],
    /// Whether the port computes the checksums of IPv4 and TCP in the frames that it sends.
    pub sends_checksums: bool,
    /// The queue pairs.
    pub queues: u16,
    /// The length of the port's table from hashes of TCP segments to queues, a power of 2, in which the
    /// entry `i` is the queue `i % queues`; 0 if it gives frames to whatever queue.
    pub entries: u16,
}

/// A queue pair of a port, which is closed with the last one. One thread at a time may use it.
pub struct PortQueue {
    opened: Arc<Opened>,
    index: u16,
    /// Frames of `sending` below `sent` were sent, those below `filled` are to be sent, and those
    /// below `allocated` are empty.
    sending: [sys::dst_port_frame; BURST],
    sent: usize,
    filled: usize,
    allocated: usize,
}

// SAFETY: buffers have no thread, and `Opened` says why the rest has none.
unsafe impl Send for PortQueue {}

impl fmt::Debug for PortQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortQueue").field("index", &self.index).finish_non_exhaustive()
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

impl PortQueue {
    /// Opens a device: a vdev with its arguments, such as `net_memif0,id=0`, or a PCI address.
    /// Received IP packets have up to `mtu` bytes. The port gets `queues` queue pairs, or fewer if it has
    /// no more; one that spreads frames over all that it has gets those. Call it on the app thread.
    pub fn open(device: &str, mtu: u16, queues: u16) -> Result<Vec<PortQueue>, OpenError> {
        // SAFETY: returns a table of functions that lives for ever, or null.
        let ops = unsafe { sys::dst_port_ops().as_ref() }.ok_or(OpenError::NoPorts)?;
        let invalid = |_| OpenError::Device(Errno::EINVAL, "the device's name contains a NUL".to_owned());
        let device = CString::new(device).map_err(invalid)?;
        let mut info = sys::dst_port_info { mac: [0; 6], sends_checksums: false, queues: 0, entries: 0 };
        let mut raw = ptr::null_mut();
        let mut error = [0u8; ERROR_SIZE];
        // SAFETY: a string, and places that can be written; `error` has the length given.
        let rc = unsafe {
            let open = ops.open.expect("the table is complete");
            open(device.as_ptr(), mtu, queues, &mut info, &mut raw, error.as_mut_ptr().cast(), error.len())
        };
        match NonNull::new(raw).filter(|_| rc == 0) {
            Some(raw) => {
                let sys::dst_port_info { mac, sends_checksums, queues, entries } = info;
                let info = PortInfo { mac, sends_checksums, queues, entries };
                let opened = Arc::new(Opened { raw, ops, info });
                Ok((0..queues).map(|index| PortQueue::new(&opened, index)).collect())
            }
            None => {
                let text = CStr::from_bytes_until_nul(&error).unwrap_or_default();
                Err(OpenError::Device(Errno(-rc), text.to_string_lossy().into_owned()))
            }
        }
    }

    fn new(opened: &Arc<Opened>, index: u16) -> PortQueue {
        let opened = Arc::clone(opened);
        PortQueue { opened, index, sending: [NO_FRAME; BURST], sent: 0, filled: 0, allocated: 0 }
    }

    /// Returns the place of the queue pair among the port's.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Returns what is known about the port. HOT.
    pub fn info(&self) -> PortInfo {
        self.opened.info
    }

    /// Receives up to [`BURST`] frames, and returns their number. HOT.
    pub fn receive(&mut self, mut take: impl FnMut(PortFrame, VerifiedSums)) -> usize {
        let mut frames = [NO_FRAME; BURST];
        let Opened { raw, ops, .. } = &*self.opened;
        let receive = ops.receive.expect("the table is complete");
        let release = ops.release.expect("the table is complete");
        // SAFETY: an open port; the list has room for `BURST` frames.
        let count = unsafe { receive(raw.as_ptr(), self.index, frames.as_mut_ptr(), BURST as u16) };
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
        unsafe {
            self.opened.ops.is_low.expect("the table is complete")(self.opened.raw.as_ptr(), self.index)
        }
    }

    /// Returns the number of frames that [`PortQueue::fill`] takes now. It is 0 as long as the port has
    /// not taken the frames of the last burst, or if no buffers are free. HOT.
    pub fn room(&mut self) -> usize {
        if self.filled > 0 && !self.flush() {
            return 0;
        }
        if self.allocated == 0 {
            let Opened { raw, ops, .. } = &*self.opened;
            let allocate = ops.allocate.expect("the table is complete");
            // SAFETY: an open port; the list has room for `BURST` frames.
            if unsafe { allocate(raw.as_ptr(), self.index, self.sending.as_mut_ptr(), BURST as u16) } {
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
    /// [`PortQueue::room`] tries again. HOT.
    pub fn flush(&mut self) -> bool {
        let burst = &mut self.sending[self.sent..self.filled];
        if !burst.is_empty() {
            let Opened { raw, ops, .. } = &*self.opened;
            let send = ops.send.expect("the table is complete");
            // SAFETY: an open port; the frames are allocated and filled, and not yet sent.
            let count = unsafe { send(raw.as_ptr(), self.index, burst.as_mut_ptr(), burst.len() as u16) };
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

    /// Returns what the port reports.
    pub fn counters(&self) -> PortCounters {
        let mut counters = sys::dst_port_counters {
            missed: 0,
            errors: 0,
            received_buffers: 0,
            sent_buffers: 0,
            is_up: false,
        };
        let Opened { raw, ops, .. } = &*self.opened;
        // SAFETY: an open port.
        unsafe { ops.counters.expect("the table is complete")(raw.as_ptr(), self.index, &mut counters) };
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

impl Drop for PortQueue {
    fn drop(&mut self) {
        for frame in &self.sending[self.sent..self.allocated] {
            // SAFETY: an allocated buffer that the port has not taken.
            unsafe { self.opened.ops.release.expect("the table is complete")(frame.buffer) };
        }
    }
}
