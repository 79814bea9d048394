//! See `mahavishnu_fuzz::seeds`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::seeds::run(input));
