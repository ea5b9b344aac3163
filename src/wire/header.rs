//! The fixed header that begins every frame.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 1 | kind |
//! | 1 | 1 | code: operation of a request, status of an answer, event of an event; otherwise 0 |
//! | 2 | 2 | flags |
//! | 4 | 4 | bytes of data that follow the header |
//! | 8 | 8 | transaction id |
//! | 16 | 8 | start, blocks |
//! | 24 | 8 | count, blocks |
//! | 32 | 4 | CRC32C of the data, if flag `DIGEST` is set |
//! | 36 | 8 | reserved: sent as zero, ignored by the receiver |
//! | 44 | 4 | CRC32C of bytes 0 to 43 |
//!
//! 48 bytes hold the fixed part of every message, so that there is only one header to parse, and
//! are 1.2 % of a 4 KiB block.

use crate::codes::codes;
use crate::{ATTRIBUTES_MAX, DATA_MAX, TRANSFER_MAX, WireError};
use crc_fast::{CrcAlgorithm, checksum};

/// The size of a header in bytes.
pub const HEADER_LEN: usize = 48;

/// The offset of each field.
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
    /// The kind of a frame. The number is its code on the wire.
    Kind: u8 {
        /// Client: its name, and the export to attach. The first frame of a connection, or of its
        /// records.
        Hello = 1 "hello",
        /// Target: accepts the hello, with what was agreed. From here on, the connection may carry
        /// requests.
        Welcome = 2 "welcome",
        /// Target: refuses the hello, with the reason. The last frame of a connection.
        Refusal = 3 "refusal",
        /// Client: one transaction.
        Request = 4 "request",
        /// Target: the outcome of a transaction.
        Answer = 5 "answer",
        /// Client: requests a sign of life. Carries an id that the acknowledgement repeats.
        KeepAlive = 6 "keep-alive",
        /// Target: acknowledges a keep-alive.
        KeepAliveAck = 7 "keep-alive acknowledgement",
        /// Target: the export changed.
        Event = 8 "event",
        /// Either: ends the connection on purpose. Nothing follows.
        Goodbye = 9 "goodbye",
        /// Client: asks to secure the connection with this host's key. Precedes the hello.
        Secure = 10 "secure",
        /// Target: from the next byte on, the connection is secured in both directions.
        Secured = 11 "secured",
        /// Client: a request is not waited for any longer. Carries the id of the request. Only if
        /// agreed.
        Abort = 12 "abort",
        /// Target: an aborted request that the backend still has is held: until it is answered,
        /// nothing that overlaps it is executed. Carries its id.
        Held = 13 "held",
    }
}

impl Kind {
    /// Returns the maximum size of the data that may follow a header of this kind, in bytes.
    pub fn data_max(self) -> u32 {
        match self {
            Kind::Hello | Kind::Welcome | Kind::Refusal | Kind::Event | Kind::Secure | Kind::Secured => {
                ATTRIBUTES_MAX
            }
            Kind::Request => DATA_MAX,
            Kind::Answer => TRANSFER_MAX,
            Kind::KeepAlive | Kind::KeepAliveAck | Kind::Goodbye | Kind::Abort | Kind::Held => 0,
        }
    }
}

/// The flags of a frame. A receiver ignores unknown bits, so a bit that must not be ignored is sent
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
    /// In a target's Goodbye: what was sent on this connection and is not answered was not executed on
    /// it, and never will be.
    pub const NOT_EXECUTED: Flags = Flags(4);

    /// Returns whether all bits of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A decoded frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The kind of the frame.
    pub kind: Kind,
    /// The operation, status or event, depending on the kind.
    pub code: u8,
    /// The flags.
    pub flags: Flags,
    /// Bytes of data that follow.
    pub data_len: u32,
    /// The id of the transaction: the slot in the low 16 bits, and above it a sequence that never
    /// repeats in a session.
    pub id: u64,
    /// The first block of the range.
    pub start: u64,
    /// The number of blocks in the range.
    pub count: u64,
    /// The CRC32C of the data, if [`Flags::DIGEST`] is set.
    pub digest: u32,
}

impl Header {
    /// Creates a header of this kind with all other fields zero.
    pub const fn new(kind: Kind) -> Header {
        Header { kind, code: 0, flags: Flags::NONE, data_len: 0, id: 0, start: 0, count: 0, digest: 0 }
    }

    /// Encodes the header, including its CRC.
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
    /// The CRC does not match (checked first, since nothing in a damaged header can be trusted),
    /// the kind is unknown, or the header announces more data than the kind may carry.
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

/// Returns the CRC32C (Castagnoli, as in iSCSI and NVMe/TCP).
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
