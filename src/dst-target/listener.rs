//! Listening sockets, and listeners that wait for their address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use spdk::interrupt::Watch;
use spdk::poller::{Poller, Turn};
use spdk::sock::Listener as SockListener;
use spdk::sock::Sock;

use crate::error::Error;
use crate::listen_retry::ListenRetry;

/// The period in which new connections are accepted, µs.
const ACCEPT_PERIOD_US: u64 = 1000;

/// The same period of a resting poller, µs. The socket wakes that poller, so the period is only for
/// changes that the socket does not report.
const REST_US: u64 = 1_000_000;

/// The maximum number of connections accepted in one call of the poller.
const ACCEPTS_A_POLL: usize = 32;

/// Address, port and socket implementation of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// The address. The unspecified address stands for all addresses of its family.
    pub addr: IpAddr,
    /// The port.
    pub port: u16,
    /// SPDK's socket implementation, or `None` for SPDK's default.
    pub sock_impl: Option<String>,
}

impl ListenAddress {
    /// Returns true if `other` has the same address and port.
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
    /// The address and port.
    pub address: ListenAddress,
    _watch: Watch,
    /// The poller, whose closure owns the socket.
    _poller: Poller,
}

impl Listener {
    /// Starts to listen. While `may_accept` returns true, new connections are passed to `accept`.
    ///
    /// # Errors
    /// Fails if the address is in use, does not belong to this machine, or is not permitted.
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
                // A socket without a peer address was closed by its peer already.
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
pub enum ConfiguredListener {
    /// Connections are accepted.
    Listening(Listener),
    /// The machine does not have the address yet.
    Waiting(ListenAddress, ListenRetry),
}

impl ConfiguredListener {
    /// Returns the address and port.
    pub fn address(&self) -> &ListenAddress {
        match self {
            ConfiguredListener::Listening(listener) => &listener.address,
            ConfiguredListener::Waiting(address, _) => address,
        }
    }
}

/// A listener as `dst_get_listeners` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerInfo {
    /// The address and port.
    pub address: ListenAddress,
    /// The reason for which no connections are accepted, or `None` if they are.
    pub waits: Option<String>,
}
