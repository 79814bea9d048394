//! The table of `scripts/bench-cluster`: one server alone beside several nodes with a Redis between them, and what was to
//! be reached.

use std::fmt::Write;

use serde_json::Value;

use crate::{
    Result,
    recover::RecoverReport,
    redis::RedisCounts,
    restart::RestartReport,
    stats::{FanoutReport, median, ratio},
};

/// Builds the table from reports, one JSON object a line. Those labelled `embedded` are of a server without a Redis, all
/// others of nodes.
///
/// # Errors
/// A line is no report.
pub fn table(lines: &str) -> Result<String> {
    let lines = lines.lines().filter(|line| !line.trim().is_empty());
    let runs = lines.map(Run::parse).collect::<Result<Vec<_>>>()?;
    let mut out = String::from(
        "| | what | goal | embedded: median (min–max) | nodes: median (min–max) | compared | |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in ROWS {
        let values = |embedded| {
            let own = runs.iter().filter(|run| run.case == row.case && run.embedded == embedded);
            own.filter_map(|run| (row.value)(&run.report)).collect::<Vec<f64>>()
        };
        let (embedded, nodes) = (values(true), values(false));
        if !nodes.is_empty() {
            row.write(&mut out, &embedded, &nodes);
        }
    }
    Ok(out)
}

/// One run.
struct Run {
    case: String,
    embedded: bool,
    report: Report,
}

enum Report {
    Fanout(FanoutReport),
    Recover(RecoverReport),
    Restart(RestartReport),
}

impl Run {
    fn parse(line: &str) -> Result<Self> {
        let report: Value = serde_json::from_str(line)?;
        let text = |name: &str| report.get(name).and_then(Value::as_str).unwrap_or_default();
        let (case, embedded) = (text("case").to_owned(), text("label") == "embedded");
        let report = match text("mode") {
            "fanout" | "rate" => Report::Fanout(serde_json::from_value(report)?),
            "recover" => Report::Recover(serde_json::from_value(report)?),
            "restart" => Report::Restart(serde_json::from_value(report)?),
            other => return Err(format!("no report of a cluster: {other}").into()),
        };
        Ok(Self { case, embedded, report })
    }
}

/// One line of the table.
struct Row {
    case: &'static str,
    what: &'static str,
    goal: Goal,
    decimals: usize,
    value: fn(&Report) -> Option<f64>,
}

/// What is to be reached by nodes.
#[derive(Clone, Copy)]
enum Goal {
    None,
    AtLeast(f64),
    AtMost(f64),
    /// In proportion to the server alone.
    Times(f64),
    /// More than with the server alone.
    More(f64),
}

impl Row {
    fn write(&self, out: &mut String, embedded: &[f64], nodes: &[f64]) {
        let (alone, own) = (median(embedded), median(nodes));
        let compared = match self.goal {
            _ if embedded.is_empty() => String::new(),
            Goal::More(_) => format!("{:+.*}", self.decimals, own - alone),
            Goal::None | Goal::AtLeast(_) | Goal::AtMost(_) | Goal::Times(_) => {
                format!("{:.2} ×", ratio(own, alone))
            }
        };
        let (goal, met) = match self.goal {
            Goal::None => (String::new(), None),
            Goal::AtLeast(goal) => (format!("≥ {goal}"), Some(own >= goal)),
            Goal::AtMost(goal) => (format!("≤ {goal}"), Some(own <= goal)),
            Goal::Times(goal) => (
                format!("≤ {goal} × embedded"),
                (!embedded.is_empty()).then_some(ratio(own, alone) <= goal),
            ),
            Goal::More(goal) => (
                format!("≤ embedded + {goal}"),
                (!embedded.is_empty()).then_some(own - alone <= goal),
            ),
        };
        let met = met.map_or("", |met| if met { "met" } else { "missed" });
        let Self { case, what, .. } = self;
        let (alone, own) = (self.spread(embedded), self.spread(nodes));
        // Writing to a string cannot fail.
        let _ =
            writeln!(out, "| {case} | {what} | {goal} | {alone} | {own} | {compared} | {met} |");
    }

