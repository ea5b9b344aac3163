//! Where connections are accepted: connections that are half open, and those that wait.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::event::ConnectionId;

/// A listener. Both queues may name connections that have ended meanwhile.
#[derive(Debug)]
pub(crate) struct Listener {
    /// An unspecified address stands for all.
    pub address: SocketAddr,
    /// How many connections may wait to be accepted.
    pub backlog: usize,
    /// The oldest first.
    pub half_open: VecDeque<ConnectionId>,
    /// To be accepted.
    pub waiting: VecDeque<ConnectionId>,
    /// SYNs that are answered with cookies before it is seen again whether there is room.
    pub cookies_left: usize,
    /// When a SYN was answered with a cookie last.
    pub cookie_at: Option<u64>,
}

impl Listener {
    pub fn new(address: SocketAddr, backlog: usize) -> Listener {
        Listener {
            address,
            backlog,
            half_open: VecDeque::new(),
            waiting: VecDeque::new(),
            cookies_left: 0,
            cookie_at: None,
        }
    }

    /// Returns how well the listener fits an address: not at all, by its port, or exactly.
    pub fn fit(&self, address: SocketAddr) -> Option<u8> {
        let is_any = self.address.ip().is_unspecified() && self.address.is_ipv4() == address.is_ipv4();
        match (self.address.port() == address.port(), self.address.ip() == address.ip(), is_any) {
            (true, true, _) => Some(2),
            (true, false, true) => Some(1),
            _ => None,
        }
    }
}
