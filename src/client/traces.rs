//! A channel's tracepoints.

use dst_session::traced::{TraceIds, op_and_block};
use dst_session::transactions::{Request, Transactions};
use dst_wire::{SessionRef, Status};
use spdk::clock::ticks;
use spdk::trace::{Point, Tracing, record, record_at};

/// Records what becomes of a channel's transactions, if tracepoints are on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traces {
    tracing: Tracing,
    ids: TraceIds,
}

impl Traces {
    /// Looks up whether tracepoints are on. To be called when I/O begins, once for all of a turn's.
    #[inline]
    pub fn look(&mut self) {
        self.tracing = Tracing::now();
    }

    /// Returns whether to call the other methods.
    #[inline]
    pub fn are_on(&self) -> bool {
        self.tracing.is_on()
    }

    /// The channel is in this session now, and will send everything that is outstanding again.
    pub fn connected<T>(&mut self, session: &SessionRef, transactions: &Transactions<T>) {
        self.look();
        let before = std::mem::replace(&mut self.ids, TraceIds::of(session));
        if self.are_on() {
            for again in transactions.outgoing() {
                let size = (again.data_from + again.data_len) as u32;
                record(Point::ClientResend, size, self.ids.object(again.id), before.object(again.id));
            }
        }
    }

    /// A transaction has begun.
    #[cold]
    pub fn submitted(&self, id: u64, request: &Request) {
        let size = request.request_len.max(request.answer_len);
        record(Point::ClientSubmit, size, self.ids.object(id), op_and_block(request.op, request.start));
    }

    /// Returns the time of sending, which is before the target can receive anything.
    #[inline]
    pub fn sending(&self) -> u64 {
        if self.are_on() { ticks() } else { 0 }
    }

    /// So many bytes of what waits to be sent are on the wire, since `began`. `age_ns` returns for how
    /// long a user has waited.
    #[cold]
    pub fn sent<T>(
        &self,
        transactions: &Transactions<T>,
        bytes: usize,
        began: u64,
        age_ns: impl Fn(&T) -> u64,
    ) {
        let mut left = bytes;
        // Times differ by a tick at least: of several records of one time, SPDK's tool shows only one.
        for (at, out) in (began..).zip(transactions.outgoing()) {
            let len = out.header.len() + out.data_len;
            if left < len {
                return;
            }
            left -= len;
            let size = (out.data_from + out.data_len) as u32;
            record_at(at, Point::ClientSend, size, self.ids.object(out.id), age_ns(out.user));
        }
    }

    /// A transaction is sent again on this connection, because data was corrupt.
    #[cold]
    pub fn repeated(&self, id: u64, size: u32) {
        record(Point::ClientResend, size, self.ids.object(id), self.ids.object(id));
    }

    /// A transaction was answered.
    #[cold]
    pub fn done(&self, id: u64, size: u32, status: Status) {
        record(Point::ClientDone, size, self.ids.object(id), status as u64);
    }
}
