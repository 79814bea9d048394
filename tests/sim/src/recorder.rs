//! A recorder of metrics in memory: what the hubs say they counted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Every series by its family and labels.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    counters: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    gauges: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
}

impl Counts {
    /// The sum of a family's counters whose labels contain all of `labels`.
    pub(crate) fn counter(&self, family: &str, labels: &[&str]) -> u64 {
        let map = self.counters.lock().unwrap();
        let of_family = map.iter().filter(|(name, _)| name.split('{').next() == Some(family));
        of_family
            .filter(|(name, _)| labels.iter().all(|label| name.contains(label)))
            .map(|(_, value)| value.load(Ordering::Relaxed))
            .sum()
    }

    /// A family's gauge itself, for those who look often. There must be one.
    pub(crate) fn gauge_handle(&self, family: &str) -> Arc<AtomicU64> {
        let map = self.gauges.lock().unwrap();
        let found = map.iter().find(|(name, _)| name.split('{').next() == Some(family));
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// Another process: gauges are of the present one.
    pub(crate) fn begin_anew(&self) {
        let map = self.gauges.lock().unwrap();
        map.values().for_each(|gauge| gauge.store(0f64.to_bits(), Ordering::Relaxed));
    }

    /// The value of a family's gauge, or of the series that have these labels.
    pub(crate) fn gauge(&self, family: &str, labels: &[&str]) -> f64 {
        let map = self.gauges.lock().unwrap();
        map.iter()
            .filter(|(name, _)| name.split('{').next() == Some(family))
            .filter(|(name, _)| labels.iter().all(|label| name.contains(label)))
            .map(|(_, value)| f64::from_bits(value.load(Ordering::Relaxed)))
            .sum()
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut map = self.counters.lock().unwrap();
        Counter::from_arc(map.entry(name_of(key)).or_default().clone())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut map = self.gauges.lock().unwrap();
        Gauge::from_arc(map.entry(name_of(key)).or_default().clone())
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn name_of(key: &Key) -> String {
    let labels: Vec<String> =
        key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    format!("{}{{{}}}", key.name(), labels.join(","))
}
