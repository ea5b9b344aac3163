//! Which shard of an interface has a connection. Each shard has a TCP stack, and a queue pair of the
//! port; the port's hash and this module agree on where a segment goes.

use std::net::{IpAddr, SocketAddr};

/// The maximum number of shards of an interface.
pub const SHARDS_MAX: u16 = 16;

/// The 16 bits that a port's key of receive-side scaling (RSS) repeats. With such a key, the
/// Toeplitz hash is the same for both directions of a connection: it is that of the exclusive or of
/// the 16-bit words of addresses and ports (Woo and Park, "Scalable TCP Session Monitoring with
/// Symmetric Receive-side Scaling", 2012).
pub const RSS_KEY: u16 = 0x6d5a;

/// The entries of a port's table from hashes to queues, if the port has none.
const ENTRIES: u16 = 128;

/// The offset of the frame's type, the types, and the length of a VLAN tag, in bytes.
const TYPE: usize = 12;
const TAGGED: u16 = 0x8100;
const TAG_LEN: usize = 4;
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// The numbers of protocols, and the types of echo requests.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;

/// One of the shards of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u16,
    count: u16,
    entries: u16,
}

/// Who handles a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// Whichever shard has received it: nothing comes of it.
    Any,
    /// The shard with this index.
    One(usize),
    /// Each shard.
    All,
}

impl Shard {
    /// Returns the shard of an interface that has no other.
    pub fn only() -> Shard {
        Shard { index: 0, count: 1, entries: ENTRIES }
    }

    /// Returns the shard with an index below `count`. `entries` is the length of the port's table from
    /// hashes to queues, in which the entry `i` is the queue `i % count`; 0 if the port has no table.
    ///
    /// # Panics
    /// If there are no or too many shards, or the length is no power of 2: ports have none such.
    pub fn new(index: u16, count: u16, entries: u16) -> Shard {
        let entries = if entries == 0 { ENTRIES } else { entries };
        assert!(index < count && count <= SHARDS_MAX, "shard {index} of {count}");
        assert!(entries.is_power_of_two(), "a table of {entries} entries");
        Shard { index, count, entries }
    }

    /// Returns the number of shards.
    pub fn count(&self) -> usize {
        self.count.into()
    }

    /// Returns the index of this shard.
    pub fn index(&self) -> usize {
        self.index.into()
    }

    /// Returns true if this is the shard that answers for the interface's addresses.
    pub fn is_first(&self) -> bool {
        self.index == 0
    }

    /// Returns true if this shard has the connection between two addresses. HOT.
    pub fn has(&self, one: SocketAddr, other: SocketAddr) -> bool {
        let folded = fold(one.ip()) ^ fold(other.ip()) ^ one.port() ^ other.port();
        self.count == 1 || self.of(folded) == self.index()
    }

    fn of(&self, folded: u16) -> usize {
        usize::from((hash(folded) & (self.entries - 1)) % self.count)
    }

    /// Returns who handles a received frame. HOT.
    pub fn receiver(&self, frame: &[u8]) -> Receiver {
        self.find(frame).unwrap_or(Receiver::Any)
    }

    /// Returns `None` if the frame is too short.
    fn find(&self, frame: &[u8]) -> Option<Receiver> {
        let tag = if word(frame, TYPE)? == TAGGED { TAG_LEN } else { 0 };
        let packet = frame.get(TYPE + tag + 2..)?;
        let (protocol, addresses, payload) = match word(frame, TYPE + tag)? {
            ARP => return Some(Receiver::All),
            IPV4 => (*packet.get(9)?, packet.get(12..20)?, usize::from(packet[0] & 15) * 4),
            IPV6 => (*packet.get(6)?, packet.get(8..40)?, 40),
            _ => return Some(Receiver::Any),
        };
        Some(match (protocol, *packet.get(payload)?) {
            (TCP, _) => {
                let ports = word(packet, payload)? ^ word(packet, payload + 2)?;
                Receiver::One(self.of(fold_bytes(addresses) ^ ports))
            }
            (ICMP, ECHO_REQUEST) | (ICMPV6, ECHO_REQUEST_V6) => Receiver::One(0),
            // What neighbours say, and errors.
            (ICMP | ICMPV6, _) => Receiver::All,
            _ => Receiver::Any,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word))
}

fn fold_bytes(bytes: &[u8]) -> u16 {
    bytes.as_chunks().0.iter().fold(0, |folded, word| folded ^ u16::from_be_bytes(*word))
}

fn fold(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(v4) => fold_bytes(&v4.octets()),
        IpAddr::V6(v6) => fold_bytes(&v6.octets()),
    }
}

