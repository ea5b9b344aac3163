//! The shares of a group's pools that one connection and one client may hold.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// An amount of each of a group's pools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// The number of I/O objects.
    pub objects: usize,
    /// The number of small buffers.
    pub small: usize,
    /// The number of large buffers.
    pub large: usize,
    /// The size of the pinned receive buffers, counted in large buffers.
    pub pinned: usize,
}

impl Amount {
    /// Returns the number of large buffers, including pinned receive buffers: a connection that
    /// pins more gets fewer large buffers.
    fn all_large(&self) -> usize {
        self.large + self.pinned
    }
}

/// The amount that all connections of one client in a group hold together.
pub type ClientShare = Cell<Amount>;

/// The shares of a group's clients. A share exists as long as the client has a connection in the
/// group.
#[derive(Debug)]
pub struct ClientShares<K>(RefCell<BTreeMap<K, Weak<ClientShare>>>);

impl<K> Default for ClientShares<K> {
    fn default() -> ClientShares<K> {
        ClientShares(RefCell::default())
    }
}

impl<K: Ord> ClientShares<K> {
    /// Returns the share of this client's connections together.
    pub fn share_of(&self, client: K) -> Rc<ClientShare> {
        let mut clients = self.0.borrow_mut();
        if let Some(share) = clients.get(&client).and_then(Weak::upgrade) {
            return share;
        }
        // Unused entries are removed here and not at the end of a client's last connection, which
        // may be on the I/O path.
        clients.retain(|_, share| share.strong_count() > 0);
        let share = Rc::default();
        clients.insert(client, Rc::downgrade(&share));
        share
    }
}

/// The amount that one connection holds of its group's pools.
#[derive(Debug)]
pub struct Share {
    held: Amount,
    /// The amount that all connections of its client hold, including this one.
    client: Rc<ClientShare>,
}

impl Share {
    /// Returns the share of a new connection of this client.
    pub fn new(client: Rc<ClientShare>) -> Share {
        Share { held: Amount::default(), client }
    }

    /// Returns true if the connection may take `need` while `free` is free.
    #[inline]
    pub fn may_take(&self, need: Amount, free: Amount) -> bool {
        let (held, of_client) = (self.held, self.client.get());
        let may_take = |of: fn(&Amount) -> usize, need: usize, free: usize| {
            may_take(of(&held), need, free) && client_may_take(of(&of_client), need, free)
        };
        may_take(|amount| amount.objects, need.objects, free.objects)
            && may_take(|amount| amount.small, need.small, free.small)
            && may_take(Amount::all_large, need.all_large(), free.large)
            && (need.pinned == 0
                || may_take(|amount| amount.pinned, need.pinned, free.pinned)
                    && may_pin(of_client, need, free))
    }

    /// Notes the amount that the connection has taken.
    #[inline]
    pub fn took(&mut self, taken: Amount) {
        self.change(|held| {
            held.objects += taken.objects;
            held.small += taken.small;
            held.large += taken.large;
            held.pinned += taken.pinned;
        });
    }

    /// Notes the amount that the connection has given back.
    #[inline]
    pub fn gave_back(&mut self, given: Amount) {
        self.change(|held| {
            held.objects -= given.objects;
            held.small -= given.small;
            held.large -= given.large;
            held.pinned -= given.pinned;
        });
    }

    fn change(&mut self, change: impl Fn(&mut Amount)) {
        change(&mut self.held);
        let mut of_client = self.client.get();
        change(&mut of_client);
        self.client.set(of_client);
    }
}

/// Returns true if a connection that holds `held` of a pool may take `need` of the `free` that are
/// left.
///
/// A connection never takes more than it leaves to the others. Among connections that give memory
/// back, this leads to equal shares. A connection that keeps all it gets, because its client does
/// not receive the Answers, leaves half of what it found, until it is closed for that.
fn may_take(held: usize, need: usize, free: usize) -> bool {
    need == 0 || need <= free && (held == 0 || held + need <= free)
}

/// Returns true if the connections of a client that hold `held` together may take `need` of the
/// `free` that are left, so that a client gains nothing by having many connections.
///
/// An eighth of the sum of `held` and `free` is left to other clients. It is no more, because there
/// may be no other clients, and one client alone should not be much slower for it.
fn client_may_take(held: usize, need: usize, free: usize) -> bool {
    need <= free && (held == 0 || need == 0 || held + need <= 7 * (free - need))
}

