//! Whether an answer waits for others to be sent with it.

use spdk::iov::IOV_MAX_BATCH;

/// How long an answer may wait for others while the backend works for its connection, µs. SPDK
/// hands completions over eight messages a turn, and small I/O cannot pay for a system call for
/// each eight. A turn that brings nothing ends the wait, so an answer waits this long only where the
/// core has no idle moment; docs/performance.md has what each of these numbers gives.
const GATHER_US: u64 = 40;

/// So many waiting answers are sent without waiting for more: they fill one system call's vectors.
const GATHERED: usize = IOV_MAX_BATCH / 2;

/// The same for so many bytes. With fewer bytes at once large answers are slower, with more they are
/// not faster.
const GATHERED_BYTES: usize = 1 << 20;

/// With fewer requests than this in the backend an answer is sent at once: there latency is what
/// counts.
const GATHER_FROM: usize = 8;

/// A connection's answers, and what may still become some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Requests in the backend.
    pub in_backend: usize,
    /// Answers that wait to be sent.
    pub answers: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Returns whether answers that have waited for `waited_us` are worth holding back: more of them
/// will come, and there are not many yet. HOT.
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
