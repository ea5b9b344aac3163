//! Checks the examples of a secured connection in `docs/protocol.md`, byte for byte, from both
//! ends.

use dst_security::handshake::ENTROPY_LEN;
use dst_security::record::RecordHeader;
use dst_security::{Initiator, Psk, RECORD_HEADER_LEN, RECORD_OVERHEAD, Secured, accept};
use dst_wire::secure::{Offer, Secure};
use dst_wire::{Cipher, HEADER_LEN, Header, Kind};
use zeroize::Zeroizing;

const SPECIFICATION: &str = include_str!("../../../docs/protocol.md");

/// Returns the bytes of the specification's example `name`.
fn example(name: &str) -> Vec<u8> {
    let (_, rest) = SPECIFICATION.split_once(&format!("\n```hex {name}\n")).expect(name);
    let (block, _) = rest.split_once("\n```\n").expect("the block ends");
    block
        .lines()
        .flat_map(|line| line.split(';').next().unwrap_or_default().split_whitespace())
        .map(|hex| u8::from_str_radix(hex, 16).expect("hex"))
        .collect()
}

#[track_caller]
fn check(name: &str, bytes: &[u8]) {
    let shown = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
    assert_eq!(shown(&example(name)), shown(bytes), "{name}");
}

fn counted(from: u8) -> [u8; ENTROPY_LEN] {
    std::array::from_fn(|i| from + i as u8)
}

fn frame(kind: Kind, data: &[u8]) -> Vec<u8> {
    let header = Header { data_len: data.len() as u32, ..Header::new(kind) };
    [&header.encode(), data].concat()
}

/// Returns both ends of a connection with the examples' key and random numbers, and the messages
/// that they sent.
fn secured(cipher: Cipher) -> (Vec<u8>, Vec<u8>, Secured, Secured) {
    let key = || Psk::new(Zeroizing::new(counted(0)));
    let offer =
        Offer { versions: (1, 1), export: "vol0".into(), host: "alpha".into(), ciphers: vec![cipher as u8] };
    let (initiator, message) = Initiator::begin(&key(), &offer, &counted(0x20));
    let (answer, target) = accept(&[key()], &Secure::decode(&message).unwrap(), &counted(0x40)).unwrap();
    let client = initiator.finish(&answer).unwrap();
    (frame(Kind::Secure, &message), frame(Kind::Secured, &answer), client, target)
}

#[test]
fn the_handshake() {
    let (secure, answer, ..) = secured(Cipher::Aes256Gcm);
    check("secure", &secure);
    check("secured", &answer);
    let data = &example("secure")[HEADER_LEN..];
    assert_eq!(Secure::decode(data).unwrap().offer.host, "alpha");
}

#[test]
fn records() {
    let keep_alive = Header { id: 1, ..Header::new(Kind::KeepAlive) }.encode();
    for (cipher, name) in [
        (Cipher::Aes128Gcm, "record-aes-128-gcm"),
        (Cipher::Aes256Gcm, "record-aes-256-gcm"),
        (Cipher::ChaCha20Poly1305, "record-chacha20-poly1305"),
    ] {
        let (_, _, mut client, mut target) = secured(cipher);
        let mut record = vec![0; keep_alive.len() + RECORD_OVERHEAD];
        record[RECORD_HEADER_LEN..][..keep_alive.len()].copy_from_slice(&keep_alive);
        client.send.send(keep_alive.len()).seal(&mut record);
        check(name, &record);
        let mut record = example(name);
        let header = RecordHeader::decode(*record.first_chunk().unwrap()).unwrap();
        let opened = target.receive.receive(header).unwrap().open(&mut record).unwrap();
        assert_eq!(opened[..header.len], keep_alive);
    }
}
