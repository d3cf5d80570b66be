#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tasker::api::fuzzing::{check, parse};

// What the check lets through is JSON to everybody else, and so is the payload in it.
fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = check(bytes) else { return };
    serde_json::from_str::<&serde_json::value::RawValue>(text).expect("is JSON");
    if let Ok(submission) = parse(text) {
        serde_json::from_str::<Value>(submission.payload.get()).expect("the payload is JSON");
        assert!(text.contains(submission.payload.get()) || submission.payload.get() == r#""""#);
    }
});
