//! Latency percentiles, medians, and the report that every fan-out run ends with.

use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{check::Violations, redis::RedisCounts};

/// Latencies of many copies, to three digits, up to a minute.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Option<Histogram<u64>>,
}

impl Latency {
    /// Nothing recorded.
    #[must_use]
    pub fn new() -> Self {
        Self { histogram: Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, 3).ok() }
    }

    /// Records `copies` of one latency; longer ones than a minute count as a minute.
    #[inline]
    pub fn record(&mut self, latency_ns: u64, copies: u64) {
        if copies > 0
            && let Some(histogram) = &mut self.histogram
        {
            // Saturated, so it cannot be out of bounds.
            let _ = histogram.record_n(latency_ns.clamp(LOWEST_NS, HIGHEST_NS), copies);
        }
    }

    /// Takes in what another has recorded.
    pub fn add(&mut self, other: &Self) {
        if let (Some(histogram), Some(other)) = (&mut self.histogram, &other.histogram) {
            // The bounds of both are the same.
            let _ = histogram.add(other);
        }
    }

    /// How many were recorded.
    #[must_use]
    pub fn copies(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// The percentiles that are reported.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        let at = |quantile| {
            self.histogram
                .as_ref()
                .map_or(0.0, |histogram| micros(histogram.value_at_quantile(quantile)))
        };
        LatencySummary {
            p50_us: at(0.50),
            p90_us: at(0.90),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Half of the copies were at least as fast.
    pub p50_us: f64,
    /// 90 %.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50_us, p90_us, p99_us, p999_us, max_us } = self;
        write!(
            f,
            "p50 {p50_us:.0} µs, p90 {p90_us:.0}, p99 {p99_us:.0}, p99.9 {p999_us:.0}, max {max_us:.0}"
        )
    }
}

/// What a fan-out run found. One of these is one line of JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FanoutReport {
    /// `fanout` (closed loop), `rate` or `echo`.
    pub mode: String,
    /// Which server this was, in the caller's words.
    pub label: String,
    /// What was measured, in the caller's words: reports of one case are compared with each other.
    pub case: String,
    /// Which of several interleaved rounds this was: ratios are taken within a round.
    #[serde(default)]
    pub round: u32,
    /// Channels.
    #[serde(default = "one")]
    pub channels: u32,
    /// Subscribers of each; in echo, connections.
    pub subscribers: u32,
    /// Bytes of the data object.
    pub payload_bytes: usize,
    /// Messages of a channel in flight at most; in echo, per connection.
    pub window: usize,
    /// The intended rate of a `rate` run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_publishes_per_second: Option<f64>,
    /// Length of the measured interval.
    pub seconds: f64,
    /// Messages published in it.
    pub publishes: u64,
    /// Copies delivered in it.
    pub deliveries: u64,
    /// Per second of the interval.
    pub publishes_per_second: f64,
    /// Per second of the interval.
    pub deliveries_per_second: f64,
    /// From the publish (of a `rate` run: from its intended time) to the read that brought the copy.
    pub latency: LatencySummary,
    /// Shortest frame that carried a message, header included.
    pub frame_bytes_min: usize,
    /// Longest frame that carried a message, header included.
    pub frame_bytes_max: usize,
    /// Copies per `read` of a subscriber: how well the server gathers.
    pub deliveries_per_read: f64,
    /// The publisher's answers in the whole run.
    pub answers: u64,
    /// Frames that were no copies, in the whole run.
    pub unrelated: u64,
    /// Share of the interval in which the generator had nothing to do. Near zero, the generator is the limit.
    pub generator_idle: f64,
    /// The server's use of the machine, if its process was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerUse>,
    /// What Redis did in the measured interval, if it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisCounts>,
    /// All of the run, start and end included.
    pub violations: Violations,
}

impl fmt::Display for FanoutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = if self.label.is_empty() { "server" } else { &self.label };
        write!(f, "{} {label}: ", self.mode)?;
        if self.channels > 1 {
            write!(f, "{} channels, ", self.channels)?;
        }
        write!(f, "{} × {} B", self.subscribers, self.payload_bytes)?;
        match self.target_publishes_per_second {
            Some(rate) => writeln!(f, ", {rate} publishes/s intended, {:.2} s", self.seconds)?,
            None => writeln!(f, ", window {}, {:.2} s", self.window, self.seconds)?,
        }
        writeln!(
            f,
            "  {:.0} deliveries/s, {:.0} publishes/s",
            self.deliveries_per_second, self.publishes_per_second
        )?;
        writeln!(f, "  latency {}", self.latency)?;
        if let Some(server) = self.server {
            writeln!(f, "  server {server}")?;
        }
        if let Some(redis) = self.redis {
            writeln!(f, "  Redis {redis}")?;
        }
        let Self {
            frame_bytes_min, frame_bytes_max, deliveries_per_read, answers, unrelated, ..
        } = self;
        write!(
            f,
            "  frames of {frame_bytes_min}–{frame_bytes_max} B, {deliveries_per_read:.1} per read, "
        )?;
        writeln!(
            f,
            "{answers} answers, {unrelated} other; generator idle {:.0} %",
            self.generator_idle * 100.0
        )?;
        let Violations { lost, duplicated, reordered, damaged, invented, examples } =
            &self.violations;
        write!(
            f,
            "  {lost} lost, {duplicated} duplicated, {reordered} reordered, {damaged} damaged, "
        )?;
        write!(f, "{invented} invented")?;
        for example in examples {
            write!(f, "\n    {example}")?;
        }
        Ok(())
    }
}

/// What the server's process used during the measured interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerUse {
    /// User and system time of all threads.
    pub cpu_seconds: f64,
    /// The same per delivery.
    pub cpu_us_per_delivery: f64,
    /// Resident memory at the end.
    pub rss_bytes: u64,
}

impl fmt::Display for ServerUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu_seconds, cpu_us_per_delivery, rss_bytes } = self;
        write!(
            f,
            "{cpu_us_per_delivery:.4} µs CPU per delivery ({cpu_seconds:.2} s), RSS {} KiB",
            rss_bytes / 1024
        )
    }
}

/// The middle value; of an even number, the mean of the two in the middle. Zero of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(upper), 0) => {
            sorted.get(middle - 1).map_or(*upper, |lower| f64::midpoint(*lower, *upper))
        }
        (Some(middle), _) => *middle,
        (None, _) => 0.0,
    }
}

/// `part / whole`, zero if there is no whole.
#[must_use]
pub fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

fn one() -> u32 {
    1
}

const LOWEST_NS: u64 = 1;
const HIGHEST_NS: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_count_every_copy() {
        let mut latency = Latency::new();
        latency.record(10_000, 98);
        latency.record(5_000_000, 1);
        latency.record(u64::MAX, 1);

        let LatencySummary { p50_us, p99_us, max_us, .. } = latency.summary();

        assert!((p50_us - 10.0).abs() < 0.1, "{p50_us}");
        assert!((p99_us - 5_000.0).abs() < 10.0, "{p99_us}");
        assert!((max_us - 60e6).abs() < 1e5, "{max_us}");
        assert_eq!(latency.copies(), 100);
    }

    #[test]
    fn a_median_needs_no_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_report_survives_json() {
        let report = FanoutReport {
            label: "x".to_owned(),
            server: Some(ServerUse::default()),
            ..Default::default()
        };

        let line = serde_json::to_string(&report).unwrap();

        assert_eq!(serde_json::from_str::<FanoutReport>(&line).unwrap(), report);
    }
}
