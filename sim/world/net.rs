//! The network: connections as pairs of byte streams.
//!
//! As in a kernel, a socket still receives while its process is stopped, and outlives the process
//! for as long as TCP would. [`faults`] breaks connections.

pub mod connecting;
pub mod faults;
pub mod ownership;

use std::net::SocketAddr;
use std::rc::Rc;

pub use self::connecting::{accept, attempt, connect, listen, unlisten};
pub use self::faults::{black_hole, block, cut, heal, refuse, sever};
pub use self::ownership::{between, connections, open_sockets, peer, to};
use crate::state::Event;
use crate::state::net::{End, Segment, Socket};
pub use crate::state::net::{NetConfig, Refused, Tap};
use crate::world::{World, with};

/// The result of a send or a receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// This many bytes were moved.
    Bytes(usize),
    /// There is nothing to receive, or no room to send.
    Nothing,
    /// The peer has closed the connection.
    Closed,
    /// The connection was reset.
    Reset,
}

/// Sets the network's properties.
pub fn configure(config: NetConfig) {
    with(|w| w.net.config = config);
}

/// Passes all bytes that are sent from now on through `tap`.
pub fn set_tap(tap: Rc<dyn Tap>) {
    with(|w| w.net.tap = Some(tap));
}

/// Receives into `bufs`, in order.
pub fn receive(w: &mut World, sock: u64, bufs: &mut [&mut [u8]]) -> Moved {
    let partial = w.rng.chance(w.net.config.partial);
    let dice = w.rng.bits();
    let Some(state) = w.net.socks.get_mut(&sock).filter(|s| s.open) else { return Moved::Reset };
    if state.rx.is_empty() {
        return match state.rx_end {
            None => Moved::Nothing,
            Some(End::Fin) => Moved::Closed,
            Some(End::Reset) => Moved::Reset,
        };
    }
    let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
    let mut n = wanted.min(state.rx.len());
    if partial && n > 1 {
        n = 1 + (dice % (n as u64 - 1)) as usize;
    }
    let mut left = n;
    for buf in bufs {
        let take = left.min(buf.len());
        for (to, from) in buf.iter_mut().zip(state.rx.drain(..take)) {
            *to = from;
        }
        left -= take;
    }
    w.active();
    Moved::Bytes(n)
}

/// Sends from `bufs`, as much as fits.
pub fn send(w: &mut World, sock: u64, bufs: &[&[u8]]) -> Moved {
    let Some(state) = w.net.socks.get(&sock).filter(|s| s.open) else { return Moved::Reset };
    if state.rx_end == Some(End::Reset) {
        return Moved::Reset;
    }
    let peer = state.peer;
    let total: usize = bufs.iter().map(|buf| buf.len()).sum();
    let Some(other) = w.net.socks.get(&peer) else { return Moved::Reset };
    let room = other.room.saturating_sub(other.rx.len() + other.under_way_bytes);
    let mut n = total.min(room);
    if n == 0 {
        return Moved::Nothing;
    }
    let open = other.open;
    if w.rng.chance(w.net.config.partial) {
        n = 1 + w.rng.index(n);
    }
    w.active();
    let mut bytes: Vec<u8> = Vec::with_capacity(n);
    for buf in bufs {
        let take = buf.len().min(n - bytes.len());
        bytes.extend_from_slice(&buf[..take]);
    }
    if let Some(tap) = w.net.tap.clone()
        && tap.pass(sock, peer, &mut bytes)
    {
        w.note(|| format!("network: a bit from socket {sock} is wrong"));
    }
    if !open {
        // The kernel of the peer replies that the socket does not exist.
        push(w, sock, Vec::new(), Some(End::Reset));
        return Moved::Bytes(n);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let cut = if w.rng.chance(700) { rest.len() } else { 1 + w.rng.index(rest.len()) };
        let tail = rest.split_off(cut);
        push(w, peer, rest, None);
        rest = tail;
    }
    Moved::Bytes(n)
}

