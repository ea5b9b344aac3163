//! Counters.

use dst_session::transactions::Request;
use dst_wire::{Class, Op};

use dst_session::histogram::Histogram;

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
    /// Operations executed again that a reset for another session had ended.
    pub executed_again: u64,
    /// Requests received and not executed because their connection's lease was over.
    pub dropped: u64,
    /// Connections whose lease ran out.
    pub lease_expiries: u64,
    /// Connections that were not let in within their time.
    pub handshake_timeouts: u64,
    /// Connections whose first frame was longer than it may be.
    pub handshake_bytes_exceeded: u64,
    /// Connections that broke the protocol after they were let in.
    pub violations: u64,
    /// Requests that had to wait for memory.
    pub stalls: u64,
    /// Connections of queues that had one before.
    pub reconnects: u64,
    /// Connections that had to wait until what their client had before was over.
    pub fences: u64,
    /// Requests whose data did not match its digest.
    pub corrupt: u64,
    /// How long the backend took for reads.
    pub read_latency: Histogram,
    /// How long it took for writes and compare-and-writes.
    pub write_latency: Histogram,
    /// How long it took for all other operations.
    pub other_latency: Histogram,
}

impl Stats {
    /// Counts a request that goes to the backend.
    pub fn begin(&mut self, request: &Request) {
        match request.op.describe().class {
            Class::Read => {
                self.reads += 1;
                self.read_bytes += u64::from(request.answer_len);
            }
            Class::Write => {
                self.writes += 1;
                self.written_bytes += u64::from(request.request_len);
            }
            Class::Other => self.others += 1,
        }
    }

    /// Counts how long the backend took for an operation.
    pub fn end(&mut self, op: Op, latency_us: u64) {
        let histogram = match op.describe().class {
            Class::Read => &mut self.read_latency,
            Class::Write => &mut self.write_latency,
            Class::Other => &mut self.other_latency,
        };
        histogram.record(latency_us);
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Stats) {
        // Without `..`, so that a forgotten counter does not compile.
        let Stats {
            reads,
            read_bytes,
            writes,
            written_bytes,
            others,
            errors,
            repeated,
            executed_again,
            dropped,
            lease_expiries,
            handshake_timeouts,
            handshake_bytes_exceeded,
            violations,
            stalls,
            reconnects,
            fences,
            corrupt,
            read_latency,
            write_latency,
            other_latency,
        } = other;
        self.reads += reads;
        self.read_bytes += read_bytes;
        self.writes += writes;
        self.written_bytes += written_bytes;
        self.others += others;
        self.errors += errors;
        self.repeated += repeated;
        self.executed_again += executed_again;
        self.dropped += dropped;
        self.lease_expiries += lease_expiries;
        self.handshake_timeouts += handshake_timeouts;
        self.handshake_bytes_exceeded += handshake_bytes_exceeded;
        self.violations += violations;
        self.stalls += stalls;
        self.reconnects += reconnects;
        self.fences += fences;
        self.corrupt += corrupt;
        self.read_latency.add(read_latency);
        self.write_latency.add(write_latency);
        self.other_latency.add(other_latency);
    }
}
