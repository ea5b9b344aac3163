//! How a connection ended, and what is left of it for the control thread.

use dst_broker::{Remains, Stats};

use crate::queue::Queue;
use crate::stage::{Counted, Requests};

/// The way in which a connection ended.
pub struct End {
    pub counted: Counted,
    pub said_goodbye: bool,
}

impl End {
    /// Returns the remains of a connection that ended in this way. `requests` has its queue, if it
    /// had one.
    pub fn remains(&self, requests: Option<Box<Requests>>) -> Box<Remains> {
        let queue = requests.map(|requests| requests.queue);
        let mut stats = queue.as_ref().map_or(Stats::default(), |queue| queue.stats);
        self.counted.add_to(&mut stats);
        let slots = queue.map(Queue::into_slots);
        Box::new(Remains { slots, goodbye: self.said_goodbye, stats })
    }
}
