//! What a socket sends: at once, or by asynchronous requests.
//!
//! A request of some length is lent, which saves copying its data, and completes when the peer has
//! acknowledged that (`lendings`). Others are copied, and complete when they have been.

use std::ffi::{c_int, c_void};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::{ptr, slice};

use spdk_sys as sys;

use super::handle::{Sock, fail, look, socket, transferred};
use super::implementation::SockImpl;
use super::lendings::Lendings;
use super::lent::Lent;
use crate::errno::{Errno, Result};

/// The maximum number of vectors of queued requests that are written at once, as in SPDK's `posix`
/// module.
const IOVS_MAX: usize = 64;

/// The lengths of asynchronous requests whose data is lent. Shorter ones are copied: NVMe/TCP over a memif
/// reads and writes 1.4 and 1.2 times as fast with 128 KiB that are lent, 1.0 and 1.3 times with 64, 1.1
/// and 0.9 times with 32, and 0.8 and 0.95 times with 16. A copy is in the core's cache when it is sent,
/// and a request that is lent waits for its acknowledgement.
const LENT_MIN: usize = 48 << 10;
const LENT_MAX: usize = 4 << 20;

pub(super) unsafe extern "C" fn writev<I: SockImpl>(
    sock: *mut sys::spdk_sock,
    iov: *mut libc::iovec,
    iovcnt: c_int,
) -> isize {
    // SAFETY: an open socket.
    if let Err(errno) = unsafe { look::<I>(sock) } {
        return transferred(Err(errno));
    }
    // Requests that were queued come first.
    // SAFETY: as the caller guarantees for this one.
    match unsafe { send_queued::<I>(sock) } {
        Queue::Empty => {}
        Queue::Waits => return transferred(Err(Errno::EAGAIN)),
        Queue::Failed(errno) => return transferred(Err(errno)),
        Queue::Closed => return transferred(Err(Errno::EBADF)),
    }
    let count = usize::try_from(iovcnt).unwrap_or_default();
    // SAFETY: `IoSlice` has the layout of `iovec` on Unix; the caller owns the buffers.
    let parts = unsafe { slice::from_raw_parts(iov.cast::<IoSlice<'_>>(), count) };
    // SAFETY: an open socket.
    transferred(I::write(unsafe { socket::<I>(sock) }, parts))
}

/// What has become of a socket's queued requests.
pub(super) enum Queue {
    /// All were sent.
    Empty,
    /// There is no room for more.
    Waits,
    /// The connection has ended. The requests are aborted when the socket is closed.
    Failed(Errno),
    /// A callback has closed the socket, which may be gone.
    Closed,
}

impl Queue {
    /// Returns what the state of an attempt to connect means for the queue.
    fn from_attempt(errno: Errno) -> Queue {
        if errno == Errno::EAGAIN { Queue::Waits } else { Queue::Failed(errno) }
    }
}

/// Calls what a request whose data was lent has to call, now that SPDK completes it.
///
/// # Safety
/// `sock` is an open socket, one of `I`'s.
unsafe extern "C" fn lending_ended<I: SockImpl>(sock: *mut c_void, errno: c_int) {
    let sock: *mut Sock<I::Socket> = sock.cast();
    // SAFETY: an open socket; nobody else uses the list meanwhile, also not `recall`.
    let (done, argument) = unsafe {
        if errno != 0 {
            I::recall(&(*sock).socket);
        }
        let Some(request) = (*sock).lendings.pop() else { return };
        request
    };
    if let Some(done) = done {
        // SAFETY: the request's own function. It may close the socket, which this does not use any more.
        unsafe { done(argument, errno) };
    }
}

/// Completes the requests whose lent data has come back. Returns false if a callback has closed the
/// socket, which may be gone.
///
/// # Safety
/// The socket is open and one of `I`'s.
pub(super) unsafe fn complete_lent<I: SockImpl>(sock: *mut sys::spdk_sock) -> bool {
    // SAFETY: an open socket.
    let lendings: *const Lendings = unsafe { &raw const (*sock.cast::<Sock<I::Socket>>()).lendings };
    // SAFETY: an open socket, as long as no callback has closed it. Inside a callback, the one that called
    // it goes on.
    unsafe {
        if (*lendings).is_empty() || (*sock).cb_cnt > 0 {
            return true;
        }
        let released = I::released(socket::<I>(sock));
        while (*lendings).is_complete(released) {
            if !sys::dst_spdk_sock_released(sock) {
                return false;
            }
        }
    }
    true
}

/// Lends the data of the first queued request.
///
/// # Safety
/// The socket is open and one of `I`'s, and `parts` is what the request has.
unsafe fn lend<I: SockImpl>(
    sock: *mut sys::spdk_sock,
    request: *mut sys::spdk_sock_request,
    parts: &[libc::iovec],
) -> Result<()> {
    let len = parts.iter().map(|part| part.iov_len).sum();
    // SAFETY: the request's data stays its user's until it is completed, which `lending_ended` sees first.
    let lent = parts.iter().map(|part| unsafe { Lent::new(part) });
    // SAFETY: an open socket, and its first queued request.
    unsafe {
        I::lend(socket::<I>(sock), lent, len)?;
        (*sock.cast::<Sock<I::Socket>>()).lendings.push(request, len, lending_ended::<I>, sock.cast());
        sys::dst_spdk_sock_lent(sock);
    }
    Ok(())
}

/// Sends queued requests. Short ones are copied, so each of these completes at once.
///
/// # Safety
/// The socket is open and one of `I`'s.
pub(super) unsafe fn send_queued<I: SockImpl>(sock: *mut sys::spdk_sock) -> Queue {
    loop {
        let mut iovs = [MaybeUninit::<libc::iovec>::uninit(); IOVS_MAX];
        let mut lent = ptr::null_mut();
        // SAFETY: an open socket; the list has room for `IOVS_MAX` vectors, of which the result is
        // initialised. Request buffers stay their user's until they are completed.
        let parts = unsafe {
            // A callback may be under way that has closed the socket.
            if (*sock).flags.closed() != 0 {
                return Queue::Closed;
            }
            // What is queued was sent in part, and its callbacks are under way: this call is inside
            // one of them.
            if (*sock).cb_cnt > 0 {
                return Queue::Waits;
            }
            if (*sock).queued_reqs.tqh_first.is_null() {
                return Queue::Empty;
            }
            if let Err(errno) = look::<I>(sock) {
                return Queue::from_attempt(errno);
            }
            let (first, max) = (iovs.as_mut_ptr().cast(), IOVS_MAX as c_int);
            let count = sys::dst_spdk_sock_queued(sock, first, max, LENT_MIN, LENT_MAX, &mut lent);
            slice::from_raw_parts(iovs.as_ptr().cast::<libc::iovec>(), count as usize)
        };
        if !lent.is_null() {
            // SAFETY: an open socket, its first queued request, and what that has.
            match unsafe { lend::<I>(sock, lent, parts) } {
                Ok(()) => continue,
                Err(errno) => return Queue::from_attempt(errno),
            }
        }
        // SAFETY: `IoSlice` has the layout of `iovec` on Unix.
        let parts = unsafe { slice::from_raw_parts(parts.as_ptr().cast::<IoSlice<'_>>(), parts.len()) };
        let total: usize = parts.iter().map(|part| part.len()).sum();
        // SAFETY: an open socket.
        let taken = match I::write(unsafe { socket::<I>(sock) }, parts) {
            Ok(taken) => taken,
            Err(Errno::EAGAIN) => return Queue::Waits,
            Err(errno) => return Queue::Failed(errno),
        };
        // SAFETY: so many bytes of the queued requests were copied.
        if !unsafe { sys::dst_spdk_sock_sent(sock, taken) } {
            return Queue::Closed;
        }
        if taken < total {
            return Queue::Waits;
        }
    }
}

pub(super) unsafe extern "C" fn writev_async(sock: *mut sys::spdk_sock, req: *mut sys::spdk_sock_request) {
    // The request completes in a poll or a flush, never inside this call.
    // SAFETY: an open socket, and a request that is the socket's until it is completed.
    unsafe { sys::dst_spdk_sock_queue(sock, req) };
}

pub(super) unsafe extern "C" fn flush<I: SockImpl>(sock: *mut sys::spdk_sock) -> c_int {
    // SAFETY: an open socket.
    let queue = unsafe {
        match look::<I>(sock) {
            Err(errno) => Queue::from_attempt(errno),
            Ok(()) if !complete_lent::<I>(sock) => Queue::Closed,
            Ok(()) => send_queued::<I>(sock),
        }
    };
    match queue {
        Queue::Empty => 0,
        // Newer versions tell that something is left.
        Queue::Waits if cfg!(spdk_sock_returns_errno) => fail(Errno::EAGAIN),
        Queue::Waits => 0,
        Queue::Failed(errno) => fail(errno),
        Queue::Closed => fail(Errno::EBADF),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::IoSliceMut;
    use std::net::{IpAddr, SocketAddr};

    use super::super::connecting::Attempt;
    use super::*;

    thread_local! {
        /// What was called, in its order.
        static CALLED: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    }

    /// Sockets that can only be recalled.
    struct Fake;

    impl SockImpl for Fake {
        type Socket = ();
        type Group = ();

        fn recall(_socket: &()) {
            CALLED.with_borrow_mut(|called| called.push("recall"));
        }

        fn has_address(_address: IpAddr) -> bool {
            unreachable!()
        }

        fn connect(_remote: SocketAddr) -> Result<()> {
            unreachable!()
        }

        fn connect_async(_remote: SocketAddr) -> Result<()> {
            unreachable!()
        }

        fn attempt(_socket: &()) -> Option<Result<()>> {
            unreachable!()
        }

        fn listen(_local: SocketAddr) -> Result<()> {
            unreachable!()
        }

        fn accept(_listener: &()) -> Option<()> {
            unreachable!()
        }

        fn read(_socket: &(), _parts: &mut [IoSliceMut<'_>]) -> Result<usize> {
            unreachable!()
        }

        fn write(_socket: &(), _parts: &[IoSlice<'_>]) -> Result<usize> {
            unreachable!()
        }

        fn lend(_socket: &(), _parts: impl Iterator<Item = Lent>, _len: usize) -> Result<()> {
            unreachable!()
        }

        fn released(_socket: &()) -> u64 {
            unreachable!()
        }

        fn addresses(_socket: &()) -> Option<(SocketAddr, Option<SocketAddr>)> {
            unreachable!()
        }

        fn is_connected(_socket: &()) -> bool {
            unreachable!()
        }

        fn placement(_socket: &()) -> Option<i32> {
            unreachable!()
        }

        fn create_group() {
            unreachable!()
        }

        fn join(_group: &mut (), _socket: &(), _token: usize) {
            unreachable!()
        }

        fn leave(_group: &mut (), _socket: &(), _token: usize) {
            unreachable!()
        }

        fn poll(_group: &mut (), _limit: usize, _ready: impl FnMut(usize)) {
            unreachable!()
        }
    }

    unsafe extern "C" fn own(_argument: *mut c_void, errno: c_int) {
        CALLED.with_borrow_mut(|called| called.push(if errno == 0 { "done" } else { "aborted" }));
    }

    #[test]
    fn data_is_recalled_before_its_owner_hears_that_it_was_not_sent() {
        // SAFETY: numbers, pointers and functions that may be null.
        let (base, mut request): (_, sys::spdk_sock_request) = unsafe { std::mem::zeroed() };
        let mut sock = Sock { base, socket: (), attempt: Attempt::none(), lendings: Lendings::default() };
        for errno in [0, -libc::ECANCELED] {
            request.cb_fn = Some(own);
            let argument = (&raw mut sock).cast();
            // SAFETY: both outlive the call that ends the request.
            unsafe {
                sock.lendings.push(&mut request, 100_000, lending_ended::<Fake>, argument);
                lending_ended::<Fake>(argument, errno);
            }
        }
        assert_eq!(CALLED.take(), ["done", "recall", "aborted"]);
    }
}
