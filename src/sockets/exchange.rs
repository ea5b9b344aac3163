//! What the shards of an interface tell each other: frames that the port gave to one and that another
//! one handles, and which addresses are usable.

use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_queue::ArrayQueue;
use dst_net::{Receiver, Shard, Verified};

use crate::frame::Held;

/// The maximum number of frames that wait for a shard: half of a port's queue. Further ones are lost, as
/// they are if that is full.
const INBOX: usize = 512;

/// The frames that others have received for a shard, with the checksums that the port has verified.
type Inbox<F> = ArrayQueue<(Held<F>, Verified)>;

/// What the shards of an interface share.
#[derive(Debug)]
pub struct Exchange<F> {
    /// One for each shard.
    inboxes: Box<[Inbox<F>]>,
    /// The addresses that are usable, as the first shard knows it.
    usable: AtomicU32,
}

/// What a shard has done with the frames that it has received and that were not for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Steered {
    /// Frames for one other shard. They are many if the port's own hash of addresses and ports is not
    /// the one that it was set to.
    pub passed: u64,
    /// Frames that were lost because too many waited for the other shard.
    pub lost: u64,
}

impl Steered {
    fn count(&mut self, is_there: bool) {
        *(if is_there { &mut self.passed } else { &mut self.lost }) += 1;
    }
}

impl<F: AsRef<[u8]>> Exchange<F> {
    /// Returns what that many shards share.
    pub fn new(shards: usize) -> Exchange<F> {
        let inboxes = (0..shards).map(|_| ArrayQueue::new(INBOX)).collect();
        Exchange { inboxes, usable: AtomicU32::new(0) }
    }

    /// Passes a received frame on to those who handle it. Returns it if `shard`, which has received it,
    /// is one of them. HOT.
    pub(crate) fn sort(
        &self,
        shard: &Shard,
        frame: Held<F>,
        verified: Verified,
        steered: &mut Steered,
    ) -> Option<Held<F>> {
        match shard.receiver(frame.as_ref()) {
            Receiver::Any => Some(frame),
            Receiver::One(index) if index == shard.index() => Some(frame),
            Receiver::One(index) => {
                steered.count(self.inboxes[index].push((frame, verified)).is_ok());
                None
            }
            Receiver::All => {
                for (index, inbox) in self.inboxes.iter().enumerate() {
                    if index != shard.index() {
                        let copy = Held::Copied(frame.as_ref().into());
                        steered.lost += u64::from(inbox.push((copy, verified)).is_err());
                    }
                }
                Some(frame)
            }
        }
    }

    /// Takes the next frame that others have received for a shard. HOT.
    pub(crate) fn take(&self, shard: &Shard) -> Option<(Held<F>, Verified)> {
        self.inboxes[shard.index()].pop()
    }

    /// Sets the addresses that are usable. For the first shard.
    pub(crate) fn set_usable(&self, usable: u32) {
        self.usable.store(usable, Ordering::Release);
    }

    /// Returns the addresses that are usable. HOT.
    pub(crate) fn usable(&self) -> u32 {
        self.usable.load(Ordering::Acquire)
    }
}
