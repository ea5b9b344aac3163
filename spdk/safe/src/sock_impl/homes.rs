//! Which group has the sockets of a placement.

use std::sync::{Mutex, PoisonError};

/// A group that has sockets of a placement.
#[derive(Debug, Clone, Copy)]
struct Home {
    placement: i32,
    /// The address of SPDK's group.
    group: usize,
    /// The sockets of the placement in the group. There is at least one.
    sockets: usize,
}

/// For each placement, the group that has had sockets of it for longest. There are as many as queue
/// pairs of ports, so they are searched one after another.
#[derive(Debug)]
pub(super) struct Homes(Mutex<Vec<Home>>);

impl Homes {
    pub const fn new() -> Homes {
        Homes(Mutex::new(Vec::new()))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<Home>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a socket that has joined a group.
    pub fn joined(&self, placement: i32, group: usize) {
        self.with(|homes| {
            match homes.iter_mut().find(|home| home.placement == placement && home.group == group) {
                Some(home) => home.sockets += 1,
                None => homes.push(Home { placement, group, sockets: 1 }),
            }
        });
    }

    /// Counts a socket that has left a group.
    pub fn left(&self, placement: i32, group: usize) {
        self.with(|homes| {
            homes.retain_mut(|home| {
                let is_it = home.placement == placement && home.group == group;
                home.sockets -= usize::from(is_it);
                home.sockets > 0
            });
        });
    }

    /// Returns the group of a placement, if any has sockets of it.
    pub fn of(&self, placement: i32) -> Option<usize> {
        self.with(|homes| homes.iter().find(|home| home.placement == placement).map(|home| home.group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_is_at_home_in_the_first_group_that_has_sockets_of_it() {
        let homes = Homes::new();
        assert_eq!(homes.of(1), None);
        homes.joined(1, 10);
        homes.joined(1, 20);
        homes.joined(2, 20);
        homes.joined(1, 10);
        assert_eq!((homes.of(1), homes.of(2)), (Some(10), Some(20)));
        // A group that is left by its last socket may be closed.
        homes.left(1, 10);
        assert_eq!(homes.of(1), Some(10));
        homes.left(1, 10);
        assert_eq!(homes.of(1), Some(20));
        homes.left(1, 20);
        assert_eq!((homes.of(1), homes.of(2)), (None, Some(20)));
    }
}
