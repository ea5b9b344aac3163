//! What the user wants sent: references to buffers that stay the user's, in the order of the
//! stream.

use std::collections::VecDeque;
use std::ops::Range;

use crate::seq::Seq;

/// A reference to data to be sent. The stack never looks at the data, so this may be an index, a
/// pointer or the bytes themselves. It is handed back when all of it is acknowledged.
pub trait Payload {
    /// Returns how many bytes of data there are. It must not change.
    fn size(&self) -> usize;
}

/// The bytes themselves, for users that copy.
impl Payload for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }
}

#[derive(Debug)]
struct Queued<B> {
    start: Seq,
    end: Seq,
    buffer: B,
}

/// The user's buffers that are not yet acknowledged.
#[derive(Debug)]
pub(crate) struct SendQueue<B> {
    buffers: VecDeque<Queued<B>>,
    end: Seq,
}

impl<B: Payload> SendQueue<B> {
    /// Returns an empty queue for a stream whose first byte has this position.
    pub fn new(first: Seq) -> SendQueue<B> {
        SendQueue { buffers: VecDeque::new(), end: first }
    }

    /// Returns the position after the last byte.
    pub fn end(&self) -> Seq {
        self.end
    }

    /// Returns how many bytes the buffers held have, acknowledged ones among them.
    pub fn bytes(&self) -> u64 {
        self.buffers.front().map_or(0, |first| self.end - first.start)
    }

    pub fn push(&mut self, buffer: B) {
        let start = self.end;
        self.end += buffer.size() as u64;
        self.buffers.push_back(Queued { start, end: self.end, buffer });
    }

    /// Takes the next buffer that has no byte at or above `una`.
    pub fn release(&mut self, una: Seq) -> Option<B> {
        if self.buffers.front()?.end > una {
            return None;
        }
        self.buffers.pop_front().map(|queued| queued.buffer)
    }

    /// Takes the next buffer, acknowledged or not: the connection has ended.
    pub fn abandon(&mut self) -> Option<B> {
        self.buffers.pop_front().map(|queued| queued.buffer)
    }

    /// Returns the parts of the buffers that hold the bytes from `start` to `end`.
    pub fn pieces(&self, start: Seq, end: Seq) -> Pieces<'_, B> {
        let first = match self.buffers.front() {
            // Mostly what is sent is at one of the ends of the queue; a search finds the rest.
            Some(front) if front.end > start => 0,
            _ => self.buffers.partition_point(|queued| queued.end <= start),
        };
        Pieces { queue: &self.buffers, index: first, start, end }
    }
}

/// The parts of the user's buffers that make up a segment's payload.
#[derive(Debug)]
pub struct Pieces<'a, B> {
    queue: &'a VecDeque<Queued<B>>,
    index: usize,
    start: Seq,
    end: Seq,
}

impl<B> Pieces<'_, B> {
    /// Takes out the parts with the first `len` bytes.
    pub(crate) fn split_off_front(&mut self, len: u64) -> Self {
        let at = self.start + len;
        let front = Pieces { end: at, ..self.clone() };
        while self.queue.get(self.index).is_some_and(|queued| queued.end <= at) {
            self.index += 1;
        }
        self.start = at;
        front
    }
}

impl<B> Clone for Pieces<'_, B> {
    fn clone(&self) -> Self {
        Pieces { queue: self.queue, index: self.index, start: self.start, end: self.end }
    }
}

impl<'a, B> Iterator for Pieces<'a, B> {
    type Item = (&'a B, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.start < self.end {
            let queued = self.queue.get(self.index)?;
            self.index += 1;
            let end = queued.end.min(self.end);
            if end > self.start {
                let range = (self.start - queued.start) as usize..(end - queued.start) as usize;
                self.start = end;
                return Some((&queued.buffer, range));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Payload for usize {
        fn size(&self) -> usize {
            *self
        }
    }

    #[test]
    fn a_segment_spans_buffers_and_begins_within_one() {
        let first = Seq::initial(u32::MAX - 5);
        let mut queue = SendQueue::new(first);
        [10, 0, 20, 30].into_iter().for_each(|size| queue.push(size));
        let pieces: Vec<_> =
            queue.pieces(first + 4, first + 35).map(|(size, range)| (*size, range)).collect();
        assert_eq!(pieces, [(10, 4..10), (20, 0..20), (30, 0..5)]);
        let mut rest = queue.pieces(first + 4, first + 35);
        let front: Vec<_> = rest.split_off_front(6).map(|(size, range)| (*size, range)).collect();
        let rest: Vec<_> = rest.map(|(size, range)| (*size, range)).collect();
        assert_eq!((front, rest), (vec![(10, 4..10)], vec![(20, 0..20), (30, 0..5)]));
        assert_eq!(queue.pieces(first + 60, first + 60).count(), 0);
        assert_eq!(queue.bytes(), 60);
    }

    #[test]
    fn a_buffer_is_released_when_all_of_it_is_acknowledged() {
        let first = Seq::initial(0);
        let mut queue = SendQueue::new(first);
        [10, 20].into_iter().for_each(|size| queue.push(size));
        assert_eq!(queue.release(first + 9), None);
        assert_eq!(queue.release(first + 10), Some(10));
        assert_eq!(queue.release(first + 29), None);
        assert_eq!(queue.release(first + 30), Some(20));
        assert_eq!(queue.release(first + 30), None);
    }
}
