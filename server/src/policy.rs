//! The policy file: who may subscribe and publish where, by service; and `mahavishnu policy show`.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use mahavishnu_core::auth::{Pattern, Policy, Rule};
use mahavishnu_profiles::Profile;
use serde::Deserialize;
use toml::Spanned;

use crate::{
    cli::PolicyShowArgs,
    exit::{Exit, Failure},
    handed, out, settings,
};

/// Policies by service, as a file gives them. Services that it does not name keep their built-in rules.
#[derive(Debug, Default)]
pub(crate) struct PolicyFile {
    policies: BTreeMap<String, Policy>,
    /// What is allowed but probably not meant, one line each.
    pub(crate) warnings: Vec<String>,
}

/// The rules that a service has by itself. `None`: they are more than a policy has room for.
pub(crate) fn of_profile(profile: &Profile) -> Option<Policy> {
    match &profile.access {
        Some(access) => Policy::from_access(access).ok(),
        // It has none: full access alone opens anything, and nobody has that.
        None => Policy::new(Vec::new(), Vec::new(), Vec::new()).ok(),
    }
}

/// One service's table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(default)]
    full_access: Vec<Spanned<String>>,
    #[serde(default)]
    publish_anywhere: Vec<Spanned<String>>,
    #[serde(default)]
    lower_case: bool,
    #[serde(default)]
    rule: Vec<Spanned<RuleText>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    pattern: Spanned<String>,
    #[serde(default)]
    subscribe: Vec<Spanned<String>>,
    #[serde(default)]
    publish: Vec<Spanned<String>>,
}

impl PolicyFile {
    /// Reads the file, or says in one line where it is wrong and what to do.
    pub(crate) fn read(path: &Path) -> Result<Self, (Exit, String)> {
        let text = handed::text(path)?;
        let name = path.display().to_string();
        Self::parse(&name, &text).map_err(|line| (Exit::Configuration, line))
    }

    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let place = |at: usize| {
            format!("{name}:{}", 1 + text.bytes().take(at).filter(|b| *b == b'\n').count())
        };
        let sections: BTreeMap<Spanned<String>, Section> =
            toml::from_str(text).map_err(|error| {
                let at = error.span().map_or(0, |span| span.start);
                let why = error.message().lines().collect::<Vec<_>>().join(", ");
                format!("{}: {why}; `mahavishnu policy show` prints the format", place(at))
            })?;
        let mut this = Self::default();
        for (service, section) in sections {
            let known: Vec<_> = Policy::services().collect();
            if !known.contains(&service.as_ref().as_str()) {
                let at = place(service.span().start);
                let (service, known) = (service.as_ref(), known.join(", "));
                return Err(format!("{at}: no service {service:?}; use one of {known}"));
            }
            let policy = this.section(&place, section)?;
            this.policies.insert(service.into_inner(), policy);
        }
        Ok(this)
    }

    fn section(
        &mut self,
        place: &impl Fn(usize) -> String,
        section: Section,
    ) -> Result<Policy, String> {
        let words = |list: Vec<Spanned<String>>| -> Result<Vec<Box<str>>, String> {
            let word = |word: Spanned<String>| match word.as_ref().trim() {
                "" => Err(format!(
                    "{}: a permission is empty; write its name or take it out",
                    place(word.span().start)
                )),
                text => Ok(Box::from(text)),
            };
            list.into_iter().map(word).collect()
        };
        let mut rules: Vec<Rule> = Vec::new();
        for rule in section.rule {
            let at = rule.span().start;
            let rule = rule.into_inner();
            let pattern = Pattern::parse(rule.pattern.as_ref()).map_err(|error| {
                let at = place(rule.pattern.span().start);
                format!("{at}: {:?} is no pattern: {error}", rule.pattern.as_ref())
            })?;
            if let Some(first) = rules.iter().find(|first| first.pattern.covers(&pattern)) {
                self.warnings.push(format!(
                    "{}: the rule for {pattern} never counts, because {} above it fits first; put it above",
                    place(at),
                    first.pattern
                ));
            }
            let (subscribe, publish) = (words(rule.subscribe)?, words(rule.publish)?);
            rules.push(Rule { pattern, subscribe, publish });
        }
        let (full, anywhere) = (words(section.full_access)?, words(section.publish_anywhere)?);
        let policy = Policy::new(full, anywhere, rules)
            .map_err(|error| format!("{}: {error}; join some of them by *", place(0)))?;
        Ok(policy.with_lower_case(section.lower_case))
    }

    /// The rules of a service, and whether they come from the file.
    pub(crate) fn policy(&self, service: &str) -> Option<(Policy, bool)> {
        match self.policies.get(service) {
            Some(policy) => Some((policy.clone(), true)),
            None => Policy::for_service(service).map(|policy| (policy, false)),
        }
    }
}

