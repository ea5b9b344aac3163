//! Where the target listens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use spdk::interrupt::Watch;
use spdk::poller::{Poller, Turn};
use spdk::sock::Listener as SockListener;
use spdk::sock::Sock;

use crate::error::Error;
use crate::retry::Retry;

/// How often new connections are looked for.
const ACCEPT_PERIOD_US: u64 = 1000;

/// How often when the poller rests, for what the socket does not tell.
const REST_US: u64 = 1_000_000;

/// Connections accepted in one go.
const ACCEPTS_A_POLL: usize = 32;

/// Address, port and socket implementation of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// The address; unspecified: all of its family.
    pub addr: IpAddr,
    /// The port.
    pub port: u16,
    /// SPDK's socket implementation; none: SPDK's choice.
    pub sock_impl: Option<String>,
}

impl ListenAddress {
    /// Whether the other is the same place.
    pub fn is_same_place(&self, other: &ListenAddress) -> bool {
        self.addr == other.addr && self.port == other.port
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", SocketAddr::new(self.addr, self.port))
    }
}

/// A listening socket, polled on the control thread.
pub struct Listener {
    /// Where.
    pub address: ListenAddress,
    _watch: Watch,
    /// Its closure has the socket.
    _poller: Poller,
}

impl Listener {
    /// Listens. While `may_accept` returns true, new connections are given to `accept`.
    ///
    /// # Errors
    /// The address is in use, not of this machine, or not allowed.
    pub fn start(
        address: ListenAddress,
        may_accept: impl Fn() -> bool + 'static,
        accept: impl Fn(Sock, SocketAddr) + 'static,
    ) -> Result<Listener, Error> {
        let text = address.to_string();
        let error = move |errno| Error::Listen { address: text.clone(), errno };
        let listener =
            SockListener::listen(&address.addr.to_string(), address.port, address.sock_impl.as_deref())
                .map_err(error.clone())?;
        let listener = Rc::new(listener);
        let socket = Rc::clone(&listener);
        let poller = Poller::resting(ACCEPT_PERIOD_US, REST_US, move || {
            let mut accepted = 0;
            while accepted < ACCEPTS_A_POLL
                && may_accept()
                && let Some(sock) = socket.accept()
            {
                accepted += 1;
                // A peer that has gone already has no address; there is nobody to tell.
                if let Ok(peer) = sock.peer_addr() {
                    accept(sock, peer);
                }
            }
            Turn::from(accepted > 0)
        })
        .map_err(error.clone())?;
        let watch = listener.watch(&poller.waker()).map_err(error)?;
        Ok(Listener { address, _watch: watch, _poller: poller })
    }
}

/// A listener that an operator has created.
pub enum Configured {
    /// Connections are accepted.
    Listening(Listener),
    /// The machine does not have the address yet.
    Waiting(ListenAddress, Retry),
}

impl Configured {
    /// Returns where.
    pub fn address(&self) -> &ListenAddress {
        match self {
            Configured::Listening(listener) => &listener.address,
            Configured::Waiting(address, _) => address,
        }
    }
}

/// A listener as `dst_get_listeners` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerInfo {
    /// Where.
    pub address: ListenAddress,
    /// Why no connections are accepted; `None`: they are.
    pub waits: Option<String>,
}
