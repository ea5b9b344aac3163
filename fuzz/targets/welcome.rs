//! The welcome, which a client decodes from a target that it does not trust yet.
#![no_main]

use dst_wire::{ATTRIBUTES_MAX, Welcome};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    if let Ok(decoded) = Welcome::decode(message) {
        let again = decoded.encode();
        assert!(again.len() <= ATTRIBUTES_MAX as usize);
        assert_eq!(Welcome::decode(&again), Ok(decoded));
    }
});
