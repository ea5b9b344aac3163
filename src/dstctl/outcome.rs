//! The output of a command that has succeeded.

use std::io::{self, Write};

use serde_json::Value;

use crate::failure::Failure;

/// The output of a command that has succeeded.
pub struct Outcome {
    /// The output with `--json`.
    pub json: Value,
    /// The output without `--json`.
    pub text: String,
    /// The exit status: 0, unless `status` finds a problem.
    pub status: u8,
}

impl Outcome {
    pub fn new(json: Value, text: impl Into<String>) -> Outcome {
        Outcome { json, text: text.into(), status: 0 }
    }
}

/// Writes text to standard output.
///
/// # Errors
/// Fails if standard output is closed or full.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(Failure::Output)
}
