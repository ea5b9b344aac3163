//! The Answers of a queue that wait to be sent. The Answers themselves are in the states of their
//! slots.

use std::collections::VecDeque;

use dst_wire::HEADER_LEN;
use spdk::iov::Iov;

use super::slot_state::SlotState;

/// The order in which a queue's Answers are sent.
pub struct Answers {
    /// The slots of the Answers.
    slots: VecDeque<u16>,
    /// The number of bytes of the first Answer that were sent.
    sent_of_first: usize,
    /// The total length in bytes of all these Answers.
    bytes: usize,
}

impl Answers {
    /// Returns an empty list with room for this number of Answers.
    pub fn with_capacity(credits: u16) -> Answers {
        Answers { slots: VecDeque::with_capacity(credits.into()), sent_of_first: 0, bytes: 0 }
    }

    /// Returns true if no Answer waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns the number of waiting Answers.
    #[inline]
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Returns the total length in bytes of the waiting Answers.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns true if the first Answer is partly sent.
    #[inline]
    pub fn is_mid_frame(&self) -> bool {
        self.sent_of_first > 0
    }

    /// Adds the Answer of this slot, which has `len` bytes.
    #[inline]
    pub fn push(&mut self, slot: u16, len: usize) {
        self.bytes += len;
        self.slots.push_back(slot);
    }

    /// Adds the Answers to `iov`, as far as there is room. `states` has the states of all slots.
    /// `is_first_only` adds only the first Answer. HOT.
    #[inline]
    pub fn outgoing<'a>(&'a self, states: &'a [SlotState], iov: &mut Iov<'a>, is_first_only: bool) {
        for (i, &slot) in self.slots.iter().enumerate() {
            if iov.remaining_capacity() < 2 || i > 0 && is_first_only {
                return;
            }
            let state = &states[usize::from(slot)];
            let sent = if i == 0 { self.sent_of_first } else { 0 };
            iov.push(&state.header[sent.min(HEADER_LEN)..]);
            if let Some(io) = &state.io {
                let from = sent.saturating_sub(HEADER_LEN);
                let len = state.data_len - from;
                if iov.push_dma(&io.data, from, len) < len {
                    return;
                }
            }
        }
    }

    /// Notes that the first `bytes` bytes of [`Answers::outgoing`] were sent. Calls `sent` with the
    /// state of each slot whose Answer is now sent as a whole. HOT.
    #[inline]
    pub fn sent(&mut self, states: &mut [SlotState], mut bytes: usize, mut sent: impl FnMut(&mut SlotState)) {
        while bytes > 0 {
            let slot = *self.slots.front().expect("more was sent than there was");
            let state = &mut states[usize::from(slot)];
            let len = state.answer_len();
            let left = len - self.sent_of_first;
            if bytes < left {
                self.sent_of_first += bytes;
                return;
            }
            bytes -= left;
            self.sent_of_first = 0;
            self.slots.pop_front();
            self.bytes -= len;
            sent(state);
        }
    }

    /// Removes all Answers. Returns their slots.
    pub fn drop_all(&mut self) -> impl Iterator<Item = u16> + '_ {
        self.sent_of_first = 0;
        self.bytes = 0;
        self.slots.drain(..)
    }
}
