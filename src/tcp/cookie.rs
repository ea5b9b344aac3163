//! SYN cookies (RFC 4987, 3.6): initial sequence numbers that hold what a half-open connection
//! would be kept for. A flood of SYNs costs no memory then, and displaces nobody.

use crate::secret::{Secret, Tuple};

/// How long a cookie is good for: between one and two slots of so many microseconds. A peer that
/// is alive answers within a few round trips; 64 s is what Linux has.
const SLOT: u64 = 64_000_000;

/// After this time, no cookie is good any more.
pub(crate) const LIFETIME: u64 = 2 * SLOT;

/// The sizes that a cookie can say, of which the largest that the peer takes is chosen: the
/// defaults of RFC 9293, 3.7.1 and those of MTUs of 1,280 (IPv6's least), 1,500 and 9,000. The
/// headers of IPv6 are 20 bytes longer.
const SIZES: [u16; 4] = [536, 1_220, 1_440, 8_940];

/// The bits of a sequence number: 6 of the slot, 2 of the size, 24 that nobody can guess.
const SLOT_SHIFT: u32 = 26;
const SIZE_SHIFT: u32 = 24;
const PROOF: u32 = (1 << SIZE_SHIFT) - 1;

fn cookie(secret: &Secret, tuple: &Tuple, peer: u32, slot: u64, size: u32) -> u32 {
    let proof = secret.cookie(tuple, peer, slot, size) & PROOF;
    (slot as u32) << SLOT_SHIFT | size << SIZE_SHIFT | proof
}

/// Returns the initial sequence number that answers a SYN with this sequence number and MSS.
pub(crate) fn make(secret: &Secret, tuple: &Tuple, peer: u32, mss: u16, now: u64) -> u32 {
    let size = SIZES.iter().rposition(|size| *size <= mss).unwrap_or(0);
    cookie(secret, tuple, peer, now / SLOT, size as u32)
}

/// Returns the MSS of the peer whose SYN with sequence number `peer` was answered with `cookie`.
pub(crate) fn check(secret: &Secret, tuple: &Tuple, peer: u32, found: u32, now: u64) -> Option<u16> {
    let size = found >> SIZE_SHIFT & 3;
    let slot = now / SLOT;
    let fits = |slot: u64| cookie(secret, tuple, peer, slot, size) == found;
    (fits(slot) || slot.checked_sub(1).is_some_and(fits)).then(|| SIZES[size as usize])
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_cookie_is_good_for_its_connection_and_for_a_while() {
        let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let (secret, tuple) = (Secret([7; 16]), Tuple::new(address(1), address(2)));
        let now = 1_000 * SLOT + 5;
        for (mss, said) in [(100, 536), (536, 536), (1_460, 1_440), (8_960, 8_940), (u16::MAX, 8_940)] {
            let cookie = make(&secret, &tuple, 77, mss, now);
            assert_eq!(check(&secret, &tuple, 77, cookie, now + SLOT), Some(said));
            assert_eq!(check(&secret, &tuple, 77, cookie, now + LIFETIME), None);
            assert_eq!(check(&secret, &tuple, 78, cookie, now), None);
            assert_eq!(check(&Secret([8; 16]), &tuple, 77, cookie, now), None);
            assert_eq!(check(&secret, &Tuple::new(address(1), address(3)), 77, cookie, now), None);
            for bit in 0..32 {
                assert_eq!(check(&secret, &tuple, 77, cookie ^ 1 << bit, now), None, "bit {bit}");
            }
        }
    }
}
