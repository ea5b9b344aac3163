//! The error with which an RPC is answered. The layers below know no parameters of RPCs: here, each
//! of their errors gets the name of the parameter that it is about.

use std::fmt::Display;

/// JSON-RPC's code for invalid parameters (JSON-RPC 2.0, section 5.1).
const INVALID_PARAMS: i32 = -32602;

/// The error with which an RPC is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    /// A code of JSON-RPC's, or a negative errno.
    pub code: i32,
    /// What was wrong, and with which value.
    pub message: String,
}

impl RpcError {
    /// Returns the error for a parameter that cannot be used.
    pub fn invalid(parameter: &str, problem: impl Display) -> RpcError {
        RpcError { code: INVALID_PARAMS, message: format!("{parameter}: {problem}") }
    }
}

impl From<dst_target::Error> for RpcError {
    fn from(error: dst_target::Error) -> RpcError {
        use dst_target::{Error, Rejection};
        let parameter = match &error {
            Error::Rejected(rejection) => match rejection {
                Rejection::NoExport(_)
                | Rejection::OwnershipNotKept(_)
                | Rejection::OwnershipChanging(_)
                | Rejection::NobodyWaits(_)
                | Rejection::ResetUnderWay(_) => "export: ",
                Rejection::ExportExists(_) | Rejection::ExportBusy(_) => "name: ",
                Rejection::Stopping => "",
                Rejection::HostExists { .. }
                | Rejection::NeedsKey { .. }
                | Rejection::TooManyHosts { .. }
                | Rejection::NoHost { .. } => "host: ",
            },
            Error::Hangs { .. } => "name: ",
            Error::NoBdev(_)
            | Error::Open { .. }
            | Error::Claimed { .. }
            | Error::InUse { .. }
            | Error::Unsuitable { .. } => "bdev_name: ",
            Error::ListenerExists(_) | Error::NoListener(_) | Error::Listen { .. } => "traddr, trsvcid: ",
            Error::StateFileInUse { .. } | Error::StateFile { .. } => "state_file: ",
            Error::OptionsInUse | Error::Resources { .. } | Error::Memory { .. } => "",
        };
        let advice = match &error {
            Error::Rejected(Rejection::NeedsKey { .. }) => ": give it a psk_file or a psk",
            Error::Rejected(Rejection::TooManyHosts { .. }) => " (dst_export_remove_host removes a host)",
            Error::Memory { .. } => {
                ". Lower buffer_mib with dst_set_options, or give the application more memory (-s, hugepages)"
            }
            _ => "",
        };
        RpcError { code: -error.errno().0, message: format!("{parameter}{error}{advice}") }
    }
}

impl From<dst_client::Error> for RpcError {
    fn from(error: dst_client::Error) -> RpcError {
        use dst_client::Error;
        let parameter = match &error {
            Error::Exists(_)
            | Error::NotFound(_)
            | Error::Deleting(_)
            | Error::NotFailed(_)
            | Error::Deleted(_)
            | Error::Stopping(_)
            | Error::Register { .. }
            | Error::SameUuid(_)
            | Error::Unregister { .. } => "name: ",
            Error::UuidTaken { .. } => "uuid: ",
            Error::Timeout { .. } => "attach_timeout_ms: ",
            Error::Refused { .. } => "export, host: ",
            Error::Resources { .. } => "",
        };
        RpcError { code: -error.errno().0, message: format!("{parameter}{error}") }
    }
}

/// The result of decoding an RPC.
pub type Result<T> = std::result::Result<T, RpcError>;
