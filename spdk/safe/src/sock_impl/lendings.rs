//! Data that users of a socket lend until it was acknowledged.
//!
//! An asynchronous request of some length is not copied: its buffers are the user's again when it
//! completes. SPDK aborts the requests of a socket that is closed before it tells the implementation, so
//! the completion of a request that is lent is intercepted: the connection is reset before the user
//! hears of an abort. Otherwise it could still send what the user puts into the buffers next.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};

use spdk_sys as sys;

/// The function of a request that completes.
pub(super) type Done = Option<unsafe extern "C" fn(*mut c_void, c_int)>;

/// A request whose data is lent.
struct Lending {
    request: *mut sys::spdk_sock_request,
    /// What was lent on the socket up to and with this request, in bytes.
    end: u64,
    done: Done,
    argument: *mut c_void,
}

/// The requests of a socket whose data is lent, in the order in which SPDK has them.
#[derive(Default)]
pub(super) struct Lendings {
    requests: VecDeque<Lending>,
    /// What was lent so far, in bytes.
    total: u64,
}

impl Lendings {
    /// Adds a request of `len` bytes. `intercept` is called with `argument` instead of the request's
    /// function, and has to call [`Lendings::pop`].
    ///
    /// # Safety
    /// The request is one of the socket's.
    pub unsafe fn push(
        &mut self,
        request: *mut sys::spdk_sock_request,
        len: usize,
        intercept: unsafe extern "C" fn(*mut c_void, c_int),
        argument: *mut c_void,
    ) {
        self.total += len as u64;
        // SAFETY: the caller guarantees this.
        let request_ref = unsafe { &mut *request };
        let (done, arg) = (request_ref.cb_fn, request_ref.cb_arg);
        self.requests.push_back(Lending { request, end: self.total, done, argument: arg });
        (request_ref.cb_fn, request_ref.cb_arg) = (Some(intercept), argument);
    }

    /// Returns true if the first request is complete, now that `released` bytes have come back.
    pub fn is_complete(&self, released: u64) -> bool {
        self.requests.front().is_some_and(|first| first.end <= released)
    }

    /// Takes the first request out. Returns what has to be called.
    pub fn pop(&mut self) -> Option<(Done, *mut c_void)> {
        let Lending { request, done, argument, .. } = self.requests.pop_front()?;
        // SAFETY: SPDK has just completed the request, of which its user has not heard yet.
        unsafe { ((*request).cb_fn, (*request).cb_arg) = (done, argument) };
        Some((done, argument))
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn intercept(_argument: *mut c_void, _errno: c_int) {}

    unsafe extern "C" fn own(_argument: *mut c_void, _errno: c_int) {}

    #[test]
    fn requests_complete_in_order_and_get_their_functions_back() {
        // SAFETY: numbers, pointers and functions that may be null.
        let mut requests: [sys::spdk_sock_request; 2] = unsafe { std::mem::zeroed() };
        let mut lendings = Lendings::default();
        for (request, (argument, len)) in requests.iter_mut().zip([(1, 10), (2, 20)]) {
            request.cb_fn = Some(own);
            request.cb_arg = std::ptr::without_provenance_mut(argument);
            // SAFETY: the request outlives the list.
            unsafe { lendings.push(request, len, intercept, std::ptr::without_provenance_mut(3)) };
            assert_eq!((request.cb_fn.is_some(), request.cb_arg.addr()), (true, 3));
        }
        assert!(!lendings.is_complete(9) && lendings.is_complete(10));
        let first = lendings.pop().expect("it has two");
        assert_eq!((first.1.addr(), requests[0].cb_arg.addr(), requests[1].cb_arg.addr()), (1, 1, 3));
        assert!(!lendings.is_complete(29) && lendings.is_complete(30));
        assert_eq!(lendings.pop().map(|(_, argument)| argument.addr()), Some(2));
        assert!(lendings.is_empty() && lendings.pop().is_none());
    }
}
