//! Attempts to connect to several addresses side by side; the rules are in
//! [`dst_session::addresses`].

use std::cell::RefCell;
use std::rc::Rc;

use dst_session::addresses::Race;
use spdk::poller::Waker;
use spdk::sock::{Connecting, Sock};

use crate::address::Address;

/// Open files that connections do not take, so that RPCs can be answered: as many as a target keeps.
const SPARE_FILES: u64 = 64;

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
    port: u16,
    runners: Vec<Runner>,
    /// Why the others have failed.
    failures: Vec<(Address, String)>,
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
    /// Begins a race for a port; each address has `limit_us` to connect.
    pub fn new(addresses: Vec<Address>, port: u16, limit_us: u64, now_us: u64) -> Runners {
        let race = Race::new(addresses, limit_us, now_us);
        Runners { race, port, runners: Vec::new(), failures: Vec::new() }
    }

    /// Goes on with the race.
    pub fn advance(&mut self, sock_impl: Option<&str>, waker: &Waker, now_us: u64) -> Heat {
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
            if !spdk::open_files::has_more_than(SPARE_FILES) {
                let why = format!(
                    "only {SPARE_FILES} more files may be opened, which are kept for RPCs; raise the limit of open \
                     files (LimitNOFILE= of systemd, ulimit -n)"
                );
                self.failures.push((address, why));
                self.race.failed(now_us);
                continue;
            }
            let mailbox = Mailbox::default();
            let (arrived, waker) = (Rc::clone(&mailbox), waker.clone());
            let put = move |result| {
                *arrived.borrow_mut() = Some(result);
                waker.wake();
            };
            match spdk::sock::connect(&address.to_string(), self.port, sock_impl, put) {
                Ok(attempt) => self.runners.push(Runner { address, _attempt: attempt, mailbox }),
                Err(errno) => self.failed(&address, errno, now_us),
            }
        }
        if !self.race.is_lost(now_us) {
            return Heat::On;
        }
        for runner in &self.runners {
            self.failures.push((runner.address.clone(), "connecting takes too long".to_owned()));
        }
        let failures: Vec<String> =
            self.failures.iter().map(|(address, why)| format!("{address}: {why}")).collect();
        Heat::Lost(failures.join("; "))
    }

    /// Returns which addresses have not connected, and why.
    pub fn failures(&mut self) -> impl Iterator<Item = (Address, String)> {
        self.failures.drain(..)
    }

    fn failed(&mut self, address: &Address, errno: spdk::Errno, now_us: u64) {
        self.failures.push((address.clone(), errno.to_string()));
        self.race.failed(now_us);
    }
}
