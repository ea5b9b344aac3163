//! Records: what a secured connection carries in each direction.
//!
//! | bytes | field |
//! | --- | --- |
//! | 4 | length of the data, 1 to [`RECORD_MAX`], little-endian; bit 31: the next record has the next key |
//! | length | the data, encrypted |
//! | 16 | tag, of these and of the first 4 bytes |
//!
//! A record's number is not sent: both ends count. So one that is missing, repeated or out of order has a
//! wrong tag, like one that was changed.

use std::sync::Arc;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use dst_wire::Cipher;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Most bytes of data in a record: TLS's limit too. A receiver has to hold a whole record before it can
/// believe any of it; at this size AES-GCM is within 10 % of its best rate.
pub const RECORD_MAX: usize = 16 << 10;

/// Bytes in front of a record's data.
pub const RECORD_HEADER_LEN: usize = 4;

/// Bytes behind it.
const TAG_LEN: usize = 16;

/// Bytes that a record has more than its data.
pub const RECORD_OVERHEAD: usize = RECORD_HEADER_LEN + TAG_LEN;

/// The flag in a record's first 4 bytes.
const KEY_CHANGES: u32 = 1 << 31;

/// Records of full size that AES-GCM may make with one key: 2^24.5 (RFC 8446, section 5.5; RFC 9147, section 4.5.3).
/// ChaCha20-Poly1305 has no limit within reach, and the same treatment.
const AES_GCM_RECORDS: u64 = 23_726_566;

/// The same in blocks of 16 bytes: a record of 16 KiB has 2^10.
const AES_GCM_BLOCKS: u64 = AES_GCM_RECORDS << 10;

/// Blocks of 16 bytes after which a sender takes its next key, as built: 128 GiB.
const USUAL_KEY_BLOCKS: u64 = 1 << 33;

/// Records after which it does, whatever their size, as built.
const USUAL_KEY_RECORDS: u64 = 11_863_283;

// A receiver gives up at twice that, which is no more than the cipher bears: nor are the tests' limits.
const _: () = assert!(2 * USUAL_KEY_BLOCKS <= AES_GCM_BLOCKS && KEY_BLOCKS <= USUAL_KEY_BLOCKS);
const _: () = assert!(2 * USUAL_KEY_RECORDS <= AES_GCM_RECORDS && KEY_RECORDS <= USUAL_KEY_RECORDS);

/// Blocks after which a sender takes its next key here: in tests soon.
const KEY_BLOCKS: u64 = if HAS_SMALL_LIMITS { RECORD_BLOCKS } else { USUAL_KEY_BLOCKS };

/// Records after which it does.
const KEY_RECORDS: u64 = if HAS_SMALL_LIMITS { 7 } else { USUAL_KEY_RECORDS };

const HAS_SMALL_LIMITS: bool = cfg!(any(test, feature = "simulator"));

/// Blocks of a record of full size: the header and the length take one each.
const RECORD_BLOCKS: u64 = blocks(RECORD_MAX);

// A receiver gives up at twice a sender's limit, which a sender passes with its last record.
const _: () = assert!(KEY_BLOCKS - 1 + RECORD_BLOCKS <= 2 * KEY_BLOCKS);

const fn blocks(len: usize) -> u64 {
    len.div_ceil(16) as u64 + 2
}

/// What is wrong with a record. The connection is over: nothing that comes behind can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// An impossible length.
    #[error("a record of {0} bytes, which no sender makes")]
    Len(u32),
    /// The tag is wrong: changed, cut, repeated, out of order, or not from who has the key.
    #[error("a record that does not have the peer's tag in this place of the stream")]
    Forged,
    /// The peer goes on with a key for too long.
    #[error("the peer has not taken its next key in time")]
    KeyWornOut,
}

/// A record's first bytes, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of data.
    pub len: usize,
    key_changes: bool,
}

