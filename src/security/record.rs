//! Records: the unit of encryption and authentication on a secured connection.
//!
//! | bytes | field |
//! | --- | --- |
//! | 4 | length of the data, 1 to [`RECORD_MAX`], little-endian; bit 31: the last record with this key |
//! | length | the data, encrypted |
//! | 16 | tag, over the data and the first 4 bytes |
//!
//! The number of a record is not sent, since both ends count. So a record that is missing, repeated
//! or out of order has a wrong tag, like one that was changed.

use std::sync::Arc;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use dst_wire::Cipher;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::psk::wipe_stack;
use crate::secret::Secret;

/// The maximum size of a record's data in bytes, which is TLS's limit too. A receiver has to hold a
/// whole record before it can trust any of it. At this size, AES-GCM is within 10 % of its best
/// rate.
pub const RECORD_MAX: usize = 16 << 10;

/// The number of bytes before a record's data.
pub const RECORD_HEADER_LEN: usize = 4;

/// The number of bytes after a record's data.
const TAG_LEN: usize = 16;

/// The number of bytes that a record adds to its data.
pub const RECORD_OVERHEAD: usize = RECORD_HEADER_LEN + TAG_LEN;

/// The flag in a record's first 4 bytes that announces the next key.
const KEY_CHANGES: u32 = 1 << 31;

/// The number of records of full size for which AES-GCM may use one key: 2^24.5 (RFC 8446, section
/// 5.5; RFC 9147, section 4.5.3). ChaCha20-Poly1305 has no limit within reach and is treated the
/// same.
const AES_GCM_RECORDS: u64 = 23_726_566;

/// The same limit in blocks of 16 bytes; the data of a full record has 2^10.
const AES_GCM_BLOCKS: u64 = AES_GCM_RECORDS << 10;

/// The number of blocks of 16 bytes after which a sender changes to its next key: 128 GiB, half the
/// limit.
const USUAL_KEY_BLOCKS: u64 = 1 << 33;

/// The number of records after which a sender changes to its next key, whatever their size: half
/// the limit.
const USUAL_KEY_RECORDS: u64 = 11_863_283;

// A receiver gives up at twice the sender's limits, which is no more than the cipher allows. The
// same holds for the tests' limits.
const _: () = assert!(2 * USUAL_KEY_BLOCKS <= AES_GCM_BLOCKS && KEY_BLOCKS <= USUAL_KEY_BLOCKS);
const _: () = assert!(2 * USUAL_KEY_RECORDS <= AES_GCM_RECORDS && KEY_RECORDS <= USUAL_KEY_RECORDS);

/// The number of blocks after which a sender changes to its next key: small in tests.
const KEY_BLOCKS: u64 = if HAS_SMALL_LIMITS { RECORD_BLOCKS } else { USUAL_KEY_BLOCKS };

/// The number of records after which a sender changes to its next key: small in tests.
const KEY_RECORDS: u64 = if HAS_SMALL_LIMITS { 7 } else { USUAL_KEY_RECORDS };

const HAS_SMALL_LIMITS: bool = cfg!(any(test, feature = "simulator"));

/// The number of blocks of a record of full size. GCM adds two blocks to the data: one for the
/// header, one for the lengths.
const RECORD_BLOCKS: u64 = blocks(RECORD_MAX);

// A sender may exceed its limit by its last record, which must stay within twice the limit.
const _: () = assert!(KEY_BLOCKS - 1 + RECORD_BLOCKS <= 2 * KEY_BLOCKS);

const fn blocks(len: usize) -> u64 {
    len.div_ceil(16) as u64 + 2
}

/// What is wrong with a record. The connection ends, since nothing that follows can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The length is impossible.
    #[error("a record of {0} bytes, which no sender makes")]
    Len(u32),
    /// The tag is wrong: the record was changed, cut, repeated or reordered, or its sender does not
    /// have the key.
    #[error("a record that does not have the peer's tag in this place of the stream")]
    Forged,
    /// The peer has used a key for too long.
    #[error("the peer has not taken its next key in time")]
    KeyWornOut,
}

