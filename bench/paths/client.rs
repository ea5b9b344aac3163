//! The client's side: its slab, and the processing of answers.

use dst_session::deframer::{Deframer, Piece};
use dst_session::transactions::{Request, Transactions};
use dst_wire::Status;

use crate::BATCH;

pub struct Client {
    /// The slab, with the number of each I/O in place of a pointer to it.
    transactions: Transactions<u64>,
    deframer: Deframer,
    /// The number of completed I/Os.
    pub completed: u64,
}

impl Client {
    pub fn new() -> Client {
        let mut transactions = Transactions::new(256);
        assert!(transactions.grant(256, None), "nothing is outstanding");
        Client { transactions, deframer: Deframer::new(), completed: 0 }
    }

    /// Submits one I/O.
    #[inline(never)]
    pub fn submit(&mut self, request: Request, user: u64) {
        self.transactions.begin(request, user, user, None).expect("there is a slot");
    }

    /// Gathers everything that waits, as for one system call that accepts all of it. Only headers
    /// are gathered, since data is sent from where it is.
    #[inline(never)]
    pub fn send(&mut self, wire: &mut Vec<u8>) {
        let mut bytes = 0;
        for frame in self.transactions.outgoing() {
            wire.extend_from_slice(frame.header);
            bytes += frame.header.len() + frame.data_len;
        }
        assert_eq!(self.transactions.sent(bytes), BATCH, "all frames went out");
    }

    /// Processes answers without their data, which would be received into the users' buffers.
    #[inline(never)]
    pub fn complete(&mut self, wire: &[u8]) {
        let mut at = 0;
        while let Some(piece) = self.deframer.next(wire, &mut at).expect("these are frames") {
            let Piece::Header(header) = piece else { unreachable!("data is not copied here") };
            let answer = self.transactions.answer(&header).expect("it fits a transaction");
            self.deframer.data_received(answer.data_len as usize);
            assert!(answer.status == Status::Success, "nothing fails");
            let (_, _, begun) = self.transactions.finish(answer.slot);
            assert!(begun <= self.completed, "they are answered in order");
            self.completed += 1;
        }
    }
}
