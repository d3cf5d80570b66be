#![no_main]

use libfuzzer_sys::fuzz_target;
use tasker::broker::wire::{decode_report, encode_report};

// What was read and is written again reads as the same.
fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = decode_report(bytes) {
        let written = encode_report(&read);
        let again = decode_report(&written).expect("reads what it writes");
        assert_eq!(encode_report(&again), written);
    }
});
