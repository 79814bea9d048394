//! The recorder of metrics that the application has installed, as soon as it has.

use metrics::Recorder;

/// Calls `record` with the recorder, if one is installed by now. It may be installed before a server starts or after: until
/// then counts stay where they are, and add up.
pub(crate) fn with_installed<T>(record: impl FnOnce(&dyn Recorder) -> T) -> Option<T> {
    metrics::with_recorder(|recorder| is_installed(recorder).then(|| record(recorder)))
}

/// Whether this is not what the facade hands out where nobody has installed anything. That is a static without a size; a
/// recorder that has none either was boxed, and nothing without a size is allocated, so its address is a small number.
fn is_installed(recorder: &dyn Recorder) -> bool {
    let is_static = std::ptr::from_ref(recorder).addr() > SMALL;
    size_of_val(recorder) > 0 || !is_static
}

/// Larger than any alignment of a recorder, smaller than any address of a static.
const SMALL: usize = 4096;

#[cfg(test)]
mod tests {
    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};

    use super::*;

    struct Nothing;

    impl Recorder for Nothing {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    /// The only test of this process that installs one.
    #[test]
    fn a_recorder_is_there_once_it_is_installed() {
        assert_eq!(with_installed(|_| ()), None);
        metrics::set_global_recorder(Nothing).unwrap_or_else(|_| panic!("one is there"));
        assert_eq!(with_installed(|_| ()), Some(()));
    }
}
