//! How a transaction ended.

/// The outcome that an answer carries. The number is the one on the wire; a code that is not known here
/// is read as [`Status::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Success = 0,
    /// The backend failed it.
    Failed = 1,
    /// Compare-and-write found other blocks than expected; nothing was written.
    Miscompare = 2,
    /// A reset or the removal of the export ended it. It may have been executed.
    Aborted = 3,
    /// The backend has no such operation.
    NotSupported = 4,
    /// The range is not inside the device, or longer than was negotiated.
    OutOfRange = 5,
    /// A modifying operation on a read-only connection.
    ReadOnly = 6,
    /// The request's data did not match its digest: nothing was executed, it is to be sent again.
    Corrupt = 7,
}

impl Status {
    /// The status of an answer's code.
    pub fn from_code(code: u8) -> Status {
        match code {
            0 => Status::Success,
            2 => Status::Miscompare,
            3 => Status::Aborted,
            4 => Status::NotSupported,
            5 => Status::OutOfRange,
            6 => Status::ReadOnly,
            7 => Status::Corrupt,
            _ => Status::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_code_is_a_failure() {
        for code in 0..=u8::MAX {
            let status = Status::from_code(code);
            assert!(status as u8 == code || status == Status::Failed);
        }
    }
}
