//! What came of an outage.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use super::{Expected, watch::Seen};
use crate::load::Report;

/// What came of an outage.
#[derive(Clone, Debug)]
pub struct Row {
    /// What happened.
    pub what: &'static str,
    /// What had to come of it.
    pub expected: Expected,
    /// What listeners and publishers say.
    pub report: Report,
    /// What those of another deployment say.
    pub other: Option<Report>,
    /// The longest that a listener waited for its next event.
    pub longest: Duration,
    /// How long after the mending the last of them had its first one, if there was something to mend.
    pub back: Option<Duration>,
    /// What each node said of itself.
    pub seen: Vec<Seen>,
    /// Counters that have moved, and by how much.
    pub moved: BTreeMap<String, u64>,
}

impl Row {
    /// What is wrong with it.
    pub fn fault(&self) -> Option<String> {
        let reports = [Some(&self.report), self.other.as_ref()];
        for report in reports.into_iter().flatten() {
            let is_fine = report.is_honest()
                && (report.disagreed == 0 || self.expected == Expected::Parted)
                && (report.is_untold() || self.expected != Expected::Nothing);
            if !is_fine {
                return Some(report.to_string());
            }
        }
        let health = self.seen.iter().find(|seen| !seen.health.is_empty());
        health.map(|seen| format!("/health: {:?}", seen.health))
    }

    /// Panics if something is wrong with it.
    pub fn assert_fine(&self) {
        if let Some(fault) = self.fault() {
            panic!("{}\n{fault}\n{}", self.what, self.line());
        }
    }

    /// The heads of its columns.
    pub const HEAD: &str = "| Fault | Lost, doubled, disordered | Told | Longest silence, s | Back after, s \
        | Slowest publish, s | Answers besides 200 | `/ready`, worst node | Metrics |\n|---|---|---|--:|--:|--:|---|---|---|";

    /// The row as Markdown.
    pub fn line(&self) -> String {
        let report = &self.report;
        let lost = report.lost + report.plain_lost;
        let mut line = format!(
            "| {} | {lost}, {}, {} | {} | {} | {} | {} | {} | {} |",
            self.what,
            report.doubled,
            report.reordered,
            self.told(),
            seconds(self.longest),
            self.back.map_or_else(|| "–".into(), seconds),
            seconds(report.slowest),
            words(&report.answers, |status, times| match status {
                0 => format!("none × {times}"),
                _ => format!("{status} × {times}"),
            }),
            self.ready(),
        );
        let moved = words(&self.moved, |name, by| format!("`{name}` {by}"));
        write!(line, " {moved} |").expect("text takes everything");
        line
    }

    /// Why listeners were told that something is missing, and how many numbers two of them had for different events.
    fn told(&self) -> String {
        let mut text = words(&self.report.causes, |cause, times| format!("{cause} × {times}"));
        if self.report.disagreed > 0 {
            write!(text, "; {} numbers twice", self.report.disagreed)
                .expect("text takes everything");
        }
        text
    }

    /// What the node said that was unwell for longest, and whether others were too.
    fn ready(&self) -> String {
        let Some(worst) = self.seen.iter().max_by_key(|seen| seen.unwell()) else {
            return String::new();
        };
        let causes: Vec<_> = worst.causes.iter().map(String::as_str).collect();
        let mut text = worst.to_string();
        if !causes.is_empty() {
            write!(text, "; \"{}\"", causes.join("\", \"")).expect("text takes everything");
        }
        let well = self.seen.iter().filter(|seen| seen.unwell() < worst.unwell() / 4).count();
        if well > 0 {
            write!(text, " ({well} others passing)").expect("text takes everything");
        }
        text
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

fn words<K, V>(all: &BTreeMap<K, V>, word: impl Fn(&K, &V) -> String) -> String {
    if all.is_empty() {
        return "–".into();
    }
    all.iter().map(|(key, value)| word(key, value)).collect::<Vec<_>>().join(", ")
}
