//! A recorder of metrics in memory, for all servers of the process: each has a label of its own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// A label that no other server of this process has, and that is no beginning of another one. Installs the recorder.
pub(crate) fn fresh_label() -> String {
    static INSTALL: Once = Once::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    INSTALL.call_once(|| metrics::set_global_recorder(&COUNTS).expect("nobody else installs one"));
    format!("server-{:06}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The value of a series; 0 if there is none.
pub(crate) fn value(family: &str, labels: &[(&str, &str)]) -> u64 {
    let name = name_of(family, labels.iter().copied());
    if let Some(counter) = COUNTS.counters.lock().unwrap().get(&name) {
        return counter.load(Ordering::Relaxed);
    }
    let gauges = COUNTS.gauges.lock().unwrap();
    gauges.get(&name).map_or(0, |gauge| f64::from_bits(gauge.load(Ordering::Relaxed)) as u64)
}

static COUNTS: Counts =
    Counts { counters: Mutex::new(BTreeMap::new()), gauges: Mutex::new(BTreeMap::new()) };

struct Counts {
    counters: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    gauges: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.counters.lock().unwrap().entry(key_name(key)).or_default().clone())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.gauges.lock().unwrap().entry(key_name(key)).or_default().clone())
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn key_name(key: &Key) -> String {
    name_of(key.name(), key.labels().map(|label| (label.key(), label.value())))
}

fn name_of<'a>(family: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
    format!("{family}{{{}}}", labels.join(","))
}
