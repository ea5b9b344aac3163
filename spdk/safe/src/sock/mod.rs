//! Sockets: connections and listeners. Groups are in [`group`], connecting is in
//! [`connect`](mod@connect).

pub mod connect;
mod failure;
pub mod group;
pub mod groups;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use spdk_sys as sys;

pub use connect::{Connecting, connect};
pub use group::{Group, Member, SockReady};
pub use groups::{Groups, Traffic};

use crate::errno::{Errno, Result};
use crate::iov::{Iov, IovMut};
use crate::{sock_impl, thread};

/// A connection. It is closed when it and its [`Member`] in a group, if any, are dropped.
///
/// It may move to another thread while it is in no group. Using it on another thread while it is in
/// one aborts the process.
pub struct Sock {
    inner: Arc<SockInner>,
    /// Makes it not `Sync`: one thread at a time may use it.
    _not_sync: PhantomData<Cell<()>>,
}

pub(crate) struct SockInner {
    raw: NonNull<sys::spdk_sock>,
    /// The SPDK thread of the socket's group; null if it is in none.
    pinned: AtomicPtr<sys::spdk_thread>,
}

// SAFETY: SPDK's sockets know no threads, only groups do. Outside a group the one `Sock`, which is
// not `Sync`, has all access; inside one `pinned` keeps it, and the group, on one SPDK thread.
unsafe impl Send for SockInner {}
// SAFETY: as above.
unsafe impl Sync for SockInner {}

impl Drop for SockInner {
    fn drop(&mut self) {
        let mut raw = self.raw.as_ptr();
        // SAFETY: open, and in no group: a group's member holds a reference to this.
        unsafe { sys::spdk_sock_close(&mut raw) };
    }
}

impl Sock {
    /// Takes over a socket that SPDK returned. Returns `None` for null.
    fn from_raw(raw: *mut sys::spdk_sock) -> Option<Sock> {
        let raw = NonNull::new(raw)?;
        let inner = SockInner { raw, pinned: AtomicPtr::new(ptr::null_mut()) };
        Some(Sock { inner: Arc::new(inner), _not_sync: PhantomData })
    }

    #[inline]
    fn raw(&self) -> *mut sys::spdk_sock {
        // Relaxed suffices: the thread that pinned the socket sees its own store. Another thread
        // could read the old value only if it had been given this `Sock`, which synchronises,
        // before the store.
        let pinned = self.inner.pinned.load(Ordering::Relaxed);
        assert!(
            pinned.is_null() || pinned == thread::current_ptr(),
            "a socket was used away from the thread of its group"
        );
        self.inner.raw.as_ptr()
    }

    /// Receives into `buf` and returns the number of bytes. `None`: nothing is there. `Some(0)`:
    /// the peer has closed. HOT.
    #[inline]
    pub fn recv(&self, buf: &mut [u8]) -> Result<Option<usize>> {
        if buf.is_empty() {
            return Ok(None);
        }
        // SAFETY: an open socket on its thread; `buf` is writable for its length.
        let rc = unsafe { sys::spdk_sock_recv(self.raw(), buf.as_mut_ptr().cast(), buf.len()) };
        transferred(rc)
    }

    /// Receives into `iovs`, otherwise like [`Sock::recv`]. HOT.
    #[inline]
    pub fn readv(&self, iovs: &mut IovMut<'_>) -> Result<Option<usize>> {
        if iovs.is_empty() {
            return Ok(None);
        }
        let (entries, count) = iovs.as_raw();
        // SAFETY: an open socket on its thread; the list holds `count` buffers that it borrows
        // mutably.
        let rc = unsafe { sys::spdk_sock_readv(self.raw(), entries, count) };
        transferred(rc)
    }

    /// Sends from `iovs` and returns how many bytes were taken, possibly not all. `None`: there is
    /// no room for any now. HOT.
    #[inline]
    pub fn writev(&self, iovs: &Iov<'_>) -> Result<Option<usize>> {
        if iovs.is_empty() {
            return Ok(Some(0));
        }
        let (entries, count) = iovs.as_raw();
        // SAFETY: an open socket on its thread; the list holds `count` buffers that it borrows,
        // which are only read.
        let rc = unsafe { sys::spdk_sock_writev(self.raw(), entries, count) };
        transferred(rc)
    }

    /// Returns a number that the socket shares with those that are best used on the same thread, if it
    /// is not all the same who uses it.
    pub fn placement(&self) -> Option<usize> {
        // SAFETY: an open socket.
        let placement = unsafe { sock_impl::placement(self.raw()) };
        placement.and_then(|placement| usize::try_from(placement).ok())
    }

    /// Returns the peer's address.
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        addresses(self.raw()).1
    }

    /// Returns the local address.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        addresses(self.raw()).0
    }
}

/// Returns the number of bytes of a socket call, or `None` if it would block or was interrupted.
#[inline]
fn transferred(rc: isize) -> Result<Option<usize>> {
    if let Ok(bytes) = usize::try_from(rc) {
        return Ok(Some(bytes));
    }
    match failure::failure(rc) {
        Errno(libc::EAGAIN | libc::EINTR) => Ok(None),
        errno => Err(errno),
    }
}

