//! The sock implementation.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dst_net::ConnectError;
use dst_sockets::{Connect, End, ListenError, SocketId, TransferError};
use dst_tcp::Reason;
use spdk::clock::now_us;
use spdk::sock_impl::{self, SockImpl};
use spdk::thread::Thread;
use spdk::{Errno, Result};

use crate::interface::Interface;
use crate::interfaces;

/// The priority with which SPDK asks implementations if none is named: before `posix` (0), `uring`
/// (1) and `vpp` (2), whose connect may block. Addresses that no interface reaches are refused at
/// once.
const PRIORITY: i32 = 3;

/// Registers the implementation. To be called once, from a constructor.
pub fn register() {
    // If this SPDK has another table, the creation of an interface fails and says so.
    let _ = sock_impl::register::<Dpdk>(c"dpdk", PRIORITY);
}

/// A socket of an interface, which is closed when this is dropped.
struct Place {
    interface: Arc<Interface>,
    id: SocketId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.interface.sockets().close(self.id, now_us());
    }
}

/// A socket.
enum Socket {
    /// A connection, which ends with its interface.
    Connection(Place),
    /// A listener. If its interface is deleted, it moves to the next one that has the address.
    Listener {
        /// The address to listen on.
        local: SocketAddr,
        /// The socket that listens, or did so until its interface was deleted.
        place: RefCell<Place>,
    },
}

impl Socket {
    /// Calls `f` with the socket's interface and its id there.
    fn with<T>(&self, f: impl FnOnce(&Arc<Interface>, SocketId) -> T) -> T {
        match self {
            Socket::Connection(place) => f(&place.interface, place.id),
            Socket::Listener { place, .. } => {
                let place = place.borrow();
                f(&place.interface, place.id)
            }
        }
    }
}

/// Listens at an address of an interface.
fn listen_at(local: SocketAddr) -> Result<Place> {
    let has = |interface: &Interface| interface.has(local.ip());
    let interface = interfaces::find_by(has).ok_or(Errno::EADDRNOTAVAIL)?;
    let id = interface.sockets().listen(local).map_err(|error| match error {
        ListenError::NotOurs(_) => Errno::EADDRNOTAVAIL,
        ListenError::InUse(_) => Errno::EADDRINUSE,
    })?;
    Ok(Place { interface, id })
}

/// Begins to connect.
fn connect_to(remote: SocketAddr) -> Result<Place> {
    let interface = interfaces::find_by(|interface| interface.reaches(remote)).ok_or(Errno::ENETUNREACH)?;
    let id = interface.sockets().connect(remote, now_us()).map_err(|error| match error {
        ConnectError::NoRoute(_) => Errno::ENETUNREACH,
        ConnectError::NoAddress(_) => Errno::EADDRNOTAVAIL,
        ConnectError::Tcp(_) => Errno::EAGAIN,
    })?;
    Ok(Place { interface, id })
}

/// A group.
struct Group {
    /// The number by which interfaces know the group.
    id: u64,
    /// For each interface, the number of its connections in the group.
    interfaces: Vec<(Arc<Interface>, usize)>,
    /// The listeners. SPDK's targets have groups of their own for them, from 26.01 on.
    listeners: Vec<Listening>,
}

/// A listener in a group.
struct Listening {
    token: usize,
    /// The interface when the listener joined. Once it is deleted, the listener is ready at each
    /// poll, so that `accept` moves the listener to another interface, and accepts there.
    interface: Arc<Interface>,
    id: SocketId,
}

impl Drop for Group {
    fn drop(&mut self) {
        for (interface, _) in &self.interfaces {
            interface.sockets().forget(self.id);
        }
    }
}

struct Dpdk;

fn errno_of_end(end: End) -> Errno {
    match end {
        End::InterfaceDeleted => Errno::ENETDOWN,
        End::Tcp(Reason::Refused) => Errno::ECONNREFUSED,
        End::Tcp(Reason::Unreachable) => Errno::EHOSTUNREACH,
        End::Tcp(Reason::TimedOut) => Errno::ETIMEDOUT,
        End::Tcp(Reason::Reset) => Errno::ECONNRESET,
        End::Tcp(Reason::Finished | Reason::Aborted | Reason::Unread) => Errno::ECONNABORTED,
    }
}

fn errno_of_transfer(error: TransferError) -> Errno {
    match error {
        TransferError::WouldBlock => Errno::EAGAIN,
        TransferError::Ended(end) => errno_of_end(end),
        TransferError::NotConnected => Errno::ENOTCONN,
    }
}

impl SockImpl for Dpdk {
    type Socket = Socket;
    type Group = Group;

    fn has_address(address: IpAddr) -> bool {
        interfaces::find_by(|interface| interface.has(address)).is_some()
    }

    fn connect(remote: SocketAddr) -> Result<Socket> {
        let place = connect_to(remote)?;
        // A reactor must not wait. It gets a socket that takes nothing before it is open, and
        // reports a failure when it is read.
        if Thread::current().is_none()
            && let Connect::Failed(end) = place.interface.wait(place.id)
        {
            return Err(errno_of_end(end));
        }
        Ok(Socket::Connection(place))
    }

    fn connect_async(remote: SocketAddr) -> Result<Socket> {
        connect_to(remote).map(Socket::Connection)
    }

