//! I/O that is executed on another thread than the one on which it was submitted.
//!
//! A [`Lane`] sends I/O to the thread that registered its disk. There an [`Executor`] executes it,
//! perhaps by lending its data to I/O of other bdevs
//! ([`BackendIo::lend`](crate::bdev::BackendIo::lend)), and completes it, which sends it back. Neither
//! way takes memory of its own but a message of SPDK's pool.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use libc::iovec;
use spdk_contract::io::{IoKind, IoStatus};
use spdk_sys as sys;

use crate::bdev_io::{BdevIo, BdevIoQueue, Forwarding, IoCtx, finish};
use crate::disk_head;
use crate::errno::{Errno, Result};
use crate::thread;

/// What becomes of the I/O that is forwarded to a thread.
pub trait Executor: 'static {
    /// Takes an I/O that was submitted to the disk with this
    /// [`BdevIo::stamp`](crate::bdev_io::BdevIo::stamp). Called on the thread that registered the
    /// disk, in the order in which a thread has submitted them, and a reset after the I/O that other
    /// threads submitted before it; inside [`Lane::forward`] if that is the same thread. HOT.
    fn arrived(io: ForwardedIo);
}

/// I/O that one thread hands to another one: a list to which only the first one adds, and from which
/// only the second one takes, always all of it, when it gets the message that is sent whenever the list
/// was empty.
struct Handover(AtomicPtr<IoCtx>);

impl Handover {
    const fn new() -> Handover {
        Handover(AtomicPtr::new(ptr::null_mut()))
    }

    /// Adds an I/O. Returns whether a message has to be sent, as the list was empty. HOT.
    ///
    /// # Safety
    /// The caller has the I/O and must not touch it any more, unless it is told to send a message: then
    /// until that is sent.
    #[inline]
    unsafe fn add(&self, ctx: NonNull<IoCtx>) -> bool {
        let mut newest = self.0.load(Relaxed);
        loop {
            // SAFETY: the caller has the I/O, and the other thread does not see it yet.
            unsafe { (*ctx.as_ptr()).next = newest };
            // The other thread sees what was written to the I/O before.
            match self.0.compare_exchange_weak(newest, ctx.as_ptr(), Release, Relaxed) {
                Ok(_) => return newest.is_null(),
                Err(found) => newest = found,
            }
        }
    }

    /// Takes back the only I/O, for which no message could be sent.
    #[cold]
    fn take_back(&self, ctx: NonNull<IoCtx>) {
        let found = self.0.swap(ptr::null_mut(), Relaxed);
        assert_eq!(found, ctx.as_ptr(), "without a message nobody takes or adds I/O");
    }

    /// Takes all I/O, linked in the order in which it was added. HOT.
    #[inline]
    fn take(&self) -> *mut IoCtx {
        let mut newest = self.0.swap(ptr::null_mut(), Acquire);
        let mut first = ptr::null_mut::<IoCtx>();
        while !newest.is_null() {
            // SAFETY: the I/O was added by its owner, and is this thread's now.
            let older = unsafe { std::mem::replace(&mut (*newest).next, first) };
            (first, newest) = (newest, older);
        }
        first
    }
}

/// The two ends of a [`Lane`].
struct Ends {
    there: Handover,
    back: Handover,
    /// The thread on which the I/O is submitted.
    from: *mut sys::spdk_thread,
    /// The number of I/Os that are on their way, are being executed, or are on their way back. Only
    /// `from` touches it.
    outstanding: Cell<usize>,
}

/// The way of one thread's I/O to the thread that registered its disk, and back.
///
/// In each direction one message is under way for all I/O: in a turn, a thread takes eight messages
/// only (SPDK's `SPDK_MSG_BATCH_SIZE`), and bdevs below, such as DST's, send what they were given in
/// a turn together.
pub struct Lane<E> {
    ends: Box<Ends>,
    _executor: PhantomData<(E, *mut ())>,
}

