//! The process's crypto workers, and a connection's batches that are with them.

use std::collections::VecDeque;
use std::sync::OnceLock;

use dst_workers::{Job, Pool, Port, WorkerStats, WorkersError};

use crate::batch::Batch;

/// Bytes from which on what has to wait anyway is worth handing over: to hand it over and to take it back costs an I/O thread
/// some 50 ns and one more copy of the data, encrypting 16 KiB costs it 2 µs.
pub const HAND_OVER: usize = 16 << 10;

/// Batches of one direction of a connection that are under way at once: one that is filled, one that is sent, and two
/// with workers. 128 KiB each.
pub const DEPTH: usize = 4;

static POOL: OnceLock<Pool<Batch>> = OnceLock::new();

fn pool() -> &'static Pool<Batch> {
    POOL.get_or_init(|| {
        Pool::new(|thread, cpu| spdk::cpu::pin_thread(thread, cpu).map_err(|errno| errno.to_string()))
    })
}

/// One worker on each of these CPUs, and none elsewhere, while records go on being encrypted. Waits for none of
/// them.
///
/// # Errors
/// See [`WorkersError`]: all is as before.
pub fn set_workers(cpus: &[u32]) -> Result<(), WorkersError> {
    pool().set_cpus(cpus)
}

/// What each worker has done, in the order of their CPUs.
pub fn workers() -> Vec<WorkerStats> {
    POOL.get().map(Pool::stats).unwrap_or_default()
}

/// Whether there are workers, and one of them is awake. HOT.
pub fn has_workers() -> bool {
    POOL.get().is_some_and(Pool::is_ready)
}

/// The batches of one direction, in their order, some of them with workers.
pub struct Line {
    port: Option<Port<Batch>>,
    /// From the first to the last; `None` is with a worker.
    batches: VecDeque<Option<Box<Batch>>>,
    /// Those that are empty.
    #[expect(clippy::vec_box, reason = "the boxes go to workers and back")]
    pub free: Vec<Box<Batch>>,
    /// The number of the first.
    first: u64,
}

impl Line {
    pub fn new() -> Line {
        Line {
            port: None,
            batches: VecDeque::with_capacity(DEPTH),
            free: Vec::with_capacity(DEPTH),
            first: 0,
        }
    }

    /// Batches under way.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Adds a batch on which the work was done already.
    pub fn push(&mut self, batch: Box<Batch>) {
        self.batches.push_back(Some(batch));
    }

    /// Adds a batch and has the work done: by a worker, or here.
    pub fn hand_over(&mut self, mut batch: Box<Batch>) {
        batch.number = self.first + self.batches.len() as u64;
        let port = self.port.get_or_insert_with(|| pool().port());
        match port.submit(batch) {
            Ok(()) => self.batches.push_back(None),
            Err(mut batch) => {
                batch.run();
                self.batches.push_back(Some(batch));
            }
        }
    }

    /// The first batch, if its work is done.
    pub fn front(&mut self) -> Option<&mut Batch> {
        if matches!(self.batches.front(), Some(None)) {
            self.collect();
        }
        self.batches.front_mut()?.as_deref_mut()
    }

    /// The first batch is used up.
    pub fn pop(&mut self) {
        if let Some(Some(mut batch)) = self.batches.pop_front() {
            batch.clear();
            self.first += 1;
            self.free.push(batch);
        }
    }

    fn collect(&mut self) {
        let Some(port) = &mut self.port else { return };
        while let Some(batch) = port.poll() {
            let index = (batch.number - self.first) as usize;
            self.batches[index] = Some(batch);
        }
    }
}
