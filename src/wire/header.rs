//! The fixed header in front of every frame.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 1 | kind |
//! | 1 | 1 | code: operation of a request, status of an answer, event of an event; else 0 |
//! | 2 | 2 | flags |
//! | 4 | 4 | bytes of data that follow the header |
//! | 8 | 8 | transaction id |
//! | 16 | 8 | start, blocks |
//! | 24 | 8 | count, blocks |
//! | 32 | 4 | CRC32C of the data, when flag `DIGEST` is set |
//! | 36 | 8 | reserved: sent as zero, not looked at |
//! | 44 | 4 | CRC32C of bytes 0 to 43 |
//!
//! 48 bytes: large enough for every message's fixed part, so that there is one header to parse, and
//! 1.2 % of a 4 KiB block.

use crate::codes::codes;
use crate::{ATTRIBUTES_MAX, DATA_MAX, TRANSFER_MAX, WireError};
use crc_fast::{CrcAlgorithm, checksum};

/// Bytes of a header.
pub const HEADER_LEN: usize = 48;

/// Where each field begins.
mod field {
    use std::ops::Range;
    pub const KIND: usize = 0;
    pub const CODE: usize = 1;
    pub const FLAGS: Range<usize> = 2..4;
    pub const DATA_LEN: Range<usize> = 4..8;
    pub const ID: Range<usize> = 8..16;
    pub const START: Range<usize> = 16..24;
    pub const COUNT: Range<usize> = 24..32;
    pub const DIGEST: Range<usize> = 32..36;
    pub const CRC: Range<usize> = 44..48;
}

codes! {
    /// What a frame is. The number is the one on the wire.
    Kind: u8 {
        /// Client: its identity and what it wants. First frame of a connection, or of its records.
        Hello = 1 "hello",
        /// Target: what was agreed. The connection may carry requests from here on.
        Welcome = 2 "welcome",
        /// Target: the hello is refused, and why. Last frame of a connection.
        Refusal = 3 "refusal",
        /// Client: one transaction.
        Request = 4 "request",
        /// Target: how a transaction ended.
        Answer = 5 "answer",
        /// Client: asks for a sign of life. Carries an id that the acknowledgement repeats.
        KeepAlive = 6 "keep-alive",
        /// Target: acknowledges a keep-alive.
        KeepAliveAck = 7 "keep-alive acknowledgement",
        /// Target: something about the export changed.
        Event = 8 "event",
        /// Either: the connection ends on purpose; nothing follows.
        Goodbye = 9 "goodbye",
        /// Client: the connection is to be secured with this host's key. Comes before the hello.
        Secure = 10 "secure",
        /// Target: the connection is secured from the next byte on, in both directions.
        Secured = 11 "secured",
    }
}

impl Kind {
    /// Most bytes of data that may follow a header of this kind.
    pub fn data_max(self) -> u32 {
        match self {
            Kind::Hello | Kind::Welcome | Kind::Refusal | Kind::Event | Kind::Secure | Kind::Secured => {
                ATTRIBUTES_MAX
            }
            Kind::Request => DATA_MAX,
            Kind::Answer => TRANSFER_MAX,
            Kind::KeepAlive | Kind::KeepAliveAck | Kind::Goodbye => 0,
        }
    }
}

/// Bits that say more about a frame. Unknown bits are ignored, so one that a reader must not ignore is sent
/// only after the handshake has shown that the peer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u16);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// [`Header::digest`] is the CRC32C of the data.
    pub const DIGEST: Flags = Flags(1);
    /// The request was sent before, on this connection or an earlier one of its queue.
    pub const RESENT: Flags = Flags(2);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A frame's header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// Operation, status or event, as the kind says.
    pub code: u8,
    /// See [`Flags`].
    pub flags: Flags,
    /// Bytes of data that follow.
    pub data_len: u32,
    /// The transaction. Low 16 bits: the slot; the rest: a sequence that never repeats in a session.
    pub id: u64,
    /// First block of the range.
    pub start: u64,
    /// Blocks in the range.
    pub count: u64,
    /// CRC32C of the data, if [`Flags::DIGEST`].
    pub digest: u32,
}

impl Header {
    /// A header of this kind with all else zero.
    pub const fn new(kind: Kind) -> Header {
        Header { kind, code: 0, flags: Flags::NONE, data_len: 0, id: 0, start: 0, count: 0, digest: 0 }
    }

