//! Records between two ends that have the keys, while an attacker on the path changes, cuts,
//! repeats and reorders them. What is accepted must equal what was sent, in order, up to the first
//! difference.
#![no_main]

use dst_security::record::RecordHeader;
use dst_security::{Initiator, Keys, Psk, RECORD_HEADER_LEN, RECORD_OVERHEAD, accept};
use dst_wire::secure::{Offer, Secure};
use libfuzzer_sys::fuzz_target;
use zeroize::Zeroizing;

fn ends(cipher: u8) -> (Keys, Keys) {
    let key = || Psk::new(Zeroizing::new([7; 32]));
    let offer =
        Offer { versions: (1, 1), export: "v".into(), host: "h".into(), ciphers: vec![1 + cipher % 3] };
    let (initiator, message) = Initiator::begin(&key(), &offer, &[8; 32]);
    let secure = Secure::decode(&message).expect("it is honest");
    let (answer, target) = accept(&[key()], &secure, &[9; 32]).expect("it is honest");
    (initiator.finish(&answer).expect("it is honest").send, target.receive)
}

fuzz_target!(|input: &[u8]| {
    let Some((&cipher, mut input)) = input.split_first() else { return };
    let (mut send, mut receive) = ends(cipher);
    // The data that was sent, and the records that are on the way.
    let mut sent: Vec<Vec<u8>> = Vec::new();
    let mut stream: Vec<Vec<u8>> = Vec::new();
    while let Some((&[what, at, value], rest)) = input.split_first_chunk() {
        input = rest;
        let which = if stream.is_empty() { 0 } else { usize::from(at) % stream.len() };
        match what % 8 {
            0..=2 => {
                let data = vec![value; 1 + usize::from(at)];
                let mut record = vec![0; data.len() + RECORD_OVERHEAD];
                record[RECORD_HEADER_LEN..][..data.len()].copy_from_slice(&data);
                send.send(data.len()).seal(&mut record);
                sent.push(data);
                stream.push(record);
            }
            3 if stream.get(which).is_some_and(|record| !record.is_empty()) => {
                let position = usize::from(value) % stream[which].len();
                stream[which][position] ^= at | 1;
            }
            4 if !stream.is_empty() => stream.push(stream[which].clone()),
            5 if !stream.is_empty() => drop(stream.remove(which)),
            6 if stream.len() > 1 => stream.swap(0, which),
            7 if !stream.is_empty() => stream[which].truncate(value.into()),
            _ => {}
        }
    }
    let bytes = stream.concat();
    let (mut at, mut taken) = (0, 0);
    while let Some(&head) = bytes[at..].first_chunk() {
        let Ok(header) = RecordHeader::decode(head) else { return };
        let Some(record) = bytes.get(at..at + header.record_len()) else { return };
        let Ok(ticket) = receive.receive(header) else { return };
        let mut data = vec![0; header.len];
        if ticket.open_to(record, &mut data).is_err() {
            return;
        }
        assert_eq!(Some(&data), sent.get(taken), "record {taken} is another one");
        taken += 1;
        at += header.record_len();
    }
});
