//! The hello, which a target decodes before it knows anything about its sender.
#![no_main]

use dst_wire::{ATTRIBUTES_MAX, Hello};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    if let Ok(decoded) = Hello::decode(message) {
        let again = decoded.encode();
        assert!(again.len() <= ATTRIBUTES_MAX as usize);
        assert_eq!(Hello::decode(&again), Ok(decoded));
    }
});