/// Returns the local address and the peer's.
fn addresses(sock: *mut sys::spdk_sock) -> (Result<SocketAddr>, Result<SocketAddr>) {
    let (mut local, mut peer) = ([0 as c_char; 64], [0 as c_char; 64]);
    let (mut local_port, mut peer_port) = (0, 0);
    // SAFETY: an open socket; the buffers have the lengths given, which exceed that of an IPv6
    // address.
    unsafe {
        sys::spdk_sock_getaddr(
            sock,
            local.as_mut_ptr(),
            local.len() as i32,
            &mut local_port,
            peer.as_mut_ptr(),
            peer.len() as i32,
            &mut peer_port,
        )
    };
    // The call may fail after it has filled in a part: neither a listener nor a dead connection has
    // a peer.
    (address(&local, local_port), address(&peer, peer_port))
}

fn address(text: &[c_char; 64], port: u16) -> Result<SocketAddr> {
    // SAFETY: the buffer began as zeroes and inet_ntop leaves a string in it.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) };
    let ip: IpAddr = text.to_str().ok().and_then(|t| t.parse().ok()).ok_or(Errno::ENOTCONN)?;
    Ok(SocketAddr::new(ip, port))
}

/// A checked address to connect to or listen at, in C's form.
struct Endpoint {
    ip: IpAddr,
    c_ip: CString,
    port: u16,
    sock_impl: Option<CString>,
}

impl Endpoint {
    /// Checks an address. `addr` is an IP address, with IPv6 optionally in brackets, or with the
    /// scope of a link-local address behind a `%`; SPDK's sockets resolve no names.
    fn new(addr: &str, port: u16, sock_impl: Option<&str>) -> Result<Endpoint> {
        let plain = addr.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(addr);
        let (text, scope) = plain.split_at(plain.find('%').unwrap_or(plain.len()));
        let ip: IpAddr = text.parse().map_err(|_| Errno::EINVAL)?;
        let c_ip = CString::new(format!("{ip}{scope}")).map_err(|_| Errno::EINVAL)?;
        let sock_impl = sock_impl.map(CString::new).transpose().map_err(|_| Errno::EINVAL)?;
        Ok(Endpoint { ip, c_ip, port, sock_impl })
    }

    /// Returns the name of the implementation for C, where null means SPDK's default.
    fn impl_ptr(&self) -> *mut c_char {
        // Older versions lack the `const`, but none writes to the string.
        self.sock_impl.as_ref().map_or(ptr::null_mut(), |name| name.as_ptr().cast_mut())
    }
}

/// A listening socket, closed when dropped.
pub struct Listener {
    sock: Sock,
    at: SocketAddr,
    _not_send: PhantomData<*mut ()>,
}

impl Listener {
    /// Listens at an IP address. Port 0 lets the kernel choose a port. `sock_impl` names an SPDK
    /// socket implementation; `None` leaves the choice to SPDK. `EINVAL`: `addr` is not an address.
    pub fn listen(addr: &str, port: u16, sock_impl: Option<&str>) -> Result<Listener> {
        let end = Endpoint::new(addr, port, sock_impl)?;
        crate::errno::clear_last();
        // SAFETY: two strings (or null for the second), valid during the call.
        let raw = unsafe { sys::spdk_sock_listen(end.c_ip.as_ptr(), port.into(), end.impl_ptr()) };
        let sock = Sock::from_raw(raw).ok_or_else(|| crate::errno::last_or(Errno::EADDRINUSE))?;
        let at = if port == 0 { addresses(raw).0? } else { SocketAddr::new(end.ip, port) };
        Ok(Listener { sock, at, _not_send: PhantomData })
    }

    /// Accepts the next waiting connection, if any.
    pub fn accept(&self) -> Option<Sock> {
        // SAFETY: an open listening socket.
        Sock::from_raw(unsafe { sys::spdk_sock_accept(self.sock.raw()) })
    }

    pub(crate) fn sock(&self) -> &Sock {
        &self.sock
    }

    /// Returns the address at which it listens, with the real port.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.at)
    }
}

/// Returns false if certainly neither the machine nor a sock implementation of this process has the
/// address (now). Unlike an attempt to listen, which SPDK logs as an error, asking leaves no trace.
pub fn has_address(addr: IpAddr) -> bool {
    if sock_impl::has_address(addr) {
        return true;
    }
    // The kernel assigns a port of UDP, on which nothing is ever received.
    let outcome = UdpSocket::bind((addr, 0));
    !outcome.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Returns whether SPDK has a socket implementation of this name.
pub fn impl_exists(name: &str) -> bool {
    let Ok(name) = CString::new(name) else {
        return false;
    };
    // SAFETY: plain numbers, flags and pointers; all zero is valid.
    let mut opts: sys::spdk_sock_impl_opts = unsafe { std::mem::zeroed() };
    let mut len = size_of::<sys::spdk_sock_impl_opts>();
    // SAFETY: `opts` is writable for `len` bytes.
    let rc = unsafe { sys::spdk_sock_impl_get_opts(name.as_ptr(), &mut opts, &mut len) };
    // An implementation without options returns ENOTSUP.
    rc == 0 || failure::failure(rc as isize) == Errno::ENOTSUP
}
