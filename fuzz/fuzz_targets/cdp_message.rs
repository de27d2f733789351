//! The property is `pagebox::fuzz::cdp_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagebox::fuzz::cdp_message(data));
