#![no_main]

use libfuzzer_sys::fuzz_target;
use tasker::endpoint::fuzzing::read_orders;

// Whatever bytes are a file of orders. What was read of them and is written again reads as the same, and no line of it is damaged.
fuzz_target!(|bytes: &[u8]| read_orders(bytes));
