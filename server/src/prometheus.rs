//! Metrics in Prometheus' text format (version 0.0.4).

use std::{collections::HashMap, fmt::Write, sync::Arc, time::Duration};

use mahavishnu_core::metrics::{FAMILIES, Family, Type, describe};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::exit::{Exit, Failure};

/// Installs the recorder for the whole process and describes every family. Called once, before the first metric.
///
/// Returns what renders the exposition. A small thread folds histogram samples into buckets, so that memory stays
/// bounded even if nobody ever scrapes.
pub(crate) fn install() -> Result<Arc<dyn Fn() -> String + Send + Sync>, Failure> {
    let failure = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::General, format!("metrics cannot start: {error}"))
    };
    let handle =
        builder().and_then(PrometheusBuilder::install_recorder).map_err(|error| failure(&error))?;
    metrics::with_recorder(describe);
    let upkeep = handle.clone();
    let run = move || {
        loop {
            std::thread::sleep(UPKEEP_INTERVAL);
            upkeep.run_upkeep();
        }
    };
    std::thread::Builder::new()
        .name("metrics".into())
        .spawn(run)
        .map_err(|error| failure(&error))?;
    Ok(Arc::new(move || render(&handle)))
}

fn builder() -> Result<PrometheusBuilder, metrics_exporter_prometheus::BuildError> {
    FAMILIES.iter().filter(|family| family.kind == Type::Histogram).try_fold(
        PrometheusBuilder::new(),
        |builder, family| {
            builder.set_buckets_for_metric(Matcher::Full(family.name.to_owned()), family.buckets)
        },
    )
}

/// All series in the order of the table, and the HELP and TYPE of families that have none yet: dashboards and checks
/// look for the names.
fn render(handle: &PrometheusHandle) -> String {
    let text = handle.render();
    let mut blocks: HashMap<&str, &str> = HashMap::new();
    for block in text.split("\n\n") {
        let name = block.lines().find_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        blocks.extend(name.map(|name| (name, block)));
    }
    let mut ordered = String::with_capacity(text.len() + 4096);
    for family in FAMILIES {
        match blocks.get(family.name) {
            Some(block) => push_block(&mut ordered, block, family.kind),
            None => {
                let Family { name, help, .. } = family;
                // Writing into memory cannot fail.
                let _ = writeln!(
                    ordered,
                    "# HELP {name} {help}\n# TYPE {name} {}",
                    type_name(family.kind)
                );
            }
        }
        ordered.push('\n');
    }
    ordered
}

/// Of an exposition, the series of these servers: their name is the first label of each.
pub(crate) fn of_servers(text: &str, labels: &[&str]) -> String {
    let wanted: Vec<_> = labels.iter().map(|label| format!("{{server=\"{label}\"")).collect();
    let is_of = |line: &str| {
        let labels = line.find('{').and_then(|at| line.get(at..)).unwrap_or_default();
        wanted.iter().any(|wanted| labels.starts_with(wanted))
    };
    let kept = text.lines().filter(|line| line.is_empty() || line.starts_with('#') || is_of(line));
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// The recorder's order is that of a hash table: sorted, two scrapes can be compared by eye. Buckets are in order
/// already.
fn push_block(text: &mut String, block: &str, kind: Type) {
    let (comments, mut series): (Vec<_>, Vec<_>) =
        block.lines().partition(|line| line.starts_with('#'));
    if kind != Type::Histogram {
        series.sort_unstable();
    }
    for line in comments.into_iter().chain(series) {
        text.push_str(line);
        text.push('\n');
    }
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
    use ::metrics::{Key, Label, Level, Metadata, Recorder};

    use super::*;

    const METADATA: Metadata<'_> = Metadata::new("", Level::INFO, None);

    #[test]
    fn every_family_is_there_before_any_traffic() {
        let recorder = builder().unwrap().build_recorder();
        let text = render(&recorder.handle());
        for family in FAMILIES {
            let expected = format!(
                "# HELP {name} {}\n# TYPE {name} {}\n",
                family.help,
                type_name(family.kind),
                name = family.name
            );
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
    fn families_come_in_the_order_of_the_table_and_series_by_label() {
        let recorder = builder().unwrap().build_recorder();
        for kind in ["b", "a", "c"] {
            let key = Key::from_parts(
                "websocket_message_errors_total",
                vec![Label::new("error_type", kind)],
            );
            recorder.register_counter(&key, &METADATA).increment(1);
        }
        let text = render(&recorder.handle());
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        assert_eq!(names, FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>());
        let labels: Vec<_> = text.lines().filter_map(|line| line.split('"').nth(1)).collect();
        assert_eq!(labels, ["a", "b", "c"]);
    }

    #[test]
    fn what_is_of_one_server_is_told_without_the_others() {
        let recorder = builder().unwrap().build_recorder();
        for server in ["akosha", "akosha-2", "fleet"] {
            let label = || vec![Label::new("server", server)];
            let counter = Key::from_parts("websocket_connections_total", label());
            recorder.register_counter(&counter, &METADATA).increment(1);
            let histogram = Key::from_parts("websocket_latency_seconds", label());
            recorder.register_histogram(&histogram, &METADATA).record(0.003);
        }
        let whole = render(&recorder.handle());
        let part = of_servers(&whole, &["akosha", "fleet"]);
        assert!(!part.contains("akosha-2"), "{part}");
        for line in whole.lines().filter(|line| !line.contains("akosha-2")) {
            assert!(part.lines().any(|kept| kept == line), "{line}");
        }
        assert!(part.contains("websocket_latency_seconds_bucket{server=\"akosha\",le=\"1\"} 1\n"));
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
            text.lines()
                .filter_map(|line| Some(line.strip_prefix(&start)?.split('"').next()?.to_owned()))
                .collect()
        };
        let common = [
            "0.00001", "0.000025", "0.00005", "0.0001", "0.00025", "0.0005", "0.001", "0.005",
            "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5",
        ];
        assert_eq!(
            bounds("websocket_broadcast_duration_seconds"),
            [&common[..], &["+Inf"]].concat()
        );
        assert_eq!(bounds("websocket_latency_seconds"), [&common[..], &["10", "+Inf"]].concat());
        assert!(text.contains("websocket_latency_seconds_bucket{le=\"0.001\"} 0\n"), "{text}");
        assert!(text.contains("websocket_latency_seconds_bucket{le=\"0.005\"} 1\n"), "{text}");
    }
}
