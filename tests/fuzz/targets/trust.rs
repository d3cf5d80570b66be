#![no_main]

use libfuzzer_sys::fuzz_target;
use tasker::signing::Trust;

// Whatever text is a trust file or is not one. What was read and is written again reads as the same.
fuzz_target!(|text: &str| {
    if let Ok(trust) = Trust::parse(text) {
        assert_eq!(Trust::parse(&trust.to_yaml()), Ok(trust));
    }
});
