//! Series of an exposition in Prometheus' text format, as this program writes it.

use std::borrow::Cow;

/// One series with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample<'a> {
    pub(crate) name: &'a str,
    labels: &'a str,
    pub(crate) value: f64,
}

impl<'a> Sample<'a> {
    /// The value of a label.
    pub(crate) fn label(&self, wanted: &str) -> Option<Cow<'a, str>> {
        self.labels().find(|(name, _)| *name == wanted).map(|(_, value)| value)
    }

    /// All labels with their values, in their order.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> + use<'a> {
        labels(self.labels).map(|(name, value)| (name, unescaped(value)))
    }
}

/// All series. Lines that are none are passed over.
pub(crate) fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        Some(Sample { name, labels, value: value.parse().ok()? })
    })
}

/// Names and values as they stand there.
fn labels(mut rest: &str) -> impl Iterator<Item = (&str, &str)> {
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once("=\"")?;
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        let (value, after) = after.split_at_checked(end)?;
        rest = after.get(1..)?;
        Some((name.trim_start_matches(','), value))
    })
}

fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return value.into();
    }
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => '\\',
            },
            _ => c,
        });
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_with_their_labels() {
        let text = "# HELP a b\n# TYPE a counter\na 3\nb{x=\"1\",y=\"q\\\"\\\\,}\\n{\"} 0.5\n\nc{} 1e3\nd\nd{x=\"1\" 2\ne NaNo\n";
        let all: Vec<_> = samples(text).collect();
        let names: Vec<_> = all.iter().map(|sample| (sample.name, sample.value)).collect();
        assert_eq!(names, [("a", 3.0), ("b", 0.5), ("c", 1000.0)]);
        assert_eq!(all[1].label("x").as_deref(), Some("1"));
        assert_eq!(all[1].label("y").as_deref(), Some("q\"\\,}\n{"));
        assert_eq!((all[1].label("z"), all[0].label("x")), (None, None));
    }
}
