//! Markdown tables from the reports of interleaved runs: medians, spread, and ratios to a baseline.

use std::fmt::Write;

use clap::ValueEnum;
use serde::de::DeserializeOwned;

use crate::{
    Result,
    idle::ConnectReport,
    stats::{FanoutReport, median, ratio},
};

/// Which reports a table is made of, and which columns it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Table {
    /// Throughput and CPU of `fanout`.
    Fanout,
    /// The same, and how a server's CPU per delivery changes from its first case to the others.
    Scale,
    /// Percentiles of `rate` and `fanout`.
    Latency,
    /// Throughput and CPU of `echo`.
    Echo,
    /// Rate and CPU of `connect`.
    Connect,
    /// Memory and CPU of `idle`.
    Idle,
}

/// Builds a table from reports, one JSON object a line, in the order in which they were made. Rows are compared with
/// those of the same case whose label is `baseline`, where there are any.
///
/// # Errors
/// A line is no report of the kind that the table is made of.
pub fn table(table: Table, lines: &str, baseline: &str) -> Result<String> {
    Ok(match table {
        Table::Fanout => render(&FANOUT, &parse(lines)?, baseline),
        Table::Scale => render(&SCALE, &parse(lines)?, baseline),
        Table::Latency => render(&LATENCY, &parse(lines)?, baseline),
        Table::Echo => render(&ECHO, &parse(lines)?, baseline),
        Table::Connect => render(&CONNECT, &parse(lines)?, baseline),
        Table::Idle => render(&IDLE, &parse(lines)?, baseline),
    })
}

/// A column's head, and how a cell is made.
type Column<R> = (&'static str, fn(&Cell<'_, R>) -> String);

/// The runs that a cell is made from.
struct Cell<'a, R> {
    /// The row's own.
    own: Runs<'a, R>,
    /// The baseline's in the same case.
    base: Runs<'a, R>,
    /// The same server's in the first case that it was in.
    first: Runs<'a, R>,
}

/// The runs of one server in one case.
struct Runs<'a, R>(Vec<&'a R>);

/// What both kinds of report have.
trait Report {
    fn case(&self) -> &str;
    fn label(&self) -> &str;
    fn round(&self) -> u32;
}