/// A decoded record header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// The size of the data in bytes.
    pub len: usize,
    key_changes: bool,
}

impl RecordHeader {
    /// Decodes a record header.
    ///
    /// # Errors
    /// The length is invalid.
    pub fn decode(bytes: [u8; RECORD_HEADER_LEN]) -> Result<RecordHeader, RecordError> {
        let word = u32::from_le_bytes(bytes);
        let len = word & !KEY_CHANGES;
        if !(1..=RECORD_MAX as u32).contains(&len) {
            return Err(RecordError::Len(len));
        }
        Ok(RecordHeader { len: len as usize, key_changes: word & KEY_CHANGES != 0 })
    }

    /// Returns the size of the whole record in bytes.
    pub fn record_len(&self) -> usize {
        self.len + RECORD_OVERHEAD
    }

    fn encode(&self) -> [u8; RECORD_HEADER_LEN] {
        (self.len as u32 | if self.key_changes { KEY_CHANGES } else { 0 }).to_le_bytes()
    }
}

/// One of the successive keys of a direction.
struct RecordKey {
    key: LessSafeKey,
    iv: Zeroizing<[u8; NONCE_LEN]>,
}

fn algorithm(cipher: Cipher) -> &'static Algorithm {
    match cipher {
        Cipher::Aes128Gcm => &AES_128_GCM,
        Cipher::Aes256Gcm => &AES_256_GCM,
        Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        Cipher::None => unreachable!("a secured connection has a cipher"),
    }
}

impl Drop for RecordKey {
    /// ChaCha20-Poly1305 keeps its key on the stack while it works, and leaves it there.
    fn drop(&mut self) {
        wipe_stack();
    }
}

impl RecordKey {
    fn new(cipher: Cipher, secret: &Secret) -> RecordKey {
        let algorithm = algorithm(cipher);
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..algorithm.key_len()];
        secret.expand(&[b"dst key", &[cipher as u8]], key);
        let mut iv = Zeroizing::new([0; NONCE_LEN]);
        secret.expand(&[b"dst iv"], &mut iv[..]);
        let key = UnboundKey::new(algorithm, key).expect("the key has the algorithm's length");
        RecordKey { key: LessSafeKey::new(key), iv }
    }

    /// Returns the nonce for a record's number, built as in TLS 1.3 (RFC 8446, section 5.3).
    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = *self.iv;
        for (byte, counted) in nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= counted;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// A record's key, number and header: everything needed to encrypt or decrypt the record, on any
/// thread.
///
/// A ticket is consumed by its use, since a number is for one record only.
#[cfg_attr(test, derive(Clone))]
pub struct Ticket {
    key: Arc<RecordKey>,
    number: u64,
    header: RecordHeader,
}

impl Ticket {
    /// Returns the size of the record in bytes.
    pub fn record_len(&self) -> usize {
        self.header.record_len()
    }

    /// Encrypts `record` in place. `record` consists of room for the header, the data, and room for
    /// the tag.
    ///
    /// # Panics
    /// If `record` does not have the length for which the ticket was made.
    pub fn seal(self, record: &mut [u8]) {
        let (header, rest) = self.split(record);
        *header = self.header.encode();
        let (data, room) = rest.split_at_mut(self.header.len);
        let tag = self
            .key
            .key
            .seal_in_place_separate_tag(self.key.nonce(self.number), Aad::from(*header), data)
            .expect("a record is within the cipher's limits");
        room.copy_from_slice(tag.as_ref());
    }

    /// Encrypts `data`, which stays unchanged, into `record`.
    ///
    /// # Panics
    /// If `data` or `record` does not have the length for which the ticket was made.
    pub fn seal_from(self, data: &[u8], record: &mut [u8]) {
        let (header, rest) = self.split(record);
        *header = self.header.encode();
        let (out, tag) = rest.split_at_mut(self.header.len);
        self.key
            .key
            .seal_out_of_place_scatter(self.key.nonce(self.number), Aad::from(*header), data, out, &[], tag)
            .expect("a record is within the cipher's limits");
    }

