//! What a command says when it has succeeded.

use std::io::{self, Write};

use serde_json::Value;

use crate::failure::Failure;

/// What a command says when it has succeeded.
pub struct Outcome {
    /// For `--json`.
    pub json: Value,
    /// For people.
    pub text: String,
    /// The exit status: 0, unless `status` finds something wrong.
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
/// Standard output is closed or full.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(Failure::Output)
}
