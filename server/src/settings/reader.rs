//! Reads values by kind, and remembers every problem instead of stopping at the first.

use std::collections::BTreeMap;

use super::{
    kind::Kind,
    sources::{Source, Sources},
};
use crate::exit::Exit;

/// One row of the table of variables, without its kind.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    /// Heading it is documented under.
    pub(crate) section: &'static str,
    /// Full name, then other spellings.
    pub(crate) names: &'static [&'static str],
    /// What it is for, units included.
    pub(crate) doc: String,
    pub(crate) default: String,
    pub(crate) allowed: String,
    pub(crate) reload: Reload,
    pub(crate) is_secret: bool,
}

impl Variable {
    pub(crate) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// On SIGHUP.
    Live,
    /// At the next start.
    Restart,
}

/// Something wrong with one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Full name of the variable.
    pub(crate) name: &'static str,
    /// The whole line for the operator.
    pub(crate) line: String,
    /// The exit code that it alone would end with.
    pub(crate) exit: Exit,
}

/// Turns sources into values.
pub(crate) struct Reader<'a> {
    sources: &'a Sources,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
    /// Where each variable's value came from, by full name.
    pub(crate) origins: BTreeMap<&'static str, Source>,
    /// Under which name it was given, if under another one.
    pub(crate) spellings: BTreeMap<&'static str, String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(sources: &'a Sources) -> Self {
        Self {
            sources,
            problems: Vec::new(),
            warnings: Vec::new(),
            origins: BTreeMap::new(),
            spellings: BTreeMap::new(),
        }
    }

    /// The value of the variable with these `names`, or `default` if it is not given or malformed.
    pub(crate) fn read<K: Kind>(
        &mut self,
        names: &'static [&'static str],
        kind: &K,
        default: K::Value,
    ) -> K::Value {
        let name = names.first().copied().unwrap_or_default();
        let sources = self.sources;
        if let Some((first, second)) = sources.conflicts(names) {
            self.warnings.push(format!("{first} and {second} differ: {first} counts"));
        }
        let Some((spelling, given)) = sources.find(names) else {
            self.origins.insert(name, Source::Default);
            return default;
        };
        self.origins.insert(name, given.origin.clone());
        if spelling != name {
            self.spellings.insert(name, spelling.to_owned());
        }
        if let Some(text) = given.text.as_ref().filter(|text| !kind.is_secret() && is_quoted(text))
        {
            self.warnings.push(format!(
                "{spelling}: the value {} has quotes around it ({}), which count as part of it: docker's --env-file keeps them",
                quoted(text),
                given.origin
            ));
        }
        let text = given.text.as_ref().map(|text| text.as_str());
        let word = text.filter(|_| kind.is_switch()).and_then(|text| self.word(spelling, text));
        let parsed = word.or(text).and_then(|text| kind.parse(text));
        parsed.unwrap_or_else(|| {
            let shown = match &given.text {
                Some(_) if kind.is_secret() => "the value".to_owned(),
                Some(text) => quoted(text),
                None => "a value that is not UTF-8".to_owned(),
            };
            let line = format!(
                "{spelling}: {shown} is not allowed ({}); use {}",
                given.origin,
                kind.allowed()
            );
            self.problems.push(Problem { name, line, exit: Exit::Configuration });
            default
        })
    }
}

impl Reader<'_> {
    /// A switch in our words, if it is given by a name of the service's own: then the words are the service's, too.
    fn word(&mut self, spelling: &str, text: &str) -> Option<&'static str> {
        let service = self.sources.service()?;
        let (word, differs) = service.switch(spelling, text)?;
        if differs {
            let (shown, name) = (quoted(text), &service.profile().name);
            self.warnings.push(format!(
                "{spelling}: {shown} means {word} to {name}, though it means the opposite elsewhere; write true or false"
            ));
        }
        Some(word)
    }
}

/// Whether a pair of quotes is around it.
pub(super) fn is_quoted(text: &str) -> bool {
    ['"', '\'']
        .iter()
        .any(|quote| text.strip_prefix(*quote).is_some_and(|rest| rest.ends_with(*quote)))
}

/// `text` in quotes, control characters escaped, cut to a length that fits a line.
fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// How much of a bad value an error repeats.
const SHOWN_CHARS_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_shown_escaped_and_cut() {
        assert_eq!(quoted("a\"\n"), r#""a\"\n""#);
        assert_eq!(quoted(&"é".repeat(100)).chars().count(), SHOWN_CHARS_MAX + 3);
    }
}