impl RecordHeader {
    /// Reads it.
    ///
    /// # Errors
    /// A length that is none.
    pub fn decode(bytes: [u8; RECORD_HEADER_LEN]) -> Result<RecordHeader, RecordError> {
        let word = u32::from_le_bytes(bytes);
        let len = word & !KEY_CHANGES;
        if !(1..=RECORD_MAX as u32).contains(&len) {
            return Err(RecordError::Len(len));
        }
        Ok(RecordHeader { len: len as usize, key_changes: word & KEY_CHANGES != 0 })
    }

    /// Bytes of the whole record.
    pub fn record_len(&self) -> usize {
        self.len + RECORD_OVERHEAD
    }

    fn encode(&self) -> [u8; RECORD_HEADER_LEN] {
        (self.len as u32 | if self.key_changes { KEY_CHANGES } else { 0 }).to_le_bytes()
    }
}

/// One of the keys that a direction has, one after the other.
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

    /// The record's number, as TLS 1.3 makes a nonce of it (RFC 8446, section 5.3).
    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = *self.iv;
        for (byte, counted) in nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= counted;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// A record's key and number: all that encrypting or checking it takes, on whatever thread.
///
/// Used up by that: a record's number is for one record only.
#[cfg_attr(test, derive(Clone))]
pub struct Ticket {
    key: Arc<RecordKey>,
    number: u64,
    header: RecordHeader,
}

impl Ticket {
    /// Bytes of the record.
    pub fn record_len(&self) -> usize {
        self.header.record_len()
    }

    /// Makes a record of `record`, which has the data behind room for the header, and room for the tag behind it.
    ///
    /// # Panics
    /// If it is not as long as the ticket was taken for.
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

    /// Makes a record of `data`, which stays as it is, in `record`.
    ///
    /// # Panics
    /// If one of them is not as long as the ticket was taken for.
    pub fn seal_from(self, data: &[u8], record: &mut [u8]) {
        let (header, rest) = self.split(record);
        *header = self.header.encode();
        let (out, tag) = rest.split_at_mut(self.header.len);
        self.key
            .key
            .seal_out_of_place_scatter(self.key.nonce(self.number), Aad::from(*header), data, out, &[], tag)
            .expect("a record is within the cipher's limits");
    }

    /// Decrypts `record` where it is; gives its data.
    ///
    /// # Errors
    /// It is not the record that the peer sent in this place.
    ///
    /// # Panics
    /// If it is not as long as the ticket was taken for.
    pub fn open(self, record: &mut [u8]) -> Result<&mut [u8], RecordError> {
        let (header, rest) = self.split(record);
        let (nonce, aad) = (self.key.nonce(self.number), Aad::from(*header));
        self.key.key.open_in_place(nonce, aad, rest).map_err(|_| RecordError::Forged)
    }

    /// Decrypts `record` into `data`, of which nothing may be believed after an error.
    ///
    /// # Errors
    /// It is not the record that the peer sent in this place.
    ///
    /// # Panics
    /// If one of them is not as long as the ticket was taken for.
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

/// The keys of one direction, at either end.
pub struct Keys {
    cipher: Cipher,
    secret: Secret,
    key: Arc<RecordKey>,
    /// Records so far under this key: the number of the next one.
    number: u64,
    /// Blocks of 16 bytes so far under this key.
    blocks: u64,
}

impl Keys {
    pub(crate) fn new(cipher: Cipher, secret: Secret) -> Keys {
        let key = Arc::new(RecordKey::new(cipher, &secret));
        Keys { cipher, secret, key, number: 0, blocks: 0 }
    }

    /// The ticket to make the next record, of `len` bytes of data, 1 to [`RECORD_MAX`]. Records must be sent in
    /// the order of their tickets.
    pub fn send(&mut self, len: usize) -> Ticket {
        debug_assert!((1..=RECORD_MAX).contains(&len), "a record of {len} bytes");
        self.count(len);
        let key_changes = self.blocks >= KEY_BLOCKS || self.number >= KEY_RECORDS;
        self.ticket(RecordHeader { len, key_changes })
    }

    /// The ticket to read the next record.
    ///
    /// # Errors
    /// The peer should have taken another key: at twice a sender's limit.
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
