//! The table of a sock implementation, as SPDK 20.07 and 26.01 have it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::{ptr, slice};

use spdk_sys as sys;

use super::connecting::Attempt;
use super::handle::{Sock, fail, look, socket, transferred};
#[cfg(spdk_net_impl_26_01)]
use super::homes::Homes;
use super::implementation::SockImpl;
use super::lendings::Lendings;
use super::sending::{complete_lent, flush, send_queued, writev, writev_async};
use crate::errno::{Errno, Result};

/// The maximum number of events of a poll (`MAX_EVENTS_PER_POLL`).
const EVENTS_MAX: usize = 32;

/// A group as SPDK has it.
#[repr(C)]
struct Group<G> {
    /// The first field, as above.
    base: sys::spdk_sock_group_impl,
    group: G,
}

/// The implementation that was registered.
struct Registered {
    /// The address of its table.
    table: usize,
    /// Returns the placement of one of its sockets, which is open.
    placement: unsafe fn(*mut sys::spdk_sock) -> Option<i32>,
}

static REGISTERED: OnceLock<Registered> = OnceLock::new();

/// Returns [`SockImpl::placement`] of a socket, if it is one of the implementation that was registered.
///
/// # Safety
/// The socket is open, and is not closed meanwhile.
pub(crate) unsafe fn placement(sock: *mut sys::spdk_sock) -> Option<i32> {
    let registered = REGISTERED.get()?;
    // SAFETY: the caller guarantees this, and it is one of the implementation's if it has its table.
    unsafe { if (*sock).net_impl.addr() == registered.table { (registered.placement)(sock) } else { None } }
}

/// # Safety
/// As for [`socket`].
unsafe fn placement_of<I: SockImpl>(sock: *mut sys::spdk_sock) -> Option<i32> {
    // SAFETY: the caller guarantees this.
    I::placement(unsafe { socket::<I>(sock) })
}

/// The groups that have the sockets of each placement. SPDK 20.07 counts that itself.
#[cfg(spdk_net_impl_26_01)]
static HOMES: Homes = Homes::new();

pub(super) fn register<I: SockImpl>(name: &'static CStr, priority: c_int) {
    // SAFETY: numbers, pointers and functions that may be null.
    let mut table: sys::spdk_net_impl = unsafe { std::mem::zeroed() };
    table.name = name.as_ptr();
    table.getaddr = Some(getaddr::<I>);
    table.connect = Some(connect::<I>);
    table.listen = Some(listen::<I>);
    table.accept = Some(accept::<I>);
    table.close = Some(close::<I>);
    table.recv = Some(recv::<I>);
    table.readv = Some(readv::<I>);
    table.writev = Some(writev::<I>);
    table.writev_async = Some(writev_async);
    table.flush = Some(flush::<I>);
    table.set_recvlowat = Some(set_nothing);
    table.set_recvbuf = Some(set_nothing);
    table.set_sendbuf = Some(set_nothing);
    table.is_ipv6 = Some(is_ipv6::<I>);
    table.is_ipv4 = Some(is_ipv4::<I>);
    table.is_connected = Some(is_connected::<I>);
    #[cfg(spdk_net_impl_20_07)]
    {
        table.get_placement_id = Some(get_placement_id::<I>);
    }
    #[cfg(spdk_net_impl_26_01)]
    {
        table.connect_async = Some(connect_async::<I>);
        table.recv_next = Some(recv_next);
        table.group_impl_get_optimal = Some(get_optimal_group::<I>);
    }
    table.group_impl_create = Some(group_create::<I>);
    table.group_impl_add_sock = Some(group_add::<I>);
    table.group_impl_remove_sock = Some(group_remove::<I>);
    table.group_impl_poll = Some(group_poll::<I>);
    table.group_impl_close = Some(group_close::<I>);
    let table = Box::leak(Box::new(table));
    let _ = REGISTERED.set(Registered { table: ptr::from_ref(table).addr(), placement: placement_of::<I> });
    // SAFETY: SPDK keeps the table in a list, so it lives for ever.
    #[cfg(spdk_net_impl_20_07)]
    unsafe {
        sys::spdk_net_impl_register(table, priority);
    }
    // SAFETY: as above.
    #[cfg(spdk_net_impl_26_01)]
    unsafe {
        let _ = priority;
        sys::spdk_net_impl_register(table);
    }
}