    fn spread(&self, values: &[f64]) -> String {
        let least = values.iter().copied().reduce(f64::min);
        let Some((least, most)) = least.zip(values.iter().copied().reduce(f64::max)) else {
            return "–".to_owned();
        };
        let decimals = self.decimals;
        format!("{:.decimals$} ({least:.decimals$}–{most:.decimals$})", median(values))
    }
}

const ROWS: [Row; 26] = [
    row("N1", "thousand deliveries/s", Goal::AtLeast(500.0), 0, thousands),
    row("N1", "server CPU, µs per delivery", Goal::Times(1.3), 3, cpu_us),
    row("N1", "Redis, % of a core", Goal::None, 1, redis_share),
    row("N2", "thousand deliveries/s", Goal::AtLeast(500.0), 0, thousands),
    row("N2", "server CPU, µs per delivery", Goal::None, 3, cpu_us),
    row("N2", "Redis, % of a core", Goal::AtMost(60.0), 1, redis_share),
    row("N3", "latency p50, ms", Goal::More(0.3), 3, p50),
    row("N3", "latency p99, ms", Goal::None, 3, p99),
    row("N3 at half of N2", "latency p50, ms", Goal::None, 3, p50),
    row("N3 at half of N2", "latency p99, ms", Goal::More(2.0), 3, p99),
    row("N4, window 8", "messages a round", Goal::None, 1, round),
    row("N4, window 8", "Redis CPU, µs per message", Goal::AtMost(4.0), 2, redis_us),
    row("N4, window 8", "Redis commands per message", Goal::None, 2, commands_each),
    row("N4, window 64", "messages a round", Goal::None, 1, round),
    row("N4, window 64", "Redis CPU, µs per message", Goal::AtMost(1.6), 2, redis_us),
    row("N4, window 64", "Redis commands per message", Goal::None, 2, commands_each),
    row("N5", "s until all is delivered again", Goal::AtMost(2.0), 3, back),
    row("N5", "Redis, ms in scripts", Goal::AtMost(50.0), 1, script_ms),
    row("N5", "Redis, scripts", Goal::None, 0, scripts),
    row("N5", "Redis, KiB in and out", Goal::None, 0, kibibytes),
    row("N5, Redis empty", "s until all is delivered again", Goal::None, 3, back),
    row("N5, Redis empty", "Redis, ms in scripts", Goal::None, 1, script_ms),
    row("N5, Redis empty", "Redis, scripts", Goal::None, 0, scripts),
    row("N6", "s until all have recovered", Goal::AtMost(3.0), 2, recovered),
    row("N6", "server CPU, µs per recovery", Goal::None, 1, recovery_us),
    row("N6", "Redis, scripts", Goal::None, 0, scripts),
];

const fn row(
    case: &'static str,
    what: &'static str,
    goal: Goal,
    decimals: usize,
    value: fn(&Report) -> Option<f64>,
) -> Row {
    Row { case, what, goal, decimals, value }
}

fn fanout(report: &Report) -> Option<&FanoutReport> {
    match report {
        Report::Fanout(report) => Some(report),
        Report::Recover(_) | Report::Restart(_) => None,
    }
}

fn redis(report: &Report) -> Option<RedisCounts> {
    match report {
        Report::Fanout(report) => report.redis,
        Report::Recover(report) => report.redis,
        Report::Restart(report) => Some(report.redis),
    }
}

fn thousands(report: &Report) -> Option<f64> {
    Some(fanout(report)?.deliveries_per_second / 1e3)
}

fn cpu_us(report: &Report) -> Option<f64> {
    Some(fanout(report)?.server?.cpu_us_per_delivery)
}

fn p50(report: &Report) -> Option<f64> {
    Some(fanout(report)?.latency.p50_us / 1e3)
}

fn p99(report: &Report) -> Option<f64> {
    Some(fanout(report)?.latency.p99_us / 1e3)
}

fn redis_share(report: &Report) -> Option<f64> {
    Some(100.0 * ratio(redis(report)?.cpu_seconds, fanout(report)?.seconds))
}

fn round(report: &Report) -> Option<f64> {
    Some(ratio(fanout(report)?.publishes as f64, redis(report)?.scripts as f64))
}

