#![no_main]

use libfuzzer_sys::fuzz_target;
use tasker::flamenco::fuzzing::{read_all, task};

// What a worker, somebody or the Server sends is read or refused, and a task that was read is the same when
// it is written and read again.
fuzz_target!(|bytes: &[u8]| {
    read_all(bytes);
    if let Ok(written) = task(bytes) {
        assert_eq!(task(written.as_bytes()).as_deref(), Ok(written.as_str()));
    }
});
