//! Sockets, with the API of `spdk/safe`.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

pub use spdk_contract::sock::{SockReady, Traffic};
use world::net::{self, Moved, Refused};
use world::slots::Slot;
use world::{with, with_in_drop};

use crate::errno::{Errno, Result};
use crate::iov::{Iov, IovMut};

/// A connection, closed when dropped.
pub struct Sock {
    id: u64,
}

fn outcome(moved: Moved) -> Result<Option<usize>> {
    match moved {
        Moved::Bytes(n) => Ok(Some(n)),
        Moved::Nothing => Ok(None),
        Moved::Closed => Ok(Some(0)),
        Moved::Reset => Err(Errno::ECONNRESET),
    }
}

impl Sock {
    /// Returns `None`: it is all the same which thread uses a socket.
    pub fn placement(&self) -> Option<usize> {
        None
    }

    /// Returns both ends of a connection that belongs to no process. The fuzzer uses this, since it
    /// has no other world.
    pub fn pair() -> (Sock, Sock) {
        let (a, b) = with(net::pair);
        (Sock { id: a }, Sock { id: b })
    }

    /// Receives into `buf`. Returns the number of bytes, `None` if there is nothing to receive, and
    /// `Some(0)` if the peer has closed.
    pub fn recv(&self, buf: &mut [u8]) -> Result<Option<usize>> {
        if buf.is_empty() {
            return Ok(None);
        }
        outcome(with(|w| net::receive(w, self.id, &mut [buf])))
    }

    /// Receives into `iovs`. Returns what [`Sock::recv`] does.
    pub fn readv(&self, iovs: &mut IovMut<'_>) -> Result<Option<usize>> {
        if iovs.is_empty() {
            return Ok(None);
        }
        outcome(with(|w| net::receive(w, self.id, &mut iovs.0)))
    }

    /// Sends from `iovs`. Returns the number of bytes taken, or `None` if there is no room now.
    pub fn writev(&self, iovs: &Iov<'_>) -> Result<Option<usize>> {
        if iovs.is_empty() {
            return Ok(Some(0));
        }
        outcome(with(|w| net::send(w, self.id, &iovs.0)))
    }

    /// Returns the peer's address.
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        with(|w| Some(net::addresses(w, self.id)?.1)).ok_or(Errno::ENOTCONN)
    }

    /// Returns the socket's own address.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        with(|w| Some(net::addresses(w, self.id)?.0)).ok_or(Errno::ENOTCONN)
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        with_in_drop(|w| net::close(w, self.id));
    }
}

type OnConnected = Box<dyn FnOnce(Result<Sock>)>;

/// The closures that wait for attempts to connect, by the attempt's number, each with its process.
#[derive(Default)]
struct Waiting(BTreeMap<u64, (u32, OnConnected)>);

impl Slot for Waiting {
    fn take(&mut self, process: u32) -> Option<Box<dyn Any>> {
        let gone: Vec<_> = self.0.extract_if(.., |_, (owner, _)| *owner == process).collect();
        Some(Box::new(gone))
    }
}

/// An attempt to connect in progress. Dropping it gives the attempt up.
pub struct Connecting {
    id: u64,
}

fn endpoint(addr: &str, port: u16) -> Result<SocketAddr> {
    let plain = addr.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(addr);
    let ip: IpAddr = plain.parse().map_err(|_| Errno::EINVAL)?;
    Ok(SocketAddr::new(ip, port))
}

/// Starts to connect. `done` is called later, on this SPDK thread, with the result.
pub fn connect(
    addr: &str,
    port: u16,
    _sock_impl: Option<&str>,
    done: impl FnOnce(Result<Sock>) + 'static,
) -> Result<Connecting> {
    let to = endpoint(addr, port)?;
    let mut done: Option<OnConnected> = Some(Box::new(done));
    let id = with(|w| {
        let process = w.current_process().ok_or(Errno::ESRCH)?;
        let id = net::connect(w, to, connected).ok_or(Errno::ESRCH)?;
        if let Some(done) = done.take() {
            w.slots.get::<Waiting>().0.insert(id, (process, done));
        }
        Ok(id)
    })?;
    Ok(Connecting { id })
}

