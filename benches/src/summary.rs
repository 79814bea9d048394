//! A Markdown table from the reports of interleaved runs: medians, spread, and ratios to a baseline.

use std::fmt::Write;

use crate::{
    Result,
    stats::{FanoutReport, median, ratio},
};

/// Builds the table from reports, one JSON object a line, in the order in which they were made. Rows are compared with
/// those of the same case whose label is `baseline`.
///
/// # Errors
/// A line is no report.
pub fn table(lines: &str, baseline: &str) -> Result<String> {
    let reports = lines
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(serde_json::from_str)
        .collect::<std::result::Result<Vec<FanoutReport>, _>>()?;
    let mut out = String::from(HEAD);
    for case in distinct(&reports, |report| &report.case) {
        let of_case: Vec<&FanoutReport> =
            reports.iter().filter(|report| report.case == case).collect();
        let base = Row::of(of_case.iter().filter(|report| report.label == baseline));
        for label in distinct(of_case.iter().copied(), |report| &report.label) {
            let row = Row::of(of_case.iter().filter(|report| report.label == label));
            row.write(&mut out, case, label, &base)?;
        }
    }
    Ok(out)
}

/// The runs of one server in one case.
struct Row {
    throughput: Vec<f64>,
    cpu_us: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    per_read: Vec<f64>,
    idle: Vec<f64>,
    violations: usize,
}

impl Row {
    fn of<'a>(reports: impl Iterator<Item = &'a &'a FanoutReport> + Clone) -> Self {
        let each = |value: fn(&FanoutReport) -> f64| {
            reports.clone().map(|report| value(report)).collect::<Vec<f64>>()
        };
        Self {
            throughput: each(|report| report.deliveries_per_second),
            cpu_us: each(|report| report.server.map_or(0.0, |server| server.cpu_us_per_delivery)),
            p50_us: each(|report| report.latency.p50_us),
            p99_us: each(|report| report.latency.p99_us),
            per_read: each(|report| report.deliveries_per_read),
            idle: each(|report| report.generator_idle),
            violations: reports.clone().filter(|report| !report.violations.is_empty()).count(),
        }
    }

    fn write(&self, out: &mut String, case: &str, label: &str, base: &Self) -> Result<()> {
        let (low, high) = spread(&self.throughput);
        let best_cpu_us = spread(&self.cpu_us).0;
        writeln!(
            out,
            "| {case} | {label} | {:.0} ({:.0}–{:.0}) | {} | {:.4} ({best_cpu_us:.4}) | {} | {:.2} / {:.2} | {:.1} | \
             {:.0} % | {} |",
            median(&self.throughput) / 1e3,
            low / 1e3,
            high / 1e3,
            ratios(&self.throughput, &base.throughput),
            median(&self.cpu_us),
            ratios(&self.cpu_us, &base.cpu_us),
            median(&self.p50_us) / 1e3,
            median(&self.p99_us) / 1e3,
            median(&self.per_read),
            median(&self.idle) * 100.0,
            if self.violations == 0 {
                "none".to_owned()
            } else {
                format!("in {} runs", self.violations)
            },
        )?;
        Ok(())
    }
}

/// The ratio of the medians, and the range of the ratios round by round: the latter shows how far to trust the former.
fn ratios(values: &[f64], base: &[f64]) -> String {
    let of_medians = ratio(median(values), median(base));
    let by_round: Vec<f64> =
        values.iter().zip(base).map(|(value, base)| ratio(*value, *base)).collect();
    let (low, high) = spread(&by_round);
    format!("{of_medians:.2} ({low:.2}–{high:.2})")
}

fn spread(values: &[f64]) -> (f64, f64) {
    let sorted = values.iter().copied();
    (
        sorted.clone().reduce(f64::min).unwrap_or_default(),
        sorted.reduce(f64::max).unwrap_or_default(),
    )
}

/// The different values of a field, in order of appearance.
fn distinct<'a>(
    reports: impl IntoIterator<Item = &'a FanoutReport>,
    field: impl Fn(&'a FanoutReport) -> &'a String,
) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for report in reports {
        let value = field(report).as_str();
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

const HEAD: &str = "\
| case | server | thousand deliveries/s: median (min–max) | ratio (by round) | server CPU, µs per delivery: median (best) \
| ratio (by round) | latency p50 / p99, ms | copies per read | generator idle | violations |
|---|---|---|---|---|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::Violations, stats::ServerUse};

    fn line(label: &str, throughput: f64, cpu_us: f64, lost: u64) -> String {
        let report = FanoutReport {
            label: label.to_owned(),
            case: "W64".to_owned(),
            deliveries_per_second: throughput,
            server: Some(ServerUse { cpu_us_per_delivery: cpu_us, ..Default::default() }),
            violations: Violations { lost, ..Default::default() },
            ..Default::default()
        };
        serde_json::to_string(&report).unwrap() + "\n"
    }

    #[test]
    fn medians_and_ratios_are_by_case_and_label() {
        let lines = [
            line("product", 4_000_000.0, 0.3, 0),
            line("raw", 8_000_000.0, 0.1, 0),
            line("product", 6_000_000.0, 0.2, 0),
            line("raw", 8_000_000.0, 0.1, 0),
            line("product", 8_000_000.0, 0.1, 7),
            line("raw", 10_000_000.0, 0.1, 0),
        ]
        .concat();

        let table = table(&lines, "raw").unwrap();

        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert!(
            rows[0].starts_with(
                "| W64 | product | 6000 (4000–8000) | 0.75 (0.50–0.80) | 0.2000 (0.1000) |"
            ),
            "{table}"
        );
        assert!(rows[0].contains("| 2.00 (1.00–3.00) |"), "{table}");
        assert!(rows[0].ends_with("| in 1 runs |"), "{table}");
        assert!(
            rows[1].starts_with("| W64 | raw | 8000 (8000–10000) | 1.00 (1.00–1.00) |"),
            "{table}"
        );
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn a_line_that_is_no_report_is_an_error() {
        assert!(table("{}\n", "raw").is_err());
    }
}
