//! Tests of both ends together, and of each end against another implementation.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit};
use chacha20poly1305::ChaCha20Poly1305;
use dst_wire::Cipher;
use dst_wire::secure::{Offer, Secure, encode_secure};
use hkdf::Hkdf;
use proptest::prelude::*;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::handshake::{ENTROPY_LEN, Initiator, Rejected, Secured, Untrusted, accept};
use crate::record::RecordHeader;
use crate::secret::Secret;
use crate::{Keys, Psk, RECORD_HEADER_LEN, RECORD_MAX, RECORD_OVERHEAD, RecordError};

const CIPHERS: [Cipher; 3] = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];
const CLIENT: [u8; ENTROPY_LEN] = [0x11; ENTROPY_LEN];
const TARGET: [u8; ENTROPY_LEN] = [0x22; ENTROPY_LEN];

fn key(byte: u8) -> Psk {
    Psk::new(Zeroizing::new([byte; 32]))
}

fn offer(ciphers: &[u8]) -> Offer {
    Offer { versions: (1, 1), export: "vol".into(), host: "me".into(), ciphers: ciphers.to_vec() }
}

/// The client's message, the target's reply, and the keys that each end has afterwards.
fn agree(ciphers: &[u8]) -> (Vec<u8>, Vec<u8>, Secured, Secured) {
    let (initiator, hello) = Initiator::begin(&key(1), &offer(ciphers), &CLIENT);
    let (answer, target) = accept(&[key(1)], &Secure::decode(&hello).unwrap(), &TARGET).unwrap();
    let client = initiator.finish(&answer).unwrap();
    (hello, answer, client, target)
}

fn seal(keys: &mut Keys, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0; data.len() + RECORD_OVERHEAD];
    record[RECORD_HEADER_LEN..][..data.len()].copy_from_slice(data);
    keys.send(data.len()).seal(&mut record);
    record
}

fn open(keys: &mut Keys, record: &[u8]) -> Result<Vec<u8>, RecordError> {
    let header = RecordHeader::decode(*record.first_chunk().unwrap())?;
    let ticket = keys.receive(header)?;
    let mut there = vec![0; header.len];
    ticket.clone().open_to(record, &mut there)?;
    let mut in_place = record.to_vec();
    assert_eq!(ticket.open(&mut in_place)?[..header.len], there[..]);
    Ok(there)
}

fn pair(cipher: Cipher) -> (Keys, Keys) {
    let keys = || Keys::new(cipher, Secret::new(Zeroizing::new([7; 32])));
    (keys(), keys())
}

#[test]
fn both_ends_have_the_same_keys_then() {
    for cipher in CIPHERS {
        let (_, _, mut client, mut target) = agree(&[cipher as u8]);
        assert_eq!((client.cipher, target.cipher), (cipher, cipher));
        let there = seal(&mut client.send, b"a hello");
        assert_eq!(open(&mut target.receive, &there).as_deref(), Ok(&b"a hello"[..]));
        let back = seal(&mut target.send, b"a welcome");
        assert_eq!(open(&mut client.receive, &back).as_deref(), Ok(&b"a welcome"[..]));
        assert_ne!(there[4..], seal(&mut target.send, b"a hello")[4..], "each direction has keys of its own");
    }
}

#[test]
fn the_first_cipher_that_both_have_is_chosen() {
    let chosen = |ciphers: &[u8]| agree(ciphers).2.cipher;
    assert_eq!(chosen(&[3, 2, 1]), Cipher::ChaCha20Poly1305);
    assert_eq!(chosen(&[99, 0, 1]), Cipher::Aes128Gcm);
    let (_, hello) = Initiator::begin(&key(1), &offer(&[0, 99]), &CLIENT);
    let refused = accept(&[key(1)], &Secure::decode(&hello).unwrap(), &TARGET).err();
    assert_eq!(refused, Some(Rejected::Cipher));
}

#[test]
fn a_target_takes_any_of_its_keys_and_no_other() {
    let (_, hello) = Initiator::begin(&key(1), &offer(&[2]), &CLIENT);
    let secure = Secure::decode(&hello).unwrap();
    let with = |keys: &[Psk]| accept(keys, &secure, &TARGET).err();
    assert_eq!(with(&[key(2), key(1)]), None);
    assert_eq!(with(&[key(2), key(3)]), Some(Rejected::Key));
    assert_eq!(with(&[]), Some(Rejected::Key));
}

#[test]
fn a_client_does_not_believe_a_target_without_its_key() {
    let (initiator, hello) = Initiator::begin(&key(1), &offer(&[2]), &CLIENT);
    // All that a target without the key can do is to answer another client's message.
    let (_, other) = Initiator::begin(&key(2), &offer(&[2]), &CLIENT);
    let (answer, _) = accept(&[key(2)], &Secure::decode(&other).unwrap(), &TARGET).unwrap();
    assert!(hello != other);
    assert_eq!(initiator.finish(&answer).err(), Some(Untrusted::Key));
}