    /// The bytes on the wire, CRC included.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[field::KIND] = self.kind as u8;
        bytes[field::CODE] = self.code;
        bytes[field::FLAGS].copy_from_slice(&self.flags.0.to_le_bytes());
        bytes[field::DATA_LEN].copy_from_slice(&self.data_len.to_le_bytes());
        bytes[field::ID].copy_from_slice(&self.id.to_le_bytes());
        bytes[field::START].copy_from_slice(&self.start.to_le_bytes());
        bytes[field::COUNT].copy_from_slice(&self.count.to_le_bytes());
        bytes[field::DIGEST].copy_from_slice(&self.digest.to_le_bytes());
        let crc = crc32c(&bytes[..field::CRC.start]);
        bytes[field::CRC].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes a header.
    ///
    /// # Errors
    /// A CRC that does not match (looked at first: nothing else of a damaged header is believed), an
    /// unknown kind, or more data than the kind may carry.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Header, WireError> {
        let found = u32_at(bytes, field::CRC.start);
        let computed = crc32c(&bytes[..field::CRC.start]);
        if found != computed {
            return Err(WireError::HeaderCrc { found, computed });
        }
        let code = bytes[field::KIND];
        let kind = Kind::try_from_code(code).ok_or(WireError::Kind(code))?;
        let data_len = u32_at(bytes, field::DATA_LEN.start);
        if data_len > kind.data_max() {
            return Err(WireError::DataLen { kind: kind as u8, len: data_len, max: kind.data_max() });
        }
        Ok(Header {
            kind,
            code: bytes[field::CODE],
            flags: Flags(u16::from_le_bytes([bytes[field::FLAGS.start], bytes[field::FLAGS.start + 1]])),
            data_len,
            id: u64_at(bytes, field::ID.start),
            start: u64_at(bytes, field::START.start),
            count: u64_at(bytes, field::COUNT.start),
            digest: u32_at(bytes, field::DIGEST.start),
        })
    }
}

fn u32_at(bytes: &[u8; HEADER_LEN], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8; HEADER_LEN], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

/// CRC32C (Castagnoli, as iSCSI and NVMe/TCP use it).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_header() -> impl Strategy<Value = Header> {
        let kinds = proptest::sample::select(Kind::ALL.to_vec());
        (kinds, any::<(u8, u16, u32, u64, u64, u64, u32)>()).prop_map(
            |(kind, (code, flags, data_len, id, start, count, digest))| {
                let data_len = data_len % (kind.data_max() + 1);
                Header { kind, code, flags: Flags(flags), data_len, id, start, count, digest }
            },
        )
    }

    #[test]
    fn crc32c_is_castagnoli() {
        // RFC 3720, appendix B.4: 32 bytes of zeroes.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn every_kind_is_read_back() {
        for kind in Kind::ALL {
            assert_eq!(Header::decode(&Header::new(kind).encode()), Ok(Header::new(kind)));
        }
    }

    #[test]
    fn bytes_of_a_write_request() {
        let header = Header {
            kind: Kind::Request,
            code: crate::Op::Write as u8,
            flags: Flags::NONE,
            data_len: 4096,
            id: 0x0102_0304_0506_0007,
            start: 0x10,
            count: 8,
            digest: 0,
        };
        let bytes = header.encode();
        assert_eq!(bytes[..8], [4, 2, 0, 0, 0, 16, 0, 0]);
        assert_eq!(bytes[8..16], [7, 0, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes[16..32], [16, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[32..44], [0; 12]);
        assert_eq!(bytes[44..], crc32c(&bytes[..44]).to_le_bytes());
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(header in any_header()) {
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn one_flipped_bit_is_noticed(header in any_header(), bit in 0usize..HEADER_LEN * 8) {
            let mut bytes = header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let is_crc_error = matches!(Header::decode(&bytes), Err(WireError::HeaderCrc { .. }));
            prop_assert!(is_crc_error);
        }

        #[test]
        fn any_bytes_with_a_good_crc_decode_without_panic(bytes in any::<[u8; 32]>(), reserved in any::<[u8; 12]>()) {
            let mut header = [0; HEADER_LEN];
            header[..32].copy_from_slice(&bytes);
            header[32..44].copy_from_slice(&reserved);
            let crc = crc32c(&header[..44]);
            header[44..].copy_from_slice(&crc.to_le_bytes());
            match Header::decode(&header) {
                Ok(decoded) => {
                    prop_assert!(decoded.data_len <= decoded.kind.data_max());
                    prop_assert_eq!(Header::decode(&decoded.encode()), Ok(decoded));
                }
                Err(WireError::Kind(kind)) => prop_assert!(Kind::ALL.iter().all(|known| *known as u8 != kind)),
                Err(WireError::DataLen { len, max, .. }) => prop_assert!(len > max),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }

        #[test]
        fn crc_is_that_of_another_implementation(bytes in any::<Vec<u8>>(), header in any::<[[u8; 22]; 2]>()) {
            prop_assert_eq!(crc32c(&bytes), ::crc32c::crc32c(&bytes));
            prop_assert_eq!(crc32c(header.as_flattened()), ::crc32c::crc32c(header.as_flattened()));
        }
    }
}
