//! Counters.

use dst_session::transactions::Request;
use dst_wire::Op;

/// What a connection, or all of them, did since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Reads given to the backend.
    pub reads: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Writes, and compare-and-writes, given to the backend.
    pub writes: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// All other operations given to the backend.
    pub others: u64,
    /// Operations that the backend did not complete with success.
    pub errors: u64,
    /// Requests answered from the record because they had been executed before.
    pub repeated: u64,
}

impl Stats {
    /// Counts a request that goes to the backend.
    pub fn begin(&mut self, request: &Request) {
        match request.op {
            Op::Read => {
                self.reads += 1;
                self.read_bytes += u64::from(request.answer_len);
            }
            Op::Write | Op::CompareAndWrite => {
                self.writes += 1;
                self.written_bytes += u64::from(request.request_len);
            }
            _ => self.others += 1,
        }
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Stats) {
        self.reads += other.reads;
        self.read_bytes += other.read_bytes;
        self.writes += other.writes;
        self.written_bytes += other.written_bytes;
        self.others += other.others;
        self.errors += other.errors;
        self.repeated += other.repeated;
    }
}
