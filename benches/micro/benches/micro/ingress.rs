//! A publisher that sends as fast as it can: frame, decode, authorise, encode, answer.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use mahavishnu_microbenches::{CHANNEL, Stage, frames};

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ingress");
    for (bytes, subscribers) in [(128, 0), (128, 1), (1024, 0), (1024, 1)] {
        let (mut stage, publisher) = Stage::with_publisher();
        stage.open_subscribers(subscribers);
        let frame = frames::text(&frames::publish(CHANNEL, &frames::object(bytes)));
        // As many as one read of the adapters takes.
        let count = READ_BYTES / frame.len();
        let mut wire = frame.repeat(count);
        group.throughput(Throughput::Elements(count as u64));
        let id = BenchmarkId::new(format!("{subscribers} subscribers"), bytes);
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                stage.feed(publisher, black_box(&mut wire));
                stage.turn();
            });
        });
        assert_eq!(stage.connections(), 1 + subscribers as u64, "somebody was sent away");
    }
    group.finish();
}

const READ_BYTES: usize = 64 * 1024;
