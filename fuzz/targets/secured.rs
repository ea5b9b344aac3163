//! The Secured, which a client decodes from a target that it does not trust yet: any bytes, or an
//! honest reply that was changed.
#![no_main]

use dst_security::{Initiator, Psk, accept};
use dst_wire::secure::{Offer, Secure};
use libfuzzer_sys::fuzz_target;
use zeroize::Zeroizing;

fuzz_target!(|input: &[u8]| {
    let key = || Psk::new(Zeroizing::new([7; 32]));
    let Some((&mode, bytes)) = input.split_first() else { return };
    let offer = Offer { versions: (1, 1), export: "vol".into(), host: "me".into(), ciphers: vec![2, 3] };
    if mode % 2 == 0 {
        // This key differs from the one below: from the comparison there, the fuzzer learns the
        // bytes of an honest reply.
        let (initiator, _) = Initiator::begin(&key(), &offer, &[5; 32]);
        assert!(initiator.finish(bytes).is_err(), "a tag cannot be guessed");
        return;
    }
    let (initiator, message) = Initiator::begin(&key(), &offer, &[8; 32]);
    let secure = Secure::decode(&message).expect("it is honest");
    let (mut answer, _) = accept(&[key()], &secure, &[9; 32]).expect("it is honest");
    let honest = answer.clone();
    for change in bytes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % answer.len();
        answer[at] ^= change[2];
    }
    assert_eq!(initiator.finish(&answer).is_ok(), answer == honest);
});
