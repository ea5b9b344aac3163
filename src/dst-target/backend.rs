//! The pools of a group: objects for backend I/O, memory for its data, receive buffers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use dst_session::transactions::Request;
use dst_transport::RECEIVE_BUFFER;
use dst_wire::{Op, Status};
use spdk::backend::{BackendDone, BackendIo, Channel, IoStatus};
use spdk::clock::now_us;
use spdk::dma::DmaPool;

use crate::connection::Connection;
use crate::group::Group;
use crate::options::Options;

/// Bytes of a small buffer: a block of 4 KiB. As many requests of that size can be under way as there are I/O objects.
const SMALL: usize = 4 << 10;

/// Data up to this many bytes has small buffers: the two blocks of a compare-and-write, for instance.
const SMALL_MAX: usize = 2 * SMALL;

/// Longer data is put together from chunks of this size: 8 of them are [`Options::max_transfer`]'s
/// upper limit of 1 MiB.
pub const LARGE: usize = 128 << 10;

/// I/O objects of a group. One is needed for each request that is in the backend or being received.
const OBJECTS: usize = if cfg!(feature = "simulator") { 24 } else { 4096 };

/// Receive buffers of a group. A connection holds one only while it has bytes that it can't go on with.
const RECEIVE_BUFFERS: usize = if cfg!(feature = "simulator") { 3 } else { 32 };

/// Bytes of a receive buffer made for a connection that finds none: those that can't go on must not keep
/// the others from being heard. At most one a connection, and given back to the system.
const SPARE_RECEIVE_BUFFER: usize = if cfg!(feature = "simulator") { 2 << 10 } else { 16 << 10 };

/// An I/O object, with all that the backend needs while the I/O is under way.
pub type Io = Box<BackendIo<Owner>>;

/// Who gets an I/O object back.
#[derive(Default)]
pub struct Owner {
    /// The connection, while the I/O is in the backend.
    pub connection: Option<Rc<Connection>>,
    /// The connection's slot.
    pub slot: u16,
}

impl BackendDone for Owner {
    /// Only notes it: the connection may be borrowed up the stack, when a backend answers at once.
    fn done(io: Io, status: IoStatus) {
        let connection = io.ctx.connection.as_ref().expect("an I/O in the backend has a connection");
        let group = Rc::clone(connection.group());
        group.pools.completed.borrow_mut().push_back((io, status));
        group.wake();
    }
}

/// What somebody has of a group's pools.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held {
    objects: usize,
    small: usize,
    large: usize,
}

/// What all connections have that one host has at one export and that are of this group.
pub type OwnerShare = Cell<Held>;

/// What one connection has of its group's pools.
#[derive(Debug)]
pub struct Share {
    held: Held,
    /// The same of all of its owner's, itself included.
    owner: Rc<OwnerShare>,
}

impl Share {
    /// Of a connection of this owner, which has nothing yet.
    pub fn new(owner: Rc<OwnerShare>) -> Share {
        Share { held: Held::default(), owner }
    }

    fn note(&mut self, change: impl Fn(&mut Held)) {
        change(&mut self.held);
        let mut of_owner = self.owner.get();
        change(&mut of_owner);
        self.owner.set(of_owner);
    }
}

/// Whether a connection that has `held` of a pool may take `need` more of the `free` that are left.
///
/// Never more than what it leaves to the others. Among those who give back, that is an equal share; one
/// who keeps all it gets (it does not take its answers) leaves half of what it found, until it is closed for
/// that.
fn may_take(held: usize, need: usize, free: usize) -> bool {
    need <= free && (held == 0 || held + need <= free)
}

/// The same for all connections of one owner together: many of them may not take what one may not.
///
/// An eighth of what it and the free ones make is left to the others, who may be none: one host alone should not be
/// much slower for it.
fn owner_may_take(held: usize, need: usize, free: usize) -> bool {
    need <= free && (held == 0 || need == 0 || held + need <= 7 * (free - need))
}

/// The pools. Everything is allocated by [`Pools::new`], spare receive buffers excepted.
pub struct Pools {
    objects: RefCell<Vec<Io>>,
    small: Rc<DmaPool>,
    large: Rc<DmaPool>,
    receive: RefCell<Vec<Box<[u8]>>>,
    /// I/O objects that the backend has, or has finished and the group has not looked at yet.
    pub in_backend: Cell<usize>,
    /// What the backend has finished and the group has not looked at yet.
    pub completed: RefCell<VecDeque<(Io, IoStatus)>>,
}

