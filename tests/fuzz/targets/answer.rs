#![no_main]

use libfuzzer_sys::fuzz_target;
use tasker::endpoint::fuzzing::read_answer;

// What an executable wrote is one JSON text, byte for byte but for the space around it, or refused.
fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(answer)) = read_answer(bytes) {
        assert_eq!(answer.get().as_bytes(), bytes.trim_ascii());
    }
});
