//! See `mahavishnu_fuzz::session_buddy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::session_buddy::run(input));
