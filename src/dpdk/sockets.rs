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
use spdk::sock_impl::{self, Lent, SockImpl};
use spdk::thread::Thread;
use spdk::{Errno, Result};

use crate::interface::Interface;
use crate::interfaces;
use crate::shared::{DpdkSockets, SharedSockets};

/// The priority with which SPDK asks implementations if none is named: before `posix` (0), `uring`
/// (1) and `vpp` (2), whose connect may block. Addresses that no interface reaches are refused at
/// once.
const PRIORITY: i32 = 3;

/// Registers the implementation. To be called once, from a constructor.
pub fn register() {
    // If this SPDK has another table, the creation of an interface fails and says so.
    let _ = sock_impl::register::<Dpdk>(c"dpdk", PRIORITY);
}

/// A socket of a shard, which is closed when this is dropped.
struct Place {
    shard: Arc<SharedSockets>,
    id: SocketId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shard.lock().close(self.id, now_us());
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
        /// The sockets that listen, one in each shard of an interface, or did so until it was deleted.
        /// There is at least one. The next connection is accepted from the first one that has one.
        places: RefCell<Vec<Place>>,
    },
}

impl Socket {
    /// Calls `f` with the sockets of the socket's shard, or of a listener's first one, and its id there.
    fn with<T>(&self, f: impl FnOnce(&mut DpdkSockets, SocketId) -> T) -> T {
        match self {
            Socket::Connection(place) => f(&mut place.shard.lock(), place.id),
            Socket::Listener { places, .. } => {
                let place = &places.borrow()[0];
                f(&mut place.shard.lock(), place.id)
            }
        }
    }
}

/// Listens at an address of an interface.
fn listen_at(local: SocketAddr) -> Result<Vec<Place>> {
    let has = |interface: &Interface| interface.has(local.ip());
    let interface = interfaces::find_by(has).ok_or(Errno::EADDRNOTAVAIL)?;
    let listen = |shard: &Arc<SharedSockets>| match shard.lock().listen(local) {
        Ok(id) => Ok(Place { shard: Arc::clone(shard), id }),
        Err(ListenError::NotOurs(_)) => Err(Errno::EADDRNOTAVAIL),
        Err(ListenError::InUse(_)) => Err(Errno::EADDRINUSE),
    };
    interface.shards().iter().map(listen).collect()
}

/// Begins to connect.
fn connect_to(remote: SocketAddr) -> Result<Place> {
    let interface = interfaces::find_by(|interface| interface.reaches(remote)).ok_or(Errno::ENETUNREACH)?;
    let shard = Arc::clone(interface.shard_for_connection());
    let id = shard.lock().connect(remote, now_us()).map_err(|error| match error {
        ConnectError::NoRoute(_) => Errno::ENETUNREACH,
        ConnectError::NoAddress(_) => Errno::EADDRNOTAVAIL,
        ConnectError::Tcp(_) => Errno::EAGAIN,
    })?;
    Ok(Place { shard, id })
}

/// A group.
struct Group {
    /// The number by which shards know the group.
    id: u64,
    /// For each shard, the number of its connections in the group.
    shards: Vec<(Arc<SharedSockets>, usize)>,
    /// The listeners. SPDK's targets have groups of their own for them, from 26.01 on.
    listeners: Vec<Listening>,
}

/// A listener in a group.
struct Listening {
    token: usize,
    /// The shards, and its ids there, when the listener joined. Once its interface is deleted, the
    /// listener is ready at each poll, so that `accept` moves the listener to another interface, and
    /// accepts there.
    places: Vec<(Arc<SharedSockets>, SocketId)>,
}

