//! The property is `pagebox::fuzz::egress_target`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagebox::fuzz::egress_target(data));
