//! The crypto workers of the process, and the batches of a connection that are with them.

use std::collections::VecDeque;
use std::sync::OnceLock;

use dst_workers::{Job, Pool, Port, WorkerStats, WorkersError};

use crate::batch::Batch;

/// The size from which data that has to wait anyway is worth handing over, in bytes. Handing it
/// over and taking it back costs an I/O thread some 50 ns and one more copy of the data; encrypting
/// 16 KiB costs it 2 µs.
pub const HAND_OVER: usize = 16 << 10;

/// The maximum number of batches, 128 KiB each, that one direction of a connection has under way:
/// one being filled, one being sent, and two with workers.
pub const DEPTH: usize = 4;

static POOL: OnceLock<Pool<Batch>> = OnceLock::new();

fn pool() -> &'static Pool<Batch> {
    POOL.get_or_init(|| {
        Pool::new(|thread, cpu| spdk::cpu::pin_thread(thread, cpu).map_err(|errno| errno.to_string()))
    })
}

/// Runs one worker on each of these CPUs and none elsewhere. Encryption continues meanwhile, and
/// the call does not wait for any worker.
///
/// # Errors
/// See [`WorkersError`]. After an error, the workers are as before.
pub fn set_workers(cpus: &[u32]) -> Result<(), WorkersError> {
    pool().set_cpus(cpus)
}

/// Returns the statistics of each worker, in the order of their CPUs.
pub fn workers() -> Vec<WorkerStats> {
    POOL.get().map(Pool::stats).unwrap_or_default()
}

/// Returns whether a worker is awake. HOT.
pub fn has_workers() -> bool {
    POOL.get().is_some_and(Pool::is_ready)
}

/// The batches of one direction, in their order, some of them with workers.
pub struct BatchQueue {
    port: Option<Port<Batch>>,
    /// The batches from first to last; `None` stands for a batch that is with a worker.
    batches: VecDeque<Option<Box<Batch>>>,
    /// Empty batches for reuse.
    #[expect(clippy::vec_box, reason = "the boxes go to workers and back")]
    pub free: Vec<Box<Batch>>,
    /// The number of the first batch.
    first: u64,
}

impl BatchQueue {
    pub fn new() -> BatchQueue {
        BatchQueue {
            port: None,
            batches: VecDeque::with_capacity(DEPTH),
            free: Vec::with_capacity(DEPTH),
            first: 0,
        }
    }

    /// Returns the number of batches under way.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Adds a batch whose work is already done.
    pub fn push(&mut self, batch: Box<Batch>) {
        self.batches.push_back(Some(batch));
    }

    /// Adds a batch, whose work is done by a worker, or here if no worker takes it.
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

    /// Returns the first batch, if its work is done.
    pub fn front(&mut self) -> Option<&mut Batch> {
        if matches!(self.batches.front(), Some(None)) {
            self.collect();
        }
        self.batches.front_mut()?.as_deref_mut()
    }

    /// Removes the first batch, which is used up.
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
