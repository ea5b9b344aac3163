//! The parts in which a target executes an Unmap or a WriteZeroes.
//!
//! These two may name any range, up to the whole device, and cost their sender nothing. A backend
//! that gets such a range at once may be busy with it for minutes: all other I/O waits behind it,
//! and nothing can end it. So a target hands it over in parts, one after another, of a size that
//! takes the backend about [`AIM_US`].

/// The time that a part should take, µs: about that of one access to a disk, so other I/O does not
/// notice a part more than another user of the disk.
pub const AIM_US: u64 = 10_000;

/// The first part's size, bytes. Memory takes that in [`AIM_US`]. The simulator's devices are small.
const FIRST: u64 = if cfg!(feature = "mutations") { 4096 } else { 32 << 20 };

/// The smallest part's size, bytes: the default cluster of an SPDK lvstore, which can only be
/// discarded whole.
const SMALLEST: u64 = if cfg!(feature = "mutations") { 1024 } else { 4 << 20 };

/// The largest part's size, bytes. A part that finds blocks that take longer than those before
/// (allocated ones of a thin volume) delays others by no more than this, once.
const LARGEST: u64 = 16 << 30;

/// The most by which a size shrinks at once.
const SHRINK_MAX: u64 = 64;

/// The size of the parts of one operation, which follows the times that parts take.
///
/// A size is the smallest size times a power of two, and parts end at multiples of it: so all but
/// the first and the last are aligned to whatever granularity the backend has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartSize {
    /// Blocks, as all sizes here. A multiple of the write unit.
    smallest: u64,
    largest: u64,
    size: u64,
    /// The last part of another size.
    before: Option<Timed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timed {
    count: u64,
    took_us: u64,
}

impl PartSize {
    /// Returns the size of the first part for a device with blocks of `block_size` bytes, of which a
    /// write covers a multiple of `write_unit`, both at least 1.
    pub fn new(block_size: u32, write_unit: u32) -> PartSize {
        let unit = u64::from(write_unit);
        let smallest = (SMALLEST / (u64::from(block_size) * unit)).max(1) * unit;
        PartSize {
            smallest,
            largest: smallest * (LARGEST / SMALLEST),
            size: smallest * (FIRST / SMALLEST),
            before: None,
        }
    }

    /// Returns the length in blocks of the next part of a range, at most `count`.
    pub fn first_of(&self, start: u64, count: u64) -> u64 {
        if count <= self.size {
            return count;
        }
        self.size - start % self.size
    }

    /// Notes that the backend took `took_us` for a part of `count` blocks.
    ///
    /// The next part is larger if this one took less than half of [`AIM_US`], and smaller if it
    /// took more than all of it; but not where a larger part takes no longer than a smaller one,
    /// because the backend's time is then not the blocks'. Smaller parts would only be more.
    pub fn took(&mut self, count: u64, took_us: u64) {
        // The rest up to a multiple of the size, or what is short itself, says nothing of the size.
        if count < self.size {
            return;
        }
        let now = Timed { count, took_us };
        let is_fixed = self.before.is_some_and(|before| {
            let (small, large) = if before.count < count { (before, now) } else { (now, before) };
            large.count >= 2 * small.count && large.took_us < small.took_us + small.took_us / 4
        });
        let next = if is_fixed || took_us < AIM_US / 2 {
            self.size * 2
        } else if took_us > AIM_US {
            self.size / (took_us / AIM_US + 1).next_power_of_two().min(SHRINK_MAX)
        } else {
            return;
        };
        let next = next.clamp(self.smallest, self.largest);
        if next != self.size {
            self.before = Some(now);
            self.size = next;
        }
    }
}

/// A range that goes to the backend in parts: the part that the backend has, and what is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InParts {
    /// The first block of the part.
    pub start: u64,
    /// Blocks in the part.
    pub count: u64,
    /// Blocks behind the part.
    rest: u64,
    /// When the backend was given the part, µs.
    pub begun_us: u64,
}

impl InParts {
    /// Begins the first part of a range at `now_us`.
    pub fn new(size: &PartSize, start: u64, count: u64, now_us: u64) -> InParts {
        let first = size.first_of(start, count);
        InParts { start, count: first, rest: count - first, begun_us: now_us }
    }

    /// Returns whether nothing comes behind this part.
    pub fn is_last(&self) -> bool {
        self.rest == 0
    }

