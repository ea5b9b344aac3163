//! Leases: until when a target executes what a connection sends.
//!
//! A client that lost its target must know from when on nothing of what it had sent is executed any more,
//! although it hears nothing. Hearing the client is not enough for that: bytes may be under way for any
//! time, so those that arrive now may be of a client that gave up long ago. A lease therefore counts from a
//! moment that both sides know something of, the *acknowledgement* of a keep-alive (Gray and Cheriton,
//! "Leases", 1989, for the idea; the echo is TCP's time stamp, RFC 7323):
//!
//! 1. The client sends keep-alive `k`.
//! 2. The target acknowledges it and notes when.
//! 3. The client's next keep-alive says that it has `k`'s acknowledgement.
//! 4. The target executes until that noted moment plus the keep-alive time.
//!
//! The client has received the acknowledgement after that moment. So when the keep-alive time has passed
//! since it *received its newest* acknowledgement, the lease is over at the target, however long anything
//! was under way. The welcome is the acknowledgement 0.

use crate::Violation;

/// The part of the keep-alive time after which the next keep-alive is sent. An acknowledgement renews
/// the lease when the keep-alive after it arrives; with a quarter, half of the time is left then, at the
/// least, for that one to be late.
const PARTS: u64 = 4;

/// The part of the keep-alive time that a client waits longer than a target: for clocks of which one is
/// up to 5 % faster, which no clock that is kept by NTP comes near (its limit is 0.05 %), and for the moment
/// between a target's look at its clock and what it does.
const MARGIN_PARTS: u64 = 20;

/// The target's side: what it granted to one connection.
#[derive(Debug, Clone)]
pub struct Granted {
    timeout_us: u64,
    until_us: u64,
    acknowledged: u64,
    acknowledged_us: u64,
}

impl Granted {
    /// The welcome goes out.
    pub fn new(timeout_ms: u32, now_us: u64) -> Granted {
        let timeout_us = u64::from(timeout_ms) * 1000;
        Granted { timeout_us, until_us: now_us + timeout_us, acknowledged: 0, acknowledged_us: now_us }
    }

    /// A keep-alive arrived, its number and that of the newest acknowledgement that the client has. It
    /// is acknowledged now.
    ///
    /// # Errors
    /// A number that does not rise.
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

    /// Whether nothing that the connection sent may be executed any more.
    #[inline]
    pub fn is_over(&self, now_us: u64) -> bool {
        now_us >= self.until_us
    }

    /// When the lease ends, unless it is renewed.
    pub fn until_us(&self) -> u64 {
        self.until_us
    }

    /// Returns a value that is equal for two leases of the same keep-alive time that behave alike from `now_us` on.
    #[cfg(feature = "model")]
    pub fn canonical(&self, now_us: u64) -> impl std::hash::Hash + use<> {
        let Granted { timeout_us, until_us, acknowledged, acknowledged_us } = self;
        let renewed_us = acknowledged_us + timeout_us;
        (until_us.saturating_sub(now_us), *acknowledged, renewed_us.saturating_sub(now_us))
    }
}

/// The client's side: what it knows of one connection's lease.
#[derive(Debug, Clone)]
pub struct Held {
    timeout_us: u64,
    /// The number of the newest keep-alive.
    asked: u64,
    next_us: u64,
    /// The newest acknowledgement, and when it came.
    acknowledged: u64,
    acknowledged_us: u64,
}

impl Held {
    /// The welcome came. The first keep-alive is due at once: the lease is not renewed before its
    /// acknowledgement was echoed, two round trips after the welcome was sent.
    pub fn new(timeout_ms: u32, now_us: u64) -> Held {
        let timeout_us = u64::from(timeout_ms) * 1000;
        Held { timeout_us, asked: 0, next_us: now_us, acknowledged: 0, acknowledged_us: now_us }
    }

    /// The next keep-alive, if it is time for it: its number, and that of the newest acknowledgement. Not
    /// before the one before it was acknowledged: the target remembers when it acknowledged one, not
    /// several.
    pub fn ask(&mut self, now_us: u64) -> Option<(u64, u64)> {
        let waits = self.asked > self.acknowledged;
        if waits || now_us < self.next_us {
            return None;
        }
        self.asked += 1;
        self.next_us = now_us + self.timeout_us / PARTS;
        Some((self.asked, self.acknowledged))
    }

    /// An acknowledgement came. One that was not asked for (number 0) renews nothing.
    pub fn acknowledged(&mut self, id: u64, now_us: u64) {
        if id == self.asked && id > self.acknowledged {
            self.acknowledged = id;
            self.acknowledged_us = now_us;
        }
    }

    /// From when on the target surely executes nothing that was sent on this connection.
    pub fn over_us(&self) -> u64 {
        self.acknowledged_us + self.timeout_us + self.timeout_us / MARGIN_PARTS
    }

    /// Returns a value that is equal for two leases of the same keep-alive time that behave alike from `now_us` on.
    #[cfg(feature = "model")]
    pub fn canonical(&self, now_us: u64) -> impl std::hash::Hash + use<> {
        let Held { timeout_us: _, asked, next_us, acknowledged, acknowledged_us: _ } = self;
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
        held.acknowledged(1, 5000);
        assert_eq!((held.over_us(), held.ask(5000)), (9200, Some((2, 1))));
        held.acknowledged(2, 5500);
        assert_eq!((held.ask(5999), held.ask(6000)), (None, Some((3, 2))));
    }

    proptest! {
        /// Whatever is delayed, and for how long: what the client believes to be over is over.
        #[test]
        fn the_target_never_outlives_what_the_client_knows(
            delays in proptest::collection::vec((0u64..3000, 0u64..3000), 1..40),
        ) {
            let mut granted = Granted::new(4, 0);
            // The welcome, too, takes its time.
            let mut now = delays[0].0;
            let mut held = Held::new(4, now);
            for (there, back) in delays {
                now += 1000;
                let Some((id, has)) = held.ask(now) else { continue };
                // From here on the client may hear nothing more: what it knows now must hold.
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