/// Returns the lower half of the Toeplitz hash with the key; the upper half is the same.
fn hash(folded: u16) -> u16 {
    (0..u16::BITS).fold(0, |hash, bit| {
        let is_set = folded << bit >> 15 == 1;
        if is_set { hash ^ RSS_KEY.rotate_left(bit) } else { hash }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Toeplitz hash as Microsoft's "Verifying the RSS Hash Calculation" has it.
    fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
        let window = |at: usize| {
            (0..32).fold(0, |window, bit| {
                let at = at + bit;
                window << 1 | u32::from(key[at / 8] >> (7 - at % 8) & 1)
            })
        };
        (0..input.len() * 8)
            .filter(|at| input[at / 8] >> (7 - at % 8) & 1 == 1)
            .fold(0, |hash, at| hash ^ window(at))
    }

    #[test]
    fn the_reference_computes_what_is_published() {
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
            0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
            0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        // 66.9.149.187:2794 to 161.142.100.80:1766.
        let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!(toeplitz(&key, &input), 0x51cc_c178);
    }

    /// Returns the ends of a connection, different for each number.
    fn ends(n: u16) -> (SocketAddr, SocketAddr) {
        // Without regularities that cancel each other.
        let mixed = n.wrapping_mul(40_503);
        let [a, b] = mixed.to_be_bytes();
        if n.is_multiple_of(2) {
            (([10, 0, a, 1], 4460).into(), ([10, 9, 1, b], 49_152 + n).into())
        } else {
            let one = [0xfd00, mixed, 1, 2, 3, 4, 5, 6];
            ((one, 4460).into(), ([0xfd00, 9, 2, 1, 9, 8, 7, 6], 49_152 + n).into())
        }
    }

    fn octets(address: IpAddr) -> Vec<u8> {
        match address {
            IpAddr::V4(v4) => v4.octets().into(),
            IpAddr::V6(v6) => v6.octets().into(),
        }
    }

    /// Returns a frame with a TCP segment.
    fn segment((from, to): (SocketAddr, SocketAddr), is_tagged: bool) -> Vec<u8> {
        let mut frame = vec![2; TYPE];
        if is_tagged {
            frame.extend([0x81, 0, 0, 7]);
        }
        if from.is_ipv4() {
            frame.extend([8, 0, 0x46, 0, 0, 48, 0, 0, 0, 0, 64, TCP, 0, 0]);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, TCP, 64]);
        }
        frame.extend([octets(from.ip()), octets(to.ip())].concat());
        if from.is_ipv4() {
            // An option, which ports skip.
            frame.extend([1; 4]);
        }
        frame.extend([from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
        frame
    }

    #[test]
    fn a_connection_is_where_the_port_puts_its_segments() {
        let key = RSS_KEY.to_be_bytes().repeat(26);
        for (count, entries) in [(1, 0), (2, 128), (3, 64), (16, 512)] {
            let mut has = vec![0; usize::from(count)];
            for n in 0..2_000 {
                let (one, other) = ends(n);
                let words = [octets(one.ip()), octets(other.ip())].concat();
                let ports = [one.port().to_be_bytes(), other.port().to_be_bytes()].concat();
                let hash = toeplitz(&key, &[words, ports].concat());
                let table = if entries == 0 { ENTRIES } else { entries };
                let queue = hash as usize % usize::from(table) % usize::from(count);
                for index in 0..count {
                    let shard = Shard::new(index, count, entries);
                    let is_here = usize::from(index) == queue;
                    assert_eq!((shard.has(one, other), shard.has(other, one)), (is_here, is_here));
                    for frame in [segment((one, other), false), segment((other, one), true)] {
                        assert_eq!(shard.receiver(&frame), Receiver::One(queue));
                    }
                }
                has[queue] += 1;
            }
            let least = 2_000 / usize::from(count) / 2;
            assert!(has.iter().all(|&has| has > least), "{count} shards have {has:?} connections");
        }
    }

    #[test]
    fn other_frames_go_to_those_whom_they_concern() {
        let shard = Shard::new(1, 4, 0);
        let of = |ethertype: u16, packet: &[u8]| {
            let mut frame = vec![2; TYPE];
            frame.extend(ethertype.to_be_bytes());
            frame.extend(packet);
            shard.receiver(&frame)
        };
        let v4 = |protocol: u8, kind: u8| {
            let mut packet = [0; 24];
            (packet[0], packet[9], packet[20]) = (0x45, protocol, kind);
            of(IPV4, &packet)
        };
        let v6 = |protocol: u8, kind: u8| {
            let mut packet = [0; 44];
            (packet[6], packet[40]) = (protocol, kind);
            of(IPV6, &packet)
        };
        assert_eq!(of(ARP, &[0; 28]), Receiver::All);
        assert_eq!(
            (v4(ICMP, ECHO_REQUEST), v6(ICMPV6, ECHO_REQUEST_V6)),
            (Receiver::One(0), Receiver::One(0))
        );
        assert_eq!((v4(ICMP, 3), v6(ICMPV6, 136)), (Receiver::All, Receiver::All));
        assert_eq!(
            (v4(17, 0), v6(17, 0), of(0x88cc, &[0; 60])),
            (Receiver::Any, Receiver::Any, Receiver::Any)
        );
    }

    #[test]
    fn a_frame_that_is_cut_off_is_anybodys() {
        let shard = Shard::new(0, 2, 0);
        for n in 0..2 {
            let frame = segment(ends(n), n == 0);
            for len in 0..frame.len() {
                assert_eq!(shard.receiver(&frame[..len]), Receiver::Any, "{len}");
            }
        }
    }
}
