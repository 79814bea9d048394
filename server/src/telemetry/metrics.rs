//! Metrics as OTLP has them, made of what a scrape gets: so both tell the same, under the same names, and nothing is counted
//! twice.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use mahavishnu_core::metrics::{FAMILIES, Type};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point::Value,
    },
};

use super::{Source, attributes::text, nanos};
use crate::exposition::{self, Sample};

/// All series of an exposition at one time, and how many there are.
pub(super) fn request(
    source: &Source,
    now: Duration,
    text: &str,
) -> (ExportMetricsServiceRequest, u64) {
    let (metrics, points) = metrics((source.started, now), text);
    let scope =
        ScopeMetrics { scope: Some(source.scope.clone()), metrics, ..ScopeMetrics::default() };
    let resource = ResourceMetrics {
        resource: Some(source.resource.clone()),
        scope_metrics: vec![scope],
        ..ResourceMetrics::default()
    };
    (ExportMetricsServiceRequest { resource_metrics: vec![resource] }, points)
}

fn metrics((start, now): (Duration, Duration), text: &str) -> (Vec<Metric>, u64) {
    let mut samples: HashMap<&str, Vec<Sample<'_>>> = HashMap::new();
    for sample in exposition::samples(text) {
        samples.entry(sample.name).or_default().push(sample);
    }
    let (start, now) = (nanos(start), nanos(now));
    let mut points = 0;
    let mut all = Vec::new();
    for family in FAMILIES {
        let data = if family.kind == Type::Histogram {
            let data_points = histograms(&samples, family.name, (start, now));
            points += data_points.len() as u64;
            (!data_points.is_empty()).then(|| {
                Data::Histogram(Histogram {
                    data_points,
                    aggregation_temporality: AggregationTemporality::Cumulative.into(),
                })
            })
        } else {
            let counts = family.kind == Type::Counter;
            let of_family = samples.get(family.name).into_iter().flatten();
            let start = if counts { start } else { 0 };
            let data_points: Vec<_> = of_family.map(|one| point(one, (start, now))).collect();
            points += data_points.len() as u64;
            (!data_points.is_empty()).then(|| match counts {
                true => Data::Sum(Sum {
                    data_points,
                    aggregation_temporality: AggregationTemporality::Cumulative.into(),
                    is_monotonic: true,
                }),
                false => Data::Gauge(Gauge { data_points }),
            })
        };
        all.extend(data.map(|data| Metric {
            name: family.name.into(),
            description: family.help.into(),
            unit: unit(family.name).into(),
            data: Some(data),
            ..Metric::default()
        }));
    }
    (all, points)
}

/// The unit that a name says (UCUM); whoever makes Prometheus' names of it again gets the same ones.
fn unit(name: &str) -> &'static str {
    let bare = name.strip_suffix("_total").unwrap_or(name);
    if bare.ends_with("_seconds") {
        "s"
    } else if bare.ends_with("_bytes") {
        "By"
    } else {
        ""
    }
}

fn point(sample: &Sample<'_>, (start, now): (u64, u64)) -> NumberDataPoint {
    // Whole numbers stay whole: f64 has all that come up.
    let whole = sample.value.fract() == 0.0 && sample.value.abs() < WHOLE_MAX;
    let value = match whole {
        true => Value::AsInt(sample.value as i64),
        false => Value::AsDouble(sample.value),
    };
    NumberDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: start,
        time_unix_nano: now,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn attributes(sample: &Sample<'_>) -> Vec<KeyValue> {
    sample.labels().map(|(name, value)| text(name, &value)).collect()
}

/// The histograms of a family: buckets that count all that is smaller become buckets that count what is theirs.
fn histograms(
    samples: &HashMap<&str, Vec<Sample<'_>>>,
    name: &str,
    (start, now): (u64, u64),
) -> Vec<HistogramDataPoint> {
    let of = |suffix: &str| {
        let name = format!("{name}_{suffix}");
        samples.get(&*name).into_iter().flatten()
    };
    let mut buckets: HashMap<Series<'_>, Vec<(f64, u64)>> = HashMap::new();
    for sample in of("bucket") {
        let bound = sample.label("le").and_then(|bound| bound.parse::<f64>().ok());
        let Some(bound) = bound else { continue };
        buckets.entry(series(sample)).or_default().push((bound, sample.value as u64));
    }
    let sums: HashMap<_, _> = of("sum").map(|one| (series(one), one.value)).collect();
    let mut points = Vec::new();
    for count in of("count") {
        let key = series(count);
        let mut cumulative = buckets.remove(&key).unwrap_or_default();
        cumulative.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut before = 0;
        let mut bucket_counts = Vec::with_capacity(cumulative.len());
        for (_, all) in &cumulative {
            bucket_counts.push(all.saturating_sub(before));
            before = *all;
        }
        let bounds = cumulative.iter().map(|(bound, _)| *bound);
        points.push(HistogramDataPoint {
            attributes: attributes(count),
            start_time_unix_nano: start,
            time_unix_nano: now,
            count: count.value as u64,
            sum: sums.get(&key).copied(),
            bucket_counts,
            explicit_bounds: bounds.filter(|bound| bound.is_finite()).collect(),
            ..HistogramDataPoint::default()
        });
    }
    points
}

type Series<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// What tells a histogram from others of its family.
fn series<'a>(sample: &Sample<'a>) -> Series<'a> {
    let mut series: Vec<_> = sample.labels().filter(|(name, _)| *name != "le").collect();
    series.sort_unstable();
    series
}

