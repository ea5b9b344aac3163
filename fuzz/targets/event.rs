//! What a target tells of its own accord: the first byte is the header's code.
#![no_main]

use dst_wire::Event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&code, message)) = data.split_first() else { return };
    if let Ok(Some(event)) = Event::decode(code, message) {
        assert_eq!(event.code(), code);
        assert_eq!(Event::decode(code, &event.encode()), Ok(Some(event)));
    }
});
