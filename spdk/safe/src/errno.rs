//! Error numbers, as SPDK returns them, and C's `errno`.

pub use spdk_contract::errno::{Errno, Result};

/// Returns the calling OS thread's `errno`, or `otherwise` if it is not set.
pub(crate) fn last_or(otherwise: Errno) -> Errno {
    // SAFETY: the location is valid for as long as the OS thread runs.
    match unsafe { *libc::__errno_location() } {
        0 => otherwise,
        errno => Errno(errno),
    }
}

/// Clears the calling OS thread's `errno`, before a C function that sets it only sometimes.
pub(crate) fn clear_last() {
    // SAFETY: the location is valid for as long as the OS thread runs.
    unsafe { *libc::__errno_location() = 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_those_of_the_c_library() {
        for (errno, number) in [
            (Errno::EPERM, libc::EPERM),
            (Errno::ENOENT, libc::ENOENT),
            (Errno::EIO, libc::EIO),
            (Errno::EBADF, libc::EBADF),
            (Errno::EAGAIN, libc::EAGAIN),
            (Errno::ENOMEM, libc::ENOMEM),
            (Errno::EACCES, libc::EACCES),
            (Errno::EBUSY, libc::EBUSY),
            (Errno::EEXIST, libc::EEXIST),
            (Errno::ENODEV, libc::ENODEV),
            (Errno::EINVAL, libc::EINVAL),
            (Errno::ENOSPC, libc::ENOSPC),
            (Errno::EROFS, libc::EROFS),
            (Errno::ESRCH, libc::ESRCH),
            (Errno::ERANGE, libc::ERANGE),
            (Errno::ENOTSUP, libc::ENOTSUP),
            (Errno::EPROTO, libc::EPROTO),
            (Errno::EADDRINUSE, libc::EADDRINUSE),
            (Errno::EADDRNOTAVAIL, libc::EADDRNOTAVAIL),
            (Errno::ENETDOWN, libc::ENETDOWN),
            (Errno::ENETUNREACH, libc::ENETUNREACH),
            (Errno::ENOTCONN, libc::ENOTCONN),
            (Errno::ECONNREFUSED, libc::ECONNREFUSED),
            (Errno::ECONNRESET, libc::ECONNRESET),
            (Errno::ECONNABORTED, libc::ECONNABORTED),
            (Errno::ETIMEDOUT, libc::ETIMEDOUT),
            (Errno::EHOSTUNREACH, libc::EHOSTUNREACH),
            (Errno::ECANCELED, libc::ECANCELED),
            (Errno::ESHUTDOWN, libc::ESHUTDOWN),
            (Errno::ESTALE, libc::ESTALE),
        ] {
            assert_eq!(errno.0, number);
            let text = std::io::Error::from_raw_os_error(number).to_string();
            assert_eq!(format!("{errno} (os error {number})"), text);
        }
        assert_eq!(Errno(4000).to_string(), "Unknown error 4000");
    }

    #[test]
    fn return_codes_are_negative_errnos() {
        assert_eq!(Errno::check(-libc::ENODEV), Err(Errno::ENODEV));
        assert_eq!(Errno::check(0), Ok(()));
        assert_eq!(Errno::to_rc(Err(Errno::EBUSY)), -libc::EBUSY);
    }
}
