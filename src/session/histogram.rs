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
}

fn bucket(latency_us: u64) -> usize {
    ((u64::BITS - latency_us.leading_zeros()) as usize).min(BUCKETS - 1)
}

impl Histogram {
    /// Counts one operation.
    pub fn record(&mut self, latency_us: u64) {
        self.counts[bucket(latency_us)] += 1;
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
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
}

impl SharedHistogram {
    /// Counts one operation. Only for the owning thread, so that no locked instruction is needed.
    pub fn record(&self, latency_us: u64) {
        let count = &self.counts[bucket(latency_us)];
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    /// Returns the counts so far.
    pub fn get(&self) -> Histogram {
        Histogram { counts: std::array::from_fn(|i| self.counts[i].load(Relaxed)) }
    }

    /// Adds the counts of `other`. Callable from any thread.
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
