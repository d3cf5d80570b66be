#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tasker::broker::envelope;
use tasker::broker::wire::{decode_versioned, encode_command};
use tasker::domain::WireVersion;

// Whatever bytes are some items. What was read of them and is written again, in a list as well, reads as the
// same.
fuzz_target!(|bytes: &[u8]| {
    for item in envelope::items(&Bytes::copy_from_slice(bytes)) {
        let Ok((read, version)) = decode_versioned(&item) else { continue };
        let written = encode_command(&read, version);
        let (again, of) = decode_versioned(&written).expect("reads what it writes");
        assert!(of == version && encode_command(&again, version) == written);
        let second = encode_command(&read, WireVersion::NEWEST);
        assert_eq!(envelope::items(&envelope::list(&[written.clone(), second.clone()])), [written, second]);
    }
});
