//! What the core's parts cost in time, on this machine, now: for whoever changes one of them. `cargo bench -p
//! mahavishnu-microbenches`, with a part's name to run that part alone. What is compared over time is instructions.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

mod auth;
mod envelope;
mod fanout;
mod frames;
mod ingress;
mod owned;
mod timers;
mod turn;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    parts,
    frames::benches,
    envelope::benches,
    ingress::benches,
    fanout::benches,
    owned::benches,
    turn::benches,
    timers::benches,
    auth::benches
);
criterion_main!(parts);
