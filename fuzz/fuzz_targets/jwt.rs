//! See `mahavishnu_fuzz::jwt`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::jwt::run(input));
