//! Deadlines of many connections.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion};
use mahavishnu_core::time::Timers;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timers");
    for owners in [2_000_u64, 20_000, 100_000] {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        for owner in 0..owners {
            timers.arm(start + Duration::from_micros(owner), owner);
        }
        let mut now = start;
        // Each that comes up is armed again, behind all others: the heap keeps its size.
        group.bench_function(BenchmarkId::new("due and armed again", owners), |bencher| {
            bencher.iter(|| {
                now += Duration::from_micros(1);
                while let Some((at, owner)) = timers.pop_due(black_box(now)) {
                    timers.arm(at + Duration::from_micros(owners), owner);
                }
            });
        });
        group.bench_function(BenchmarkId::new("compact", owners), |bencher| {
            // As if all were stale, so that it looks at each.
            bencher.iter(|| timers.compact(0, |_, owner| black_box(owner) < owners));
        });
    }
    group.finish();
}
