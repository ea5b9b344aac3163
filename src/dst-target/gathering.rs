//! The decision whether Answers wait for others, to be sent with one system call.

use spdk::iov::IOV_MAX_BATCH;

/// The maximum time that an Answer waits for others while the backend has requests of its
/// connection, µs. SPDK delivers completions by thread messages, eight in a turn, and a system call
/// for each eight small I/Os is too expensive. A turn that brings nothing ends the wait, so an
/// Answer waits this long only on a core without an idle moment. docs/performance.md has the
/// measurements behind these numbers.
const GATHER_US: u64 = 40;

/// The number of waiting Answers at which all are sent: they fill the vectors of one system call.
const GATHERED: usize = IOV_MAX_BATCH / 2;

/// The number of waiting bytes at which all Answers are sent. With less, large Answers are slower;
/// with more, they are not faster.
const GATHERED_BYTES: usize = 1 << 20;

/// The number of requests in the backend below which an Answer is sent at once, since latency
/// counts most then.
const GATHER_FROM: usize = 8;

/// A connection's waiting Answers, and the requests whose Answers are still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// The number of requests in the backend.
    pub in_backend: usize,
    /// The number of Answers that wait to be sent.
    pub answers: usize,
    /// The total length of these Answers in bytes.
    pub bytes: usize,
}

/// Returns true if Answers that have waited for `waited_us` should wait longer: more are expected,
/// and not many wait yet. HOT.
#[inline]
pub fn is_worth_waiting(backlog: Backlog, waited_us: u64) -> bool {
    waited_us < GATHER_US
        && backlog.in_backend >= GATHER_FROM
        && backlog.answers < GATHERED
        && backlog.bytes < GATHERED_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_while_others_will_come_and_not_for_long() {
        let busy = Backlog { in_backend: GATHER_FROM, answers: GATHERED - 1, bytes: GATHERED_BYTES - 1 };
        assert!(is_worth_waiting(busy, GATHER_US - 1));
        assert!(!is_worth_waiting(busy, GATHER_US));
        assert!(!is_worth_waiting(Backlog { in_backend: GATHER_FROM - 1, ..busy }, 0), "few are to come");
        assert!(!is_worth_waiting(Backlog { answers: GATHERED, ..busy }, 0), "one call takes no more");
        assert!(!is_worth_waiting(Backlog { bytes: GATHERED_BYTES, ..busy }, 0), "there are enough bytes");
    }
}
