//! Probes of the addresses that no channel uses: the control connection's poller connects to them
//! and closes the socket without sending a byte. [`dst_session::paths`] decides when a probe is
//! due.

use spdk::poller::Waker;

use crate::address::Address;
use crate::handshake::HANDSHAKE_TIMEOUT_MS;
use crate::race::{ConnectRace, RaceProgress};
use crate::shared::Shared;

/// The period of the check for due probes, µs.
const LOOK_US: u64 = 100_000;

/// The probes under way, one for each address at most.
#[derive(Default)]
pub struct Probes {
    under_way: Vec<(Address, ConnectRace)>,
    next_look_us: u64,
}

impl Probes {
    /// Begins the probes that are due and notes the outcomes of those that have ended. `waker` is
    /// woken when a probe has ended.
    pub fn turn(&mut self, shared: &Shared, waker: &Waker, now_us: u64) {
        if now_us >= self.next_look_us {
            self.next_look_us = now_us + LOOK_US;
            let (due, port) = shared.places().probes_due(now_us);
            for address in due {
                let limit_us = u64::from(HANDSHAKE_TIMEOUT_MS) * 1000;
                let race = ConnectRace::new(vec![address.clone()], port, limit_us, now_us);
                self.under_way.retain(|(other, _)| *other != address);
                self.under_way.push((address, race));
            }
        }
        let sock_impl = shared.target().sock_impl.as_deref();
        self.under_way.retain_mut(|(address, race)| {
            let outcome = match race.advance(sock_impl, waker, now_us) {
                RaceProgress::Running => return true,
                RaceProgress::Won(..) => Ok(()),
                RaceProgress::Lost(why) => Err(why),
            };
            shared.places().probed(address, outcome);
            false
        });
    }

    /// Ends all probes.
    pub fn end(&mut self) {
        self.under_way.clear();
    }
}
