#![no_main]

use libfuzzer_sys::fuzz_target;
use tasker::broker::wire::{decode_command, encode_command};

// What was read and is written again reads as the same.
fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = decode_command(bytes) {
        let written = encode_command(&read);
        let again = decode_command(&written).expect("reads what it writes");
        assert_eq!(encode_command(&again), written);
    }
});
