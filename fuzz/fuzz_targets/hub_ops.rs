//! See `mahavishnu_fuzz::hub_ops`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::hub_ops::run(input));
