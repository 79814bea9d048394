//! See `mahavishnu_fuzz::publish`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::publish::run(input));
