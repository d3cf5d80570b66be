#![no_main]

use libfuzzer_sys::fuzz_target;
use tasker::flamenco::fuzzing::{pushed, report, task};

// What a worker or the Server sends is read or refused, and a task that was read is the same when it is written and read again.
fuzz_target!(|bytes: &[u8]| {
    _ = (report(bytes), pushed(bytes));
    if let Ok(written) = task(bytes) {
        assert_eq!(task(written.as_bytes()).as_deref(), Ok(written.as_str()));
    }
});