    /// The part has ended at `now_us`. Begins the next one, unless it was the last.
    pub fn next(self, size: &mut PartSize, now_us: u64) -> Option<InParts> {
        size.took(self.count, now_us.saturating_sub(self.begun_us));
        (self.rest > 0).then(|| InParts::new(size, self.start + self.count, self.rest, now_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: u64 = 512;
    const MIB: u64 = (1 << 20) / BLOCK;

    fn sizes() -> PartSize {
        PartSize::new(BLOCK as u32, 1)
    }

    /// Executes a range by parts of which `took_us` gives the time. Returns their lengths.
    fn run(sizes: &mut PartSize, start: u64, count: u64, took_us: impl Fn(u64) -> u64) -> Vec<u64> {
        let (mut lengths, mut now_us) = (Vec::new(), 0);
        let mut part = Some(InParts::new(sizes, start, count, now_us));
        let mut next = start;
        while let Some(found) = part {
            assert_eq!(found.start, next);
            now_us += took_us(found.count);
            lengths.push(found.count);
            next += found.count;
            part = found.next(sizes, now_us);
        }
        assert_eq!(next, start + count);
        lengths
    }

    #[test]
    fn what_is_short_is_one_part_wherever_it_begins() {
        assert_eq!(sizes().first_of(32 * MIB - 1, 2), 2);
        assert_eq!(sizes().first_of(1, 32 * MIB), 32 * MIB);
        assert_eq!(sizes().first_of(1, 32 * MIB + 1), 32 * MIB - 1, "up to the multiple");
    }

    #[test]
    fn a_fast_backend_gets_few_parts() {
        let parts = run(&mut sizes(), 0, 1 << 31, |_| 100);
        assert_eq!(&parts[..5], [32, 32, 64, 128, 256].map(|size| size * MIB));
        assert!(parts.len() < 80, "{} parts of 1 TiB", parts.len());
        assert_eq!(parts.iter().max(), Some(&((16 << 30) / BLOCK)));
    }

    #[test]
    fn a_slow_backend_gets_parts_of_the_time_aimed_at() {
        // 1 GiB/s: 10 ms are 10 MiB.
        let parts = run(&mut sizes(), 0, 4096 * MIB, |part| part * 1_000_000 / (1024 * MIB));
        assert!(parts[8..].iter().all(|&part| part == 8 * MIB), "{parts:?}");
        // 10 MiB/s, for which the smallest part is too much.
        let parts = run(&mut sizes(), 0, 512 * MIB, |part| part * 1_000_000 / (10 * MIB));
        assert_eq!(&parts[..2], [32 * MIB, 4 * MIB]);
        assert!(parts[1..].iter().all(|&part| part == 4 * MIB), "{parts:?}");
    }

    #[test]
    fn a_backend_that_takes_as_long_for_a_small_part_gets_large_ones() {
        let parts = run(&mut sizes(), 0, 1 << 31, |part| 100_000 + part / (1 << 20));
        assert!(parts.len() < 90, "{} parts of 1 TiB", parts.len());
    }

    #[test]
    fn blocks_that_suddenly_take_longer_do_so_for_few_parts() {
        let mut sizes = sizes();
        run(&mut sizes, 0, 1 << 31, |_| 100);
        let slow = |part| part * 1_000_000 / (1024 * MIB);
        let parts = run(&mut sizes, 0, 64 * 1024 * MIB, slow);
        let late = parts.iter().filter(|&&part| slow(part) > 2 * AIM_US).count();
        assert!(late <= 3, "{late} late parts in {:?}", &parts[..8]);
    }

    #[test]
    fn a_short_rest_says_nothing_of_the_size() {
        let mut sizes = sizes();
        sizes.took(32 * MIB - 1, 1_000_000);
        sizes.took(1, 0);
        assert_eq!(sizes, self::sizes());
        sizes.took(32 * MIB, 1_000_000);
        assert_ne!(sizes, self::sizes());
    }

    proptest! {
        /// Whatever the times: parts are a range's, in order, of whole write units, not too many,
        /// and begin at multiples of the smallest size.
        #[test]
        fn parts_are_whole_units_and_aligned(
            shift in 9u32..16, unit in 1u32..100, start in 0u64..1 << 30, count in 1u64..1 << 30,
            times in proptest::collection::vec(0u64..100_000_000, 1..50),
        ) {
            let (block, unit64) = (1u32 << shift, u64::from(unit));
            let (start, end) = (start * unit64, (start + count) * unit64);
            let mut sizes = PartSize::new(block, unit);
            let (mut next, mut times) = (start, times.iter().cycle());
            for _ in 0..1000 {
                if next == end {
                    break;
                }
                let part = sizes.first_of(next, end - next);
                prop_assert!(part > 0 && part <= end - next && part.is_multiple_of(unit64));
                prop_assert!(next == start || next % sizes.smallest == 0);
                prop_assert!(part * u64::from(block) <= LARGEST.max(u64::from(block) * unit64 * (LARGEST / SMALLEST)));
                sizes.took(part, *times.next().unwrap());
                prop_assert!(sizes.size >= sizes.smallest && sizes.size <= sizes.largest);
                prop_assert_eq!(sizes.size % sizes.smallest, 0);
                next += part;
            }
        }
    }
}