impl Listening {
    /// Returns true if a connection waits, or the interface was deleted. A shard that another thread
    /// uses is asked the next time.
    fn is_ready(&self) -> bool {
        let waits = |(shard, id): &(Arc<SharedSockets>, SocketId)| {
            shard.try_lock().is_some_and(|mut sockets| sockets.has_waiting(*id))
        };
        self.places.iter().any(waits)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for (shard, _) in &self.shards {
            shard.lock().forget(self.id);
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
            && let Connect::Failed(end) = place.shard.wait(place.id)
        {
            return Err(errno_of_end(end));
        }
        Ok(Socket::Connection(place))
    }

    fn connect_async(remote: SocketAddr) -> Result<Socket> {
        connect_to(remote).map(Socket::Connection)
    }

    fn attempt(socket: &Socket) -> Option<Result<()>> {
        let Socket::Connection(Place { shard, id }) = socket else { return Some(Ok(())) };
        let mut sockets = shard.lock();
        let mut state = sockets.attempt(*id);
        // A socket in no group is polled here, as it is in `read`.
        if state == Connect::Pending && !sockets.is_in_group(*id) {
            drop(sockets);
            sockets = shard.turn()?.0;
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
        Ok(Socket::Listener { local, places: RefCell::new(listen_at(local)?) })
    }

    fn accept(listener: &Socket) -> Option<Socket> {
        let Socket::Listener { local, places } = listener else { return None };
        let mut places = places.borrow_mut();
        // Shards take turns.
        places.rotate_left(1);
        let mut is_deleted = false;
        for Place { shard, id } in places.iter() {
            let mut sockets = shard.lock();
            let accepted = sockets.accept(*id, now_us());
            is_deleted |= sockets.is_deleted();
            drop(sockets);
            if let Some(id) = accepted {
                return Some(Socket::Connection(Place { shard: Arc::clone(shard), id }));
            }
        }
        // Until an interface has the address again and nobody else listens there, each call tries.
        if is_deleted && let Ok(next) = listen_at(*local) {
            *places = next;
        }
        None
    }

    fn read(socket: &Socket, parts: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let Socket::Connection(Place { shard, id }) = socket else { return Err(Errno::ENOTCONN) };
        let mut sockets = shard.lock();
        let mut outcome = sockets.read(*id, parts, now_us());
        // A socket in no group is polled here. NVMe/TCP's initiator reads it in a loop in which the
        // reactor does nothing else.
        if outcome == Err(TransferError::WouldBlock) && !sockets.is_in_group(*id) {
            drop(sockets);
            if let Some((mut sockets, _)) = shard.turn() {
                outcome = sockets.read(*id, parts, now_us());
            }
        }
        outcome.map_err(errno_of_transfer)
    }

    fn write(socket: &Socket, parts: &[IoSlice<'_>]) -> Result<usize> {
        let Socket::Connection(Place { shard, id }) = socket else { return Err(Errno::ENOTCONN) };
        shard.lock().write(*id, parts).map_err(errno_of_transfer)
    }

    fn lend(socket: &Socket, parts: impl Iterator<Item = Lent>, len: usize) -> Result<()> {
        let Socket::Connection(Place { shard, id }) = socket else { return Err(Errno::ENOTCONN) };
        shard.lock().lend(*id, parts, len).map_err(errno_of_transfer)
    }

    fn released(socket: &Socket) -> u64 {
        socket.with(|sockets, id| sockets.released(id))
    }

    fn recall(socket: &Socket) {
        socket.with(|sockets, id| sockets.recall(id, now_us()));
    }

    fn addresses(socket: &Socket) -> Option<(SocketAddr, Option<SocketAddr>)> {
        socket.with(|sockets, id| sockets.addresses(id))
    }

    fn is_connected(socket: &Socket) -> bool {
        socket.with(|sockets, id| !matches!(sockets.attempt(id), Connect::Failed(_)))
    }

    fn placement(socket: &Socket) -> Option<i32> {
        match socket {
            Socket::Connection(place) => place.shard.placement,
            Socket::Listener { .. } => None,
        }
    }

    fn create_group() -> Group {
        static GROUPS: AtomicU64 = AtomicU64::new(0);
        let id = GROUPS.fetch_add(1, Ordering::Relaxed);
        Group { id, shards: Vec::new(), listeners: Vec::new() }
    }

    fn join(group: &mut Group, socket: &Socket, token: usize) {
        let Place { shard, id } = match socket {
            Socket::Connection(place) => place,
            Socket::Listener { places, .. } => {
                let copy = |place: &Place| (Arc::clone(&place.shard), place.id);
                let places = places.borrow().iter().map(copy).collect();
                return group.listeners.push(Listening { token, places });
            }
        };
        let is_known = |(known, _): &&mut (Arc<SharedSockets>, usize)| Arc::ptr_eq(known, shard);
        match group.shards.iter_mut().find(is_known) {
            Some((_, count)) => *count += 1,
            None => group.shards.push((Arc::clone(shard), 1)),
        }
        shard.lock().join(*id, group.id, token);
    }

    fn leave(group: &mut Group, socket: &Socket, token: usize) {
        let Socket::Connection(Place { shard, id }) = socket else {
            return group.listeners.retain(|found| found.token != token);
        };
        let mut sockets = shard.lock();
        sockets.leave(*id);
        let is_of = |(known, _): &(Arc<SharedSockets>, usize)| Arc::ptr_eq(known, shard);
        if let Some(place) = group.shards.iter().position(is_of) {
            group.shards[place].1 -= 1;
            if group.shards[place].1 == 0 {
                sockets.forget(group.id);
                group.shards.swap_remove(place);
            }
        }
    }

    fn poll(group: &mut Group, limit: usize, mut ready: impl FnMut(usize)) {
        let mut left = limit;
        for (shard, _) in &group.shards {
            // Another core that uses the shard has made the turn; the next poll comes soon.
            let Some((mut sockets, _)) = shard.turn() else { continue };
            left -= sockets.ready(group.id, left, &mut ready);
        }
        for listening in group.listeners.iter().filter(|listening| listening.is_ready()).take(left) {
            ready(listening.token);
        }
        // Others come first the next time, since `limit` may have left out the last ones.
        if group.shards.len() > 1 {
            group.shards.rotate_left(1);
        }
        if group.listeners.len() > 1 {
            group.listeners.rotate_left(1);
        }
    }
}
