//! The reports of a run as a table.

use std::fmt::Write;

use mahavishnu_bench_peers::Result;
use serde_json::Value;

struct Figures {
    values: Vec<f64>,
}

impl Figures {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        Self { values }
    }

    fn median(&self) -> f64 {
        self.values.get(self.values.len() / 2).copied().unwrap_or_default()
    }

    fn spread(&self, digits: usize) -> String {
        let (Some(low), Some(high)) = (self.values.first(), self.values.last()) else {
            return "–".into();
        };
        format!("{:.digits$} ({low:.digits$}–{high:.digits$})", self.median())
    }
}

fn text<'a>(report: &'a Value, key: &str) -> &'a str {
    report.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(report: &Value, key: &str) -> f64 {
    report.get(key).and_then(Value::as_f64).unwrap_or_default()
}

/// Whether a report is of this kind, and its `key` says `value`.
fn fits(report: &Value, kind: &str, key: &str, value: &str) -> bool {
    text(report, "kind") == kind && text(report, key) == value
}

/// What each report says, beside what that of the same round and window says whose `by` is `first`.
fn ratios(all: &[Value], these: &[&Value], figure: &str, (by, first): (&str, &str)) -> Figures {
    let ratio = |report: &&Value| {
        let same = |it: &&Value| {
            fits(it, text(report, "kind"), by, first)
                && text(it, "round") == text(report, "round")
                && number(it, "window") == number(report, "window")
        };
        let first = number(all.iter().find(same)?, figure);
        (first > 0.0).then(|| number(report, figure) / first)
    };
    Figures::new(these.iter().filter_map(ratio))
}

/// The values of `key` in reports of a kind, in the order in which they come.
fn values<'a>(all: &'a [Value], kind: &str, key: &str) -> Vec<&'a str> {
    let mut values = Vec::new();
    for report in all.iter().filter(|it| text(it, "kind") == kind) {
        if !values.contains(&text(report, key)) {
            values.push(text(report, key));
        }
    }
    values
}

/// Tables of reports, one a line: of what members said, of what they cost in silence, of what a server sent by itself.
pub fn of(reports: &str) -> Result<String> {
    let all: Vec<Value> =
        reports.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    Ok([talks(&all)?, members(&all)?, sent(&all)?].concat())
}

fn talks(all: &[Value]) -> Result<String> {
    let mut table = head(&[
        "texts under way in a room",
        "server",
        "thousand deliveries per CPU second: median (min–max)",
        "ratio (by round)",
        "thousand deliveries/s",
        "p50 / p99, ms",
        "bytes per delivery",
        "generator idle",
        "lost, doubled, out of order",
    ])?;
    let servers = values(all, "talk", "server");
    // With which the others are compared.
    let first = servers.first().copied().unwrap_or_default();
    let mut windows: Vec<_> = all.iter().map(|it| number(it, "window") as u64).collect();
    windows.sort_unstable();
    windows.dedup();
    let cases =
        windows.iter().flat_map(|window| servers.iter().map(move |server| (window, server)));
    let mut rows = 0;
    for (window, server) in cases {
        let these = |it: &&Value| {
            fits(it, "talk", "server", server) && number(it, "window") as u64 == *window
        };
        let these: Vec<_> = all.iter().filter(these).collect();
        if these.is_empty() {
            continue;
        }
        rows += 1;
        let figure = |key, of: f64| Figures::new(these.iter().map(|it| number(it, key) / of));
        writeln!(
            table,
            "| {window} | {server} | {} | {} | {} | {:.2} / {:.2} | {:.0} | {:.0} % | {} |",
            figure("deliveries_per_cpu_second", 1e3).spread(0),
            ratios(all, &these, "deliveries_per_cpu_second", ("server", first)).spread(2),
            figure("deliveries_per_second", 1e3).spread(0),
            figure("p50_ms", 1.0).median(),
            figure("p99_ms", 1.0).median(),
            figure("bytes_per_delivery", 1.0).median(),
            figure("generator_idle", 0.01).median(),
            violations(&these),
        )?;
    }
    Ok(if rows == 0 { String::new() } else { table })
}

fn members(all: &[Value]) -> Result<String> {
    let servers = values(all, "idle", "server");
    let Some(first) = servers.first().copied() else { return Ok(String::new()) };
    let mut table =
        head(&["server", "lines", "bytes per connection: median (min–max)", "ratio (by round)"])?;
    for server in servers {
        let these: Vec<_> = all.iter().filter(|it| fits(it, "idle", "server", server)).collect();
        writeln!(
            table,
            "| {server} | {} | {} | {} |",
            these.first().map_or("–", |it| text(it, "lines")),
            Figures::new(these.iter().map(|it| number(it, "bytes_per_connection"))).spread(0),
            ratios(all, &these, "bytes_per_connection", ("server", first)).spread(2),
        )?;
    }
    Ok(table)
}

fn sent(all: &[Value]) -> Result<String> {
    let ways = values(all, "direct", "how");
    if ways.is_empty() {
        return Ok(String::new());
    }
    let mut table = head(&[
        "way",
        "server CPU, µs per delivery: median (min–max)",
        "ratio (by round)",
        "thousand deliveries/s",
        "bytes per delivery",
        "generator idle",
        "lost, doubled, out of order",
    ])?;
    for way in ways {
        let these: Vec<_> = all.iter().filter(|it| fits(it, "direct", "how", way)).collect();
        let figure = |key, of: f64| Figures::new(these.iter().map(|it| number(it, key) / of));
        writeln!(
            table,
            "| `{way}` | {} | {} | {} | {:.0} | {:.0} % | {} |",
            figure("nanoseconds_per_delivery", 1e3).spread(2),
            ratios(all, &these, "nanoseconds_per_delivery", ("how", "broadcast")).spread(2),
            figure("deliveries_per_second", 1e3).spread(0),
            figure("bytes_per_delivery", 1.0).median(),
            figure("generator_idle", 0.01).median(),
            violations(&these),
        )?;
    }
    Ok(table)
}

fn violations(these: &[&Value]) -> String {
    let wrong = |it: &&Value| number(it, "lost") + number(it, "violations");
    match these.iter().map(wrong).sum::<f64>() {
        0.0 => "none".into(),
        wrong => wrong.to_string(),
    }
}

fn head(columns: &[&str]) -> Result<String> {
    let mut head = String::new();
    writeln!(head, "\n| {} |", columns.join(" | "))?;
    writeln!(head, "|{}", "---|".repeat(columns.len()))?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let line = |server: &str, round: &str, rate: f64| {
            format!(
                "{{\"kind\":\"talk\",\"server\":\"{server}\",\"round\":\"{round}\",\"window\":1,\"deliveries_per_cpu_second\":{rate}}}"
            )
        };
        let runs = [
            line("mahavishnu", "1", 2000.0),
            line("axum", "1", 1000.0),
            line("mahavishnu", "2", 4000.0),
            line("axum", "2", 1000.0),
        ];
        let table = of(&runs.join("\n")).expect("a table");

        assert!(table.contains("| 1 | mahavishnu | 4 (2–4) | 1.00 (1.00–1.00) |"), "{table}");
        assert!(table.contains("| 1 | axum | 1 (1–1) | 0.50 (0.25–0.50) |"), "{table}");
    }
}
