//! See `mahavishnu_fuzz::deflate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::deflate::run(input));
