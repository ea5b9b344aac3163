//! Frames that go out.

use dst_tcp::Payload;

use crate::frame::Frame;
use crate::mutation::{Mutation, is_on};

use super::{Interface, note_failed};

impl<F: AsRef<[u8]>, B: Payload + AsRef<[u8]>> Interface<F, B> {
    /// Returns whether [`Interface::transmit`] may have something to send.
    pub fn is_ready(&self) -> bool {
        !self.link.outbox.is_empty() || self.tcp.is_ready()
    }

    /// Hands up to `budget` frames to `sink`, which sends them or drops them: they may get lost
    /// like any other. Returns how many.
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
        // Neighbours that segments are waiting for now.
        self.link_on_time(now);
        count + self.link.flush(budget - count, &mut sink)
    }
}