impl<E: Executor> Lane<E> {
    /// Returns a way for I/O that is submitted on this SPDK thread.
    pub fn new() -> Lane<E> {
        let from = thread::current_ptr();
        let (there, back) = (Handover::new(), Handover::new());
        let ends = Box::new(Ends { there, back, from, outstanding: Cell::new(0) });
        Lane { ends, _executor: PhantomData }
    }

    /// Sends the I/O to the thread that registered its disk, where `E` executes it. If SPDK has no
    /// message left, the I/O is returned. HOT.
    ///
    /// # Panics
    /// If the I/O is a part of a longer one: see `split_on_boundary` of
    /// [`DiskInfo`](crate::bdev_module::DiskInfo).
    pub fn forward(&self, io: BdevIo) -> std::result::Result<(), BdevIo> {
        extern "C" fn arrive<E: Executor>(ends: *mut c_void) {
            // SAFETY: the message comes while the list has I/O, and the ends stay as long.
            let mut next = unsafe { (*ends.cast::<Ends>()).there.take() };
            while let Some(ctx) = NonNull::new(next) {
                // SAFETY: an I/O that was sent here, which nobody else has.
                next = unsafe { (*ctx.as_ptr()).next };
                E::arrived(unsafe { ForwardedIo::new(ctx) });
            }
        }

        // SPDK submits a reset when no thread submits anything more. A message of its own comes after those
        // of all threads, while an I/O that joins a list comes with a message that was sent before.
        let is_reset = io.kind() == IoKind::Reset;
        let ctx = io.into_ctx();
        let ends = &*self.ends;
        // SAFETY: the `BdevIo` was the only one for this I/O, whose disk stays while it has I/O.
        let to = unsafe {
            assert!((*ctx.as_ptr()).part_ended.is_none(), "a part of an I/O cannot be forwarded");
            let forwarding =
                Forwarding { ends: ptr::from_ref(ends).cast(), loans: 0, status: IoStatus::Failed };
            (*ctx.as_ptr()).forwarding.write(forwarding);
            disk_head::home((*(*ctx.as_ptr()).raw).bdev)
        };
        extern "C" fn arrive_one<E: Executor>(ctx: *mut c_void) {
            // SAFETY: the I/O that was sent, which nobody else has.
            E::arrived(unsafe { ForwardedIo::new(NonNull::new_unchecked(ctx.cast::<IoCtx>())) });
        }

        ends.outstanding.set(ends.outstanding.get() + 1);
        if ends.from == to {
            // SAFETY: the I/O was not given to anybody else.
            E::arrived(unsafe { ForwardedIo::new(ctx) });
            return Ok(());
        }
        // SAFETY: the I/O is ours until it is sent. The thread that registered a disk handles RPCs and
        // outlives all bdevs. `arrive` and `arrive_one` get the I/O.
        let rc = unsafe {
            if is_reset {
                sys::spdk_thread_send_msg(to, Some(arrive_one::<E>), ctx.as_ptr().cast())
            } else if ends.there.add(ctx) {
                sys::spdk_thread_send_msg(to, Some(arrive::<E>), ptr::from_ref(ends).cast_mut().cast())
            } else {
                0
            }
        };
        if rc == 0 {
            return Ok(());
        }
        if !is_reset {
            ends.there.take_back(ctx);
        }
        ends.outstanding.set(ends.outstanding.get() - 1);
        // SAFETY: it was not sent, so it is still ours.
        Err(unsafe { BdevIo::from_ctx(ctx) })
    }
}

impl<E: Executor> Default for Lane<E> {
    fn default() -> Lane<E> {
        Lane::new()
    }
}

impl<E> Drop for Lane<E> {
    fn drop(&mut self) {
        // The other thread may use the ends until then.
        if self.ends.outstanding.get() != 0 {
            crate::error!("a channel is gone before its I/O");
            std::process::abort();
        }
    }
}

/// An I/O on the thread that executes it. If it is dropped without completion, it fails.
pub struct ForwardedIo {
    ctx: NonNull<IoCtx>,
    _not_send: PhantomData<*mut ()>,
}

