//! The errors of all commands, in the words that the user sees.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The reason why a command failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// No application listens on the socket.
    #[error(
        "no application answers at {0}: {1}; start it, or name its socket with -s or DST_SOCK (its -r option says \
         which one it is)"
    )]
    Unreachable(PathBuf, io::Error),
    /// The connection ended, or no answer came in time.
    #[error("the application at {socket} did not answer {method}: {why}; see its log{}", aftermath(method))]
    NoAnswer { socket: PathBuf, method: String, why: String },
    /// The process that was waited for is gone.
    #[error("the process has ended before it was ready, see its log: {0}")]
    Ended(Box<Failure>),
    /// The application has no such method.
    #[error("the application at {0} has no method {1}: it is not linked with DST, or with an older one")]
    NoMethod(PathBuf, String),
    /// The application refused a call.
    #[error("{method}: {message}")]
    Refused { method: String, message: String },
    /// This version of dstctl does not understand the answer.
    #[error(
        "the answer to {method} is not understood: {why}; use dstctl and the application in the same version"
    )]
    Answer { method: String, why: String },
    /// A call failed, and an earlier step could not be undone.
    #[error("{first}; {left} could not be taken back: {second}")]
    LeftBehind { first: Box<Failure>, left: String, second: Box<Failure> },
    /// A file cannot be used.
    #[error("{0}: {1}")]
    File(PathBuf, String),
    /// The exporter cannot listen on its address.
    #[error("can't listen on {0}: {1}; name another address with --listen")]
    Listen(String, io::Error),
    /// Standard output is closed or full.
    #[error("standard output can't be written: {0}")]
    Output(io::Error),
    /// No key could be created.
    #[error("{0}")]
    Key(#[from] crate::keygen::KeyError),
}

/// Returns what the user is to know of a call that may have been carried out without an answer, or
/// may still be. Nothing of it is undone: what undoes it might come before it.
fn aftermath(method: &str) -> &'static str {
    if method.contains("get_") {
        return "";
    }
    ". The call may have been carried out, or may still be: `dstctl status` shows what there is now, and `dstctl \
     unexport`, `deny` or `detach` removes what is not wanted"
}

impl Failure {
    /// Returns the exit status: 3 if the application cannot be asked, else 1.
    pub fn exit_status(&self) -> u8 {
        match self {
            Failure::Unreachable(..)
            | Failure::NoAnswer { .. }
            | Failure::Ended(_)
            | Failure::NoMethod(..)
            | Failure::Answer { .. } => 3,
            Failure::Refused { .. }
            | Failure::File(..)
            | Failure::Listen(..)
            | Failure::Output(_)
            | Failure::Key(_) => 1,
            Failure::LeftBehind { first, .. } => first.exit_status(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_without_an_answer_may_have_done_is_said() {
        let text = |method: &str| {
            let (method, why) = (method.to_owned(), "nothing for 60 s (see -t)".to_owned());
            Failure::NoAnswer { socket: "/s".into(), method, why }.to_string()
        };
        for method in ["dst_create_export", "bdev_dst_create", "dst_export_add_host", "bdev_dst_delete"] {
            assert!(text(method).contains("may still be: `dstctl status` shows"), "{}", text(method));
        }
        for method in ["dst_get_exports", "framework_get_config"] {
            assert!(text(method).ends_with("see its log"), "{}", text(method));
        }
    }
}