/// Sends bytes, or the end, to a socket, after those that are already on their way.
pub(crate) fn push(w: &mut World, to: u64, bytes: Vec<u8>, end: Option<End>) {
    let delay = w.rng.below(w.net.config.delay_us.max(1));
    let now = w.now;
    let Some(state) = w.net.socks.get_mut(&to) else { return };
    let at = (now + delay).max(state.under_way.back().map_or(0, |segment| segment.at));
    state.under_way_bytes += bytes.len();
    state.under_way.push_back(Segment { at, bytes, end });
    w.at(at, Event::Deliver(to));
}

/// Makes the bytes that have arrived by now readable.
pub(crate) fn deliver(w: &mut World, sock: u64) {
    let now = w.now;
    let dice = w.rng.bits();
    let Some(state) = w.net.socks.get_mut(&sock) else { return };
    if now < state.hole_until {
        return;
    }
    let mut any = false;
    while state.under_way.front().is_some_and(|segment| segment.at <= now) {
        let Some(segment) = state.under_way.pop_front() else { break };
        state.under_way_bytes -= segment.bytes.len();
        if state.rx_end.is_some() {
            continue;
        }
        any = true;
        state.rx.extend(&segment.bytes);
        state.rx_end = segment.end;
        if segment.end == Some(End::Reset) && dice & 1 == 0 {
            state.rx.clear();
        }
    }
    let process = state.process;
    if any {
        w.wake(process);
    }
    tidy(w, sock);
}

/// Drops a connection that neither side has any more.
pub(crate) fn tidy(w: &mut World, sock: u64) {
    let Some(state) = w.net.socks.get(&sock) else { return };
    let peer = state.peer;
    if !state.open && w.net.socks.get(&peer).is_none_or(|other| !other.open) {
        for gone in [sock, peer] {
            w.net.socks.remove(&gone);
            if let Some(tap) = &w.net.tap {
                tap.forget(gone);
            }
        }
    }
}

/// Closes a process's socket.
pub fn close(w: &mut World, sock: u64) {
    let Some(state) = w.net.socks.get_mut(&sock).filter(|state| state.open) else { return };
    state.open = false;
    let peer = state.peer;
    // As on Linux, closing a socket with unread bytes resets the connection.
    let end = if state.rx.is_empty() && state.under_way.is_empty() { End::Fin } else { End::Reset };
    state.rx.clear();
    w.active();
    push(w, peer, Vec::new(), Some(end));
    tidy(w, sock);
}

/// Creates a connection between two processes at two addresses. Returns both its sockets.
pub(crate) fn make_pair(w: &mut World, near: (u32, SocketAddr), far: (u32, SocketAddr)) -> (u64, u64) {
    let (low, high) = w.net.config.buffer;
    let (a, b) = (w.id(), w.id());
    let rooms = (w.rng.range(low, high) as usize, w.rng.range(low, high) as usize);
    w.net.socks.insert(a, Socket::new(near.0, b, near.1, far.1, rooms.0));
    w.net.socks.insert(b, Socket::new(far.0, a, far.1, near.1, rooms.1));
    (a, b)
}

/// Creates a connection that belongs to no process. Returns both its sockets.
pub fn pair(w: &mut World) -> (u64, u64) {
    let nobody = SocketAddr::new([127, 0, 0, 1].into(), 1);
    make_pair(w, (u32::MAX, nobody), (u32::MAX, nobody))
}

/// Returns the addresses of the socket's own end and of its peer.
pub fn addresses(w: &World, sock: u64) -> Option<(SocketAddr, SocketAddr)> {
    w.net.socks.get(&sock).map(|socket| (socket.local, socket.remote))
}

/// Returns whether a receive would return bytes or an end.
pub fn is_readable(w: &World, sock: u64) -> bool {
    w.net.socks.get(&sock).is_none_or(|socket| !socket.rx.is_empty() || socket.rx_end.is_some())
}
