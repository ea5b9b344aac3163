//! The refusal, which a client decodes.
#![no_main]

use dst_wire::{ATTRIBUTES_MAX, Refusal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    if let Ok(decoded) = Refusal::decode(message) {
        let again = decoded.encode();
        assert!(again.len() <= ATTRIBUTES_MAX as usize);
        assert_eq!(Refusal::decode(&again), Ok(decoded));
    }
});
