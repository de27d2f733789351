//! The property is `pagebox::fuzz::spawner_command`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagebox::fuzz::spawner_command(data));
