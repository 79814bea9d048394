//! Messages: read, and written.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use mahavishnu_core::protocol::{Envelope, Stamp, Timestamp, decode, decode_text, publish};
use mahavishnu_microbenches::{CHANNEL, frames, stage::START_UNIX};

pub(crate) fn benches(criterion: &mut Criterion) {
    read(criterion);
    write(criterion);
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope-in");
    let messages = [
        ("ping", frames::PING.to_owned()),
        ("subscribe", frames::subscribe(CHANNEL)),
        ("publish 128 B", frames::publish(CHANNEL, &frames::object(128))),
        ("publish 1 KiB, structured", frames::publish(CHANNEL, &frames::structured(1024))),
        ("publish 64 KiB, structured", frames::publish(CHANNEL, &frames::structured(64 * 1024))),
        ("publish 64 KiB, one text", frames::publish(CHANNEL, &frames::object(64 * 1024))),
        ("publish 1 KiB, by Python", frames::publish_full(CHANNEL, &frames::structured(1024))),
    ];
    for (name, message) in &messages {
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let incoming = decode_text(black_box(message)).expect("a message");
                black_box(incoming.intent());
            });
        });
    }
    group.bench_function("refused", |bencher| {
        bencher.iter(|| decode(black_box(b"{\"type\":\"ping\",\"id\":5}")).is_err());
    });
    let body = format!(
        r#"{{"messages":[{}]}}"#,
        vec![r#"{"channel":"workflow:1","event":"e","data":{"n":1}}"#; 100].join(",")
    );
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("POST /publish of 100", |bencher| {
        bencher.iter(|| publish::parse(black_box(body.as_bytes()), 1_000).expect("a body"));
    });
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope-out");
    let timestamp = Timestamp::from_unix(START_UNIX);
    let stamp = Stamp { id: uuid::Uuid::nil(), timestamp: &timestamp };
    let mut out = Vec::new();
    for bytes in [128, 1024, 64 * 1024] {
        let data = frames::object(bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("broadcast", bytes), |bencher| {
            bencher.iter(|| {
                out.clear();
                let data = black_box(data.as_str());
                Envelope::broadcast(stamp, CHANNEL, "bench.tick", data, Some(7)).write(&mut out);
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("published", |bencher| {
        bencher.iter(|| {
            out.clear();
            Envelope::published(stamp, CHANNEL, 1_000, None, Some("p1")).write(&mut out);
        });
    });
    group.bench_function("timestamp", |bencher| {
        bencher.iter(|| Timestamp::from_unix(black_box(START_UNIX)));
    });
    group.finish();
}
