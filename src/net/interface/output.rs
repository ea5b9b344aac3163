//! Frames to be sent.

use dst_tcp::Payload;

use crate::frame::Frame;
use crate::mutation::{Mutation, is_on};

use super::{Interface, note_failed};

impl<F: AsRef<[u8]>, B: Payload + AsRef<[u8]>> Interface<F, B> {
    /// Returns true if [`Interface::transmit`] may have something to send.
    pub fn is_ready(&self) -> bool {
        !self.link.outbox.is_empty() || self.tcp.is_ready()
    }

    /// Hands up to `budget` frames to `sink`, which sends or drops each of them: a dropped frame is
    /// treated like one that was lost. Returns the number of frames.
    pub fn transmit(&mut self, now: u64, budget: usize, mut sink: impl FnMut(&Frame<'_, B>)) -> usize {
        let mut count = self.link.flush(budget, &mut sink);
        let Interface { tcp, link, failed, .. } = self;
        tcp.transmit(now, budget - count, |segment| {
            let before = link.counters.sent;
            if let Err(reason) = link.send(segment, now, &mut sink, &mut |ends| note_failed(failed, ends)) {
                link.counters.drop(reason);
            }
            count += (link.counters.sent - before) as usize;
        });
        if is_on(Mutation::NoWord) {
            self.failed.clear();
        }
        self.tell_failed(now);
        // This asks for the neighbours that these segments wait for.
        self.link_on_time(now);
        count + self.link.flush(budget - count, &mut sink)
    }
}
