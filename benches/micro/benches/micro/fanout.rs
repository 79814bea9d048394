//! A round on its way to its subscribers: by how many they are, by size, by how much waits already.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use mahavishnu_core::{
    hub::DirectMessage,
    ws::{Outbox, Segment, encode_text},
};
use mahavishnu_microbenches::{Stage, frames};

pub(crate) fn benches(criterion: &mut Criterion) {
    hubs(criterion);
    users(criterion);
    outboxes(criterion);
}

/// Broadcast, round, hand-out, flush into sinks that take everything.
fn hubs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout");
    for subscribers in [1, 100, 1_000, 10_000] {
        for (bytes, messages) in [(128, 1), (128, 64), (1024, 16), (16 * 1024, 1)] {
            let mut stage = Stage::new();
            stage.open_subscribers(subscribers);
            let data = bytes::Bytes::from(frames::object(bytes));
            group.throughput(Throughput::Elements((subscribers * messages) as u64));
            let id = BenchmarkId::new(format!("{messages} × {bytes} B"), subscribers);
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    for _ in 0..messages {
                        stage.broadcast(black_box(&data));
                    }
                    stage.turn();
                });
            });
            assert_eq!(stage.connections(), subscribers as u64, "somebody was sent away");
        }
    }
    group.finish();
}

/// The same message for so many users, one after the other, and one turn: what a delivery costs beside a broadcast's.
fn users(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("direct");
    for count in [1, 1_000, 10_000] {
        let (mut stage, _) = Stage::with_publisher();
        let names = stage.open_users(count);
        let message = DirectMessage::new("bench.tick", &frames::object(128));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("128 B", count), |bencher| {
            bencher.iter(|| {
                for name in &names {
                    stage.send(name, black_box(&message));
                }
                stage.turn();
            });
        });
        assert_eq!(stage.connections(), count as u64 + 1, "somebody was sent away");
    }
    group.finish();
}

/// One subscriber's queue behind a backlog: push, look, consume.
fn outboxes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outbox");
    let mut frame = Vec::new();
    encode_text(&mut frame, frames::object(128).as_bytes());
    let segment = Segment::new(frame, 1, 1, 0);
    for backlog in [0, 1, 64, 1_024] {
        let mut outbox = Outbox::new();
        for _ in 0..backlog {
            outbox.push(&segment);
        }
        group.bench_function(BenchmarkId::new("behind", backlog), |bencher| {
            bencher.iter(|| {
                outbox.push(black_box(&segment));
                black_box(outbox.head());
                outbox.consume(segment.len());
            });
        });
    }
    group.finish();
}
