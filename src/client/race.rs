//! Attempts to connect to several addresses side by side; the rules are in
//! [`dst_session::addresses`].

use std::cell::RefCell;
use std::rc::Rc;

use dst_session::addresses::Race;
use spdk::poller::Waker;
use spdk::sock::{Connecting, Sock};

use crate::address::Address;
use crate::options::Peer;

/// The place into which the callback of a connect puts the socket.
type Mailbox = Rc<RefCell<Option<spdk::Result<Sock>>>>;

/// One attempt under way. Dropping it ends the attempt, and closes a socket that nobody took,
/// without a byte.
struct Runner {
    address: Address,
    _attempt: Connecting,
    mailbox: Mailbox,
}

/// A race under way.
pub struct Runners {
    race: Race<Address>,
    runners: Vec<Runner>,
    /// Why the others have failed.
    failures: Vec<String>,
}

/// How far a race has got.
pub enum Heat {
    /// Attempts are under way.
    On,
    /// This address was the first that connected.
    Won(Address, Sock),
    /// None connects, for this reason.
    Lost(String),
}

impl Runners {
    /// Begins a race; each address has `limit_us` to connect.
    pub fn new(addresses: Vec<Address>, limit_us: u64, now_us: u64) -> Runners {
        Runners { race: Race::new(addresses, limit_us, now_us), runners: Vec::new(), failures: Vec::new() }
    }

    /// Goes on with the race.
    pub fn advance(&mut self, peer: &Peer, waker: &Waker, now_us: u64) -> Heat {
        let mut at = 0;
        while let Some(runner) = self.runners.get(at) {
            let arrived = runner.mailbox.borrow_mut().take();
            match arrived {
                Some(Ok(sock)) => return Heat::Won(runner.address.clone(), sock),
                Some(Err(errno)) => {
                    let runner = self.runners.remove(at);
                    self.failed(&runner.address, errno, now_us);
                }
                None => at += 1,
            }
        }
        while let Some(address) = self.race.next_start(now_us) {
            let mailbox = Mailbox::default();
            let (arrived, waker) = (Rc::clone(&mailbox), waker.clone());
            let put = move |result| {
                *arrived.borrow_mut() = Some(result);
                waker.wake();
            };
            match spdk::sock::connect(&address.to_string(), peer.port, peer.sock_impl.as_deref(), put) {
                Ok(attempt) => self.runners.push(Runner { address, _attempt: attempt, mailbox }),
                Err(errno) => self.failed(&address, errno, now_us),
            }
        }
        if !self.race.is_lost(now_us) {
            return Heat::On;
        }
        for runner in &self.runners {
            self.failures.push(format!("{}: connecting takes too long", runner.address));
        }
        Heat::Lost(self.failures.join("; "))
    }

    fn failed(&mut self, address: &Address, errno: spdk::Errno, now_us: u64) {
        self.failures.push(format!("{address}: {errno}"));
        self.race.failed(now_us);
    }
}
