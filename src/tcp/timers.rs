//! When connections have to be looked at again: a heap with one place for each connection. A
//! deadline that moves back costs nothing: the connection is looked at too early, once.

use crate::event::ConnectionId;

/// Not in the heap.
const NOWHERE: u32 = u32::MAX;

/// The children of a place in the heap. With four, a thousand timers have six levels, and the
/// children of a place lie in one or two cache lines.
const ARITY: usize = 4;

/// When each connection has to be looked at. Times are microseconds.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// A heap, the earliest first.
    heap: Vec<(u64, ConnectionId)>,
    /// Where a connection is in the heap, by its index.
    places: Vec<u32>,
}

impl Timers {
    fn place(&self, id: ConnectionId) -> Option<usize> {
        let place = *self.places.get(id.index as usize)?;
        (place != NOWHERE).then_some(place as usize)
    }

    /// Sees to it that the connection is looked at by then.
    pub fn by(&mut self, at: u64, id: ConnectionId) {
        let place = match self.place(id) {
            Some(place) if self.heap[place].0 <= at => return,
            Some(place) => place,
            None => {
                if self.places.len() <= id.index as usize {
                    self.places.resize(id.index as usize + 1, NOWHERE);
                }
                self.heap.push((at, id));
                self.heap.len() - 1
            }
        };
        self.heap[place].0 = at;
        self.rise(place);
    }

    /// Returns whether the connection will be looked at.
    pub fn has(&self, id: ConnectionId) -> bool {
        self.place(id).is_some()
    }

    /// Takes a connection out.
    pub fn remove(&mut self, id: ConnectionId) {
        let Some(place) = self.place(id) else { return };
        self.places[id.index as usize] = NOWHERE;
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.sink(place);
            self.rise(place);
        }
    }

    /// Returns the earliest time.
    pub fn next(&self) -> Option<u64> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// Returns the connection that has to be looked at first, if its time has come.
    pub fn due(&self, now: u64) -> Option<ConnectionId> {
        self.heap.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// Puts off the connection that [`Timers::due`] has returned.
    pub fn put_off(&mut self, at: u64) {
        if let Some(first) = self.heap.first_mut() {
            first.0 = at;
            self.sink(0);
        }
    }

    fn put(&mut self, place: usize, timer: (u64, ConnectionId)) {
        self.heap[place] = timer;
        self.places[timer.1.index as usize] = place as u32;
    }

    /// Moves the timer at a place towards the root, as far as it is earlier than the others.
    fn rise(&mut self, mut place: usize) {
        let timer = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.heap[parent].0 <= timer.0 {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, timer);
    }

    /// Moves the timer at a place towards the leaves, as far as it is later than the others.
    fn sink(&mut self, mut place: usize) {
        let timer = self.heap[place];
        loop {
            let first = ARITY * place + 1;
            let children = self.heap.get(first..).unwrap_or_default().iter().take(ARITY).enumerate();
            let Some((child, least)) = children.min_by_key(|(_, (at, _))| *at) else { break };
            if timer.0 <= least.0 {
                break;
            }
            self.put(place, *least);
            place = first + child;
        }
        self.put(place, timer);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As a map would do it.
        #[test]
        fn the_earliest_comes_first(steps in prop::collection::vec((0u32..20, 0u64..1000, 0u8..5), 1..300)) {
            let (mut timers, mut model) = (Timers::default(), BTreeMap::new());
            for (index, at, what) in steps {
                let id = ConnectionId { index, generation: 0 };
                match what {
                    0 => { timers.remove(id); model.remove(&id); }
                    1 | 2 => while let Some(id) = timers.due(at) {
                        let least = *model.values().min().expect("the model has it");
                        prop_assert_eq!(model.remove(&id), Some(least));
                        prop_assert!(least <= at);
                        if what == 1 {
                            timers.remove(id);
                        } else {
                            timers.put_off(2 * at + u64::from(index) + 1);
                            model.insert(id, 2 * at + u64::from(index) + 1);
                        }
                    },
                    _ => {
                        timers.by(at, id);
                        let kept = model.entry(id).or_insert(at);
                        *kept = at.min(*kept);
                    }
                }
                prop_assert_eq!(timers.next(), model.values().min().copied());
                prop_assert_eq!(timers.heap.len(), model.len());
            }
        }
    }
}
