//! Leases: how long a target executes what a connection sends.
//!
//! A client that lost its target must know the time after which the target executes none of its
//! requests, although it receives nothing from the target. It would not be enough for the target to
//! count from the moment at which it last received something: bytes may be under way for any length
//! of time, so the client that sent them may have given up long ago. A lease therefore counts from
//! a moment about which both sides know something, the *acknowledgement* of a keep-alive. (The idea
//! is from Gray and Cheriton, "Leases", 1989; the echo is that of TCP's timestamps, RFC 7323.)
//!
//! 1. The client sends keep-alive `k`.
//! 2. The target acknowledges `k` and notes the time.
//! 3. The client's next keep-alive shows that the client has the acknowledgement of `k`.
//! 4. The target executes requests until the noted time plus the keep-alive time.
//!
//! The client received the acknowledgement after the noted time. So when the keep-alive time has
//! passed since the client *received its newest* acknowledgement, the lease has ended at the
//! target, however long anything was under way. The welcome counts as acknowledgement 0.

use crate::Violation;

/// The client sends a keep-alive each time this part of the keep-alive time has passed. An
/// acknowledgement renews the lease when the next keep-alive arrives. With a quarter, at least half
/// of the keep-alive time is then left for that keep-alive to be late.
const PARTS: u64 = 4;

/// A client waits longer than a target by this part of the keep-alive time. The margin allows for
/// clocks of which one is up to 5 % faster, far beyond any clock kept by NTP (whose limit is 0.05
/// %), and for the moment between a target's check of its clock and its action.
const MARGIN_PARTS: u64 = 20;

/// The target's side: the lease that it granted to one connection.
#[derive(Debug, Clone)]
pub struct Granted {
    timeout_us: u64,
    until_us: u64,
    acknowledged: u64,
    acknowledged_us: u64,
}

impl Granted {
    /// Grants the lease as the target makes the welcome.
    pub fn new(timeout_ms: u32, now_us: u64) -> Granted {
        let timeout_us = u64::from(timeout_ms) * 1000;
        Granted { timeout_us, until_us: now_us + timeout_us, acknowledged: 0, acknowledged_us: now_us }
    }

    /// Processes a keep-alive with number `id`, which is acknowledged now. `has` is the number of
    /// the newest acknowledgement that the client has.
    ///
    /// # Errors
    /// `id` is not higher than the previous number.
    pub fn keep_alive(&mut self, id: u64, has: u64, now_us: u64) -> Result<(), Violation> {
        if id <= self.acknowledged {
            return Err(Violation::KeepAlive { id, last: self.acknowledged });
        }
        if has == self.acknowledged {
            self.until_us = self.acknowledged_us + self.timeout_us;
        }
        self.acknowledged = id;
        self.acknowledged_us = now_us;
        Ok(())
    }

    /// Returns whether the lease has ended, so that nothing that the connection sent may be
    /// executed.
    #[inline]
    pub fn is_over(&self, now_us: u64) -> bool {
        now_us >= self.until_us
    }

    /// Returns the time at which the lease ends unless it is renewed.
    pub fn until_us(&self) -> u64 {
        self.until_us
    }

    /// Returns a value that is equal for two leases of the same keep-alive time that behave alike
    /// from `now_us` on.
    #[cfg(feature = "model")]
    pub fn canonical(&self, now_us: u64) -> impl std::hash::Hash + use<> {
        let Granted { timeout_us, until_us, acknowledged, acknowledged_us } = self;
        let renewed_us = acknowledged_us + timeout_us;
        (until_us.saturating_sub(now_us), *acknowledged, renewed_us.saturating_sub(now_us))
    }
}

/// The client's side: what it knows about the lease of one connection.
#[derive(Debug, Clone)]
pub struct Held {
    timeout_us: u64,
    /// The number of the newest keep-alive.
    asked: u64,
    asked_us: u64,
    next_us: u64,
    /// When the newest keep-alive was sent that was acknowledged, if any was.
    confirmed_us: Option<u64>,
    /// The number of the newest acknowledgement, and the time at which it came.
    acknowledged: u64,
    acknowledged_us: u64,
}

impl Held {
    /// Starts the lease as the welcome arrives. The first keep-alive is due at once, because the
    /// lease is renewed only when the client has echoed an acknowledgement, two round trips after
    /// the welcome was sent.
    pub fn new(timeout_ms: u32, now_us: u64) -> Held {
        let timeout_us = u64::from(timeout_ms) * 1000;
        Held {
            timeout_us,
            asked: 0,
            asked_us: now_us,
            next_us: now_us,
            confirmed_us: None,
            acknowledged: 0,
            acknowledged_us: now_us,
        }
    }

