//! See `mahavishnu_fuzz::traces`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::traces::run(input));
