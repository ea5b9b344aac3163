//! The network: sockets, what is on its way to them, listeners, and attempts to connect.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

/// What connections are like in this world.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Most of the time that bytes are under way, µs.
    pub delay_us: u64,
    /// Bytes that a direction holds, the receiver's buffer included: from, to.
    pub buffer: (u64, u64),
    /// Of 1000 calls that send or receive, how many move less than they could.
    pub partial: u64,
}

impl Default for NetConfig {
    fn default() -> NetConfig {
        NetConfig { delay_us: 200, buffer: (4096, 65_536), partial: 100 }
    }
}

/// Looks at all bytes that are sent, and may change them: the network itself knows no frames.
pub trait Tap {
    /// Sees bytes on their way from a socket to its peer. Returns whether any of them was changed.
    fn pass(&self, from: u64, to: u64, bytes: &mut [u8]) -> bool;

    /// Forgets a socket: its connection is gone.
    fn forget(&self, sock: u64);
}

/// How the bytes towards a socket end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed.
    Fin,
    /// The connection is reset.
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
    /// Received, not yet read.
    pub rx: VecDeque<u8>,
    pub rx_end: Option<End>,
    /// On the way to this socket.
    pub under_way: VecDeque<Segment>,
    pub under_way_bytes: usize,
    /// Nothing arrives here before this time.
    pub hole_until: u64,
    /// Bytes towards this socket that there is room for, in all.
    pub room: usize,
    /// Whether its process has it.
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

/// Nobody listens there, or the attempt is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// An attempt to connect.
pub(crate) struct Attempt {
    pub process: u32,
    pub thread: u64,
    pub to: SocketAddr,
    /// Called on the thread when there is a result.
    pub told: fn(u64),
    pub result: Option<Result<u64, Refused>>,
}

#[derive(Default)]
pub(crate) struct Net {
    pub config: NetConfig,
    pub socks: BTreeMap<u64, Socket>,
    pub listeners: BTreeMap<u64, Listener>,
    pub attempts: BTreeMap<u64, Attempt>,
    /// Until when nothing of a process reaches an address, for new connections.
    pub blocked: BTreeMap<(u32, SocketAddr), u64>,
    /// Until when a process is refused by an address.
    pub refused: BTreeMap<(u32, SocketAddr), u64>,
    pub ports: u16,
    pub tap: Option<Rc<dyn Tap>>,
}