fn redis_us(report: &Report) -> Option<f64> {
    Some(ratio(redis(report)?.cpu_seconds * 1e6, fanout(report)?.publishes as f64))
}

fn commands_each(report: &Report) -> Option<f64> {
    Some(ratio(redis(report)?.commands as f64, fanout(report)?.publishes as f64))
}

fn scripts(report: &Report) -> Option<f64> {
    Some(redis(report)?.scripts as f64)
}

fn script_ms(report: &Report) -> Option<f64> {
    Some(redis(report)?.script_seconds * 1e3)
}

fn kibibytes(report: &Report) -> Option<f64> {
    let redis = redis(report)?;
    Some((redis.received_bytes + redis.sent_bytes) as f64 / 1024.0)
}

fn back(report: &Report) -> Option<f64> {
    match report {
        Report::Restart(report) => Some(report.back_seconds),
        Report::Fanout(_) | Report::Recover(_) => None,
    }
}

fn recovery(report: &Report) -> Option<&RecoverReport> {
    match report {
        Report::Recover(report) => Some(report),
        Report::Fanout(_) | Report::Restart(_) => None,
    }
}

fn recovered(report: &Report) -> Option<f64> {
    Some(recovery(report)?.recover_seconds)
}

fn recovery_us(report: &Report) -> Option<f64> {
    let report = recovery(report)?;
    Some(ratio(report.cpu_seconds_to_recover? * 1e6, report.connections as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{LatencySummary, ServerUse};

    fn run(case: &str, label: &str, throughput: f64, cpu_us: f64, p50_us: f64) -> String {
        let report = FanoutReport {
            mode: "fanout".to_owned(),
            label: label.to_owned(),
            case: case.to_owned(),
            seconds: 2.0,
            publishes: 1000,
            deliveries_per_second: throughput,
            latency: LatencySummary { p50_us, ..Default::default() },
            server: Some(ServerUse { cpu_us_per_delivery: cpu_us, ..Default::default() }),
            redis: (label != "embedded").then(|| RedisCounts {
                cpu_seconds: 0.5,
                scripts: 125,
                commands: 500,
                ..Default::default()
            }),
            ..Default::default()
        };
        serde_json::to_string(&report).unwrap() + "\n"
    }

    fn lines(reports: &[String]) -> Vec<String> {
        table(&reports.concat()).unwrap().lines().skip(2).map(str::to_owned).collect()
    }

    #[test]
    fn nodes_are_compared_with_one_server() {
        let rows = lines(&[
            run("N1", "embedded", 1e6, 0.5, 0.0),
            run("N1", "nodes", 4e5, 0.6, 0.0),
            run("N1", "nodes", 6e5, 0.6, 0.0),
        ]);
        assert_eq!(
            rows,
            [
                "| N1 | thousand deliveries/s | ≥ 500 | 1000 (1000–1000) | 500 (400–600) | 0.50 × | met |",
                "| N1 | server CPU, µs per delivery | ≤ 1.3 × embedded | 0.500 (0.500–0.500) | 0.600 (0.600–0.600) | 1.20 × | met |",
                "| N1 | Redis, % of a core |  | – | 25.0 (25.0–25.0) |  |  |",
            ]
        );
    }

    #[test]
    fn what_is_added_is_told_as_a_difference() {
        let rows =
            lines(&[run("N3", "embedded", 0.0, 0.0, 100.0), run("N3", "nodes", 0.0, 0.0, 600.0)]);
        assert!(rows[0].ends_with("| 0.600 (0.600–0.600) | +0.500 | missed |"), "{rows:?}");
    }

    #[test]
    fn rounds_are_messages_by_scripts() {
        let rows = lines(&[run("N4, window 8", "nodes", 0.0, 0.0, 0.0)]);
        assert!(rows[0].contains("| – | 8.0 (8.0–8.0) |"), "{rows:?}");
        assert!(rows[1].ends_with("| 500.00 (500.00–500.00) |  | missed |"), "{rows:?}");
        assert!(rows[2].contains("| 0.50 (0.50–0.50) |"), "{rows:?}");
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        assert!(table("{}\n").is_err());
        assert!(table("{\"mode\":\"restart\"}\n").is_err());
    }
}
