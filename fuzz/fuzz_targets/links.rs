//! See `mahavishnu_fuzz::links`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::links::run(input));
