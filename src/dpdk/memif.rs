//! The arguments of a memif: its buffers have to hold whole frames.
//!
//! DPDK's driver divides a frame that is longer than a buffer. Up to DPDK 20.05 at least, that
//! breaks the ring: the descriptor of a shorter frame may keep the mark that another one follows,
//! and the receiver, which does not count, then goes round the ring and delivers old frames again,
//! thousands of times. TCP repairs that, at a few I/Os a second.

/// The driver's name, with which the names of its devices begin.
const DRIVER: &str = "net_memif";

/// The argument with the length of a buffer in bytes.
const BUFFER_ARGUMENT: &str = "bsize";

/// The length of a buffer without the argument (`ETH_MEMIF_DEFAULT_PKT_BUFFER_SIZE`), bytes.
const DEFAULT_BUFFER: usize = 2048;

/// The length of an Ethernet header with a VLAN tag, bytes.
const LINK_HEADER: usize = 18;

/// Buffers begin at multiples of this, the length of a cache line in bytes.
const ALIGNMENT: usize = 64;

/// Returns the arguments with which DPDK opens a port whose IP packets have up to `mtu` bytes: a
/// memif gets buffers that hold whole frames, unless its arguments set another length. Fails with
/// the reason if that length is too small.
pub fn with_whole_frames(device: &str, mtu: u16) -> Result<String, String> {
    let longest = usize::from(mtu) + LINK_HEADER;
    let mut arguments = device.split(',');
    if !arguments.next().is_some_and(|name| name.starts_with(DRIVER)) {
        return Ok(device.to_owned());
    }
    let set =
        arguments.filter_map(|argument| argument.split_once('=')).find(|(key, _)| *key == BUFFER_ARGUMENT);
    match set.map(|(_, value)| value.parse::<usize>()) {
        // What is no number, the driver refuses.
        Some(Ok(buffer)) if buffer < longest => Err(format!(
            "bsize={buffer} is too small for an MTU of {mtu}: memif damages frames that are longer than a \
             buffer. Set it to {longest} at least, or leave it out"
        )),
        None if longest > DEFAULT_BUFFER => {
            Ok(format!("{device},{BUFFER_ARGUMENT}={}", longest.next_multiple_of(ALIGNMENT)))
        }
        Some(_) | None => Ok(device.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memif_gets_buffers_that_hold_whole_frames() {
        let cases = [
            ("net_memif0,id=0", 1500, "net_memif0,id=0"),
            ("net_memif0,id=0", 2030, "net_memif0,id=0"),
            ("net_memif0,id=0", 2031, "net_memif0,id=0,bsize=2112"),
            ("net_memif0", 9000, "net_memif0,bsize=9024"),
            ("net_memif0,bsize=9018,id=0", 9000, "net_memif0,bsize=9018,id=0"),
            ("net_memif0,bsize=x", 9000, "net_memif0,bsize=x"),
            ("net_af_packet0,iface=eth0,bsize=1", 9000, "net_af_packet0,iface=eth0,bsize=1"),
            ("0000:01:00.0", 9000, "0000:01:00.0"),
        ];
        for (device, mtu, expected) in cases {
            assert_eq!(with_whole_frames(device, mtu).as_deref(), Ok(expected), "{device}, {mtu}");
        }
    }

    #[test]
    fn a_memif_with_buffers_that_are_too_small_is_refused() {
        for (device, mtu) in [("net_memif0,bsize=9017", 9000), ("net_memif0,id=1,bsize=1000", 1500)] {
            let error = with_whole_frames(device, mtu).expect_err("the buffers are too small");
            assert!(error.contains(&format!("Set it to {} at least", mtu + 18)), "{error}");
        }
    }
}
