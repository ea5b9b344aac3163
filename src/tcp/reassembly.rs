//! Received data: in order for the user to take, or held until what is missing arrives.

use std::collections::VecDeque;
use std::ops::Range;

use crate::seq::Seq;

/// The maximum number of islands: what a segment and an ACK cost grows with it. So many gaps
/// are a loss of 2 % in a window of 32 MiB, the default's largest.
const MAX_ISLANDS: usize = 512;

/// Received data in order: a range of the frame that it came in.
#[derive(Debug)]
pub struct Chunk<F> {
    /// The frame, as the caller passed it in.
    pub frame: F,
    /// Where the data is in the frame.
    pub range: Range<usize>,
}

#[derive(Debug)]
struct Early<F> {
    start: Seq,
    end: Seq,
    chunk: Chunk<F>,
}

/// A run of early data without a gap, as a SACK block reports it.
#[derive(Debug, Clone, Copy)]
struct Island {
    start: Seq,
    end: Seq,
    /// Rises with each arrival, so the island that was extended last has the largest.
    touched: u64,
    /// A SACK block has told of it as it is.
    is_reported: bool,
}

/// What came of a segment's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was next, and so many bytes are in order now. `filled`: it closed a gap.
    InOrder { bytes: u64, filled: bool },
    /// Data before it is missing.
    Early,
    /// All of it had been received before.
    Duplicate,
    /// There is no room: the connection holds too many frames, or there are too many gaps.
    NoRoom,
}

/// A connection's received data.
#[derive(Debug)]
pub(crate) struct Reassembly<F> {
    next: Seq,
    ready: VecDeque<Chunk<F>>,
    unread: u64,
    /// Sorted, without overlaps.
    early: VecDeque<Early<F>>,
    /// Sorted, with gaps between them.
    islands: VecDeque<Island>,
    arrivals: u64,
}

impl<F> Reassembly<F> {
    /// Returns one for a stream whose first byte has this position.
    pub fn new(first: Seq) -> Reassembly<F> {
        Reassembly {
            next: first,
            ready: VecDeque::new(),
            unread: 0,
            early: VecDeque::new(),
            islands: VecDeque::new(),
            arrivals: 0,
        }
    }

    /// Returns the position that is expected next.
    pub fn next(&self) -> Seq {
        self.next
    }

    /// Steps over the peer's FIN, which has a position of its own.
    pub fn pass_fin(&mut self) {
        self.next += 1;
    }

    /// Returns the bytes in order that the user has not taken.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// Returns how many frames are held.
    pub fn frames(&self) -> usize {
        self.ready.len() + self.early.len()
    }

    /// Returns whether data has arrived that is not in order yet.
    pub fn has_gap(&self) -> bool {
        !self.islands.is_empty()
    }

    /// Takes data out, the oldest first.
    pub fn read(&mut self) -> Option<Chunk<F>> {
        let chunk = self.ready.pop_front()?;
        self.unread -= chunk.range.len() as u64;
        Some(chunk)
    }

    /// Drops all data, which nobody will read.
    pub fn clear(&mut self) {
        self.ready = VecDeque::new();
        self.early = VecDeque::new();
        self.islands = VecDeque::new();
        self.unread = 0;
    }

    /// Takes the data of a segment, which is not empty and lies within the window. Holds on to at
    /// most `max_frames` frames.
    pub fn insert(&mut self, start: Seq, chunk: Chunk<F>, max_frames: usize) -> Arrival {
        let end = start + chunk.range.len() as u64;
        if end <= self.next {
            return Arrival::Duplicate;
        }
        // The next segment in order always has room: without it, early data could never be read.
        if self.frames() >= max_frames && (start > self.next || self.ready.len() >= max_frames) {
            return Arrival::NoRoom;
        }
        if start > self.next {
            return self.hold(start, end, chunk);
        }
        let before = self.next;
        self.append(start, end, chunk);
        let filled = self.has_gap() && self.join();
        Arrival::InOrder { bytes: self.next - before, filled }
    }

    /// Moves what is new of the chunk to the data in order.
    fn append(&mut self, start: Seq, end: Seq, mut chunk: Chunk<F>) {
        chunk.range.start += self.next.above(start) as usize;
        self.unread += chunk.range.len() as u64;
        self.next = end;
        self.ready.push_back(chunk);
    }