#[test]
fn an_answer_fits_one_message_only() {
    let (_, answer, ..) = agree(&[2]);
    let (initiator, _) = Initiator::begin(&key(1), &offer(&[2]), &[0x33; ENTROPY_LEN]);
    assert_eq!(initiator.finish(&answer).err(), Some(Untrusted::Key), "with another ephemeral key");
    let (initiator, _) = Initiator::begin(&key(1), &offer(&[2, 1]), &CLIENT);
    assert_eq!(initiator.finish(&answer).err(), Some(Untrusted::Key), "after another offer");
}

#[test]
fn nobody_on_the_way_changes_the_offer() {
    let (_, hello) = Initiator::begin(&key(1), &offer(&[2, 1]), &CLIENT);
    let noise = Secure::decode(&hello).unwrap().noise;
    let (export, host) = ("other".to_owned(), "you".to_owned());
    for changed in [
        offer(&[1]),
        offer(&[1, 2]),
        Offer { export, ..offer(&[2, 1]) },
        Offer { host, ..offer(&[2, 1]) },
        Offer { versions: (1, 2), ..offer(&[2, 1]) },
    ] {
        let message = encode_secure(&changed.encode(), noise);
        let refused = accept(&[key(1)], &Secure::decode(&message).unwrap(), &TARGET).err();
        assert_eq!(refused, Some(Rejected::Key), "{changed:?}");
    }
}

