//! See `mahavishnu_fuzz::outbox`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mahavishnu_fuzz::outbox::run(input));
