//! Tracepoints.

/// A tracepoint: a moment in the life of a transaction. The numbers are those of the table in
/// `spdk/sys/shim.c`. Each record has the size of the request's or the answer's data, the transaction
/// (`dst_session::traced`), and one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Point {
    /// The client has begun the transaction. The argument is the operation and the first block.
    ClientSubmit = 1,
    /// The client has sent it completely. The argument is the time since the user's submission, ns.
    ClientSend = 2,
    /// The client will send it again. The argument is the transaction under its previous name, which
    /// differs if the session does.
    ClientResend = 3,
    /// The client has the answer. The argument is the wire code of the status.
    ClientDone = 4,
    /// The target has the header. The argument is as for `ClientSubmit`.
    TargetReceive = 5,
    /// The target submits it to the backend. The argument is as for `ClientSubmit`.
    TargetBackend = 6,
    /// The backend is done. The argument is as for `ClientDone`.
    TargetBackendDone = 7,
    /// The target has sent the answer completely. The argument is as for `ClientDone`.
    TargetAnswer = 8,
}
