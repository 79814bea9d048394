//! The turn loop: with nothing to do, with one message, with a ping.

use std::hint::black_box;

use criterion::Criterion;
use mahavishnu_microbenches::{CHANNEL, Stage, frames};

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    let mut stage = Stage::new();
    stage.open_subscribers(1_000);
    group.bench_function("idle", |bencher| bencher.iter(|| stage.turn()));
    for (name, message) in
        [("publish", frames::publish(CHANNEL, &frames::object(128))), ("ping", frames::PING.into())]
    {
        let (mut stage, publisher) = Stage::with_publisher();
        stage.open_subscribers(1);
        let mut wire = frames::text(&message);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                stage.feed(publisher, black_box(&mut wire));
                stage.turn();
            });
        });
    }
    group.finish();
}
