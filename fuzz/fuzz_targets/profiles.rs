//! See `mahavishnu_fuzz::profiles`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::profiles::run(input));
