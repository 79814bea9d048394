//! Frames: in (header, unmasking, UTF-8) and out.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use mahavishnu_core::{
    wire::Limits,
    ws::{Event, Opcode, encode_frame, encode_text},
};
use mahavishnu_microbenches::{
    frames,
    hot::{open_connection, start},
};

pub(crate) fn benches(criterion: &mut Criterion) {
    decode(criterion);
    encode(criterion);
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame-in");
    let (now, limits) = (start(), Limits::default());
    for bytes in SIZES {
        let mut connection = open_connection(now, &limits);
        let mut frame = frames::text(&frames::object(bytes));
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(BenchmarkId::new("whole", bytes), |bencher| {
            bencher.iter(|| {
                let event = connection.receive(now, &limits, &mut black_box(&mut *frame));
                assert!(matches!(event, Some(Event::Text(_))), "no message came");
            });
        });
        group.bench_function(BenchmarkId::new("in two pieces", bytes), |bencher| {
            let half = frame.len() / 2;
            bencher.iter(|| {
                let (mut first, mut second) = frame.split_at_mut(half);
                let event = connection.receive(now, &limits, &mut first);
                assert!(event.is_none(), "half a message came");
                let event = connection.receive(now, &limits, &mut second);
                assert!(matches!(event, Some(Event::Text(_))), "no message came");
            });
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame-out");
    for bytes in SIZES {
        let text = frames::object(bytes);
        let mut out = Vec::new();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("server", bytes), |bencher| {
            bencher.iter(|| {
                out.clear();
                encode_text(&mut out, black_box(text.as_bytes()));
            });
        });
        group.bench_function(BenchmarkId::new("client, masked", bytes), |bencher| {
            bencher.iter(|| {
                out.clear();
                let payload = black_box(text.as_bytes());
                encode_frame(&mut out, Opcode::Text, payload, Some([1, 2, 3, 4]));
            });
        });
    }
    group.finish();
}

const SIZES: [usize; 3] = [128, 1024, 64 * 1024];
