//! What checks found: lines for people, an object for programs, and the exit code.

use serde_json::{Value, json};

use crate::{
    exit::{Exit, Failure},
    out,
};

/// How one check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    /// It works, and will not for long or not for all.
    Warn,
    Fail,
    /// It could not be looked at, or is not there to be looked at.
    Skipped,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// One check: what was found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) outcome: Outcome,
    pub(super) found: String,
    pub(super) remedy: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, found: found.into(), remedy: None }
    }

    pub(super) fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Skipped, found: why.into(), remedy: None }
    }

    pub(super) fn warn(
        name: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into()).filter(|text| !text.is_empty());
        Self { name, outcome: Outcome::Warn, found: found.into(), remedy }
    }

    pub(super) fn fail(
        name: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { outcome: Outcome::Fail, ..Self::warn(name, found, remedy) }
    }

    /// The end of something that did not come off.
    pub(super) fn failure(name: &'static str, failure: &Failure, remedy: &str) -> Self {
        Self::fail(name, failure.to_string(), remedy)
    }

    fn to_text(&self) -> String {
        let Self { name, outcome, found, remedy } = self;
        // Several problems are several lines, all of them behind the name.
        let found = found.replace('\n', "\n                         ");
        let mut text = format!("{:<7}  {name:<14}  {found}", outcome.word());
        if let Some(remedy) = remedy {
            text.push_str(&format!("\n{:25}-> {remedy}", ""));
        }
        text
    }

    fn to_json(&self) -> Value {
        let Self { name, outcome, found, remedy } = self;
        json!({ "check": name, "outcome": outcome.word(), "found": found, "remedy": remedy })
    }
}

/// Prints the checks in their order, each when it is over.
pub(super) struct Report {
    json: bool,
    strict: bool,
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(json: bool, strict: bool) -> Self {
        Self { json, strict, checks: Vec::new() }
    }

    pub(super) fn add(&mut self, check: Check) -> Result<(), Failure> {
        if !self.json {
            out::line(check.to_text())?;
        }
        self.checks.push(check);
        Ok(())
    }

    /// Ends it: 4 if something failed, with `strict` also if there is a warning.
    pub(super) fn finish(self, url: &str) -> Result<Exit, Failure> {
        let count = |outcome| self.checks.iter().filter(|check| check.outcome == outcome).count();
        let [ok, warn, fail, skipped] =
            [Outcome::Ok, Outcome::Warn, Outcome::Fail, Outcome::Skipped].map(count);
        let bad = fail > 0 || self.strict && warn > 0;
        if self.json {
            let checks: Vec<_> = self.checks.iter().map(Check::to_json).collect();
            out::line(json!({
                "url": url, "status": if bad { "failed" } else { "ok" },
                "ok": ok, "warn": warn, "fail": fail, "skipped": skipped, "checks": checks,
            }))?;
        } else {
            let warnings = if warn == 1 { "warning" } else { "warnings" };
            out::line(format_args!(
                "{ok} ok, {warn} {warnings}, {fail} failed, {skipped} skipped"
            ))?;
        }
        Ok(if bad { Exit::Unhealthy } else { Exit::Ok })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_and_what_to_do() {
        let check = Check::fail("redis", "one\ntwo", "mend it");
        let text = check.to_text();
        assert_eq!(
            text,
            "fail     redis           one\n                         two\n                         -> mend it"
        );
        assert_eq!(check.to_json()["outcome"], "fail");
        assert_eq!(Check::warn("x", "y", "").to_text(), "warn     x               y");
    }
}