impl ForwardedIo {
    /// # Safety
    /// The context is that of a forwarded I/O, on the thread to which it was sent, and nobody else
    /// has it.
    #[inline]
    unsafe fn new(ctx: NonNull<IoCtx>) -> ForwardedIo {
        ForwardedIo { ctx, _not_send: PhantomData }
    }

    /// Returns the I/O as such. It is not completed on this thread.
    #[inline]
    fn io(&self) -> ManuallyDrop<BdevIo> {
        // SAFETY: the context is filled, and only `self` has it.
        ManuallyDrop::new(unsafe { BdevIo::from_ctx(self.ctx) })
    }

    #[inline]
    fn forwarding(&mut self) -> &mut Forwarding {
        // SAFETY: filled when the I/O was forwarded; only `self` has it, and `Loan`s touch it on this
        // thread, not during this borrow.
        unsafe { (*self.ctx.as_ptr()).forwarding.assume_init_mut() }
    }

    /// Returns the kind of I/O. HOT.
    #[inline]
    pub fn kind(&self) -> IoKind {
        self.io().kind()
    }

    /// Returns the first block. HOT.
    #[inline]
    pub fn offset_blocks(&self) -> u64 {
        self.io().offset_blocks()
    }

    /// Returns the number of blocks, which is meaningless for a reset. HOT.
    #[inline]
    pub fn num_blocks(&self) -> u64 {
        self.io().num_blocks()
    }

    /// Returns the size of the data in bytes. HOT.
    #[inline]
    pub fn data_len_bytes(&self) -> usize {
        self.io().data_len_bytes()
    }

    /// Returns the number that was set last, by the disk before it forwarded the I/O. HOT.
    #[inline]
    pub fn stamp(&self) -> u64 {
        self.io().stamp()
    }

    /// Sets the number that [`ForwardedIo::stamp`] returns. HOT.
    #[inline]
    pub fn set_stamp(&mut self, stamp: u64) {
        self.io().set_stamp(stamp);
    }

    /// Lends the data to an I/O of another bdev.
    #[inline]
    pub(crate) fn lend(&mut self) -> Loan {
        self.forwarding().loans += 1;
        Loan { ctx: self.ctx, _not_send: PhantomData }
    }

    /// Returns how many I/Os of other bdevs have the data. HOT.
    #[inline]
    pub fn loans(&mut self) -> u32 {
        self.forwarding().loans
    }

    /// Completes the I/O on the thread on which it was submitted. If SPDK has no message left, the
    /// I/O is returned, to be completed later. `Nomem` must not be used. HOT.
    ///
    /// # Panics
    /// If an I/O of another bdev still has the data.
    pub fn complete(mut self, status: IoStatus) -> std::result::Result<(), ForwardedIo> {
        let sent = self.send_back(status);
        if sent.is_ok() {
            std::mem::forget(self);
            return Ok(());
        }
        Err(self)
    }

    /// Sends the I/O back; it must not be touched if that has succeeded.
    #[inline]
    fn send_back(&mut self, status: IoStatus) -> Result<()> {
        /// Ends I/O on the thread on which it was submitted.
        ///
        /// # Safety
        /// The list was taken from the way back of these ends, or is a single I/O that never left.
        unsafe fn end(ends: *const Ends, first: *mut IoCtx) {
            let mut next = first;
            while let Some(ctx) = NonNull::new(next) {
                // SAFETY: the I/O is this thread's, and not touched any more once it is finished. While
                // it is not, its channel keeps the ends.
                unsafe {
                    next = (*ctx.as_ptr()).next;
                    (*ends).outstanding.set((*ends).outstanding.get() - 1);
                    finish(ctx, (*ctx.as_ptr()).forwarding.assume_init_ref().status);
                }
            }
        }

        extern "C" fn returned(ends: *mut c_void) {
            let ends = ends.cast_const().cast::<Ends>();
            // SAFETY: the message comes while the list has I/O, and the ends stay as long.
            unsafe { end(ends, (*ends).back.take()) };
        }

        let ctx = self.ctx;
        let forwarding = self.forwarding();
        assert_eq!(forwarding.loans, 0, "a backend has the data of an I/O that is completed");
        forwarding.status = status;
        let ends = forwarding.ends.cast::<Ends>();
        // SAFETY: the I/O is outstanding, so the ends are there, and the thread with its channel. It is
        // this thread's, and `returned` gets it.
        unsafe {
            let from = (*ends).from;
            if from == thread::current_ptr() {
                (*ctx.as_ptr()).next = ptr::null_mut();
                end(ends, ctx.as_ptr());
                return Ok(());
            }
            if !(*ends).back.add(ctx) {
                return Ok(());
            }
            let sent = sys::spdk_thread_send_msg(from, Some(returned), ends.cast_mut().cast());
            if sent != 0 {
                (*ends).back.take_back(ctx);
            }
            Errno::check(sent)
        }
    }
}