impl Report for FanoutReport {
    fn case(&self) -> &str {
        &self.case
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn round(&self) -> u32 {
        self.round
    }
}

impl Report for ConnectReport {
    fn case(&self) -> &str {
        &self.case
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn round(&self) -> u32 {
        self.round
    }
}

const FANOUT: [Column<FanoutReport>; 8] = [
    ("thousand deliveries/s: median (min–max)", thousands),
    ("ratio (by round)", |cell| cell.ratios(per_second)),
    ("server CPU, µs per delivery: median (best)", cpu),
    ("ratio (by round)", |cell| cell.ratios(cpu_us)),
    ("latency p50 / p99, ms", p50_and_p99),
    ("copies per read", |cell| format!("{:.1}", cell.own.median(|run| run.deliveries_per_read))),
    ("generator idle", generator_idle),
    ("violations", violations),
];

const SCALE: [Column<FanoutReport>; 7] = [
    ("thousand deliveries/s: median (min–max)", thousands),
    ("ratio (by round)", |cell| cell.ratios(per_second)),
    ("server CPU, µs per delivery: median (best)", cpu),
    ("ratio (by round)", |cell| cell.ratios(cpu_us)),
    ("ratio to its own first row", |cell| {
        format!("{:.2}", ratio(cell.own.median(cpu_us), cell.first.median(cpu_us)))
    }),
    ("generator idle", generator_idle),
    ("violations", violations),
];

const LATENCY: [Column<FanoutReport>; 9] = [
    ("p50, ms: median (min–max)", |cell| cell.own.millis(|run| run.latency.p50_us)),
    ("ratio (by round)", |cell| cell.ratios(|run| run.latency.p50_us)),
    ("p99, ms", |cell| cell.own.millis(|run| run.latency.p99_us)),
    ("ratio (by round)", |cell| cell.ratios(|run| run.latency.p99_us)),
    ("p99.9, ms", |cell| cell.own.millis(|run| run.latency.p999_us)),
    ("ratio (by round)", |cell| cell.ratios(|run| run.latency.p999_us)),
    ("server CPU, µs per delivery: median (best)", cpu),
    ("generator idle", generator_idle),
    ("violations", violations),
];

// An echo that is not what was sent ends its run, so there is nothing to count.
const ECHO: [Column<FanoutReport>; 7] = [
    ("thousand messages/s: median (min–max)", thousands),
    ("ratio (by round)", |cell| cell.ratios(per_second)),
    ("MB/s each way", |cell| {
        let each_way = |run: &FanoutReport| run.deliveries_per_second * run.payload_bytes as f64;
        format!("{:.0}", cell.own.median(each_way) / 1e6)
    }),
    ("server CPU, µs per message: median (best)", cpu),
    ("ratio (by round)", |cell| cell.ratios(cpu_us)),
    ("latency p50 / p99, ms", p50_and_p99),
    ("generator idle", generator_idle),
];

const CONNECT: [Column<ConnectReport>; 4] = [
    ("thousand connects/s: median (min–max)", |cell| {
        cell.own.median_and_spread(1, |run| run.connects_per_second / 1e3)
    }),
    ("ratio (by round)", |cell| cell.ratios(|run| run.connects_per_second)),
    ("server CPU, µs per connect: median (best)", |cell| cell.own.median_and_best(1, connect_us)),
    ("ratio (by round)", |cell| cell.ratios(connect_us)),
];

const IDLE: [Column<ConnectReport>; 4] = [
    ("resident bytes per connection: median (min–max)", |cell| {
        cell.own.median_and_spread(0, |run| run.rss_bytes_per_connection.unwrap_or_default())
    }),
    ("process, MB", |cell| {
        format!("{:.1}", cell.own.median(|run| run.rss_bytes.unwrap_or_default() as f64) / 1e6)
    }),
    ("server CPU, µs per connect: median (best)", |cell| cell.own.median_and_best(1, connect_us)),
    ("server CPU while held, ms per second", |cell| {
        let share = |run: &ConnectReport| {
            ratio(run.cpu_seconds_while_held.unwrap_or_default(), run.held_seconds) * 1e3
        };
        format!("{:.0}", cell.own.median(share))
    }),
];

fn per_second(run: &FanoutReport) -> f64 {
    run.deliveries_per_second
}

fn cpu_us(run: &FanoutReport) -> f64 {
    run.server.map_or(0.0, |server| server.cpu_us_per_delivery)
}

fn connect_us(run: &ConnectReport) -> f64 {
    run.cpu_us_per_connect.unwrap_or_default()
}

fn thousands(cell: &Cell<'_, FanoutReport>) -> String {
    // Three digits, down to the rate of megabyte messages.
    let decimals = match cell.own.median(per_second) {
        ..1e4 => 2,
        ..1e5 => 1,
        _ => 0,
    };
    cell.own.median_and_spread(decimals, |run| run.deliveries_per_second / 1e3)
}

fn cpu(cell: &Cell<'_, FanoutReport>) -> String {
    cell.own.median_and_best(4, cpu_us)
}

fn p50_and_p99(cell: &Cell<'_, FanoutReport>) -> String {
    let p50 = cell.own.median(|run| run.latency.p50_us / 1e3);
    let p99 = cell.own.median(|run| run.latency.p99_us / 1e3);
    format!("{p50:.2} / {p99:.2}")
}

fn generator_idle(cell: &Cell<'_, FanoutReport>) -> String {
    let idle = cell.own.median(|run| run.generator_idle);
    let limit = if idle < IDLE_MIN { " (the limit)" } else { "" };
    format!("{:.0} %{limit}", idle * 100.0)
}

fn violations(cell: &Cell<'_, FanoutReport>) -> String {
    match cell.own.0.iter().filter(|run| !run.violations.is_empty()).count() {
        0 => "none".to_owned(),
        runs => format!("in {runs} runs"),
    }
}

impl<R: Report> Cell<'_, R> {
    /// The ratio of the medians, and the range of the ratios within a round: the latter shows how far to trust the
    /// former. A dash if there is nothing to compare with.
    fn ratios(&self, value: fn(&R) -> f64) -> String {
        let of_round = |run: &&R| {
            let base = self.base.0.iter().find(|base| base.round() == run.round())?;
            Some(ratio(value(run), value(base)))
        };
        let by_round: Vec<f64> = self.own.0.iter().filter_map(of_round).collect();
        if by_round.is_empty() {
            return "–".to_owned();
        }
        let (low, high) = spread(&by_round);
        let of_medians = ratio(self.own.median(value), self.base.median(value));
        format!("{of_medians:.2} ({low:.2}–{high:.2})")
    }
}

impl<'a, R: Report> Runs<'a, R> {
    fn of(reports: &'a [R], case: &str, label: &str) -> Self {
        let wanted = |run: &&R| run.case() == case && run.label() == label;
        Self(reports.iter().filter(wanted).collect())
    }

