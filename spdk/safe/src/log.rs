//! SPDK's log. Use the macros [`error!`](crate::error!), [`warn!`](crate::warn!),
//! [`notice!`](crate::notice!), [`info!`](crate::info!) and [`debug!`](crate::debug!): one line
//! each, with the caller's file and line. Nothing is allocated; a line is cut at 1 KiB, SPDK's own
//! limit.

use std::ffi::{CStr, c_int};
use std::fmt::{self, Write};
use std::sync::Once;

pub use spdk_contract::log::Level;
use spdk_sys as sys;

/// Returns SPDK's number of a level.
fn raw(level: Level) -> i32 {
    match level {
        Level::Error => sys::SPDK_LOG_ERROR,
        Level::Warn => sys::SPDK_LOG_WARN,
        Level::Notice => sys::SPDK_LOG_NOTICE,
        Level::Info => sys::SPDK_LOG_INFO,
        Level::Debug => sys::SPDK_LOG_DEBUG,
    }
}

/// Returns whether a line of this level would be printed or sent to syslog. As for SPDK's own
/// lines, the levels info and debug also require the log flag, here `dst`.
pub fn enabled(level: Level) -> bool {
    // SAFETY: reads one variable.
    if level > Level::Notice && !unsafe { sys::dst_spdk_log_flag() } {
        return false;
    }
    // SAFETY: both read one integer.
    let most = unsafe { sys::spdk_log_get_print_level().max(sys::spdk_log_get_level()) };
    raw(level) <= most
}

/// Registers the log flag for SPDK's option `-L`. `constructor!` calls this first, before `main`.
#[doc(hidden)]
pub fn register_flag() {
    static ONCE: Once = Once::new();
    // SAFETY: a constructor, so nothing reads SPDK's list of flags yet.
    ONCE.call_once(|| unsafe { sys::dst_spdk_log_register_flag() });
}

/// Writes a line, for the macros. `file` and `module` end in a NUL.
#[doc(hidden)]
pub fn write(level: Level, file: &'static str, line: u32, module: &'static str, text: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    let mut buf = Line { bytes: [0; LINE_MAX], len: 0 };
    // The only possible error is a full line, of which the beginning is printed.
    let _ = buf.write_fmt(text);
    let c_str = |s: &'static str| CStr::from_bytes_until_nul(s.as_bytes()).unwrap_or(c"?");
    // SAFETY: all three end in a NUL; the last byte of `buf` is never written, so stays 0.
    unsafe {
        sys::dst_spdk_log(
            raw(level),
            c_str(file).as_ptr(),
            line as c_int,
            c_str(module).as_ptr(),
            buf.bytes.as_ptr().cast(),
        );
    }
}

const LINE_MAX: usize = 1024;

struct Line {
    bytes: [u8; LINE_MAX],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            if self.len == LINE_MAX - 1 {
                return Err(fmt::Error);
            }
            // A name that a peer or a user chose must not end this line or forge another.
            self.bytes[self.len] = if byte.is_ascii_control() { b' ' } else { byte };
            self.len += 1;
        }
        Ok(())
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! log_line {
    ($level:ident, $($arg:tt)+) => {
        $crate::log::write(
            $crate::log::Level::$level,
            concat!(file!(), "\0"),
            line!(),
            concat!(module_path!(), "\0"),
            format_args!($($arg)+),
        )
    };
}

/// Logs a line at level error.
#[macro_export]
macro_rules! error { ($($arg:tt)+) => { $crate::log_line!(Error, $($arg)+) }; }
/// Logs a line at level warning.
#[macro_export]
macro_rules! warn { ($($arg:tt)+) => { $crate::log_line!(Warn, $($arg)+) }; }
/// Logs a line at level notice.
#[macro_export]
macro_rules! notice { ($($arg:tt)+) => { $crate::log_line!(Notice, $($arg)+) }; }
/// Logs a line at level info.
#[macro_export]
macro_rules! info { ($($arg:tt)+) => { $crate::log_line!(Info, $($arg)+) }; }
/// Logs a line at level debug.
#[macro_export]
macro_rules! debug { ($($arg:tt)+) => { $crate::log_line!(Debug, $($arg)+) }; }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_ends_in_nul() {
        let mut line = Line { bytes: [0; LINE_MAX], len: 0 };
        assert!(write!(line, "a\nb{}", "x".repeat(2 * LINE_MAX)).is_err());
        assert_eq!(&line.bytes[..4], b"a bx");
        assert_eq!(line.bytes[LINE_MAX - 1], 0);
        assert_eq!(line.bytes[LINE_MAX - 2], b'x');
    }
}