impl Drop for ForwardedIo {
    fn drop(&mut self) {
        if let Err(errno) = self.send_back(IoStatus::Failed) {
            crate::error!("an I/O does not end, since a message to its thread can't be sent: {errno}");
        }
    }
}

/// The data of a forwarded I/O, in use by the I/O of another bdev on the same thread. The forwarded
/// I/O is not completed before the loan is dropped.
pub(crate) struct Loan {
    ctx: NonNull<IoCtx>,
    _not_send: PhantomData<*mut ()>,
}

impl Loan {
    /// Returns the address of what is touched when the loan ends, and when the I/O is completed.
    #[inline]
    pub(crate) fn address(&self) -> usize {
        // SAFETY: the address of a field of a valid context.
        unsafe { ptr::addr_of!((*self.ctx.as_ptr()).forwarding) as usize }
    }

    /// Returns the length of the data in bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        // SAFETY: filled when the I/O came, which is not completed while the loan exists.
        unsafe { (*self.ctx.as_ptr()).data_len }
    }

    /// Returns whether a backend may write to the data: that of a read.
    #[inline]
    pub(crate) fn is_of_read(&self) -> bool {
        // SAFETY: as above; the view is not dropped.
        ManuallyDrop::new(unsafe { BdevIo::from_ctx(self.ctx) }).kind() == IoKind::Read
    }

    /// Returns the user's vectors, which are at least as long as the data and stay as they are while
    /// the loan exists.
    #[inline]
    pub(crate) fn vectors(&self) -> (*mut iovec, c_int) {
        // SAFETY: as above. For reads and writes SPDK has filled in this member of the union.
        unsafe {
            let bdev = ptr::addr_of!((*(*self.ctx.as_ptr()).raw).u.bdev);
            ((*bdev).iovs, (*bdev).iovcnt)
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // SAFETY: the I/O is not completed while the loan exists, and this is the thread that
        // executes it.
        unsafe { (*self.ctx.as_ptr()).forwarding.assume_init_mut().loans -= 1 };
    }
}

/// A first-in, first-out queue of forwarded I/O. It is an intrusive list, so it takes no memory. If
/// it is dropped, the I/O left in it fails.
#[derive(Default)]
pub struct ForwardedIoQueue(BdevIoQueue);

impl ForwardedIoQueue {
    /// Creates an empty queue.
    pub const fn new() -> ForwardedIoQueue {
        ForwardedIoQueue(BdevIoQueue::new())
    }

    /// Returns the length of the queue. HOT.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the queue is empty. HOT.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an I/O at the end. HOT.
    #[inline]
    pub fn push_back(&mut self, io: ForwardedIo) {
        let ctx = io.ctx;
        std::mem::forget(io);
        // SAFETY: nobody else has it now, and the queue hands it out as forwarded I/O only.
        self.0.push_back(unsafe { BdevIo::from_ctx(ctx) });
    }

    /// Removes and returns the first I/O. HOT.
    #[inline]
    pub fn pop_front(&mut self) -> Option<ForwardedIo> {
        let ctx = self.0.pop_front()?.into_ctx();
        // SAFETY: it was forwarded to this thread.
        Some(unsafe { ForwardedIo::new(ctx) })
    }
}

impl Drop for ForwardedIoQueue {
    fn drop(&mut self) {
        while self.pop_front().is_some() {}
    }
}
