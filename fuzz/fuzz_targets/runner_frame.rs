//! The property is `pagebox::fuzz::runner_frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagebox::fuzz::runner_frame(data));
