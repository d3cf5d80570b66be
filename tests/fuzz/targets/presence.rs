#![no_main]

use libfuzzer_sys::fuzz_target;
use tasker::broker::wire::{decode_presence, encode_presence};

// What was read and is written again reads as the same.
fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = decode_presence(bytes) {
        let written = encode_presence(&read);
        let again = decode_presence(&written).expect("reads what it writes");
        assert_eq!(encode_presence(&again), written);
    }
});
