//! See `mahavishnu_fuzz::records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::records::run(input));
