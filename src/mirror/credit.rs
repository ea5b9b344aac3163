//! The credit that a rate gives: so many bytes in a second.

/// The time in µs for which unused rate is kept, so that a late tick costs nothing.
const RATE_BURST: u64 = 100_000;

/// The bytes that may be read or copied at a rate, as of a time.
#[derive(Debug)]
pub(crate) struct Credit {
    bytes: u64,
    at: u64,
}

impl Credit {
    /// Returns no credit yet.
    pub(crate) const fn new() -> Credit {
        Credit { bytes: 0, at: 0 }
    }

    /// Takes as many bytes of the credit at a rate in bytes per second, of which 0 means no limit.
    ///
    /// # Errors
    /// The time in µs before which it is of no use to ask again.
    pub(crate) fn take(&mut self, now: u64, bytes: u64, rate: u64) -> Result<(), u64> {
        if rate == 0 {
            return Ok(());
        }
        let per = |us: u64| (u128::from(rate) * u128::from(us) / 1_000_000) as u64;
        let most = per(RATE_BURST).max(bytes);
        let gained = per(now.saturating_sub(self.at).min(10 * RATE_BURST));
        if gained > 0 {
            self.bytes = (self.bytes + gained).min(most);
            self.at = now;
        }
        if self.bytes >= bytes {
            self.bytes -= bytes;
            return Ok(());
        }
        let missing = u128::from(bytes - self.bytes) * 1_000_000 / u128::from(rate);
        Err(now + 1 + (missing as u64).min(RATE_BURST))
    }
}
