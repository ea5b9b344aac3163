//! Probes of the addresses that channels do not use: control connects to them, and closes the
//! connection without a byte. When that is due is decided in [`dst_session::paths`].

use spdk::poller::Waker;

use crate::address::Address;
use crate::link::HANDSHAKE_TIMEOUT_MS;
use crate::race::{Heat, Runners};
use crate::shared::Shared;

/// How often it is looked for probes that are due, µs.
const LOOK_US: u64 = 100_000;

/// The probes under way, one for each address at most.
#[derive(Default)]
pub struct Probes {
    under_way: Vec<(Address, Runners)>,
    next_look_us: u64,
}

impl Probes {
    /// Begins the probes that are due, and takes the outcomes of those that have ended. `waker` is
    /// woken when there is an outcome.
    pub fn turn(&mut self, shared: &Shared, waker: &Waker, now_us: u64) {
        if now_us >= self.next_look_us {
            self.next_look_us = now_us + LOOK_US;
            let (due, port) = shared.places().probes_due(now_us);
            for address in due {
                let limit_us = u64::from(HANDSHAKE_TIMEOUT_MS) * 1000;
                let runners = Runners::new(vec![address.clone()], port, limit_us, now_us);
                self.under_way.retain(|(other, _)| *other != address);
                self.under_way.push((address, runners));
            }
        }
        let sock_impl = shared.peer().sock_impl.as_deref();
        self.under_way.retain_mut(|(address, runners)| {
            let outcome = match runners.advance(sock_impl, waker, now_us) {
                Heat::On => return true,
                Heat::Won(..) => Ok(()),
                Heat::Lost(why) => Err(why),
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
