//! Error numbers, as SPDK returns them.

use std::ffi::CStr;
use std::fmt;

/// A positive `errno` value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

/// What most of this crate returns.
pub type Result<T> = std::result::Result<T, Errno>;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        impl Errno {
            $($(#[$doc])* pub const $name: Errno = Errno(libc::$name);)*
        }
    };
}

names! {
    /// Not permitted.
    EPERM,
    /// No such entry.
    ENOENT,
    /// Input or output error.
    EIO,
    /// Would block.
    EAGAIN,
    /// Out of memory, or of something of which there is a fixed number.
    ENOMEM,
    /// Permission denied.
    EACCES,
    /// Busy.
    EBUSY,
    /// Exists already.
    EEXIST,
    /// No such device.
    ENODEV,
    /// Invalid argument.
    EINVAL,
    /// No space left.
    ENOSPC,
    /// Read-only.
    EROFS,
    /// No such process or thread.
    ESRCH,
    /// Value out of range.
    ERANGE,
    /// Operation not supported.
    ENOTSUP,
    /// Protocol error.
    EPROTO,
    /// Address in use.
    EADDRINUSE,
    /// Not connected.
    ENOTCONN,
    /// Connection refused.
    ECONNREFUSED,
    /// Connection reset.
    ECONNRESET,
    /// Connection aborted.
    ECONNABORTED,
    /// Timed out.
    ETIMEDOUT,
    /// Host unreachable.
    EHOSTUNREACH,
    /// Cancelled.
    ECANCELED,
    /// Shutting down.
    ESHUTDOWN,
    /// Stale.
    ESTALE,
}

impl Errno {
    /// The calling OS thread's `errno`; `otherwise` where C left none.
    pub(crate) fn last_or(otherwise: Errno) -> Errno {
        // SAFETY: the location is valid for as long as the OS thread runs.
        match unsafe { *libc::__errno_location() } {
            0 => otherwise,
            errno => Errno(errno),
        }
    }

    /// Forgets the calling OS thread's `errno`, before a C function that sets it only sometimes.
    pub(crate) fn clear_last() {
        // SAFETY: the location is valid for as long as the OS thread runs.
        unsafe { *libc::__errno_location() = 0 }
    }

    /// Turns the 0 or negative errno of a C function into a `Result`.
    pub(crate) fn check(rc: i32) -> Result<()> {
        if rc == 0 { Ok(()) } else { Err(Errno(rc.wrapping_abs())) }
    }

    /// The negative number that C wants back.
    pub(crate) fn to_rc(result: Result<()>) -> i32 {
        match result {
            Ok(()) => 0,
            Err(Errno(errno)) => -errno,
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buf = [0 as libc::c_char; 128];
        // SAFETY: `buf` is writable for the length given; this is the XSI variant, which leaves a string
        // there.
        let rc = unsafe { libc::strerror_r(self.0, buf.as_mut_ptr(), buf.len()) };
        if rc != 0 {
            return write!(f, "error {}", self.0);
        }
        // SAFETY: strerror_r ended the string with a NUL inside `buf`.
        f.write_str(&unsafe { CStr::from_ptr(buf.as_ptr()) }.to_string_lossy())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_means() {
        assert_eq!(Errno::ECONNREFUSED.to_string(), "Connection refused");
    }

    #[test]
    fn return_codes_are_negative_errnos() {
        assert_eq!(Errno::check(-libc::ENODEV), Err(Errno::ENODEV));
        assert_eq!(Errno::check(0), Ok(()));
        assert_eq!(Errno::to_rc(Err(Errno::EBUSY)), -libc::EBUSY);
    }
}
