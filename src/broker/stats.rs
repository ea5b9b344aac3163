//! Counters of connections and requests.

use dst_session::transactions::Request;
use dst_wire::{Class, Op};

use dst_session::histogram::Histogram;

/// The counts of a connection since it began, or of all connections since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Reads submitted to the backend.
    pub reads: u64,
    /// The bytes of these reads.
    pub read_bytes: u64,
    /// Writes and compare-and-writes submitted to the backend.
    pub writes: u64,
    /// The bytes of these writes and compare-and-writes.
    pub written_bytes: u64,
    /// All other operations submitted to the backend.
    pub others: u64,
    /// Operations that the backend failed.
    pub errors: u64,
    /// Flushes among these. A backend that has failed one may have lost what it completed before.
    pub failed_flushes: u64,
    /// Requests answered from the record because they had been executed before.
    pub repeated: u64,
    /// Operations that were executed again because a reset for another session had ended them.
    pub executed_again: u64,
    /// Requests received but not executed because the connection's lease was over.
    pub dropped: u64,
    /// Connections whose lease ran out.
    pub lease_expiries: u64,
    /// Connections that were not admitted within the handshake timeout.
    pub handshake_timeouts: u64,
    /// Connections whose first frame exceeded its maximum length.
    pub handshake_bytes_exceeded: u64,
    /// Connections that violated the protocol after they were admitted.
    pub violations: u64,
    /// Requests that had to wait for memory.
    pub stalls: u64,
    /// Connections to a queue that had an earlier connection.
    pub reconnects: u64,
    /// Connections that had to wait for the end of what earlier connections had left.
    pub fences: u64,
    /// Requests whose data did not match its digest.
    pub corrupt: u64,
    /// The time that the backend took for reads, µs.
    pub read_latency: Histogram,
    /// The time that the backend took for writes and compare-and-writes, µs.
    pub write_latency: Histogram,
    /// The time that the backend took for all other operations, µs.
    pub other_latency: Histogram,
}

impl Stats {
    /// Counts a request that is submitted to the backend.
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

    /// Counts an operation that the backend has failed.
    #[cold]
    pub fn fail(&mut self, op: Op) {
        self.errors += 1;
        self.failed_flushes += u64::from(op == Op::Flush);
    }

    /// Counts the time that the backend took for an operation.
    pub fn end(&mut self, op: Op, latency_us: u64) {
        let histogram = match op.describe().class {
            Class::Read => &mut self.read_latency,
            Class::Write => &mut self.write_latency,
            Class::Other => &mut self.other_latency,
        };
        histogram.record(latency_us);
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Stats) {
        // There is no `..` here, so that a forgotten counter does not compile.
        let Stats {
            reads,
            read_bytes,
            writes,
            written_bytes,
            others,
            errors,
            failed_flushes,
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
        self.failed_flushes += failed_flushes;
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