    fn attempt(socket: &Socket) -> Option<Result<()>> {
        let Socket::Connection(Place { interface, id }) = socket else { return Some(Ok(())) };
        let mut sockets = interface.sockets();
        let mut state = sockets.attempt(*id);
        // A socket in no group is polled here, as it is in `read`.
        if state == Connect::Pending && !sockets.is_in_group(*id) {
            drop(sockets);
            sockets = interface.turn()?.0;
            state = sockets.attempt(*id);
        }
        match state {
            Connect::Pending => None,
            Connect::Open => Some(Ok(())),
            Connect::Failed(end) => Some(Err(errno_of_end(end))),
        }
    }

    fn listen(local: SocketAddr) -> Result<Socket> {
        if local.port() == 0 {
            // The stack chooses no port.
            return Err(Errno::EADDRNOTAVAIL);
        }
        Ok(Socket::Listener { local, place: RefCell::new(listen_at(local)?) })
    }

    fn accept(listener: &Socket) -> Option<Socket> {
        let Socket::Listener { local, place } = listener else { return None };
        let mut place = place.borrow_mut();
        let mut sockets = place.interface.sockets();
        let accepted = sockets.accept(place.id, now_us());
        let is_deleted = sockets.is_deleted();
        drop(sockets);
        if let Some(id) = accepted {
            return Some(Socket::Connection(Place { interface: Arc::clone(&place.interface), id }));
        }
        // Until an interface has the address again and nobody else listens there, each call tries.
        if is_deleted && let Ok(next) = listen_at(*local) {
            *place = next;
        }
        None
    }

    fn read(socket: &Socket, parts: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let Socket::Connection(Place { interface, id }) = socket else { return Err(Errno::ENOTCONN) };
        let mut sockets = interface.sockets();
        let mut outcome = sockets.read(*id, parts, now_us());
        // A socket in no group is polled here. NVMe/TCP's initiator reads it in a loop in which the
        // reactor does nothing else.
        if outcome == Err(TransferError::WouldBlock) && !sockets.is_in_group(*id) {
            drop(sockets);
            if let Some((mut sockets, _)) = interface.turn() {
                outcome = sockets.read(*id, parts, now_us());
            }
        }
        outcome.map_err(errno_of_transfer)
    }

    fn write(socket: &Socket, parts: &[IoSlice<'_>]) -> Result<usize> {
        let Socket::Connection(Place { interface, id }) = socket else { return Err(Errno::ENOTCONN) };
        interface.sockets().write(*id, parts).map_err(errno_of_transfer)
    }

    fn addresses(socket: &Socket) -> Option<(SocketAddr, Option<SocketAddr>)> {
        socket.with(|interface, id| interface.sockets().addresses(id))
    }

    fn is_connected(socket: &Socket) -> bool {
        socket.with(|interface, id| !matches!(interface.sockets().attempt(id), Connect::Failed(_)))
    }

    fn create_group() -> Group {
        static GROUPS: AtomicU64 = AtomicU64::new(0);
        let id = GROUPS.fetch_add(1, Ordering::Relaxed);
        Group { id, interfaces: Vec::new(), listeners: Vec::new() }
    }

    fn join(group: &mut Group, socket: &Socket, token: usize) {
        let Place { interface, id } = match socket {
            Socket::Connection(place) => place,
            Socket::Listener { place, .. } => {
                let place = place.borrow();
                let (interface, id) = (Arc::clone(&place.interface), place.id);
                return group.listeners.push(Listening { token, interface, id });
            }
        };
        let is_known = |(known, _): &&mut (Arc<Interface>, usize)| Arc::ptr_eq(known, interface);
        match group.interfaces.iter_mut().find(is_known) {
            Some((_, count)) => *count += 1,
            None => group.interfaces.push((Arc::clone(interface), 1)),
        }
        interface.sockets().join(*id, group.id, token);
    }

    fn leave(group: &mut Group, socket: &Socket, token: usize) {
        let Socket::Connection(Place { interface, id }) = socket else {
            return group.listeners.retain(|found| found.token != token);
        };
        let mut sockets = interface.sockets();
        sockets.leave(*id);
        let is_of = |(known, _): &(Arc<Interface>, usize)| Arc::ptr_eq(known, interface);
        if let Some(place) = group.interfaces.iter().position(is_of) {
            group.interfaces[place].1 -= 1;
            if group.interfaces[place].1 == 0 {
                sockets.forget(group.id);
                group.interfaces.swap_remove(place);
            }
        }
    }

    fn poll(group: &mut Group, limit: usize, mut ready: impl FnMut(usize)) {
        let mut left = limit;
        for (interface, _) in &group.interfaces {
            // Another core that uses the interface has made the turn; the next poll comes soon.
            let Some((mut sockets, _)) = interface.turn() else { continue };
            left -= sockets.ready(group.id, left, &mut ready);
        }
        let waits = |found: &&Listening| found.interface.sockets().has_waiting(found.id);
        for listening in group.listeners.iter().filter(waits).take(left) {
            ready(listening.token);
        }
        // Others come first the next time, since `limit` may have left out the last ones.
        if group.interfaces.len() > 1 {
            group.interfaces.rotate_left(1);
        }
        if group.listeners.len() > 1 {
            group.listeners.rotate_left(1);
        }
    }
}
