//! Prometheus' text format, read.

use std::collections::{BTreeMap, BTreeSet};

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    text: String,
    help: BTreeMap<String, String>,
    types: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

/// One series at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name, with `_bucket`, `_sum` or `_count` for histograms.
    pub name: String,
    /// Labels by name.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

impl Metrics {
    /// Reads an exposition. Panics on a line that is not one, and on a family or series that comes twice.
    pub fn parse(text: &str) -> Self {
        let mut this = Self { text: text.to_owned(), ..Self::default() };
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                assert!(this.help.insert(name.into(), help.into()).is_none(), "HELP twice: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, ""));
                assert!(
                    this.types.insert(name.into(), kind.into()).is_none(),
                    "TYPE twice: {line}"
                );
            } else if !line.starts_with('#') {
                let sample = sample(line).unwrap_or_else(|| panic!("not a sample: {line:?}"));
                let series = line.rsplit_once(' ').map(|(series, _)| series);
                assert!(seen.insert(series), "series twice: {line}");
                this.samples.push(sample);
            }
        }
        this
    }

    /// The exposition as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// HELP of a family.
    pub fn help(&self, family: &str) -> Option<&str> {
        self.help.get(family).map(String::as_str)
    }

    /// TYPE of a family.
    pub fn kind(&self, family: &str) -> Option<&str> {
        self.types.get(family).map(String::as_str)
    }

    /// All series.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    /// Every series of this name whose labels contain `labels`.
    pub fn series<'m>(
        &'m self,
        name: &'m str,
        labels: &'m [(&str, &str)],
    ) -> impl Iterator<Item = &'m Sample> + 'm {
        let fits = |sample: &&Sample| {
            labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|v| v == value))
        };
        self.samples.iter().filter(move |sample| sample.name == name).filter(fits)
    }

    /// Sum over every series of this name whose labels contain `labels`; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name, labels).map(|sample| sample.value).sum()
    }

    /// Sum as a whole number.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(name, labels) as u64
    }

    /// `websocket_messages_total` of this type and direction.
    pub fn messages(&self, message_type: &str, direction: &str) -> u64 {
        self.count(
            "websocket_messages_total",
            &[("message_type", message_type), ("direction", direction)],
        )
    }

    /// `websocket_connections_active`.
    pub fn active(&self) -> u64 {
        self.count("websocket_connections_active", &[])
    }

    /// `websocket_connection_errors_total` of this type.
    pub fn connection_errors(&self, error_type: &str) -> u64 {
        self.count("websocket_connection_errors_total", &[("error_type", error_type)])
    }

    /// `websocket_message_errors_total` of this type.
    pub fn message_errors(&self, error_type: &str) -> u64 {
        self.count("websocket_message_errors_total", &[("error_type", error_type)])
    }
}

/// `name{label="value",…} number`
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, rest)) => (name, labels(rest.strip_suffix('}')?)?),
    };
    let value = if value == "+Inf" { f64::INFINITY } else { value.parse().ok()? };
    Some(Sample { name: name.to_owned(), labels, value })
}

fn labels(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        text = rest[end + 1..].trim_start_matches(',');
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_escapes() {
        let read = sample(r#"a_total{x="1",y="q\"\\\n,}"} 3"#).unwrap();
        assert_eq!((read.name.as_str(), read.value), ("a_total", 3.0));
        assert_eq!(read.labels["y"], "q\"\\\n,}");
        assert_eq!(sample("up 1").unwrap().labels.len(), 0);
        assert_eq!(sample("b_bucket{le=\"+Inf\"} 2").unwrap().labels["le"], "+Inf");
    }
}