/// Larger ones are not all exact.
const WHOLE_MAX: f64 = (1_u64 << 53) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1);
    const NOW: Duration = Duration::from_secs(61);

    fn one(exposition: &str) -> Metric {
        let (mut metrics, _) = metrics((START, NOW), exposition);
        assert_eq!(metrics.len(), 1, "{metrics:?}");
        metrics.remove(0)
    }

    #[test]
    fn a_counter_is_a_sum_since_the_start() {
        let metric = one(
            "# TYPE websocket_connections_total counter\nwebsocket_connections_total{server=\"m\",tls_mode=\"ws\"} 3\n",
        );
        assert_eq!(
            (metric.name.as_str(), metric.unit.as_str()),
            ("websocket_connections_total", "")
        );
        let Some(Data::Sum(sum)) = metric.data else { panic!() };
        assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
        let point = &sum.data_points[0];
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (nanos(START), nanos(NOW)));
        assert_eq!(point.value, Some(Value::AsInt(3)));
        assert_eq!(point.attributes, [text("server", "m"), text("tls_mode", "ws")]);
    }

    #[test]
    fn a_gauge_may_be_no_whole_number() {
        let metric = one("mahavishnu_bus_probe_age_seconds{server=\"m\",shard=\"0\"} 0.25\n");
        assert_eq!(metric.unit, "s");
        let Some(Data::Gauge(gauge)) = metric.data else { panic!() };
        assert_eq!(gauge.data_points[0].value, Some(Value::AsDouble(0.25)));
    }

    #[test]
    fn a_histogram_has_its_buckets_one_by_one() {
        let metric = one(concat!(
            "websocket_latency_seconds_bucket{server=\"m\",message_type=\"ping\",le=\"0.001\"} 2\n",
            "websocket_latency_seconds_bucket{server=\"m\",message_type=\"ping\",le=\"0.5\"} 2\n",
            "websocket_latency_seconds_bucket{server=\"m\",message_type=\"ping\",le=\"+Inf\"} 5\n",
            "websocket_latency_seconds_sum{server=\"m\",message_type=\"ping\"} 3.5\n",
            "websocket_latency_seconds_count{server=\"m\",message_type=\"ping\"} 5\n",
        ));
        let Some(Data::Histogram(histogram)) = metric.data else { panic!() };
        let point = &histogram.data_points[0];
        assert_eq!(point.explicit_bounds, [0.001, 0.5]);
        assert_eq!(point.bucket_counts, [2, 0, 3]);
        assert_eq!((point.count, point.sum), (5, Some(3.5)));
        assert_eq!(point.attributes, [text("server", "m"), text("message_type", "ping")]);
    }

    #[test]
    fn labels_are_read_as_they_were_written() {
        let metric =
            one("websocket_broadcast_total{server=\"a\\\\b\\\"c\\nd}\",channel=\"x, y\"} 1\n");
        let Some(Data::Sum(sum)) = metric.data else { panic!() };
        let expected = [text("server", "a\\b\"c\nd}"), text("channel", "x, y")];
        assert_eq!(sum.data_points[0].attributes, expected);
    }

    #[test]
    fn what_is_none_of_the_table_is_left_out() {
        let (metrics, points) = metrics((START, NOW), "other_total 1\n\n# HELP x y\nnonsense\n");
        assert_eq!((metrics.len(), points), (0, 0));
    }
}
