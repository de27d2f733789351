//! The property is `pagebox::fuzz::proxy_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagebox::fuzz::proxy_request(data));