#[test]
fn no_bit_of_the_handshake_can_be_flipped() {
    let (hello, answer, ..) = agree(&[2]);
    for bit in 0..hello.len() * 8 {
        let mut flipped = hello.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(secure) = Secure::decode(&flipped) {
            assert_eq!(accept(&[key(1)], &secure, &TARGET).err(), Some(Rejected::Key), "bit {bit}");
        }
    }
    for bit in 0..answer.len() * 8 {
        let mut flipped = answer.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (initiator, _) = Initiator::begin(&key(1), &offer(&[2]), &CLIENT);
        assert!(initiator.finish(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn no_bit_of_a_record_can_be_flipped() {
    for cipher in CIPHERS {
        let record = seal(&mut pair(cipher).0, b"some blocks");
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Ok(header) = RecordHeader::decode(*flipped.first_chunk().unwrap()) else { continue };
            // With a wrong length, bytes are missing or belong to the next record.
            flipped.resize(header.record_len(), 0);
            assert_eq!(open(&mut pair(cipher).1, &flipped), Err(RecordError::Forged), "bit {bit}");
        }
    }
}

#[test]
fn records_come_once_and_in_order() {
    let (mut send, mut receive) = pair(Cipher::Aes256Gcm);
    let [first, second, third] = [b"1", b"2", b"3"].map(|data| seal(&mut send, data));
    assert!(open(&mut receive, &first).is_ok());
    assert_eq!(open(&mut receive, &first), Err(RecordError::Forged), "again");
    let (_, mut receive) = pair(Cipher::Aes256Gcm);
    assert_eq!(open(&mut receive, &second), Err(RecordError::Forged), "without the one before");
    let (_, mut receive) = pair(Cipher::Aes256Gcm);
    assert!(open(&mut receive, &first).is_ok() && open(&mut receive, &second).is_ok());
    assert!(open(&mut receive, &third).is_ok());
}

#[test]
fn keys_change_in_time() {
    // In tests, the key changes after seven records; see KEY_RECORDS.
    let (mut send, mut receive) = pair(Cipher::Aes128Gcm);
    let records: Vec<Vec<u8>> = (0..40u8).map(|i| seal(&mut send, &[i; 5])).collect();
    let last_of_key: Vec<usize> = (0..40).filter(|&i| records[i][3] & 0x80 != 0).collect();
    assert_eq!(last_of_key, [6, 13, 20, 27, 34]);
    for (i, record) in records.iter().enumerate() {
        assert_eq!(open(&mut receive, record), Ok(vec![i as u8; 5]));
    }
    // Large records change the key sooner, after as many blocks as a record of full size has.
    let (mut send, _) = pair(Cipher::Aes128Gcm);
    assert_ne!(seal(&mut send, &[0; RECORD_MAX])[3] & 0x80, 0);
}

#[test]
fn an_honest_sender_never_wears_a_key_out() {
    // One block less than would change the key, and then the largest record.
    let (mut send, mut receive) = pair(Cipher::Aes128Gcm);
    for len in [RECORD_MAX - 16, RECORD_MAX, RECORD_MAX - 16, RECORD_MAX] {
        let record = seal(&mut send, &vec![0; len]);
        assert_eq!(record[3] & 0x80 != 0, len == RECORD_MAX);
        assert_eq!(open(&mut receive, &record).map(|data| data.len()), Ok(len));
    }
}

#[test]
fn a_worn_out_key_is_not_taken() {
    let (_, mut receive) = pair(Cipher::Aes128Gcm);
    let header = RecordHeader::decode([1, 0, 0, 0]).unwrap();
    let taken = (0..100).take_while(|_| receive.receive(header).is_ok()).count();
    assert_eq!(taken, 14);
    assert!(matches!(receive.receive(header), Err(RecordError::KeyWornOut)));
}

#[test]
fn large_records_wear_a_key_out_sooner() {
    // Two records reach the receiver's limit on blocks here, far from its limit on records.
    let (_, mut receive) = pair(Cipher::Aes128Gcm);
    let header = RecordHeader::decode((RECORD_MAX as u32).to_le_bytes()).unwrap();
    let taken = (0..100).take_while(|_| receive.receive(header).is_ok()).count();
    assert_eq!(taken, 2);
    assert!(matches!(receive.receive(header), Err(RecordError::KeyWornOut)));
}

#[test]
fn impossible_lengths_are_refused() {
    for len in [0, RECORD_MAX as u32 + 1, 1 << 30] {
        assert_eq!(RecordHeader::decode(len.to_le_bytes()), Err(RecordError::Len(len)));
        assert_eq!(RecordHeader::decode((len | 1 << 31).to_le_bytes()), Err(RecordError::Len(len)));
    }
}

/// Returns the record that another implementation of HKDF and of the cipher makes.
fn oracle(cipher: Cipher, secret: &[u8; 32], number: u64, key_changes: bool, data: &[u8]) -> Vec<u8> {
    let hkdf = Hkdf::<Sha256>::from_prk(secret).unwrap();
    let mut key = [0; 32];
    let key = &mut key[..if cipher == Cipher::Aes128Gcm { 16 } else { 32 }];
    hkdf.expand(&[b"dst key", &[cipher as u8][..]].concat(), key).unwrap();
    let mut nonce = [0; 12];
    hkdf.expand(b"dst iv", &mut nonce).unwrap();
    nonce.iter_mut().skip(4).zip(number.to_be_bytes()).for_each(|(byte, counted)| *byte ^= counted);
    let header = (data.len() as u32 | u32::from(key_changes) << 31).to_le_bytes();
    let payload = Payload { msg: data, aad: &header };
    let nonce = nonce.as_slice();
    let sealed = match cipher {
        Cipher::Aes128Gcm => Aes128Gcm::new_from_slice(key).unwrap().encrypt(nonce.into(), payload),
        Cipher::Aes256Gcm => Aes256Gcm::new_from_slice(key).unwrap().encrypt(nonce.into(), payload),
        _ => ChaCha20Poly1305::new_from_slice(key).unwrap().encrypt(nonce.into(), payload),
    };
    [&header[..], &sealed.unwrap()].concat()
}

proptest! {
    #[test]
    fn records_are_those_of_another_implementation(
        secret: [u8; 32],
        data in proptest::collection::vec(any::<u8>(), 1..5000),
        cipher in proptest::sample::select(&CIPHERS[..]),
    ) {
        let mut keys = Keys::new(cipher, Secret::new(Zeroizing::new(secret)));
        let mut direct = Keys::new(cipher, Secret::new(Zeroizing::new(secret)));
        let mut changes = false;
        for number in 0..7 {
            if changes {
                break;
            }
            let record = seal(&mut keys, &data);
            changes = record[3] & 0x80 != 0;
            prop_assert_eq!(&record, &oracle(cipher, &secret, number, changes, &data));
            let mut out = vec![0; record.len()];
            direct.send(data.len()).seal_from(&data, &mut out);
            prop_assert_eq!(out, record);
        }
        let mut next = [0; 32];
        Hkdf::<Sha256>::from_prk(&secret).unwrap().expand(b"dst next", &mut next).unwrap();
        if changes {
            let first = seal(&mut keys, b"x");
            prop_assert_eq!(first, oracle(cipher, &next, 0, false, b"x"));
        }
    }

    #[test]
    fn any_bytes_are_no_record(bytes in proptest::collection::vec(any::<u8>(), 4..200), cipher in proptest::sample::select(&CIPHERS[..])) {
        if let Ok(header) = RecordHeader::decode(*bytes.first_chunk().unwrap())
            && let Some(record) = bytes.get(..header.record_len())
        {
            prop_assert_eq!(open(&mut pair(cipher).1, record), Err(RecordError::Forged));
        }
    }
}
