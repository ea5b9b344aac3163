//! Sockets, as `spdk/safe` has them.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

pub use spdk_contract::sock::{SockReady, Traffic};

use crate::errno::{Errno, Result};
use crate::iov::{Iov, IovMut};
use crate::net::{self, Attempt, GroupState, MemberState, Received};
use crate::world::{with, with_in_drop};

/// A connection. Closed when dropped.
pub struct Sock {
    id: u64,
}

fn outcome(received: Received) -> Result<Option<usize>> {
    match received {
        Received::Bytes(n) => Ok(Some(n)),
        Received::Nothing => Ok(None),
        Received::Closed => Ok(Some(0)),
        Received::Reset => Err(Errno::ECONNRESET),
    }
}

impl Sock {
    /// Both ends of a connection that belong to no process: the fuzzer's, who has no other world.
    pub fn pair() -> (Sock, Sock) {
        let (a, b) = with(net::pair);
        (Sock { id: a }, Sock { id: b })
    }

    /// Receives into `buf`. `None`: nothing there. `Some(0)`: the peer has closed.
    pub fn recv(&self, buf: &mut [u8]) -> Result<Option<usize>> {
        if buf.is_empty() {
            return Ok(None);
        }
        outcome(with(|w| net::receive(w, self.id, &mut [buf])))
    }

    /// Receives into `iovs`.
    pub fn readv(&self, iovs: &mut IovMut<'_>) -> Result<Option<usize>> {
        if iovs.is_empty() {
            return Ok(None);
        }
        outcome(with(|w| net::receive(w, self.id, &mut iovs.0)))
    }

    /// Sends from `iovs`: the bytes taken. `None`: no room for any now.
    pub fn writev(&self, iovs: &Iov<'_>) -> Result<Option<usize>> {
        if iovs.is_empty() {
            return Ok(Some(0));
        }
        outcome(with(|w| net::send(w, self.id, &iovs.0)))
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        with(|w| w.net.socks.get(&self.id).map(|s| s.addresses().1)).ok_or(Errno::ENOTCONN)
    }

    /// Our own address.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        with(|w| w.net.socks.get(&self.id).map(|s| s.addresses().0)).ok_or(Errno::ENOTCONN)
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        with_in_drop(|w| net::close(w, self.id));
    }
}

/// An attempt under way. Dropping it gives it up.
pub struct Connecting {
    id: u64,
}

fn endpoint(addr: &str, port: u16) -> Result<SocketAddr> {
    let plain = addr.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(addr);
    let ip: IpAddr = plain.parse().map_err(|_| Errno::EINVAL)?;
    Ok(SocketAddr::new(ip, port))
}

/// Starts to connect and calls `done` on this SPDK thread with what came of it, later.
pub fn connect(
    addr: &str,
    port: u16,
    _sock_impl: Option<&str>,
    done: impl FnOnce(Result<Sock>) + 'static,
) -> Result<Connecting> {
    let to = endpoint(addr, port)?;
    let mut done: Option<net::OnConnected> = Some(Box::new(done));
    let id = with(|w| {
        let thread = w.current.ok_or(Errno::ESRCH)?;
        let process = w.current_process().ok_or(Errno::ESRCH)?;
        let id = w.id();
        w.net.attempts.insert(id, Attempt { process, thread, to, done: done.take(), result: None });
        net::connect_begins(w, id);
        Ok(id)
    })?;
    Ok(Connecting { id })
}

/// On the thread that asked: an attempt has its result.
pub(crate) fn connected(id: u64) {
    let attempt = with(|w| w.net.attempts.remove(&id));
    if let Some(Attempt { done: Some(done), result: Some(result), .. }) = attempt {
        done(result.map(|id| Sock { id }));
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        let mut attempt = None;
        with_in_drop(|w| attempt = w.net.attempts.remove(&self.id));
        if let Some(Attempt { result: Some(Ok(id)), .. }) = attempt {
            drop(Sock { id });
        }
    }
}

/// A listening socket, closed when dropped.
pub struct Listener {
    id: u64,
    at: SocketAddr,
}

impl Listener {
    /// Listens at an IP address.
    pub fn listen(addr: &str, port: u16, _sock_impl: Option<&str>) -> Result<Listener> {
        let at = endpoint(addr, port)?;
        let id = with(|w| net::listen(w, at))?;
        Ok(Listener { id, at })
    }

    /// The next connection that waits, if any.
    pub fn accept(&self) -> Option<Sock> {
        with(|w| net::accept(w, self.id)).map(|id| Sock { id })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.at)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        with_in_drop(|w| net::unlisten(w, self.id));
    }
}

/// Whether SPDK has a socket implementation of that name.
pub fn impl_exists(name: &str) -> bool {
    name == "posix"
}

/// Sockets that one SPDK thread polls together.
pub struct Group {
    id: u64,
}

/// A socket's place in a group, and a share in its owner. Dropping it ends both.
pub struct Member {
    group: u64,
    id: u64,
}

/// Many sockets: here one group polls any number.
pub type Groups = Group;

impl Group {
    /// A group for the current SPDK thread.
    pub fn create() -> Result<Group> {
        with(|w| {
            let process = w.current_process().ok_or(Errno::ESRCH)?;
            let id = w.id();
            w.net.groups.insert(id, GroupState { process, members: Default::default() });
            Ok(Group { id })
        })
    }

    /// Puts `sock` into the group.
    pub fn add<T: SockReady + 'static>(&self, sock: &Sock, owner: Rc<T>, _: Traffic) -> Result<Member> {
        with(|w| {
            let id = w.id();
            let group = w.net.groups.get_mut(&self.id).ok_or(Errno::EIO)?;
            group.members.insert(id, MemberState { sock: sock.id, owner });
            Ok(Member { group: self.id, id })
        })
    }

    /// Calls the owners of readable sockets, at most `max_events` of them. The number called.
    pub fn poll(&self, max_events: usize) -> Result<usize> {
        let ready: Vec<u64> = with(|w| {
            let dead = w.processes.values().filter(|p| !p.alive).count() > 0;
            let start = w.rng.bits();
            let Some(group) = w.net.groups.get(&self.id) else { return Vec::new() };
            let dead = dead && !net::is_alive(w, group.process);
            let is_ready =
                |m: &MemberState| dead || w.net.socks.get(&m.sock).is_none_or(|sock| sock.is_readable());
            let mut ready: Vec<u64> =
                group.members.iter().filter(|(_, m)| is_ready(m)).map(|(&id, _)| id).collect();
            if !ready.is_empty() {
                let by = (start % ready.len() as u64) as usize;
                ready.rotate_left(by);
            }
            ready.truncate(max_events);
            ready
        });
        let mut called = 0;
        for id in ready {
            let owner = with(|w| w.net.groups.get(&self.id)?.members.get(&id).map(|m| Rc::clone(&m.owner)));
            if let Some(owner) = owner {
                called += 1;
                owner.readable();
            }
        }
        Ok(called)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut gone = None;
        with_in_drop(|w| gone = w.net.groups.remove(&self.id));
        drop(gone);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut gone = None;
        with_in_drop(|w| gone = w.net.groups.get_mut(&self.group).and_then(|g| g.members.remove(&self.id)));
        drop(gone);
    }
}