    /// Decrypts `record` in place, and returns its data.
    ///
    /// # Errors
    /// `record` is not the record that the peer sent at this place of the stream.
    ///
    /// # Panics
    /// If `record` does not have the length for which the ticket was made.
    pub fn open(self, record: &mut [u8]) -> Result<&mut [u8], RecordError> {
        let (header, rest) = self.split(record);
        let (nonce, aad) = (self.key.nonce(self.number), Aad::from(*header));
        self.key.key.open_in_place(nonce, aad, rest).map_err(|_| RecordError::Forged)
    }

    /// Decrypts `record` into `data`, which must not be used after an error.
    ///
    /// # Errors
    /// `record` is not the record that the peer sent at this place of the stream.
    ///
    /// # Panics
    /// If `record` or `data` does not have the length for which the ticket was made.
    pub fn open_to(self, record: &[u8], data: &mut [u8]) -> Result<(), RecordError> {
        assert_eq!(record.len(), self.header.record_len(), "another record");
        let (header, rest) = record.split_first_chunk::<RECORD_HEADER_LEN>().expect("it has a header");
        let (encrypted, tag) = rest.split_at(self.header.len);
        let (nonce, aad) = (self.key.nonce(self.number), Aad::from(*header));
        self.key.key.open_separate_gather(nonce, aad, encrypted, tag, data).map_err(|_| RecordError::Forged)
    }

    fn split<'a>(&self, record: &'a mut [u8]) -> (&'a mut [u8; RECORD_HEADER_LEN], &'a mut [u8]) {
        assert_eq!(record.len(), self.header.record_len(), "another record");
        record.split_first_chunk_mut().expect("it has a header")
    }
}

/// The keys of one direction, at the sender or the receiver.
pub struct Keys {
    cipher: Cipher,
    secret: Secret,
    key: Arc<RecordKey>,
    /// The number of records so far under this key, which is the number of the next record.
    number: u64,
    /// The number of blocks of 16 bytes so far under this key.
    blocks: u64,
}

impl Keys {
    pub(crate) fn new(cipher: Cipher, secret: Secret) -> Keys {
        let key = Arc::new(RecordKey::new(cipher, &secret));
        Keys { cipher, secret, key, number: 0, blocks: 0 }
    }

    /// Returns the ticket for encrypting the next record, with `len` bytes of data, 1 to
    /// [`RECORD_MAX`]. Records must be sent in the order of their tickets.
    pub fn send(&mut self, len: usize) -> Ticket {
        debug_assert!((1..=RECORD_MAX).contains(&len), "a record of {len} bytes");
        self.count(len);
        let key_changes = self.blocks >= KEY_BLOCKS || self.number >= KEY_RECORDS;
        self.ticket(RecordHeader { len, key_changes })
    }

    /// Returns the ticket for decrypting the next record.
    ///
    /// # Errors
    /// The peer has exceeded twice a sender's limit without changing to its next key.
    pub fn receive(&mut self, header: RecordHeader) -> Result<Ticket, RecordError> {
        self.count(header.len);
        if self.blocks > 2 * KEY_BLOCKS || self.number > 2 * KEY_RECORDS {
            return Err(RecordError::KeyWornOut);
        }
        Ok(self.ticket(header))
    }

    fn count(&mut self, len: usize) {
        self.number += 1;
        self.blocks += blocks(len);
    }

    fn ticket(&mut self, header: RecordHeader) -> Ticket {
        let number = self.number - 1;
        if !header.key_changes {
            return Ticket { key: Arc::clone(&self.key), number, header };
        }
        self.secret = self.secret.next();
        let next = Arc::new(RecordKey::new(self.cipher, &self.secret));
        self.number = 0;
        self.blocks = 0;
        Ticket { key: std::mem::replace(&mut self.key, next), number, header }
    }
}
