#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tasker::broker::envelope;
use tasker::broker::wire::{decode_sealed, decode_versioned, encode_command, encode_sealed};
use tasker::domain::{WireVersion, statement};

// Whatever bytes are some items. What was read of them and is written again, in a list as well, reads as the
// same; with its seal too, and what is signed is the same.
fuzz_target!(|bytes: &[u8]| {
    for item in envelope::items(&Bytes::copy_from_slice(bytes)) {
        if let Ok((command, version, Some(seal))) = decode_sealed(&item) {
            let written = encode_sealed(&command, version, &seal);
            let (again, of, found) = decode_sealed(&written).expect("reads what it writes");
            assert!(of == version && found.as_ref() == Some(&seal));
            let place = "fuzz".parse().expect("a name");
            let signed = |command| statement::of_copy(&place, &seal.head, command);
            assert_eq!(signed(&again), signed(&command));
        }
        let Ok((read, version)) = decode_versioned(&item) else { continue };
        let written = encode_command(&read, version);
        let (again, of) = decode_versioned(&written).expect("reads what it writes");
        assert!(of == version && encode_command(&again, version) == written);
        let second = encode_command(&read, WireVersion::NEWEST);
        assert_eq!(envelope::items(&envelope::list(&[written.clone(), second.clone()])), [written, second]);
    }
});