/// Returns true if a client that holds `held` may pin `need` more: up to a quarter of the seven
/// eighths of the large buffers that it may hold. Beyond that, data is copied.
fn may_pin(held: Amount, need: Amount, free: Amount) -> bool {
    let share = 7 * (held.large + free.large) / 8;
    4 * (held.pinned + need.pinned) <= share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_does_not_need_does_not_keep_it_waiting() {
        assert!(may_take(16, 0, 6), "what is pinned counts as large");
        assert!(!may_take(16, 1, 6) && may_take(3, 3, 6));
    }

    #[test]
    fn whoever_takes_all_it_can_leaves_something() {
        let mut free = 384;
        for _ in 0..5 {
            let (mut held, found) = (0, free);
            while may_take(held, 8, free) {
                held += 8;
                free -= 8;
            }
            assert!(held > 0 && free >= found / 2 - 8, "{held} of {found} taken");
        }
        assert!(may_take(0, 8, free), "nothing is left for the sixth");
        assert!(may_take(0, 8, 8) && !may_take(0, 8, 7) && !may_take(8, 8, 15));
    }

    #[test]
    fn many_connections_of_one_client_leave_something() {
        let (mut free, mut of_client) = (384, 0);
        for _ in 0..100 {
            let mut held = 0;
            while may_take(held, 8, free) && client_may_take(of_client, 8, free) {
                held += 8;
                of_client += 8;
                free -= 8;
            }
        }
        assert_eq!((of_client, free), (336, 48));
        assert!(client_may_take(0, 8, free), "another one finds nothing");
        // What it needs nothing of is no reason to wait.
        assert!(client_may_take(336, 0, 0));
        assert!(client_may_take(0, 8, 8) && !client_may_take(0, 8, 7), "who has nothing may have all");
        assert!(client_may_take(6, 1, 2) && !client_may_take(7, 1, 2) && !client_may_take(1, 1, 1));
    }

    #[test]
    fn every_pool_has_a_say_and_connections_of_one_client_count_together() {
        let amount = |objects, small, large| Amount { objects, small, large, pinned: 0 };
        let client = Rc::new(ClientShare::default());
        let (mut one, mut other) = (Share::new(Rc::clone(&client)), Share::new(Rc::clone(&client)));
        let free = amount(2, 2, 2);
        for need in [amount(3, 0, 0), amount(1, 3, 0), amount(1, 0, 3)] {
            assert!(!one.may_take(need, free), "{need:?} is more than there is");
        }
        assert!(one.may_take(amount(1, 2, 0), free));
        one.took(amount(14, 1, 0));
        other.took(amount(0, 0, 1));
        assert_eq!(client.get(), amount(14, 1, 1));
        assert!(!one.may_take(amount(1, 0, 0), free), "a connection leaves as much as it holds");
        assert!(!other.may_take(amount(1, 0, 0), free), "its client holds seven eighths");
        one.gave_back(amount(14, 1, 0));
        assert!(other.may_take(amount(1, 0, 0), free));
        assert_eq!(client.get(), amount(0, 0, 1));
    }

    #[test]
    fn a_client_pins_up_to_a_quarter_of_its_share_and_that_counts_as_large_buffers() {
        let client = Rc::new(ClientShare::default());
        let pinning = Amount { objects: 1, pinned: 2, ..Amount::default() };
        let mut free = Amount { objects: 1000, small: 1000, large: 64, pinned: 1000 };
        let mut shares: Vec<Share> = (0..10).map(|_| Share::new(Rc::clone(&client))).collect();
        for share in &mut shares {
            if share.may_take(pinning, free) {
                share.took(pinning);
            }
        }
        // A quarter of seven eighths of 64.
        assert_eq!(client.get().pinned, 14);
        let large = |large| Amount { objects: 1, large, ..Amount::default() };
        assert!(shares[9].may_take(large(54), free) && !shares[9].may_take(large(55), free));
        assert!(shares[0].may_take(large(0), Amount { pinned: 0, ..free }), "other requests wait for it");
        shares[0].gave_back(pinning);
        assert!(shares[0].may_take(pinning, free));
        free.large = 1;
        assert!(!shares[0].may_take(pinning, free), "other hosts' large data is short");
        free = Amount { large: 64, pinned: 1, ..free };
        assert!(!shares[0].may_take(pinning, free), "all that may be pinned is");
    }

    #[test]
    fn a_client_is_forgotten_with_its_last_connection() {
        let clients = ClientShares::default();
        let first = Share::new(clients.share_of("a"));
        let mut second = Share::new(clients.share_of("a"));
        second.took(Amount { objects: 1, ..Amount::default() });
        assert_eq!(first.client.get().objects, 1, "connections of one client have one share");
        assert_eq!(clients.share_of("b").get(), Amount::default());
        drop((first, second));
        assert_eq!(clients.share_of("c").get(), Amount::default());
        assert_eq!(clients.0.borrow().len(), 1, "the map grows with every client that ever was");
    }
}