    /// Moves early data that is in order now. Returns whether there was any.
    fn join(&mut self) -> bool {
        while let Some(early) = self.early.pop_front_if(|early| early.start <= self.next) {
            if early.end > self.next {
                self.append(early.start, early.end, early.chunk);
            }
        }
        let before = self.islands.len();
        while self.islands.pop_front_if(|island| island.start <= self.next).is_some() {}
        self.islands.len() < before
    }

    fn hold(&mut self, start: Seq, end: Seq, chunk: Chunk<F>) -> Arrival {
        if self.islands.len() >= MAX_ISLANDS && !self.touches_island(start, end) {
            return Arrival::NoRoom;
        }
        self.arrivals += 1;
        // Mostly it continues the newest island.
        let at = match self.early.back() {
            Some(last) if last.end > start => self.early.partition_point(|early| early.end <= start),
            _ => self.early.len(),
        };
        // What is there already is not taken twice: the new data is cut to the first gap that it
        // fills. The peer sends the rest again, should it span a whole earlier segment, which only
        // a changed MSS causes.
        let (mut from, mut to) = (start, end);
        let mut index = at;
        while let Some(early) = self.early.get(index)
            && early.start <= from
        {
            from = from.max(early.end);
            index += 1;
        }
        if from >= to {
            self.touch(start, end);
            return Arrival::Duplicate;
        }
        if let Some(early) = self.early.get(index) {
            to = to.min(early.start);
        }
        let Chunk { frame, range } = chunk;
        let range = range.start + (from - start) as usize..range.end - (end - to) as usize;
        self.early.insert(index, Early { start: from, end: to, chunk: Chunk { frame, range } });
        self.extend_islands(from, to);
        Arrival::Early
    }

    /// Returns whether data would extend an island, or is part of one.
    fn touches_island(&self, start: Seq, end: Seq) -> bool {
        let at = self.islands.partition_point(|island| island.end < start);
        self.islands.get(at).is_some_and(|island| island.start <= end)
    }

    /// Marks the island of a duplicate as the newest.
    fn touch(&mut self, start: Seq, end: Seq) {
        let arrivals = self.arrivals;
        if let Some(island) = self.islands.iter_mut().find(|i| i.start <= start && end <= i.end) {
            island.touched = arrivals;
        }
    }

    fn extend_islands(&mut self, start: Seq, end: Seq) {
        let at = match self.islands.back() {
            Some(last) if last.end >= start => self.islands.partition_point(|island| island.end < start),
            _ => self.islands.len(),
        };
        let (mut merged, touched) = ((start, end), self.arrivals);
        while let Some(island) = self.islands.get(at)
            && island.start <= end
        {
            merged = (merged.0.min(island.start), merged.1.max(island.end));
            if self.islands.get(at + 1).is_none_or(|next| next.start > end) {
                self.islands[at] = Island { start: merged.0, end: merged.1, touched, is_reported: false };
                return;
            }
            self.islands.remove(at);
        }
        self.islands.insert(at, Island { start, end, touched, is_reported: false });
    }

    /// Returns up to `N` SACK blocks, the one that changed last first (RFC 2018, 4), and those that
    /// no ACK has told of before others.
    pub fn blocks<const N: usize>(&mut self) -> [Option<(Seq, Seq)>; N] {
        let rank = |island: &Island| (!island.is_reported, island.touched);
        let mut newest: [Option<Island>; N] = [None; N];
        for island in &self.islands {
            let mut place = Some(*island);
            for slot in &mut newest {
                if slot.as_ref().map(rank) < place.as_ref().map(rank) {
                    std::mem::swap(slot, &mut place);
                }
            }
        }
        for island in &mut self.islands {
            island.is_reported |= newest.iter().flatten().any(|block| block.start == island.start);
        }
        newest.map(|island| island.map(|island| (island.start, island.end)))
    }

    /// Returns whether there is something that no SACK block has told of.
    pub fn has_unreported(&self) -> bool {
        self.islands.iter().any(|island| !island.is_reported)
    }
}

#[cfg(test)]
#[path = "reassembly_tests.rs"]
mod tests;
