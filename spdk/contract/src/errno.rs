//! Linux's error numbers, as SPDK returns them.

use std::fmt;

/// A positive `errno` value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

/// The result of most functions of the API.
pub type Result<T> = std::result::Result<T, Errno>;

macro_rules! names {
    ($($name:ident $value:literal $text:literal),* $(,)?) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Errno = Errno($value);)*
        }

        impl fmt::Display for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $($value => f.write_str($text),)*
                    other => {
                        let text = std::io::Error::from_raw_os_error(other).to_string();
                        f.write_str(text.strip_suffix(&format!(" (os error {other})")).unwrap_or(&text))
                    }
                }
            }
        }
    };
}

names! {
    EPERM 1 "Operation not permitted",
    ENOENT 2 "No such file or directory",
    ESRCH 3 "No such process",
    EIO 5 "Input/output error",
    EBADF 9 "Bad file descriptor",
    EAGAIN 11 "Resource temporarily unavailable",
    ENOMEM 12 "Cannot allocate memory",
    EACCES 13 "Permission denied",
    EBUSY 16 "Device or resource busy",
    EEXIST 17 "File exists",
    ENODEV 19 "No such device",
    EINVAL 22 "Invalid argument",
    ENOSPC 28 "No space left on device",
    EROFS 30 "Read-only file system",
    ERANGE 34 "Numerical result out of range",
    EPROTO 71 "Protocol error",
    ENOTSUP 95 "Operation not supported",
    EADDRINUSE 98 "Address already in use",
    EADDRNOTAVAIL 99 "Cannot assign requested address",
    ENETDOWN 100 "Network is down",
    ENETUNREACH 101 "Network is unreachable",
    ECONNABORTED 103 "Software caused connection abort",
    ECONNRESET 104 "Connection reset by peer",
    ENOTCONN 107 "Transport endpoint is not connected",
    ESHUTDOWN 108 "Cannot send after transport endpoint shutdown",
    ETIMEDOUT 110 "Connection timed out",
    ECONNREFUSED 111 "Connection refused",
    EHOSTUNREACH 113 "No route to host",
    ESTALE 116 "Stale file handle",
    ECANCELED 125 "Operation canceled",
}

impl Errno {
    /// Converts a C function's result, 0 or a negative errno, into a `Result`.
    pub fn check(rc: i32) -> Result<()> {
        if rc == 0 { Ok(()) } else { Err(Errno(rc.wrapping_abs())) }
    }

    /// Returns the 0 or negative errno that C expects.
    pub fn to_rc(result: Result<()>) -> i32 {
        match result {
            Ok(()) => 0,
            Err(Errno(errno)) => -errno,
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

impl std::error::Error for Errno {}
