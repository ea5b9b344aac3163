//! The log: its lines go to the history.

use std::fmt;

pub use spdk_contract::log::Level;

#[doc(hidden)]
pub fn write(level: Level, file: &'static str, line: u32, text: fmt::Arguments<'_>) {
    world::note(|| format!("{level:?} {}:{line}: {text}", file.rsplit('/').next().unwrap_or(file)));
}

#[doc(hidden)]
#[macro_export]
macro_rules! log_line {
    ($level:ident, $($arg:tt)+) => {
        $crate::log::write($crate::log::Level::$level, file!(), line!(), format_args!($($arg)+))
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
