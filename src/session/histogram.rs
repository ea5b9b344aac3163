//! Latencies, counted in powers of two.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets: the last one has all that took 2^30 µs (18 minutes) and longer.
pub const BUCKETS: usize = 32;

/// How many operations took how long. Bucket 0: less than 1 µs; bucket `i`: 2^(i-1) up to 2^i µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
}

fn bucket(latency_us: u64) -> usize {
    ((u64::BITS - latency_us.leading_zeros()) as usize).min(BUCKETS - 1)
}

impl Histogram {
    /// Counts one operation.
    pub fn record(&mut self, latency_us: u64) {
        self.counts[bucket(latency_us)] += 1;
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// The buckets that are not empty: below how many µs, and how many operations.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(i, &count)| (1 << i, count))
    }
}

/// A histogram that one thread counts in and any may read.
#[derive(Debug, Default)]
pub struct SharedHistogram {
    counts: [AtomicU64; BUCKETS],
}

impl SharedHistogram {
    /// Counts one operation. Its owner's thread only: no bus lock.
    pub fn record(&self, latency_us: u64) {
        let count = &self.counts[bucket(latency_us)];
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    /// What was counted so far.
    pub fn get(&self) -> Histogram {
        Histogram { counts: std::array::from_fn(|i| self.counts[i].load(Relaxed)) }
    }

    /// Adds another's counts, from any thread.
    pub fn add(&self, other: &SharedHistogram) {
        for (count, more) in self.counts.iter().zip(&other.counts) {
            count.fetch_add(more.load(Relaxed), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_latency_is_below_its_bucket_and_not_below_the_one_before() {
        for (latency, below) in [(0, 1), (1, 2), (2, 4), (3, 4), (4, 8), (1000, 1024), (1024, 2048)] {
            let mut histogram = Histogram::default();
            histogram.record(latency);
            assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(below, 1)], "{latency} µs");
        }
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX);
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(1 << 31, 1)]);
    }
}
