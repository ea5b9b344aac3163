//! Headers: first the bytes as they are, then with a correct CRC, since the decoder rejects all
//! others at once.
#![no_main]

use dst_wire::{HEADER_LEN, Header, WireError};
use libfuzzer_sys::fuzz_target;

/// The CRC covers the bytes before it.
const CRC_AT: usize = 44;
/// Reserved bytes are not preserved.
const RESERVED: std::ops::Range<usize> = 36..44;

fuzz_target!(|data: &[u8]| {
    let mut bytes = [0; HEADER_LEN];
    let len = data.len().min(HEADER_LEN);
    bytes[..len].copy_from_slice(&data[..len]);

    let crc = crc32c::crc32c(&bytes[..CRC_AT]).to_le_bytes();
    if bytes[CRC_AT..] != crc {
        assert!(matches!(Header::decode(&bytes), Err(WireError::HeaderCrc { .. })));
        bytes[CRC_AT..].copy_from_slice(&crc);
    }
    if let Ok(header) = Header::decode(&bytes) {
        assert!(header.data_len <= header.kind.data_max());
        let again = header.encode();
        assert_eq!(Header::decode(&again), Ok(header));
        bytes[RESERVED].fill(0);
        assert_eq!(again[..CRC_AT], bytes[..CRC_AT]);
    }
});