    /// Returns the next keep-alive if it is due: its number, and the number of the newest
    /// acknowledgement. No keep-alive is due before the previous one was acknowledged, since the
    /// target remembers the time of only one acknowledgement.
    pub fn ask(&mut self, now_us: u64) -> Option<(u64, u64)> {
        let waits = self.asked > self.acknowledged;
        if waits || now_us < self.next_us {
            return None;
        }
        self.asked += 1;
        self.asked_us = now_us;
        self.next_us = now_us + self.timeout_us / PARTS;
        Some((self.asked, self.acknowledged))
    }

    /// Processes an acknowledgement. An unsolicited one (number 0) renews nothing.
    pub fn acknowledged(&mut self, id: u64, now_us: u64) {
        if id == self.asked && id > self.acknowledged {
            self.acknowledged = id;
            self.acknowledged_us = now_us;
            self.confirmed_us = Some(self.asked_us);
        }
    }

    /// Returns a time at which the target still kept the client's session, as late as the client can know:
    /// when the newest keep-alive was sent that the target has acknowledged.
    pub fn confirmed_us(&self) -> Option<u64> {
        self.confirmed_us
    }

    /// Returns the time after which the target certainly executes no request sent on this
    /// connection.
    pub fn over_us(&self) -> u64 {
        self.acknowledged_us + self.timeout_us + self.timeout_us / MARGIN_PARTS
    }

    /// Returns a value that is equal for two leases of the same keep-alive time that behave alike
    /// from `now_us` on.
    #[cfg(feature = "model")]
    pub fn canonical(&self, now_us: u64) -> impl std::hash::Hash + use<> {
        let Held {
            timeout_us: _,
            asked,
            asked_us: _,
            next_us,
            confirmed_us: _,
            acknowledged,
            acknowledged_us: _,
        } = self;
        (*asked, next_us.saturating_sub(now_us), *acknowledged, self.over_us().saturating_sub(now_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lease_is_renewed_by_the_echo_alone() {
        let mut granted = Granted::new(1, 0);
        assert!(!granted.is_over(999) && granted.is_over(1000));
        granted.keep_alive(1, 0, 400).unwrap();
        assert_eq!(granted.until_us(), 1000, "the echo of the welcome gives what the welcome gave");
        granted.keep_alive(2, 0, 800).unwrap();
        assert_eq!(granted.until_us(), 1000, "the client has not heard of it");
        granted.keep_alive(3, 2, 900).unwrap();
        assert_eq!(granted.until_us(), 1800);
        assert!(granted.keep_alive(3, 2, 900).is_err());
    }

    #[test]
    fn a_client_asks_four_times_in_the_time_and_one_at_a_time() {
        let mut held = Held::new(4, 0);
        assert_eq!(held.ask(0), Some((1, 0)));
        assert_eq!(held.ask(5000), None);
        held.acknowledged(0, 5000);
        held.acknowledged(2, 5000);
        assert_eq!((held.over_us(), held.ask(5000)), (4200, None), "neither was asked for");
        assert_eq!(held.confirmed_us(), None);
        held.acknowledged(1, 5000);
        assert_eq!((held.over_us(), held.ask(5000)), (9200, Some((2, 1))));
        assert_eq!(held.confirmed_us(), Some(0), "when it was sent, not when it was acknowledged");
        held.acknowledged(2, 5500);
        assert_eq!(held.confirmed_us(), Some(5000));
        assert_eq!((held.ask(5999), held.ask(6000)), (None, Some((3, 2))));
    }

    proptest! {
        /// Whatever is delayed, and for however long: once the client's lease has ended, so has the
        /// target's.
        #[test]
        fn the_target_never_outlives_what_the_client_knows(
            delays in proptest::collection::vec((0u64..3000, 0u64..3000), 1..40),
        ) {
            let mut granted = Granted::new(4, 0);
            // The welcome may be delayed, too.
            let mut now = delays[0].0;
            let mut held = Held::new(4, now);
            for (there, back) in delays {
                now += 1000;
                let Some((id, has)) = held.ask(now) else { continue };
                // The client may receive nothing from here on, so what it knows now must hold.
                let known = held.over_us();
                now += there;
                granted.keep_alive(id, has, now).unwrap();
                prop_assert!(granted.is_over(known), "{} until {}", known, granted.until_us());
                now += back;
                held.acknowledged(id, now);
            }
        }
    }
}
