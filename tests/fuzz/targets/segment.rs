#![no_main]

use libfuzzer_sys::fuzz_target;
use tasker::endpoint::fuzzing::read_segment;

fuzz_target!(|bytes: &[u8]| read_segment(bytes));