    fn values(&self, value: impl Fn(&R) -> f64) -> Vec<f64> {
        self.0.iter().map(|run| value(run)).collect()
    }

    fn median(&self, value: impl Fn(&R) -> f64) -> f64 {
        median(&self.values(value))
    }

    fn median_and_spread(&self, decimals: usize, value: impl Fn(&R) -> f64) -> String {
        let values = self.values(value);
        let (low, high) = spread(&values);
        format!("{:.decimals$} ({low:.decimals$}–{high:.decimals$})", median(&values))
    }

    fn median_and_best(&self, decimals: usize, value: impl Fn(&R) -> f64) -> String {
        let values = self.values(value);
        format!("{:.decimals$} ({:.decimals$})", median(&values), spread(&values).0)
    }

    fn millis(&self, value_us: impl Fn(&R) -> f64) -> String {
        self.median_and_spread(3, |run| value_us(run) / 1e3)
    }
}

fn parse<R: DeserializeOwned>(lines: &str) -> Result<Vec<R>> {
    let lines = lines.lines().filter(|line| !line.trim().is_empty());
    Ok(lines.map(serde_json::from_str).collect::<std::result::Result<_, _>>()?)
}

fn render<R: Report>(columns: &[Column<R>], reports: &[R], baseline: &str) -> String {
    let mut out = String::from("| case | server |");
    for (head, _) in columns {
        out.extend([" ", head, " |"]);
    }
    out.extend(["\n|---|---|", &"---|".repeat(columns.len()), "\n"]);
    for case in distinct(reports.iter().map(Report::case)) {
        let of_case = reports.iter().filter(|report| report.case() == case);
        for label in distinct(of_case.map(Report::label)) {
            let first = reports.iter().find(|report| report.label() == label);
            let cell = Cell {
                own: Runs::of(reports, case, label),
                base: Runs::of(reports, case, baseline),
                first: Runs::of(reports, first.map_or(case, Report::case), label),
            };
            // Writing to a string cannot fail.
            let _ = write!(out, "| {case} | {label} |");
            for (_, content) in columns {
                let _ = write!(out, " {} |", content(&cell));
            }
            out.push('\n');
        }
    }
    out
}

fn spread(values: &[f64]) -> (f64, f64) {
    let values = values.iter().copied();
    (
        values.clone().reduce(f64::min).unwrap_or_default(),
        values.reduce(f64::max).unwrap_or_default(),
    )
}

/// The different ones, in order of appearance.
fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

/// Below this share of idle time the generator is what limits the figures.
const IDLE_MIN: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Violations,
        stats::{LatencySummary, ServerUse},
    };

    fn run(case: &str, label: &str, round: u32, throughput: f64, cpu_us: f64) -> FanoutReport {
        FanoutReport {
            label: label.to_owned(),
            case: case.to_owned(),
            round,
            deliveries_per_second: throughput,
            generator_idle: 0.5,
            server: Some(ServerUse { cpu_us_per_delivery: cpu_us, ..Default::default() }),
            ..Default::default()
        }
    }

    fn lines<R: serde::Serialize>(reports: &[R]) -> String {
        reports.iter().map(|report| serde_json::to_string(report).unwrap() + "\n").collect()
    }

    fn rows<R: serde::Serialize>(kind: Table, reports: &[R]) -> Vec<String> {
        let table = table(kind, &lines(reports), "raw").unwrap();
        table.lines().skip(2).map(str::to_owned).collect()
    }

    #[test]
    fn medians_and_ratios_are_by_case_and_label() {
        let mut reports = [
            run("W64", "product", 1, 4_000_000.0, 0.3),
            run("W64", "raw", 1, 8_000_000.0, 0.1),
            run("W64", "product", 2, 6_000_000.0, 0.2),
            run("W64", "raw", 2, 8_000_000.0, 0.1),
            run("W64", "product", 3, 8_000_000.0, 0.1),
            run("W64", "raw", 3, 10_000_000.0, 0.1),
        ];
        reports[4].violations = Violations { lost: 7, ..Default::default() };

        let rows = rows(Table::Fanout, &reports);

        assert!(
            rows[0].starts_with(
                "| W64 | product | 6000 (4000–8000) | 0.75 (0.50–0.80) | 0.2000 (0.1000) | 2.00 (1.00–3.00) |"
            ),
            "{rows:?}"
        );
        assert!(rows[0].ends_with("| 50 % | in 1 runs |"), "{rows:?}");
        assert!(
            rows[1].starts_with("| W64 | raw | 8000 (8000–10000) | 1.00 (1.00–1.00) |"),
            "{rows:?}"
        );
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn a_round_that_is_missing_is_not_compared_with_another() {
        let reports = [
            run("W1", "product", 1, 100.0, 1.0),
            run("W1", "product", 2, 200.0, 1.0),
            run("W1", "raw", 2, 400.0, 1.0),
        ];

        let rows = rows(Table::Fanout, &reports);

        assert!(rows[0].contains("| 0.38 (0.50–0.50) |"), "{rows:?}");
    }

    #[test]
    fn without_a_baseline_there_is_no_ratio() {
        let rows = rows(Table::Echo, &[run("depth 1", "product", 1, 100_000.0, 7.0)]);

        assert!(rows[0].contains("| 100 (100–100) | – |"), "{rows:?}");
    }

    #[test]
    fn scale_compares_a_server_with_itself() {
        let reports = [
            run("1,000", "product", 1, 5e6, 0.10),
            run("1,000", "raw", 1, 5e6, 0.10),
            run("10,000", "product", 1, 5e6, 0.12),
            run("10,000", "raw", 1, 5e6, 0.15),
        ];

        let rows = rows(Table::Scale, &reports);

        assert!(rows[2].contains("| 0.1200 (0.1200) | 0.80 (0.80–0.80) | 1.20 |"), "{rows:?}");
    }

    #[test]
    fn latency_is_in_milliseconds() {
        let latency = LatencySummary {
            p50_us: 1_500.0,
            p99_us: 2_000.0,
            p999_us: 3_000.0,
            ..Default::default()
        };
        let reports = [
            FanoutReport { latency, ..run("15/s", "product", 1, 0.0, 0.0) },
            FanoutReport { latency, ..run("15/s", "raw", 1, 0.0, 0.0) },
        ];

        let rows = rows(Table::Latency, &reports);

        assert!(rows[0].contains("| 1.500 (1.500–1.500) | 1.00 (1.00–1.00) | 2.000"), "{rows:?}");
    }

    #[test]
    fn a_generator_that_is_never_idle_is_called_the_limit() {
        let busy = FanoutReport { generator_idle: 0.01, ..run("W1", "raw", 1, 1.0, 1.0) };

        let rows = rows(Table::Fanout, &[busy]);

        assert!(rows[0].contains("| 1 % (the limit) |"), "{rows:?}");
    }

    #[test]
    fn connections_have_tables_of_their_own() {
        let report = ConnectReport {
            label: "raw".to_owned(),
            case: "10,000".to_owned(),
            connects_per_second: 20_000.0,
            cpu_us_per_connect: Some(25.0),
            held_seconds: 2.0,
            cpu_seconds_while_held: Some(0.02),
            rss_bytes: Some(9_000_000),
            rss_bytes_per_connection: Some(321.0),
            ..Default::default()
        };
        let reports = std::slice::from_ref(&report);

        assert_eq!(
            rows(Table::Connect, reports),
            [
                "| 10,000 | raw | 20.0 (20.0–20.0) | 1.00 (1.00–1.00) | 25.0 (25.0) | 1.00 (1.00–1.00) |"
            ]
        );
        assert_eq!(
            rows(Table::Idle, reports),
            ["| 10,000 | raw | 321 (321–321) | 9.0 | 25.0 (25.0) | 10 |"]
        );
    }

    #[test]
    fn a_line_that_is_no_report_is_an_error() {
        assert!(table(Table::Fanout, "{}\n", "raw").is_err());
        assert!(table(Table::Idle, "{}\n", "raw").is_err());
    }
}
