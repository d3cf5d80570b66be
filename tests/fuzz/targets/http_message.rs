#![no_main]

use std::time::SystemTime;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tasker::http_remote::notice::Notice;
use tasker::http_remote::{answer, frame, order, sealed};

// Whatever callers and workers get from the broker is read or refused; a notice that is written again reads
// as the same.
fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(frame) = frame::decode(&bytes) else { return };
    let _ = sealed::unseal(&bytes);
    if let Ok(notice) = Notice::decode(&frame) {
        let again = frame::decode(&notice.clone().encode()).expect("reads what it writes");
        assert_eq!(Notice::decode(&again).expect("reads what it writes"), notice);
    }
    let _ = answer::decode(&frame, SystemTime::UNIX_EPOCH);
    if let Ok(order) = order::decode(&frame, SystemTime::UNIX_EPOCH) {
        assert!(order.task.url().is_some() && !order.remaining.is_zero());
    }
});
