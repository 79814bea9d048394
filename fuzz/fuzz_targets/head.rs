//! See `mahavishnu_fuzz::head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::head::run(input));
