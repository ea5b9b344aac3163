//! Segments that continue the last one.

use crate::checksum::Sum;
use crate::connection::Context;
use crate::mutation::{Mutation, is_on};
use crate::prediction::HEADER;
use crate::send_queue::Payload;

use super::{Datagram, Stack};

impl<F: AsRef<[u8]>, B: Payload> Stack<F, B> {
    /// Takes a segment if it continues the last one. Returns it if it does not, or if there is
    /// anything about it or its connection that takes more than to append the data.
    pub(super) fn receive_predicted(&mut self, datagram: Datagram<F>, now: u64) -> Result<(), Datagram<F>> {
        let Some(last) = &self.last else { return Err(datagram) };
        let Some(bytes) = datagram.frame.as_ref().get(datagram.range.clone()) else { return Err(datagram) };
        let Some(predicted) = last.predict((datagram.source, datagram.destination), bytes) else {
            return Err(datagram);
        };
        let verify = !datagram.is_verified && !is_on(Mutation::NoPredictedChecksum);
        if verify && !is_sum_right(&datagram, bytes) {
            return Err(datagram);
        }
        let id = last.id;
        let Some(entry) = self.table.get_mut(id) else { return Err(datagram) };
        if !entry.connection.is_predicted(&predicted) {
            return Err(datagram);
        }
        let mut cx = Context { now, config: &self.config, events: &mut self.events };
        let payload = datagram.range.start + HEADER..datagram.range.end;
        entry.connection.input_predicted(&predicted, payload, datagram.frame, &mut cx);
        if is_on(Mutation::NoPredictedAck) {
            return Ok(());
        }
        // Only an ACK can have become due, which a connection that is ready will send.
        if !entry.is_ready || !self.timers.has(id) {
            self.settle(id, now);
        }
        Ok(())
    }
}

fn is_sum_right<F>(datagram: &Datagram<F>, bytes: &[u8]) -> bool {
    let mut sum = Sum::pseudo_header(datagram.source, datagram.destination, bytes.len());
    sum.add(bytes);
    sum.folded() == u16::MAX
}
