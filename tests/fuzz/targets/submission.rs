#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tasker::api::fuzzing::{check, parse};
use tasker::config::Config;

// One type that endpoints perform, and one with a work queue.
static CONFIG: LazyLock<Config> =
    LazyLock::new(|| Config::from_yaml("task_types: [worker, {name: queue, delivery: queue}]").expect("valid"));

// What the check lets through is JSON to everybody else, and so is the payload in it.
fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = check(bytes) else { return };
    serde_json::from_str::<&serde_json::value::RawValue>(text).expect("is JSON");
    for policy in &CONFIG.task_types {
        if let Ok(submission) = parse(text, policy) {
            serde_json::from_str::<Value>(submission.payload.get()).expect("the payload is JSON");
            assert!(text.contains(submission.payload.get()) || submission.payload.get() == r#""""#);
        }
    }
});
