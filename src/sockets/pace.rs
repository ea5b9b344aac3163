//! How many sockets are reported as ready at a time.
//!
//! The users of a thousand connections write more at once than a core's cache holds, and all of that
//! is copied twice again after it has left the cache: into frames, and by the peer. With fewer
//! sockets at a time, the requests wait instead, which are small.

/// The data that the users of sockets that are reported at a time are expected to write, in bytes: a
/// quarter of the smallest second-level caches of servers (512 KiB), since the data is there twice,
/// and so is what is received. With 1,000 connections that answer with 32 KiB each, an I/O of 4 KiB
/// takes 0.63 to 0.7 of the time with 64 to 128 KiB, and 0.8 with 256 KiB; but with 64 KiB, turns of
/// the stack become many.
const WRITTEN: usize = 128 << 10;

/// What sockets have led to after they were reported.
#[derive(Debug)]
pub struct Pace {
    /// The sockets that were reported last.
    reported: usize,
    /// The bytes written since.
    written: usize,
    /// The average of the bytes written for a reported socket, at most [`WRITTEN`], so that a single
    /// long transfer is soon forgotten.
    each: usize,
    /// The number of sockets that are expected to lead to [`WRITTEN`].
    most: usize,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { reported: 0, written: 0, each: 0, most: usize::MAX }
    }
}

impl Pace {
    /// Notes that so many bytes were written.
    pub fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Returns the number of sockets to report now, at most `limit`, and at least one unless that is
    /// zero.
    pub fn limit(&mut self, limit: usize) -> usize {
        if let Some(each) = self.written.checked_div(self.reported) {
            self.each = (3 * self.each + each.min(WRITTEN)) / 4;
            self.most = WRITTEN / self.each.max(1);
            (self.reported, self.written) = (0, 0);
        }
        limit.min(self.most)
    }

    /// Notes that so many sockets were reported.
    pub fn reported(&mut self, count: usize) {
        self.reported = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports sockets, each of which leads to so many bytes. Returns their number.
    fn report(pace: &mut Pace, each: usize) -> usize {
        let count = pace.limit(32);
        pace.reported(count);
        pace.wrote(count * each);
        count
    }

    #[test]
    fn as_many_are_reported_as_write_what_the_cache_holds() {
        for (each, expected) in [(0, 32), (4_000, 32), (32 << 10, 4), (WRITTEN, 1), (1 << 30, 1)] {
            let mut pace = Pace::default();
            assert_eq!(report(&mut pace, each), 32, "nothing is known yet");
            (0..20).for_each(|_| _ = report(&mut pace, each));
            let count = report(&mut pace, each);
            assert!((expected..=expected + expected / 4).contains(&count), "{each} bytes: {count}");
            assert_eq!(pace.limit(0), 0);
        }
    }

    #[test]
    fn a_long_transfer_is_soon_forgotten() {
        let mut pace = Pace::default();
        (0..20).for_each(|_| _ = report(&mut pace, 1 << 30));
        assert_eq!(report(&mut pace, 0), 1);
        (0..15).for_each(|_| _ = report(&mut pace, 0));
        assert_eq!(report(&mut pace, 0), 32);
        // What is written while nothing is ready counts towards the sockets that come next.
        pace.reported(0);
        pace.wrote(WRITTEN);
        assert_eq!(pace.limit(32), 32);
    }
}
