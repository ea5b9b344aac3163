//! A problem, as `status` and `top` show it.

use serde::Serialize;

/// The severity of a problem, in the order of monitoring plug-ins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// I/O works, but an operator should look at the problem.
    Warning,
    /// Some I/O does not work.
    Critical,
}

/// A problem in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// The kind and the name of the object that has the problem.
    pub subject: String,
    /// The problem, its duration, and its cause.
    pub problem: String,
    /// The advice to the operator.
    pub advice: String,
}
