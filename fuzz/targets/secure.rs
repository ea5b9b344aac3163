//! The Secure, which a target decodes before it knows anything about its sender: the offer and the
//! Noise message. The first byte of the input selects whether the sender has the key; a sender that
//! has it changes its message afterwards.
#![no_main]

use dst_security::{Initiator, Psk, accept};
use dst_wire::secure::{Offer, Secure, encode_secure};
use libfuzzer_sys::fuzz_target;
use zeroize::Zeroizing;

fuzz_target!(|input: &[u8]| {
    let key = Psk::new(Zeroizing::new([7; 32]));
    let Some((&mode, bytes)) = input.split_first() else { return };
    if mode % 2 == 0 {
        if let Ok(secure) = Secure::decode(bytes) {
            // This key differs from the one below: from the comparison there, the fuzzer learns the
            // bytes of an honest message.
            let key = Psk::new(Zeroizing::new([6; 32]));
            assert!(accept(&[key], &secure, &[9; 32]).is_err(), "a tag cannot be guessed");
            let again = encode_secure(secure.bound, secure.noise);
            assert_eq!(Secure::decode(&again), Ok(secure));
        }
        return;
    }
    let offer = Offer { versions: (1, 1), export: "vol".into(), host: "me".into(), ciphers: vec![2, 3] };
    let (_, mut message) = Initiator::begin(&key, &offer, &[8; 32]);
    let honest = message.clone();
    for change in bytes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % message.len();
        message[at] ^= change[2];
    }
    if let Ok(secure) = Secure::decode(&message) {
        assert_eq!(accept(&[key], &secure, &[9; 32]).is_ok(), message == honest);
    }
});
