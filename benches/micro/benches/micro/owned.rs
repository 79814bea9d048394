//! A round on its way to drivers whose buffers are the kernel's: taken as shared pieces, and, as it was without them, copied for
//! each subscriber.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use mahavishnu_core::{
    hub::{ConnId, Hub},
    time::Now,
};
use mahavishnu_microbenches::{Stage, frames};

/// A socket's buffer.
const BYTES_MAX: usize = 64 * 1024;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("owned");
    let subscribers = 1_000;
    for (bytes, messages) in [(128, 1), (1024, 16), (16 * 1024, 1)] {
        let mut stage = Stage::new();
        stage.open_subscribers(subscribers);
        let data = bytes::Bytes::from(frames::object(bytes));
        group.throughput(Throughput::Elements((subscribers * messages) as u64));
        let mut measure = |how: &str, write: &mut dyn FnMut(&mut Hub, Now, ConnId)| {
            let id = BenchmarkId::new(how, format!("{messages} × {bytes} B"));
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    for _ in 0..messages {
                        stage.broadcast(black_box(&data));
                    }
                    stage.turn_by(&mut *write);
                });
            });
        };
        // What an operation would be given; it is done at once.
        let mut pieces = Vec::new();
        measure("shared", &mut |hub, now, conn| {
            let _ = hub.flush_owned(now, conn, BYTES_MAX, &mut pieces);
            black_box(&pieces);
            pieces.clear();
        });
        measure("copied", &mut |hub, now, conn| {
            let mut buffer = Vec::new();
            let _ = hub.flush(now, conn, &mut buffer);
            black_box(&buffer);
        });
    }
    group.finish();
}