/// Returns the group behind SPDK's pointer.
///
/// # Safety
/// The group is one of `I`'s, and nobody else uses it meanwhile.
unsafe fn group<'a, I: SockImpl>(group: *mut sys::spdk_sock_group_impl) -> &'a mut I::Group {
    // SAFETY: the caller guarantees this; only `base` is changed by SPDK.
    unsafe { &mut (*group.cast::<Group<I::Group>>()).group }
}

/// Hands a new socket to SPDK, or sets `errno` and returns null.
fn hand_out<S>(socket: Result<S>) -> *mut sys::spdk_sock {
    hand_out_attempt(socket, Attempt::none())
}

fn hand_out_attempt<S>(socket: Result<S>, attempt: Attempt) -> *mut sys::spdk_sock {
    match socket {
        Ok(socket) => {
            // SAFETY: numbers, pointers and functions that may be null. SPDK fills the rest in.
            let base = unsafe { std::mem::zeroed() };
            Box::into_raw(Box::new(Sock { base, socket, attempt, lendings: Lendings::default() })).cast()
        }
        Err(errno) => {
            fail(errno);
            ptr::null_mut()
        }
    }
}

/// Returns an address from SPDK's text and port.
///
/// # Safety
/// `ip` is null or a string.
unsafe fn endpoint(ip: *const c_char, port: c_int) -> Result<SocketAddr> {
    if ip.is_null() {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the caller guarantees this.
    let text = unsafe { CStr::from_ptr(ip) }.to_str().map_err(|_| Errno::EINVAL)?;
    let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip: IpAddr = text.parse().map_err(|_| Errno::EINVAL)?;
    Ok(SocketAddr::new(ip, u16::try_from(port).map_err(|_| Errno::EINVAL)?))
}

unsafe extern "C" fn connect<I: SockImpl>(
    ip: *const c_char,
    port: c_int,
    _opts: *mut sys::spdk_sock_opts,
) -> *mut sys::spdk_sock {
    // SAFETY: SPDK passes a string.
    hand_out(unsafe { endpoint(ip, port) }.and_then(I::connect))
}

#[cfg(spdk_net_impl_26_01)]
unsafe extern "C" fn connect_async<I: SockImpl>(
    ip: *const c_char,
    port: c_int,
    _opts: *mut sys::spdk_sock_opts,
    done: sys::spdk_sock_connect_cb_fn,
    argument: *mut c_void,
) -> *mut sys::spdk_sock {
    // SAFETY: SPDK passes a string.
    let socket = unsafe { endpoint(ip, port) }.and_then(I::connect_async);
    hand_out_attempt(socket, Attempt::new(done, argument))
}

unsafe extern "C" fn listen<I: SockImpl>(
    ip: *const c_char,
    port: c_int,
    _opts: *mut sys::spdk_sock_opts,
) -> *mut sys::spdk_sock {
    // SAFETY: SPDK passes a string.
    hand_out(unsafe { endpoint(ip, port) }.and_then(I::listen))
}

unsafe extern "C" fn accept<I: SockImpl>(sock: *mut sys::spdk_sock) -> *mut sys::spdk_sock {
    // SAFETY: an open socket.
    hand_out(I::accept(unsafe { socket::<I>(sock) }).ok_or(Errno::EAGAIN))
}

unsafe extern "C" fn close<I: SockImpl>(sock: *mut sys::spdk_sock) -> c_int {
    // SAFETY: an open socket that nobody uses any more, made by `hand_out`.
    let sock = unsafe { Box::from_raw(sock.cast::<Sock<I::Socket>>()) };
    sock.attempt.cancel();
    0
}

unsafe extern "C" fn recv<I: SockImpl>(sock: *mut sys::spdk_sock, buf: *mut c_void, len: usize) -> isize {
    let mut iov = libc::iovec { iov_base: buf, iov_len: len };
    // SAFETY: as the caller guarantees for this one.
    unsafe { readv::<I>(sock, &mut iov, 1) }
}

unsafe extern "C" fn readv<I: SockImpl>(
    sock: *mut sys::spdk_sock,
    iov: *mut libc::iovec,
    iovcnt: c_int,
) -> isize {
    let count = usize::try_from(iovcnt).unwrap_or_default();
    // SAFETY: `IoSliceMut` has the layout of `iovec` on Unix; the caller owns the buffers.
    let parts = unsafe { slice::from_raw_parts_mut(iov.cast::<IoSliceMut<'_>>(), count) };
    if parts.iter().all(|part| part.is_empty()) {
        return 0;
    }
    // SAFETY: an open socket.
    transferred(unsafe { look::<I>(sock) }.and_then(|()| I::read(unsafe { socket::<I>(sock) }, parts)))
}

unsafe extern "C" fn set_nothing(_sock: *mut sys::spdk_sock, _value: c_int) -> c_int {
    // Windows and buffers grow by themselves.
    0
}

/// Writes an address as text.
///
/// # Safety
/// `buffer` is null or has `len` bytes; `port` is null or can be written.
unsafe fn show(address: SocketAddr, buffer: *mut c_char, len: c_int, port: *mut u16) -> bool {
    let text = address.ip().to_string();
    let room = usize::try_from(len).unwrap_or_default();
    if buffer.is_null() || text.len() >= room {
        return false;
    }
    // SAFETY: the buffer has room for the text and its end; the caller guarantees the rest.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), text.len());
        *buffer.add(text.len()) = 0;
        if !port.is_null() {
            *port = address.port();
        }
    }
    true
}

unsafe extern "C" fn getaddr<I: SockImpl>(
    sock: *mut sys::spdk_sock,
    saddr: *mut c_char,
    slen: c_int,
    sport: *mut u16,
    caddr: *mut c_char,
    clen: c_int,
    cport: *mut u16,
) -> c_int {
    // SAFETY: an open socket.
    let Some((local, remote)) = I::addresses(unsafe { socket::<I>(sock) }) else {
        return fail(Errno::ENOTCONN);
    };
    // SAFETY: buffers of the lengths given.
    if !unsafe { show(local, saddr, slen, sport) } {
        return fail(Errno::ENOSPC);
    }
    // SAFETY: as above.
    match remote {
        None => fail(Errno::ENOTCONN),
        Some(remote) if unsafe { show(remote, caddr, clen, cport) } => 0,
        Some(_) => fail(Errno::ENOSPC),
    }
}

unsafe extern "C" fn is_ipv6<I: SockImpl>(sock: *mut sys::spdk_sock) -> bool {
    // SAFETY: an open socket.
    I::addresses(unsafe { socket::<I>(sock) }).is_some_and(|(local, _)| local.is_ipv6())
}

unsafe extern "C" fn is_ipv4<I: SockImpl>(sock: *mut sys::spdk_sock) -> bool {
    // SAFETY: an open socket.
    I::addresses(unsafe { socket::<I>(sock) }).is_some_and(|(local, _)| local.is_ipv4())
}

unsafe extern "C" fn is_connected<I: SockImpl>(sock: *mut sys::spdk_sock) -> bool {
    // SAFETY: an open socket.
    unsafe { look::<I>(sock).is_ok() && I::is_connected(socket::<I>(sock)) }
}

#[cfg(spdk_net_impl_26_01)]
unsafe extern "C" fn recv_next(
    _sock: *mut sys::spdk_sock,
    _buf: *mut *mut c_void,
    _ctx: *mut *mut c_void,
) -> c_int {
    // SPDK has announced that it removes this; users fall back to `readv`.
    fail(Errno::ENOTSUP)
}

#[cfg(spdk_net_impl_26_01)]
unsafe extern "C" fn get_optimal_group<I: SockImpl>(
    sock: *mut sys::spdk_sock,
    _hint: *mut sys::spdk_sock_group_impl,
) -> *mut sys::spdk_sock_group_impl {
    // SAFETY: an open socket.
    let home = unsafe { placement_of::<I>(sock) }.and_then(|placement| HOMES.of(placement));
    // Without one, every thread serves the socket as well as the others.
    home.map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
}

#[cfg(spdk_net_impl_20_07)]
unsafe extern "C" fn get_placement_id<I: SockImpl>(sock: *mut sys::spdk_sock, id: *mut c_int) -> c_int {
    // SAFETY: an open socket, and a place for the number.
    unsafe {
        // Without one, every thread serves the socket as well as the others.
        let Some(placement) = placement_of::<I>(sock) else { return -1 };
        *id = placement;
    }
    0
}

unsafe extern "C" fn group_create<I: SockImpl>() -> *mut sys::spdk_sock_group_impl {
    // SAFETY: numbers and pointers that may be null. SPDK fills the rest in.
    let base = unsafe { std::mem::zeroed() };
    Box::into_raw(Box::new(Group { base, group: I::create_group() })).cast()
}

unsafe extern "C" fn group_add<I: SockImpl>(
    to: *mut sys::spdk_sock_group_impl,
    sock: *mut sys::spdk_sock,
) -> c_int {
    // SAFETY: an open group, on its thread, and an open socket.
    unsafe {
        I::join(group::<I>(to), socket::<I>(sock), sock as usize);
        #[cfg(spdk_net_impl_26_01)]
        if let Some(placement) = placement_of::<I>(sock) {
            HOMES.joined(placement, to.expose_provenance());
        }
    }
    0
}

unsafe extern "C" fn group_remove<I: SockImpl>(
    from: *mut sys::spdk_sock_group_impl,
    sock: *mut sys::spdk_sock,
) -> c_int {
    // Requests that are queued would wait for the next group.
    // SAFETY: an open group, on its thread, and an open socket in it.
    unsafe {
        I::leave(group::<I>(from), socket::<I>(sock), sock as usize);
        #[cfg(spdk_net_impl_26_01)]
        if let Some(placement) = placement_of::<I>(sock) {
            HOMES.left(placement, from.addr());
        }
    }
    0
}

unsafe extern "C" fn group_poll<I: SockImpl>(
    of: *mut sys::spdk_sock_group_impl,
    max_events: c_int,
    socks: *mut *mut sys::spdk_sock,
) -> c_int {
    // SAFETY: an open group on its thread. A socket that a callback closes has left the group; a
    // callback closes no other socket than its own, as with SPDK's `posix` module.
    unsafe {
        let mut sock = (*of).socks.tqh_first;
        while !sock.is_null() {
            let next = (*sock).link.tqe_next;
            // A failure is also read.
            let _ = look::<I>(sock);
            if complete_lent::<I>(sock) && !(*sock).queued_reqs.tqh_first.is_null() {
                send_queued::<I>(sock);
            }
            sock = next;
        }
    }
    let limit = usize::try_from(max_events).unwrap_or_default().min(EVENTS_MAX);
    let mut count = 0;
    // SAFETY: an open group on its thread; `socks` has room for `max_events` sockets, and the
    // tokens are sockets that are in the group.
    unsafe {
        I::poll(group::<I>(of), limit, |token| {
            if count < limit {
                *socks.add(count) = token as *mut sys::spdk_sock;
                count += 1;
            }
        });
    }
    count as c_int
}

unsafe extern "C" fn group_close<I: SockImpl>(of: *mut sys::spdk_sock_group_impl) -> c_int {
    // SAFETY: an open group that nobody uses any more, made by `group_create`.
    drop(unsafe { Box::from_raw(of.cast::<Group<I::Group>>()) });
    0
}
