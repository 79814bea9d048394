//! Metrics in Prometheus' text format (version 0.0.4).

use std::{collections::HashSet, fmt::Write, sync::Arc, time::Duration};

use mahavishnu_core::metrics::{self, FAMILIES, Family, Type};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::exit::{Exit, Failure};

/// Installs the recorder for the whole process and describes every family. Called once, before the first metric.
///
/// Returns what renders the exposition. A small thread folds histogram samples into buckets, so that memory stays
/// bounded even if nobody ever scrapes.
pub(crate) fn install() -> Result<Arc<dyn Fn() -> String + Send + Sync>, Failure> {
    let failure = |error: &dyn std::fmt::Display| Failure::new(Exit::General, format!("metrics cannot start: {error}"));
    let handle = builder().and_then(PrometheusBuilder::install_recorder).map_err(|error| failure(&error))?;
    metrics::describe();
    let upkeep = handle.clone();
    let run = move || {
        loop {
            std::thread::sleep(UPKEEP_INTERVAL);
            upkeep.run_upkeep();
        }
    };
    std::thread::Builder::new().name("metrics".into()).spawn(run).map_err(|error| failure(&error))?;
    Ok(Arc::new(move || render(&handle)))
}

fn builder() -> Result<PrometheusBuilder, metrics_exporter_prometheus::BuildError> {
    FAMILIES.iter().filter(|family| family.kind == Type::Histogram).try_fold(PrometheusBuilder::new(), |builder, family| {
        builder.set_buckets_for_metric(Matcher::Full(family.name.to_owned()), family.buckets)
    })
}

/// All series, and the HELP and TYPE of families that have none yet: dashboards and checks look for the names.
fn render(handle: &PrometheusHandle) -> String {
    let mut text = handle.render();
    let present: HashSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    for family in FAMILIES.iter().filter(|family| !present.contains(family.name)) {
        let Family { name, help, .. } = family;
        // Writing into memory cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}\n", type_name(family.kind));
    }
    text
}

fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::Counter => "counter",
        Type::Gauge => "gauge",
        Type::Histogram => "histogram",
    }
}

const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use ::metrics::{Key, Level, Metadata, Recorder};

    use super::*;

    const METADATA: Metadata<'_> = Metadata::new("", Level::INFO, None);

    #[test]
    fn every_family_is_there_before_any_traffic() {
        let recorder = builder().unwrap().build_recorder();
        let text = render(&recorder.handle());
        for family in FAMILIES {
            let expected = format!("# HELP {name} {}\n# TYPE {name} {}\n", family.help, type_name(family.kind), name = family.name);
            assert_eq!(text.matches(&expected).count(), 1, "{}", family.name);
        }
    }

    #[test]
    fn a_family_with_series_is_described_once_and_keeps_its_name() {
        let recorder = builder().unwrap().build_recorder();
        let family = &FAMILIES[0];
        recorder.describe_counter(family.name.into(), None, family.help.into());
        recorder.register_counter(&Key::from_name(family.name), &METADATA).increment(3);
        let text = render(&recorder.handle());
        assert_eq!(text.matches(&format!("# TYPE {} counter\n", family.name)).count(), 1);
        assert_eq!(text.matches(&format!("# HELP {} ", family.name)).count(), 1);
        assert!(text.contains(&format!("\n{} 3\n", family.name)), "{text}");
    }

    #[test]
    fn histograms_have_the_promised_buckets() {
        let recorder = builder().unwrap().build_recorder();
        for name in ["websocket_broadcast_duration_seconds", "websocket_latency_seconds"] {
            recorder.register_histogram(&Key::from_name(name), &METADATA).record(0.003);
        }
        let text = render(&recorder.handle());
        let bounds = |name: &str| -> Vec<String> {
            let start = format!("{name}_bucket{{le=\"");
            text.lines().filter_map(|line| Some(line.strip_prefix(&start)?.split('"').next()?.to_owned())).collect()
        };
        let common = ["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5"];
        assert_eq!(bounds("websocket_broadcast_duration_seconds"), [&common[..], &["+Inf"]].concat());
        assert_eq!(bounds("websocket_latency_seconds"), [&common[..], &["10", "+Inf"]].concat());
        assert!(text.contains("websocket_latency_seconds_bucket{le=\"0.001\"} 0\n"), "{text}");
        assert!(text.contains("websocket_latency_seconds_bucket{le=\"0.005\"} 1\n"), "{text}");
    }
}
