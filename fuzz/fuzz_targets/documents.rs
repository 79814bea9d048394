//! See `mahavishnu_fuzz::documents`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::documents::run(input));
