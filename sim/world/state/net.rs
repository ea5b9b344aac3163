//! The network: sockets, the bytes on their way to them, listeners, and attempts to connect.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

/// The network's properties.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// The longest time for which bytes are on their way, in µs.
    pub delay_us: u64,
    /// The bytes that one direction holds, the receiver's buffer included: lowest and highest.
    pub buffer: (u64, u64),
    /// How many of 1,000 sends and receives move less than they could.
    pub partial: u64,
}

impl Default for NetConfig {
    fn default() -> NetConfig {
        NetConfig { delay_us: 200, buffer: (4096, 65_536), partial: 100 }
    }
}

/// An observer of all bytes that are sent, which may change them. The network itself knows no
/// frames.
pub trait Tap {
    /// Sees bytes on their way from a socket to its peer. Returns whether it changed any of them.
    fn pass(&self, from: u64, to: u64, bytes: &mut [u8]) -> bool;

    /// Drops what is known of a socket whose connection is gone.
    fn forget(&self, sock: u64);
}

/// How the stream towards a socket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed the connection.
    Fin,
    /// The connection was reset.
    Reset,
}

pub(crate) struct Segment {
    pub at: u64,
    pub bytes: Vec<u8>,
    pub end: Option<End>,
}

pub(crate) struct Socket {
    pub process: u32,
    pub peer: u64,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Bytes that have arrived and were not read yet.
    pub rx: VecDeque<u8>,
    pub rx_end: Option<End>,
    /// Segments on their way to this socket.
    pub under_way: VecDeque<Segment>,
    pub under_way_bytes: usize,
    /// Nothing arrives at this socket before this time.
    pub hole_until: u64,
    /// How many bytes fit in this direction, on their way and unread.
    pub room: usize,
    /// Whether the process has not closed the socket.
    pub open: bool,
}

impl Socket {
    pub fn new(process: u32, peer: u64, local: SocketAddr, remote: SocketAddr, room: usize) -> Socket {
        Socket {
            process,
            peer,
            local,
            remote,
            rx: VecDeque::new(),
            rx_end: None,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            hole_until: 0,
            room,
            open: true,
        }
    }
}

pub(crate) struct Listener {
    pub process: u32,
    pub addr: SocketAddr,
    pub backlog: VecDeque<u64>,
}

/// The error of an attempt that is refused, or that finds no listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// An attempt to connect.
pub(crate) struct Attempt {
    pub process: u32,
    pub thread: u64,
    pub to: SocketAddr,
    /// Called on the attempt's thread when there is a result.
    pub told: fn(u64),
    pub result: Option<Result<u64, Refused>>,
}

#[derive(Default)]
pub(crate) struct Net {
    pub config: NetConfig,
    pub socks: BTreeMap<u64, Socket>,
    pub listeners: BTreeMap<u64, Listener>,
    pub attempts: BTreeMap<u64, Attempt>,
    /// The time until which a process's new connections to an address get no answer.
    pub blocked: BTreeMap<(u32, SocketAddr), u64>,
    /// The time until which a process's new connections to an address are refused.
    pub refused: BTreeMap<(u32, SocketAddr), u64>,
    pub ports: u16,
    pub tap: Option<Rc<dyn Tap>>,
}
