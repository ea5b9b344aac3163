//! The outcome of a transaction.

use crate::codes::codes;

codes! {
    /// The outcome that an answer carries. The number is its code on the wire. An unknown code is
    /// treated as [`Status::Failed`].
    Status: u8 {
        /// The operation was executed.
        Success = 0 "success",
        /// The backend failed the operation.
        Failed = 1 "failed",
        /// Compare-and-write found other blocks than expected; nothing was written.
        Miscompare = 2 "miscompare",
        /// A reset or the removal of the export ended the operation, which may have been executed.
        Aborted = 3 "aborted",
        /// The device does not offer the operation.
        NotSupported = 4 "not supported",
        /// The range is empty, not inside the device, or longer than was negotiated.
        OutOfRange = 5 "out of range",
        /// A modifying operation was requested on a read-only connection.
        ReadOnly = 6 "read-only",
        /// The request's data did not match its digest: nothing was executed, and the client sends
        /// it again.
        Corrupt = 7 "corrupt",
    }
}

impl Status {
    /// Returns the status with this code.
    #[inline]
    pub fn from_code(code: u8) -> Status {
        Status::try_from_code(code).unwrap_or(Status::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_code_is_its_status_and_an_unknown_one_is_a_failure() {
        for code in 0..=u8::MAX {
            let known = Status::ALL.into_iter().find(|&status| status as u8 == code);
            assert_eq!(Status::from_code(code), known.unwrap_or(Status::Failed));
        }
        assert_eq!(Status::from_code(7), Status::Corrupt);
        assert_eq!(Status::from_code(8), Status::Failed);
    }
}