/// Prints the rules that count, in the format of the file.
pub(crate) fn show(args: &PolicyShowArgs) -> Result<Exit, Failure> {
    let loaded = settings::load(&args.request())?;
    loaded.demand_sound(&["MAHAVISHNU_POLICY_FILE", "MAHAVISHNU_AUTH_POLICY"])?;
    let services: Vec<String> = match (&args.service, args.all) {
        (Some(service), _) => vec![service.to_ascii_lowercase()],
        // One of two names of the same rules is enough.
        (None, true) => {
            Policy::services().filter(|name| *name != "dhara").map(str::to_owned).collect()
        }
        (None, false) => vec![loaded.policy_name().to_owned()],
    };
    // Of a service that only its file describes nobody else knows the rules.
    let own = loaded.policy_name().to_owned();
    for service in services {
        let found = match args.built_in {
            _ if service == own && Policy::for_service(&own).is_none() => loaded.policy(),
            true => Policy::for_service(&service).map(|policy| (policy, false)),
            false => loaded.policies.policy(&service),
        };
        let (policy, filed) = found.ok_or_else(|| {
            let known: Vec<_> = Policy::services().collect();
            let text = format!("no service {service:?}; use one of {}", known.join(", "));
            Failure::new(Exit::Configuration, text)
        })?;
        out::line(written(&service, &policy, filed).trim_end())?;
        out::line("")?;
    }
    Ok(Exit::Ok)
}

/// A policy as the file has it.
fn written(service: &str, policy: &Policy, filed: bool) -> String {
    let list = |words: &[Box<str>]| {
        let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        format!("[{}]", words.join(", "))
    };
    let origin = if filed { "from the policy file" } else { "built in" };
    let mut text =
        format!("# {service}, {origin}. What no rule names is open to full access alone.\n");
    // Writing into a string cannot fail.
    let _ = write!(
        text,
        "[{service}]\n# Permissions for everything.\nfull_access = {}\n# Permissions to publish to any channel.\npublish_anywhere = {}\n",
        list(policy.full_access()),
        list(policy.publish_anywhere())
    );
    if policy.is_lower_case() {
        text.push_str(
            "# Permissions of tokens count in lower case and without spaces.\nlower_case = true\n",
        );
    }
    for rule in policy.rules() {
        let _ = write!(
            text,
            "\n[[{service}.rule]]\npattern = {}\nsubscribe = {}\npublish = {}\n",
            quoted(&rule.pattern.to_string()),
            list(&rule.subscribe),
            list(&rule.publish)
        );
    }
    text
}

/// As a basic string of TOML, whose escapes are those of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        PolicyFile::parse("p.toml", text).unwrap_err()
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for service in Policy::services() {
            let policy = Policy::for_service(service).unwrap();
            let text = written(service, &policy, false);
            let read = PolicyFile::parse("p.toml", &text).unwrap();
            assert_eq!(read.policy(service), Some((policy, true)), "{text}");
            assert_eq!(read.warnings, Vec::<String>::new());
        }
    }

    #[test]
    fn other_services_keep_their_rules() {
        let file = PolicyFile::parse("p.toml", "[akosha]\nfull_access = [\"root\"]\n").unwrap();
        let (policy, filed) = file.policy("akosha").unwrap();
        assert!(filed && policy.rules().is_empty());
        assert_eq!(file.policy("mahavishnu"), Some((Policy::mahavishnu(), false)));
        assert_eq!(file.policy("nobody"), None);
    }

    #[test]
    fn faults_are_one_line_with_their_place() {
        for (text, start) in [
            ("[mahavishnu]\nfull_acess = []\n", "p.toml:2: unknown field `full_acess`"),
            ("\n[billing]\n", "p.toml:2: no service \"billing\"; use one of mahavishnu, "),
            (
                "[mahavishnu]\n[[mahavishnu.rule]]\npattern = \"a*b\"\n",
                "p.toml:3: \"a*b\" is no pattern: ",
            ),
            (
                "[mahavishnu]\n[[mahavishnu.rule]]\n\nsubscribe = []\n",
                "p.toml:2: missing field `pattern`",
            ),
            ("[mahavishnu]\nfull_access = [\n\"\"]\n", "p.toml:3: a permission is empty"),
            ("[mahavishnu]\nfull_access = admin\n", "p.toml:2: "),
            ("x", "p.toml:1: "),
        ] {
            let line = fault(text);
            assert!(line.starts_with(start), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn too_many_rules_are_refused() {
        let rules: String =
            (0..65).map(|n| format!("[[mahavishnu.rule]]\npattern = \"c{n}\"\n")).collect();
        assert!(fault(&rules).contains("more than 64 rules"));
    }

    #[test]
    fn a_rule_that_never_counts_is_warned_about() {
        let text =
            "[[mahavishnu.rule]]\npattern = \"a*\"\n\n[[mahavishnu.rule]]\npattern = \"ab\"\n";
        let file = PolicyFile::parse("p.toml", text).unwrap();
        assert_eq!(
            file.warnings,
            [
                "p.toml:4: the rule for ab never counts, because a* above it fits first; put it above"
            ]
        );
    }
}
