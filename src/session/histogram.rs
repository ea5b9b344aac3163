//! Latencies, counted in powers of two.

/// Buckets: the last one has all that took 2^30 µs (18 minutes) and longer.
pub const BUCKETS: usize = 32;

/// How many operations took how long. Bucket 0: less than 1 µs; bucket `i`: 2^(i-1) up to 2^i µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
}

impl Histogram {
    /// Counts one operation.
    pub fn record(&mut self, latency_us: u64) {
        let bucket = (u64::BITS - latency_us.leading_zeros()) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
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
