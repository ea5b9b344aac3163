//! Promise 4, reads are current: a read returns the newest completed write, or one still in
//! progress.

use world::store;

use crate::model::Io;

/// A read returns data that was not current during the read.
pub const CURRENT: &str = "4 (reads are current)";

/// Checks the data of a read: each block must be as it was at some moment during the read.
pub fn read(seq: u64, number: u64, io: &Io, data: &[u8]) {
    let size = data.len() / io.count.max(1) as usize;
    for (bytes, block) in data.chunks_exact(size).zip(io.offset..) {
        let allowed = store::versions(io.store, block, io.submitted_at(), seq);
        let fits = |write: u64| allowed.iter().any(|c| if c.zero { write == 0 } else { c.write == write });
        match store::write_of(bytes, block) {
            Some(write) if fits(write) => {}
            found => {
                let text =
                    format!("read {number} finds {found:?} in block {block}, which has had {allowed:?}");
                world::violation(CURRENT, text);
            }
        }
    }
}