/// Called on the thread that asked, when an attempt has its result.
fn connected(id: u64) {
    let ended = with(|w| Some((net::attempt(w, id)?, w.slots.get::<Waiting>().0.remove(&id)?)));
    if let Some((result, (_, done))) = ended {
        done(result.map(|id| Sock { id }).map_err(|Refused| Errno::ECONNREFUSED));
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        let (mut result, mut waiting) = (None, None);
        with_in_drop(|w| {
            result = net::attempt(w, self.id);
            waiting = w.slots.get::<Waiting>().0.remove(&self.id);
        });
        drop(waiting);
        if let Some(Ok(id)) = result {
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
    /// Listens at an IP address and port.
    pub fn listen(addr: &str, port: u16, _sock_impl: Option<&str>) -> Result<Listener> {
        let at = endpoint(addr, port)?;
        let id = with(|w| {
            w.current_process().ok_or(Errno::ESRCH)?;
            net::listen(w, at).ok_or(Errno::EADDRINUSE)
        })?;
        Ok(Listener { id, at })
    }

    /// Returns the next connection that waits to be accepted, if there is one.
    pub fn accept(&self) -> Option<Sock> {
        with(|w| net::accept(w, self.id)).map(|id| Sock { id })
    }

    /// Returns the address at which the listener listens.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.at)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        with_in_drop(|w| net::unlisten(w, self.id));
    }
}

/// Returns whether the machine has this address: here always true.
pub fn has_address(_addr: IpAddr) -> bool {
    true
}

/// Returns whether SPDK has a socket implementation of this name.
pub fn impl_exists(name: &str) -> bool {
    name == "posix"
}

/// The groups of all processes, by process and the group's number.
#[derive(Default)]
struct AllGroups(BTreeMap<(u32, u64), BTreeMap<u64, MemberState>>);

struct MemberState {
    sock: u64,
    owner: Rc<dyn SockReady>,
}

impl Slot for AllGroups {
    fn is_in_use(&self, process: u32) -> bool {
        self.0.iter().any(|((owner, _), members)| *owner == process && !members.is_empty())
    }

    fn take(&mut self, process: u32) -> Option<Box<dyn Any>> {
        let gone: Vec<_> = self.0.extract_if(.., |(owner, _), _| *owner == process).collect();
        Some(Box::new(gone))
    }
}

/// Sockets that one SPDK thread polls together.
pub struct Group {
    process: u32,
    id: u64,
}

/// A socket's place in a group, and a reference to its owner. Dropping it ends both.
pub struct Member {
    group: (u32, u64),
    id: u64,
}

/// A set of groups for many sockets. Here one group polls any number.
pub type Groups = Group;

impl Group {
    /// Creates a group for the current SPDK thread.
    pub fn create() -> Result<Group> {
        with(|w| {
            let process = w.current_process().ok_or(Errno::ESRCH)?;
            let id = w.id();
            w.slots.get::<AllGroups>().0.insert((process, id), BTreeMap::new());
            Ok(Group { process, id })
        })
    }

    /// Adds `sock` to the group.
    pub fn add<T: SockReady + 'static>(&self, sock: &Sock, owner: Rc<T>, _: Traffic) -> Result<Member> {
        with(|w| {
            let id = w.id();
            let group = (self.process, self.id);
            let members = w.slots.get::<AllGroups>().0.get_mut(&group).ok_or(Errno::EIO)?;
            members.insert(id, MemberState { sock: sock.id, owner });
            Ok(Member { group, id })
        })
    }

    /// Calls the owners of readable sockets, at most `max_events` of them. Returns how many were
    /// called.
    pub fn poll(&self, max_events: usize) -> Result<usize> {
        let ready: Vec<u64> = with(|w| {
            let start = w.rng.bits();
            let dead = !w.is_alive(self.process);
            let groups = w.slots.peek::<AllGroups>();
            let Some(members) = groups.and_then(|groups| groups.0.get(&(self.process, self.id))) else {
                return Vec::new();
            };
            let is_ready = |member: &MemberState| dead || net::is_readable(w, member.sock);
            let mut ready: Vec<u64> =
                members.iter().filter(|(_, member)| is_ready(member)).map(|(&id, _)| id).collect();
            if !ready.is_empty() {
                let by = (start % ready.len() as u64) as usize;
                ready.rotate_left(by);
            }
            ready.truncate(max_events);
            ready
        });
        let mut called = 0;
        for id in ready {
            let owner = with(|w| {
                let members = w.slots.get::<AllGroups>().0.get(&(self.process, self.id))?;
                members.get(&id).map(|member| Rc::clone(&member.owner))
            });
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
        with_in_drop(|w| gone = w.slots.get::<AllGroups>().0.remove(&(self.process, self.id)));
        drop(gone);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut gone = None;
        with_in_drop(|w| {
            gone = w
                .slots
                .get::<AllGroups>()
                .0
                .get_mut(&self.group)
                .and_then(|members| members.remove(&self.id));
        });
        drop(gone);
    }
}
