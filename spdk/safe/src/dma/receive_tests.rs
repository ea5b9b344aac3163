//! Tests of chunks to receive into and of the data that lies in them.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::NonNull;

use super::*;

/// Stands in for SPDK's function, which frees nothing that these tests have made.
#[unsafe(no_mangle)]
extern "C" fn spdk_dma_free(_: *mut c_void) {
    unreachable!("the pool is never dropped");
}

/// Returns a pool of two chunks of 16 bytes that are not DPDK's.
fn pool() -> Rc<ReceivePool> {
    let base = NonNull::from(Box::leak(Box::new([0_u8; 32]))).cast();
    let chunks = Rc::new(DmaPool { base, chunk_size: 16, count: 2, free: RefCell::new(vec![1, 0]) });
    // It is never dropped, as DPDK could not free it.
    std::mem::forget(Rc::clone(&chunks));
    Rc::new(ReceivePool::of(chunks))
}

#[test]
fn a_chunk_is_free_when_it_is_neither_held_nor_pinned() {
    let pool = pool();
    let mut chunk = pool.take().unwrap();
    chunk.room().copy_from_slice(b"0123456789abcdef");
    let (mut first, mut second) = (DmaVec::empty(), DmaVec::empty());
    chunk.pin(2..6, &mut first);
    chunk.pin(8..16, &mut second);
    assert_eq!((first.slice(0), first.slice(1), first.len()), (&b"2345"[..], &b"345"[..], 4));
    assert_eq!((first.pins(), second.pins(), pool.pinned()), (2, 2, 1));
    drop(chunk);
    let other = pool.take().expect("there is another one");
    assert!(!other.is_pinned() && pool.take().is_none(), "a pinned chunk is free");
    first.release();
    assert_eq!((first.pins(), second.pins(), pool.pinned()), (0, 1, 1));
    assert!(pool.take().is_none(), "a pinned chunk is free");
    assert_eq!(second.slice(0), b"89abcdef");
    drop(second);
    assert_eq!(pool.pinned(), 0);
    let again = pool.take().expect("it is free");
    assert_eq!(again.bytes(), b"0123456789abcdef");
    // One whose last pin goes while it is held is not free.
    again.pin(0..16, &mut first);
    first.release();
    assert!(pool.take().is_none());
    drop((again, other));
    assert!(pool.take().is_some());
}

#[test]
#[should_panic = "must not change while a write is in it"]
fn a_pinned_chunk_is_not_received_into() {
    let pool = pool();
    let mut chunk = pool.take().unwrap();
    let mut data = DmaVec::empty();
    chunk.pin(0..1, &mut data);
    chunk.room();
}

#[test]
#[should_panic = "received data must not change"]
fn pinned_data_is_not_changed() {
    let pool = pool();
    let mut data = DmaVec::empty();
    pool.take().unwrap().pin(0..4, &mut data);
    data.copy_in(0, &[1]);
}
