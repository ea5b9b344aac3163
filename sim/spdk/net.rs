//! The network: connections as pairs of byte streams, and what a network does to them.
//!
//! A socket here is the kernel's: it goes on receiving while its process is stopped, and outlives it for as
//! long as TCP would. What breaks it is in `faults`.

mod faults;

pub use faults::{black_hole, block, corrupt, cut, heal, refuse, sever};

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::errno::Result;
use crate::framing::{Corruption, Follower, Seen};
use crate::process::Death;
use crate::promise;
use crate::sock::Sock;
use crate::world::{Event, World, with};
use spdk_contract::sock::SockReady;

/// What connections are like in this world.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Most of the time that bytes are under way, µs.
    pub delay_us: u64,
    /// Bytes that a direction holds, the receiver's buffer included: from, to.
    pub buffer: (u64, u64),
    /// Of 1000 calls of `writev` and `recv`, how many move less than they could.
    pub partial: u64,
}

impl Default for NetConfig {
    fn default() -> NetConfig {
        NetConfig { delay_us: 200, buffer: (4096, 65_536), partial: 100 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed.
    Fin,
    /// The connection is reset.
    Reset,
}

struct Segment {
    at: u64,
    bytes: Vec<u8>,
    end: Option<End>,
}

pub(crate) struct SockState {
    pub process: u32,
    peer: u64,
    local: SocketAddr,
    remote: SocketAddr,
    /// Received, not yet read.
    rx: VecDeque<u8>,
    rx_end: Option<End>,
    /// On the way to this socket.
    under_way: VecDeque<Segment>,
    under_way_bytes: usize,
    /// Nothing arrives here before this time.
    hole_until: u64,
    /// Bytes towards this socket that there is room for, in all.
    room: usize,
    /// Whether its process has it.
    open: bool,
    /// The frames that this socket sends.
    follower: Follower,
    corrupt: Option<Corruption>,
    /// Requests sent on this connection and not answered, kept at the side that sends requests.
    outstanding: u32,
    credits: Option<u32>,
}

pub(crate) struct ListenerState {
    process: u32,
    addr: SocketAddr,
    backlog: VecDeque<u64>,
}

pub(crate) struct MemberState {
    pub sock: u64,
    pub owner: Rc<dyn SockReady>,
}

pub(crate) struct GroupState {
    pub process: u32,
    pub members: BTreeMap<u64, MemberState>,
}

pub(crate) type OnConnected = Box<dyn FnOnce(Result<Sock>)>;

pub(crate) struct Attempt {
    pub process: u32,
    pub thread: u64,
    pub to: SocketAddr,
    pub done: Option<OnConnected>,
    pub result: Option<Result<u64>>,
}

#[derive(Default)]
pub(crate) struct Net {
    pub config: NetConfig,
    pub socks: BTreeMap<u64, SockState>,
    pub listeners: BTreeMap<u64, ListenerState>,
    pub groups: BTreeMap<u64, GroupState>,
    pub attempts: BTreeMap<u64, Attempt>,
    /// Until when nothing of a process reaches an address, for new connections.
    blocked: BTreeMap<(u32, SocketAddr), u64>,
    /// Until when a process is refused by an address.
    refused: BTreeMap<(u32, SocketAddr), u64>,
    ports: u16,
}

impl SockState {
    fn new(process: u32, local: SocketAddr, remote: SocketAddr, room: usize) -> SockState {
        SockState {
            process,
            peer: 0,
            local,
            remote,
            rx: VecDeque::new(),
            rx_end: None,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            hole_until: 0,
            room,
            open: true,
            follower: Follower::new(),
            corrupt: None,
            outstanding: 0,
            credits: None,
        }
    }

    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.local, self.remote)
    }

    pub fn is_readable(&self) -> bool {
        !self.rx.is_empty() || self.rx_end.is_some()
    }
}

