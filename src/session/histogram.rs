//! Histograms of latencies, with a bucket for each power of two.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The number of buckets. The last bucket counts everything that took 2^30 µs (18 minutes) or
/// longer.
pub const BUCKETS: usize = 32;

/// The number of operations by latency. Bucket 0 counts less than 1 µs, bucket `i` from 2^(i-1) to
/// below 2^i µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    /// The sum of all latencies in µs, which wraps.
    sum_us: u64,
}

fn bucket(latency_us: u64) -> usize {
    ((u64::BITS - latency_us.leading_zeros()) as usize).min(BUCKETS - 1)
}

impl Histogram {
    /// Counts one operation.
    pub fn record(&mut self, latency_us: u64) {
        self.counts[bucket(latency_us)] += 1;
        self.sum_us = self.sum_us.wrapping_add(latency_us);
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Histogram) {
        // By index, since the compiler then adds several at once.
        for bucket in 0..BUCKETS {
            self.counts[bucket] += other.counts[bucket];
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }

    /// Adds the counts that `other` has now.
    pub fn add_shared(&mut self, other: &SharedHistogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more.load(Relaxed);
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us.load(Relaxed));
    }

    /// Returns the sum of all latencies in µs.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// Returns the number of operations in each bucket.
    pub fn counts(&self) -> &[u64; BUCKETS] {
        &self.counts
    }

    /// Returns the non-empty buckets: the upper bound in µs, exclusive, and the number of
    /// operations.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(i, &count)| (1 << i, count))
    }
}

/// A histogram in which one thread counts and which any thread may read.
#[derive(Debug, Default)]
pub struct SharedHistogram {
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl SharedHistogram {
    /// Counts one operation. Only for the owning thread, so that no locked instruction is needed.
    pub fn record(&self, latency_us: u64) {
        let count = &self.counts[bucket(latency_us)];
        count.store(count.load(Relaxed) + 1, Relaxed);
        self.sum_us.store(self.sum_us.load(Relaxed).wrapping_add(latency_us), Relaxed);
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

    #[test]
    fn sums_are_of_all_latencies() {
        let shared = SharedHistogram::default();
        [3, 40].into_iter().for_each(|latency_us| shared.record(latency_us));
        let mut histogram = Histogram::default();
        histogram.record(100);
        histogram.add_shared(&shared);
        histogram.add_shared(&shared);
        let mut twice = histogram;
        twice.add(&histogram);
        assert_eq!((histogram.sum_us(), twice.sum_us()), (186, 372));
        assert_eq!(twice.buckets().collect::<Vec<_>>(), [(4, 4), (64, 4), (128, 2)]);
        assert_eq!(twice.counts().iter().sum::<u64>(), 10);
    }
}
