//! Attempts to connect to several addresses side by side; the rules are in
//! [`dst_session::addresses`].

use std::cell::RefCell;
use std::rc::Rc;

use dst_session::addresses::Race;
use spdk::poller::Waker;
use spdk::sock::{Connecting, Sock};

use crate::address::Address;

/// The number of files that connecting leaves unopened, so that RPCs can be answered; a target
/// keeps as many.
const SPARE_FILES: u64 = 64;

/// The cell into which the callback of a connect puts the socket.
type Mailbox = Rc<RefCell<Option<spdk::Result<Sock>>>>;

/// One attempt under way. Dropping it ends the attempt and closes its socket, on which no byte was
/// sent, unless the socket was taken out.
struct ConnectAttempt {
    address: Address,
    _attempt: Connecting,
    mailbox: Mailbox,
}

/// Attempts to connect to several addresses, of which the first that succeeds wins.
pub struct ConnectRace {
    rules: Race<Address>,
    port: u16,
    attempts: Vec<ConnectAttempt>,
    /// The failed addresses with the reasons.
    failures: Vec<(Address, String)>,
}

/// The progress of a race.
pub enum RaceProgress {
    /// Attempts are under way.
    Running,
    /// This address was the first to connect.
    Won(Address, Sock),
    /// No address connects, for this reason.
    Lost(String),
}

impl ConnectRace {
    /// Begins a race for a port; each address has `limit_us` to connect.
    pub fn new(addresses: Vec<Address>, port: u16, limit_us: u64, now_us: u64) -> ConnectRace {
        let rules = Race::new(addresses, limit_us, now_us);
        ConnectRace { rules, port, attempts: Vec::new(), failures: Vec::new() }
    }

    /// Continues the race.
    pub fn advance(&mut self, sock_impl: Option<&str>, waker: &Waker, now_us: u64) -> RaceProgress {
        let mut at = 0;
        while let Some(attempt) = self.attempts.get(at) {
            let arrived = attempt.mailbox.borrow_mut().take();
            match arrived {
                Some(Ok(sock)) => return RaceProgress::Won(attempt.address.clone(), sock),
                Some(Err(errno)) => {
                    let attempt = self.attempts.remove(at);
                    self.failed(&attempt.address, errno, now_us);
                }
                None => at += 1,
            }
        }
        while let Some(address) = self.rules.next_start(now_us) {
            if !spdk::open_files::has_more_than(SPARE_FILES) {
                let why = format!(
                    "only {SPARE_FILES} more files may be opened, which are kept for RPCs; raise the limit of open \
                     files (LimitNOFILE= of systemd, ulimit -n)"
                );
                self.failures.push((address, why));
                self.rules.failed(now_us);
                continue;
            }
            let mailbox = Mailbox::default();
            let (arrived, waker) = (Rc::clone(&mailbox), waker.clone());
            let put = move |result| {
                *arrived.borrow_mut() = Some(result);
                waker.wake();
            };
            match spdk::sock::connect(&address.to_string(), self.port, sock_impl, put) {
                Ok(attempt) => self.attempts.push(ConnectAttempt { address, _attempt: attempt, mailbox }),
                Err(errno) => self.failed(&address, errno, now_us),
            }
        }
        if !self.rules.is_lost(now_us) {
            return RaceProgress::Running;
        }
        for attempt in &self.attempts {
            self.failures.push((attempt.address.clone(), "connecting takes too long".to_owned()));
        }
        let failures: Vec<String> =
            self.failures.iter().map(|(address, why)| format!("{address}: {why}")).collect();
        RaceProgress::Lost(failures.join("; "))
    }

    /// Removes and returns the addresses that have failed, with the reasons.
    pub fn failures(&mut self) -> impl Iterator<Item = (Address, String)> {
        self.failures.drain(..)
    }

    fn failed(&mut self, address: &Address, errno: spdk::Errno, now_us: u64) {
        self.failures.push((address.clone(), errno.to_string()));
        self.rules.failed(now_us);
    }
}