/// What a receive gives.
pub(crate) enum Received {
    Bytes(usize),
    Nothing,
    Closed,
    Reset,
}

/// Whether the process may use its sockets at all.
pub(crate) fn is_alive(w: &World, process: u32) -> bool {
    w.processes.get(&process).is_some_and(|p| p.alive)
}

/// Reads into `buf`.
pub(crate) fn receive(w: &mut World, sock: u64, bufs: &mut [&mut [u8]]) -> Received {
    let partial = w.rng.chance(w.net.config.partial);
    let dice = w.rng.bits();
    let Some(state) = w.net.socks.get_mut(&sock).filter(|s| s.open) else { return Received::Reset };
    if state.rx.is_empty() {
        return match state.rx_end {
            None => Received::Nothing,
            Some(End::Fin) => Received::Closed,
            Some(End::Reset) => Received::Reset,
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
    Received::Bytes(n)
}

/// Takes bytes from the process; 0: there is no room.
pub(crate) fn send(w: &mut World, sock: u64, bufs: &[&[u8]]) -> Received {
    let Some(state) = w.net.socks.get(&sock).filter(|s| s.open) else { return Received::Reset };
    if state.rx_end == Some(End::Reset) {
        return Received::Reset;
    }
    let peer = state.peer;
    let total: usize = bufs.iter().map(|buf| buf.len()).sum();
    let Some(other) = w.net.socks.get(&peer) else { return Received::Reset };
    let room = other.room.saturating_sub(other.rx.len() + other.under_way_bytes);
    let mut n = total.min(room);
    if n == 0 {
        return Received::Nothing;
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
    follow(w, sock, peer, &mut bytes);
    if !open {
        // Its kernel says that there is nobody.
        push(w, sock, Vec::new(), Some(End::Reset));
        return Received::Bytes(n);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let cut = if w.rng.chance(700) { rest.len() } else { 1 + w.rng.index(rest.len()) };
        let tail = rest.split_off(cut);
        push(w, peer, rest, None);
        rest = tail;
    }
    Received::Bytes(n)
}

/// Looks at the frames that go by, and corrupts a header if that was asked for.
fn follow(w: &mut World, sock: u64, peer: u64, bytes: &mut [u8]) {
    let mut seen = Vec::new();
    let Some(state) = w.net.socks.get_mut(&sock) else { return };
    let armed = state.corrupt.is_some();
    state.follower.pass(bytes, &mut state.corrupt, |what| seen.push(what));
    let done = armed && state.corrupt.is_none();
    if done {
        w.note(|| format!("network: a bit from socket {sock} is wrong"));
    }
    for what in seen {
        match what {
            Seen::Request => {
                let Some(state) = w.net.socks.get_mut(&sock) else { continue };
                state.outstanding += 1;
                let (now, most) = (state.outstanding, state.credits.unwrap_or(0));
                if now > most {
                    w.violation(promise::BOUNDED, format!("{now} requests outstanding, {most} were granted"));
                }
            }
            Seen::Answer => {
                if let Some(other) = w.net.socks.get_mut(&peer) {
                    other.outstanding = other.outstanding.saturating_sub(1);
                }
            }
            Seen::Welcome(credits) => {
                if let Some(other) = w.net.socks.get_mut(&peer) {
                    other.credits = Some(credits);
                }
            }
        }
    }
}

/// Puts bytes, or the end, on the way to a socket, behind what is under way.
fn push(w: &mut World, to: u64, bytes: Vec<u8>, end: Option<End>) {
    let delay = w.rng.below(w.net.config.delay_us.max(1));
    let now = w.now;
    let Some(state) = w.net.socks.get_mut(&to) else { return };
    let at = (now + delay).max(state.under_way.back().map_or(0, |segment| segment.at));
    state.under_way_bytes += bytes.len();
    state.under_way.push_back(Segment { at, bytes, end });
    w.at(at, Event::Deliver(to));
}

/// What has arrived by now can be read.
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

/// Forgets a connection that neither side has any more.
fn tidy(w: &mut World, sock: u64) {
    let Some(state) = w.net.socks.get(&sock) else { return };
    let peer = state.peer;
    if !state.open && w.net.socks.get(&peer).is_none_or(|other| !other.open) {
        w.net.socks.remove(&sock);
        w.net.socks.remove(&peer);
    }
}

/// The process closes a socket.
pub(crate) fn close(w: &mut World, sock: u64) {
    let Some(state) = w.net.socks.get_mut(&sock).filter(|state| state.open) else { return };
    state.open = false;
    let peer = state.peer;
    // As Linux does: with unread bytes the peer hears of a reset.
    let end = if state.rx.is_empty() && state.under_way.is_empty() { End::Fin } else { End::Reset };
    state.rx.clear();
    w.active();
    push(w, peer, Vec::new(), Some(end));
    tidy(w, sock);
}

/// A connection between two processes, which has an end at each of these addresses.
fn make_pair(w: &mut World, near: (u32, SocketAddr), far: (u32, SocketAddr)) -> (u64, u64) {
    let (low, high) = w.net.config.buffer;
    let (a, b) = (w.id(), w.id());
    let rooms = (w.rng.range(low, high) as usize, w.rng.range(low, high) as usize);
    w.net.socks.insert(a, SockState { peer: b, ..SockState::new(near.0, near.1, far.1, rooms.0) });
    w.net.socks.insert(b, SockState { peer: a, ..SockState::new(far.0, far.1, near.1, rooms.1) });
    (a, b)
}

/// A connection of nobody with nobody, for who wants nothing of the world but that.
pub(crate) fn pair(w: &mut World) -> (u64, u64) {
    let nobody = SocketAddr::new([127, 0, 0, 1].into(), 1);
    make_pair(w, (u32::MAX, nobody), (u32::MAX, nobody))
}

/// A connecting attempt begins.
pub(crate) fn connect_begins(w: &mut World, attempt: u64) {
    let delay = w.rng.below(2 * w.net.config.delay_us.max(1));
    w.active();
    let at = w.now + delay;
    w.at(at, Event::Connect(attempt));
}

/// A connecting attempt reaches its listener, or is in vain.
pub(crate) fn connect_arrives(w: &mut World, id: u64) {
    let Some(attempt) = w.net.attempts.get(&id) else { return };
    let (process, thread, to) = (attempt.process, attempt.thread, attempt.to);
    match w.net.blocked.get(&(process, to)) {
        Some(&until) if until > w.now => {
            // TCP tries again, for longer than anybody waits here.
            if until < u64::MAX {
                let later = until + w.rng.below(20_000);
                w.at(later, Event::Connect(id));
            }
            return;
        }
        _ => {}
    }
    let found = w.net.listeners.iter().find(|(_, l)| l.addr == to).map(|(&l, state)| (l, state.process));
    let refused = w.net.refused.get(&(process, to)).is_some_and(|&until| until > w.now);
    let result = match found.filter(|_| !refused) {
        None => Err(crate::Errno::ECONNREFUSED),
        Some((listener, server)) => {
            w.net.ports = w.net.ports.wrapping_add(1).max(1024);
            let from = SocketAddr::new([10, 0, 1, process as u8].into(), w.net.ports);
            let (a, b) = make_pair(w, (process, from), (server, to));
            if let Some(state) = w.net.listeners.get_mut(&listener) {
                state.backlog.push_back(b);
            }
            w.wake(server);
            w.note(|| format!("network: connection {a}-{b} from process {process} to {to}"));
            Ok(a)
        }
    };
    if let Some(attempt) = w.net.attempts.get_mut(&id) {
        attempt.result = Some(result);
    }
    let back = w.post(thread, Box::new(move || crate::sock::connected(id)));
    if let Some(message) = back {
        w.trash.push(Box::new(message));
    }
}

/// Begins to listen.
pub(crate) fn listen(w: &mut World, addr: SocketAddr) -> Result<u64> {
    let process = w.current_process().ok_or(crate::Errno::ESRCH)?;
    if w.net.listeners.values().any(|l| l.addr == addr) {
        return Err(crate::Errno::EADDRINUSE);
    }
    let id = w.id();
    w.net.listeners.insert(id, ListenerState { process, addr, backlog: VecDeque::new() });
    Ok(id)
}

/// The next connection that waits.
pub(crate) fn accept(w: &mut World, listener: u64) -> Option<u64> {
    let sock = w.net.listeners.get_mut(&listener)?.backlog.pop_front()?;
    w.active();
    Some(sock)
}

/// Ends a listener. Who waits there is reset.
pub(crate) fn unlisten(w: &mut World, listener: u64) {
    let Some(state) = w.net.listeners.remove(&listener) else { return };
    for sock in state.backlog {
        close(w, sock);
    }
}

/// The kernel takes back what a process had.
pub(crate) fn process_dies(w: &mut World, process: u32, death: Death) {
    let listeners: Vec<u64> =
        w.net.listeners.iter().filter(|(_, l)| l.process == process).map(|(&id, _)| id).collect();
    let socks: Vec<u64> =
        w.net.socks.iter().filter(|(_, s)| s.process == process && s.open).map(|(&id, _)| id).collect();
    for id in socks {
        if death == Death::Killed {
            close(w, id);
        } else if let Some(state) = w.net.socks.get_mut(&id) {
            // Nobody is told anything: what is sent there waits for an answer that never comes.
            state.open = false;
            let peer = state.peer;
            state.hole_until = u64::MAX;
            state.rx.clear();
            if let Some(other) = w.net.socks.get_mut(&peer) {
                other.hole_until = u64::MAX;
            }
            tidy(w, id);
        }
    }
    for id in listeners {
        unlisten(w, id);
    }
}

/// Whether sockets of the process are still in groups.
pub(crate) fn has_members(w: &World, process: u32) -> bool {
    w.net.groups.values().any(|group| group.process == process && !group.members.is_empty())
}

/// Takes out what belongs to a dead process, for dropping.
pub(crate) fn forget_process(w: &mut World, process: u32, corpse: &mut Vec<Box<dyn Any>>) {
    let groups: Vec<u64> =
        w.net.groups.iter().filter(|(_, g)| g.process == process).map(|(&id, _)| id).collect();
    for id in groups {
        corpse.push(Box::new(w.net.groups.remove(&id)));
    }
    let attempts: Vec<u64> =
        w.net.attempts.iter().filter(|(_, a)| a.process == process).map(|(&id, _)| id).collect();
    for id in attempts {
        corpse.push(Box::new(w.net.attempts.remove(&id)));
    }
}

/// Sets what the network is like.
pub fn configure(config: NetConfig) {
    with(|w| w.net.config = config);
}

/// The connections that have an open end: the number of the side that connected.
pub fn connections() -> Vec<u64> {
    with(|w| {
        let near = |(&id, s): (&u64, &SockState)| {
            (s.open && id < s.peer && w.net.socks.get(&s.peer).is_some_and(|p| p.open)).then_some(id)
        };
        w.net.socks.iter().filter_map(near).collect()
    })
}

/// The open connections between two processes.
pub fn between(client: u32, server: u32) -> Vec<u64> {
    let all = connections();
    let of = |id: &u64| {
        with(|w| {
            let near = &w.net.socks[id];
            near.process == client && w.net.socks.get(&near.peer).is_some_and(|far| far.process == server)
        })
    };
    all.into_iter().filter(of).collect()
}

/// How many sockets a process has open.
pub fn open_sockets(process: u32) -> usize {
    with(|w| w.net.socks.values().filter(|s| s.process == process && s.open).count())
}