impl Pools {
    /// The pools of one core.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn new(options: &Options) -> spdk::Result<Pools> {
        let bytes = (options.buffer_mib as usize) << 20;
        // A quarter for small data: as many buffers as 4 KiB requests can be under way.
        let small = (bytes / 4 / SMALL).clamp(1, OBJECTS);
        let large = ((bytes - small * SMALL) / LARGE).max(2 * options.max_transfer as usize / LARGE);
        Ok(Pools {
            objects: RefCell::new((0..OBJECTS).map(|_| Box::new(BackendIo::new(Owner::default()))).collect()),
            small: DmaPool::new(SMALL, small)?,
            large: DmaPool::new(LARGE, large)?,
            receive: RefCell::new((0..RECEIVE_BUFFERS).map(|_| vec![0; RECEIVE_BUFFER].into()).collect()),
            in_backend: Cell::new(0),
            completed: RefCell::new(VecDeque::with_capacity(OBJECTS)),
        })
    }

    /// An I/O object with room for `len` bytes; `None` when the pools are short, or `share`, which notes
    /// it, is large enough already, or its owner's is.
    pub fn take(&self, len: usize, share: &mut Share) -> Option<Io> {
        let mut objects = self.objects.borrow_mut();
        let (small, large) = chunks(len);
        let (held, of_owner) = (share.held, share.owner.get());
        let may_take = |of: fn(&Held) -> usize, need, free| {
            may_take(of(&held), need, free) && owner_may_take(of(&of_owner), need, free)
        };
        if !may_take(|held| held.objects, 1, objects.len())
            || !may_take(|held| held.small, small, self.small.available())
            || !may_take(|held| held.large, large, self.large.available())
        {
            return None;
        }
        let mut io = objects.pop()?;
        let pool = if small > 0 { &self.small } else { &self.large };
        if len > 0 && !io.data.take(pool, len) {
            objects.push(io);
            return None;
        }
        share.note(|held| {
            held.objects += 1;
            held.small += small;
            held.large += large;
        });
        Some(io)
    }

    /// Puts an I/O object back, and its memory.
    pub fn put(&self, mut io: Io, share: &mut Share) {
        let (small, large) = chunks(io.data.len());
        share.note(|held| {
            held.objects -= 1;
            held.small -= small;
            held.large -= large;
        });
        io.data.release();
        io.ctx.connection = None;
        self.objects.borrow_mut().push(io);
    }

    /// A receive buffer.
    pub fn take_receive(&self) -> Box<[u8]> {
        let buffer = self.receive.borrow_mut().pop();
        buffer.unwrap_or_else(|| vec![0; SPARE_RECEIVE_BUFFER].into())
    }

    /// Puts a receive buffer back.
    pub fn put_receive(&self, buffer: Box<[u8]>) {
        if buffer.len() == RECEIVE_BUFFER {
            self.receive.borrow_mut().push(buffer);
        }
    }
}

/// Small and large chunks that `len` bytes take.
fn chunks(len: usize) -> (usize, usize) {
    if len <= SMALL_MAX { (len.div_ceil(SMALL), 0) } else { (0, len.div_ceil(LARGE)) }
}

/// Hands a request to the backend. A flush is of all of the device's `num_blocks`: as many as the client may know of, or more.
pub fn submit(channel: &Channel, io: Io, request: &Request, num_blocks: u64) {
    let (start, count) = (request.start, request.count);
    match request.op {
        Op::Read => channel.read(io, start, count),
        Op::Write => channel.write(io, start, count),
        Op::Flush => channel.flush(io, 0, num_blocks),
        Op::Unmap => channel.unmap(io, start, count),
        Op::WriteZeroes => channel.write_zeroes(io, start, count),
        Op::CompareAndWrite => channel.compare_and_write(io, start, count),
        Op::Reset => channel.reset(io),
    }
}

/// What the client is told of a backend's status.
pub fn status(status: IoStatus) -> Status {
    match status {
        IoStatus::Success => Status::Success,
        IoStatus::Miscompare => Status::Miscompare,
        IoStatus::Aborted => Status::Aborted,
        IoStatus::Failed | IoStatus::Nomem => Status::Failed,
    }
}

/// Looks at what the backend has finished. Gives how many there were.
pub fn collect(group: &Rc<Group>) -> usize {
    let mut count = 0;
    // One look at the clock for all: it is for the statistics only.
    let now_us = if group.pools.completed.borrow().is_empty() { 0 } else { now_us() };
    loop {
        let next = group.pools.completed.borrow_mut().pop_front();
        let Some((mut io, result)) = next else { return count };
        let connection = io.ctx.connection.take().expect("an I/O in the backend has a connection");
        let in_backend = &group.pools.in_backend;
        in_backend.set(in_backend.get() - 1);
        connection.completed(io, status(result), now_us);
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{may_take, owner_may_take};

    #[test]
    fn whoever_takes_all_it_can_leaves_something() {
        let mut free = 384;
        for _ in 0..5 {
            let (mut held, found) = (0, free);
            while may_take(held, 8, free) {
                held += 8;
                free -= 8;
            }
            assert!(held > 0 && free >= found / 2 - 8, "{held} of {found} taken");
        }
        assert!(may_take(0, 8, free), "nothing is left for the sixth");
        assert!(may_take(0, 8, 8) && !may_take(0, 8, 7) && !may_take(8, 8, 15));
    }

    #[test]
    fn many_connections_of_one_owner_leave_something() {
        let (mut free, mut of_owner) = (384, 0);
        for _ in 0..100 {
            let mut held = 0;
            while may_take(held, 8, free) && owner_may_take(of_owner, 8, free) {
                held += 8;
                of_owner += 8;
                free -= 8;
            }
        }
        assert_eq!((of_owner, free), (336, 48));
        assert!(owner_may_take(0, 8, free), "another one finds nothing");
        // What it needs nothing of is no reason to wait.
        assert!(owner_may_take(336, 0, 0));
        assert!(owner_may_take(0, 8, 8) && !owner_may_take(0, 8, 7), "who has nothing may have all");
        assert!(owner_may_take(6, 1, 2) && !owner_may_take(7, 1, 2) && !owner_may_take(1, 1, 1));
    }
}
