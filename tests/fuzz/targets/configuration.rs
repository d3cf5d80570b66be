#![no_main]

use libfuzzer_sys::fuzz_target;
use tasker::config::fuzzing::shown;

// What is shown of a valid configuration is a valid configuration that is shown the same.
fuzz_target!(|text: &str| {
    if let Ok(first) = shown(text) {
        let second = shown(&first).unwrap_or_else(|error| panic!("{error}\n{first}"));
        assert_eq!(second, first);
    }
});
