//! ACKs that are delayed. All wait equally long, so a queue has them in order, and most were sent with
//! an answer before their time comes; in the heap of the timers, each would cost a search.

use std::collections::VecDeque;

use crate::event::ConnectionId;

/// The connections whose ACKs may be due, with the times in microseconds. Each has one place at
/// most.
#[derive(Debug, Default)]
pub(crate) struct DelayedAcks(VecDeque<(u64, ConnectionId)>);

impl DelayedAcks {
    /// Adds a connection. Returns false if there are later ones, because the time was set long ago.
    pub fn push(&mut self, at: u64, id: ConnectionId) -> bool {
        let is_last = self.0.back().is_none_or(|(last, _)| *last <= at);
        if is_last {
            self.0.push_back((at, id));
        }
        is_last
    }

    /// Returns the earliest time.
    pub fn next(&self) -> Option<u64> {
        self.0.front().map(|(at, _)| *at)
    }

    /// Takes out a connection whose time has come.
    pub fn due(&mut self, now: u64) -> Option<ConnectionId> {
        self.0.pop_front_if(|(at, _)| *at <= now).map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_an_earlier_one_is_refused() {
        let (mut acks, id) = (DelayedAcks::default(), |index| ConnectionId { index, generation: 0 });
        assert!(acks.push(10, id(0)) && acks.push(10, id(1)) && acks.push(12, id(2)));
        assert!(!acks.push(11, id(3)));
        assert_eq!((acks.next(), acks.due(9)), (Some(10), None));
        assert_eq!((acks.due(11), acks.due(11), acks.due(11)), (Some(id(0)), Some(id(1)), None));
        assert_eq!((acks.due(12), acks.next()), (Some(id(2)), None));
    }
}
