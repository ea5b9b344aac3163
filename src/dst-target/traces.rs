//! A connection's tracepoints.

use dst_session::traced::{TraceIds, op_and_block};
use dst_session::transactions::Request;
use dst_wire::{HEADER_LEN, Header, SessionRef, Status};
use spdk::clock::ticks;
use spdk::trace::{Point, Tracing, record, record_at};

/// Records what becomes of a connection's requests, if tracepoints are on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traces {
    tracing: Tracing,
    ids: TraceIds,
    /// When the next answer began to be sent, in ticks.
    sending: u64,
}

impl Traces {
    /// The requests are of this session's queue.
    pub fn begin(&mut self, session: &SessionRef) {
        self.ids = TraceIds::of(session);
    }

    /// Looks up whether tracepoints are on. To be called before requests are received, once for all
    /// that come at once.
    #[inline]
    pub fn look(&mut self) {
        self.tracing = Tracing::now();
    }

    /// Returns whether to call the other methods.
    #[inline]
    pub fn are_on(&self) -> bool {
        self.tracing.is_on()
    }

    /// A request's header has come.
    #[cold]
    pub fn received(&self, id: u64, request: &Request) {
        self.request(Point::TargetReceive, id, request);
    }

    /// A request goes to the backend.
    #[cold]
    pub fn submitted(&self, id: u64, request: &Request) {
        self.request(Point::TargetBackend, id, request);
    }

    fn request(&self, point: Point, id: u64, request: &Request) {
        let size = request.request_len.max(request.answer_len);
        record(point, size, self.ids.object(id), op_and_block(request.op, request.start));
    }

    /// The backend is done with a request.
    #[cold]
    pub fn completed(&self, id: u64, size: usize, status: Status) {
        record(Point::TargetBackendDone, size as u32, self.ids.object(id), status as u64);
    }

    /// Answers are sent next. That is before the client can receive them.
    #[inline]
    pub fn sending(&mut self) {
        if self.are_on() {
            self.sending = ticks();
        }
    }

    /// An answer with this header is on the wire.
    #[cold]
    pub fn answered(&mut self, id: u64, size: usize, header: &[u8; HEADER_LEN]) {
        let code = Header::decode(header).map_or(0, |header| header.code);
        record_at(self.sending, Point::TargetAnswer, size as u32, self.ids.object(id), code.into());
        // Times differ: of several records of one time, SPDK's tool shows only one.
        self.sending += 1;
    }
}
