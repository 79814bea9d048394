//! Which permission opens which channel.

use std::fmt;

use super::Grants;

/// Permissions by channel pattern, as an operator writes them.
///
/// The first rule whose pattern fits a channel decides. A channel that no rule fits is open only to full access (and,
/// for publishing, to [`publish_anywhere`](Self::publish_anywhere)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(super) full_access: Vec<Box<str>>,
    pub(super) publish_anywhere: Vec<Box<str>>,
    pub(super) rules: Vec<Rule>,
    /// The permissions of tokens are taken in lower case and without spaces.
    pub(super) normalise: bool,
}

/// One line of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The channels it is about.
    pub pattern: Pattern,
    /// Any one of these permissions allows to subscribe. Empty: only full access does.
    pub subscribe: Vec<Box<str>>,
    /// Any one of these permissions allows to publish. Empty: only full access and publishing anywhere do.
    pub publish: Vec<Box<str>>,
}

/// A channel's name, or everything that begins alike: `global`, `workflow:*`, `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    prefix: bool,
}

/// What a user wants to do with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Receive its events.
    Subscribe,
    /// Send events to it.
    Publish,
}

/// One session's permissions, compiled against one policy: two bit masks over its rules.
///
/// It means nothing to another policy: after a reload, compile again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    full: bool,
    publish_anywhere: bool,
    subscribe: u64,
    publish: u64,
}

/// Whether something is allowed, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether to go ahead.
    pub allowed: bool,
    /// What decided.
    pub why: Why,
}

/// What it takes to do something with a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs<'a> {
    /// The pattern of the rule that decides; `None`: no rule is about the channel.
    pub pattern: Option<&'a Pattern>,
    /// Any one of these permissions is enough. None: nobody has what it takes.
    pub any_of: Vec<&'a str>,
}

impl fmt::Display for Needs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.any_of.is_empty() {
            return f.write_str("no permission is enough");
        }
        f.write_str(&self.any_of.join(" or "))
    }
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A permission for everything.
    FullAccess,
    /// A permission to publish to any channel.
    PublishAnywhere,
    /// The rule at this index.
    Rule(usize),
    /// No rule is about this channel.
    NoRule,
    /// The token's own pattern at this index, of those for the verb.
    Token(usize),
}

/// Why a policy cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// More than 64 rules.
    TooManyRules,
    /// An empty pattern, or a `*` that is not its last character.
    Pattern,
}

impl Policy {
    /// A policy of one's own. At most 64 rules.
    pub fn new(
        full_access: Vec<Box<str>>,
        publish_anywhere: Vec<Box<str>>,
        rules: Vec<Rule>,
    ) -> Result<Self, PolicyError> {
        if rules.len() > RULES_MAX {
            return Err(PolicyError::TooManyRules);
        }
        Ok(Self { full_access, publish_anywhere, rules, normalise: false })
    }

    /// Whether tokens' permissions are taken in lower case and without spaces. Default false.
    #[must_use]
    pub fn with_lower_case(mut self, lower_case: bool) -> Self {
        self.normalise = lower_case;
        self
    }

    /// Whether tokens' permissions are taken in lower case and without spaces.
    #[must_use]
    pub fn is_lower_case(&self) -> bool {
        self.normalise
    }

    /// Permissions for everything.
    #[must_use]
    pub fn full_access(&self) -> &[Box<str>] {
        &self.full_access
    }

    /// Permissions to publish to any channel.
    #[must_use]
    pub fn publish_anywhere(&self) -> &[Box<str>] {
        &self.publish_anywhere
    }

    /// The rules, in the order in which they are tried.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Every permission that opens something, each once: those for everything first, then in the order of the rules.
    #[must_use]
    pub fn permissions(&self) -> Vec<&str> {
        let rules = self.rules.iter().flat_map(|rule| rule.subscribe.iter().chain(&rule.publish));
        let all = self.full_access.iter().chain(&self.publish_anywhere).chain(rules);
        let mut seen = Vec::new();
        for permission in all {
            if !seen.contains(&&**permission) {
                seen.push(&**permission);
            }
        }
        seen
    }

    /// The permissions of which any one opens a channel: those of the rule that decides, and those that open everything.
    #[must_use]
    pub fn needs(&self, verb: Verb, channel: &str) -> Needs<'_> {
        self.needs_of(verb, self.rule_for(channel))
    }

    /// The same, by the rule that decides; `None`: no rule is about the channel.
    pub(crate) fn needs_of(&self, verb: Verb, rule: Option<usize>) -> Needs<'_> {
        let rule = rule.and_then(|index| self.rules.get(index));
        let (by_rule, anywhere) = match verb {
            Verb::Subscribe => (rule.map(|rule| &rule.subscribe), None),
            Verb::Publish => (rule.map(|rule| &rule.publish), Some(&self.publish_anywhere)),
        };
        let lists = by_rule.into_iter().chain(anywhere).chain([&self.full_access]);
        let mut any_of: Vec<&str> = Vec::new();
        for permission in lists.flatten() {
            if !any_of.contains(&&**permission) {
                any_of.push(permission);
            }
        }
        Needs { pattern: rule.map(|rule| &rule.pattern), any_of }
    }

    /// Compiles the permissions of a session. Once per session and policy.
    #[must_use]
    pub fn access<P: AsRef<str>>(&self, permissions: &[P]) -> Access {
        let normal: Vec<String>;
        let mut held: Vec<&str> = permissions.iter().map(AsRef::as_ref).collect();
        if self.normalise {
            normal = held.iter().map(|p| p.replace(' ', "").to_ascii_lowercase()).collect();
            held = normal.iter().map(String::as_str).collect();
        }
        let any =
            |wanted: &[Box<str>]| wanted.iter().any(|permission| held.contains(&&**permission));
        let mask = |wanted: fn(&Rule) -> &[Box<str>]| {
            self.rules.iter().rev().fold(0, |mask, rule| (mask << 1) | u64::from(any(wanted(rule))))
        };
        Access {
            full: any(&self.full_access),
            publish_anywhere: any(&self.publish_anywhere),
            subscribe: mask(|rule| &rule.subscribe),
            publish: mask(|rule| &rule.publish),
        }
    }

    /// Whether a session may do this with a channel. No allocation, no hashing: at most 64 comparisons of names.
    #[must_use]
    pub fn decide(&self, access: &Access, verb: Verb, channel: &str) -> Decision {
        if access.full {
            return Decision { allowed: true, why: Why::FullAccess };
        }
        let mask = match verb {
            Verb::Publish if access.publish_anywhere => {
                return Decision { allowed: true, why: Why::PublishAnywhere };
            }
            Verb::Publish => access.publish,
            Verb::Subscribe => access.subscribe,
        };
        match self.rule_for(channel) {
            Some(index) => Decision { allowed: mask >> index & 1 == 1, why: Why::Rule(index) },
            None => Decision { allowed: false, why: Why::NoRule },
        }
    }

    /// What a session with a token may do: what the policy says, and where that denies, what the token opens itself.
    #[must_use]
    pub fn decide_with(
        &self,
        access: &Access,
        grants: &Grants,
        verb: Verb,
        channel: &str,
    ) -> Decision {
        let decision = self.decide(access, verb, channel);
        match grants.opens(verb, channel) {
            Some(index) if !decision.allowed => Decision { allowed: true, why: Why::Token(index) },
            Some(_) | None => decision,
        }
    }

    /// Which of [`labels`](Self::labels) a channel is counted under: metrics need few labels, and channels are many.
    #[must_use]
    pub fn label(&self, channel: &str) -> usize {
        self.rule_for(channel).unwrap_or(self.rules.len())
    }

    /// The patterns, and last of all `other` for channels that none of them fits.
    pub fn labels(&self) -> impl Iterator<Item = String> {
        self.rules.iter().map(|rule| rule.pattern.to_string()).chain([OTHER.to_owned()])
    }

    fn rule_for(&self, channel: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.pattern.fits(channel))
    }
}

impl Access {
    /// Whether it is everything: what an operator has.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Everything: servers without authentication, and the application itself.
    pub const FULL: Self =
        Self { full: true, publish_anywhere: true, subscribe: u64::MAX, publish: u64::MAX };
    /// Nothing.
    pub const NONE: Self = Self { full: false, publish_anywhere: false, subscribe: 0, publish: 0 };
}

impl Pattern {
    /// Reads `name` or `prefix*`.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let (name, prefix) = text.strip_suffix('*').map_or((text, false), |name| (name, true));
        if name.contains('*') || text.is_empty() {
            return Err(PolicyError::Pattern);
        }
        Ok(Self { text: name.into(), prefix })
    }

    /// Whether every channel that `other` is about is one of these too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if self.prefix { other.text.starts_with(&*self.text) } else { self == other }
    }

    /// Whether a channel is one of these.
    #[must_use]
    pub fn fits(&self, channel: &str) -> bool {
        if self.prefix { channel.starts_with(&*self.text) } else { *channel == *self.text }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.prefix { f.write_str("*") } else { Ok(()) }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyRules => write!(f, "more than {RULES_MAX} rules"),
            Self::Pattern => {
                f.write_str("a pattern is a channel's name, or the beginning of one followed by *")
            }
        }
    }
}

impl std::error::Error for PolicyError {}

/// One bit of a mask each.
pub(super) const RULES_MAX: usize = 64;
/// The label of channels that no pattern fits.
const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_names_or_prefixes() {
        for (pattern, channel, fits) in [
            ("global", "global", true),
            ("global", "globally", false),
            ("pool:*", "pool:7", true),
            ("pool:*", "pool:", true),
            ("pool:*", "pool", false),
            ("goal-teams*", "goal-teamsX", true),
            ("*", "anything", true),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.fits(channel), fits, "{pattern} {channel}");
            assert_eq!(parsed.to_string(), pattern);
        }
        for pattern in ["", "a*b", "**", "*a"] {
            assert_eq!(Pattern::parse(pattern), Err(PolicyError::Pattern), "{pattern}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy = policy(vec![
            rule("job:secret*", &["secret"], &[]),
            rule("job:*", &["job"], &["worker"]),
        ]);
        let access = policy.access(&["job", "worker"]);
        let decide = |verb, channel| policy.decide(&access, verb, channel);

        assert_eq!(decide(Verb::Subscribe, "job:1"), Decision { allowed: true, why: Why::Rule(1) });
        assert_eq!(
            decide(Verb::Subscribe, "job:secret:1"),
            Decision { allowed: false, why: Why::Rule(0) }
        );
        assert_eq!(decide(Verb::Publish, "job:1"), Decision { allowed: true, why: Why::Rule(1) });
        assert_eq!(
            decide(Verb::Publish, "job:secret"),
            Decision { allowed: false, why: Why::Rule(0) }
        );
        assert_eq!(decide(Verb::Subscribe, "other"), Decision { allowed: false, why: Why::NoRule });
    }

    #[test]
    fn what_it_takes_is_the_rules_permission_or_one_for_everything() {
        let policy = Policy::new(
            vec!["admin".into()],
            vec!["write".into()],
            vec![rule("job:*", &["job"], &["worker", "write"]), rule("sealed", &[], &[])],
        )
        .unwrap();
        let needs = |verb, channel| policy.needs(verb, channel).to_string();
        assert_eq!(needs(Verb::Subscribe, "job:1"), "job or admin");
        assert_eq!(needs(Verb::Publish, "job:1"), "worker or write or admin");
        assert_eq!(needs(Verb::Subscribe, "sealed"), "admin");
        assert_eq!(needs(Verb::Publish, "other"), "write or admin");
        let pattern = |channel| policy.needs(Verb::Subscribe, channel).pattern.cloned();
        assert_eq!(pattern("job:1"), Some(Pattern::parse("job:*").unwrap()));
        assert_eq!(pattern("other"), None);
        // Whoever has one of them may.
        for (verb, channel) in [(Verb::Subscribe, "job:1"), (Verb::Publish, "other")] {
            for permission in policy.needs(verb, channel).any_of {
                let access = policy.access(&[permission]);
                assert!(policy.decide(&access, verb, channel).allowed, "{permission}");
            }
        }
        assert_eq!(policy.permissions(), ["admin", "write", "job", "worker"]);
        let nobody = Policy::new(Vec::new(), Vec::new(), Vec::new()).unwrap();
        assert_eq!(nobody.needs(Verb::Publish, "x").to_string(), "no permission is enough");
    }

    #[test]
    fn publishing_anywhere_is_not_subscribing_anywhere() {
        let policy = policy(vec![]);
        let access = policy.access(&["write"]);
        assert_eq!(
            policy.decide(&access, Verb::Publish, "x"),
            Decision { allowed: true, why: Why::PublishAnywhere }
        );
        assert_eq!(
            policy.decide(&access, Verb::Subscribe, "x"),
            Decision { allowed: false, why: Why::NoRule }
        );
    }

    #[test]
    fn full_access_needs_no_rule() {
        let policy = policy(vec![rule("x", &[], &[])]);
        for access in [policy.access(&["root"]), Access::FULL] {
            for verb in [Verb::Subscribe, Verb::Publish] {
                assert_eq!(
                    policy.decide(&access, verb, "x"),
                    Decision { allowed: true, why: Why::FullAccess }
                );
            }
        }
        assert!(!policy.decide(&Access::NONE, Verb::Subscribe, "x").allowed);
    }

    #[test]
    fn sixty_four_rules_are_enough() {
        let rules = |count: usize| {
            (0..count).map(|n| rule(&format!("c{n}:*"), &["p"], &[])).collect::<Vec<_>>()
        };
        let most = policy(rules(64));
        let access = most.access(&["p"]);
        assert_eq!(
            most.decide(&access, Verb::Subscribe, "c63:x"),
            Decision { allowed: true, why: Why::Rule(63) }
        );
        assert!(!most.decide(&access, Verb::Publish, "c63:x").allowed);
        assert_eq!(Policy::new(vec![], vec![], rules(65)), Err(PolicyError::TooManyRules));
    }

    #[test]
    fn labels_are_patterns_and_other() {
        let policy = policy(vec![rule("pool:*", &[], &[]), rule("global", &[], &[])]);
        let labels: Vec<String> = policy.labels().collect();
        assert_eq!(labels, ["pool:*", "global", "other"]);
        for (channel, label) in [("pool:1", "pool:*"), ("global", "global"), ("globe", "other")] {
            assert_eq!(labels[policy.label(channel)], label);
        }
    }

    proptest! {
        #[test]
        fn masks_agree_with_reading_the_rules(
            rules in prop::collection::vec(("[ab]{0,2}\\*?", words(), words()), 0..8),
            held in words(), channel in "[ab]{1,3}", publish: bool,
        ) {
            let rules: Vec<Rule> = rules
                .into_iter()
                .filter_map(|(pattern, subscribe, publish)| {
                    Some(Rule { pattern: Pattern::parse(&pattern).ok()?, subscribe, publish })
                })
                .collect();
            let policy = policy(rules.clone());

            let verb = if publish { Verb::Publish } else { Verb::Subscribe };
            let decision = policy.decide(&policy.access(&held), verb, &channel);

            let holds = |wanted: &[Box<str>]| wanted.iter().any(|word| held.contains(word));
            let fits = |rule: &&Rule| {
                let pattern = rule.pattern.to_string();
                match pattern.strip_suffix('*') {
                    Some(prefix) => channel.starts_with(prefix),
                    None => channel == pattern,
                }
            };
            let by_rule = rules.iter().find(fits).is_some_and(|rule| {
                holds(if publish { &rule.publish } else { &rule.subscribe })
            });
            let expected = holds(&["root".into()]) || publish && holds(&["write".into()]) || by_rule;
            prop_assert_eq!(decision.allowed, expected);
        }
    }

    fn words() -> impl Strategy<Value = Vec<Box<str>>> {
        let word = prop::sample::select(vec!["p", "q", "pq", "write", "root"]);
        prop::collection::vec(word.prop_map(Box::from), 0..3)
    }

    fn policy(rules: Vec<Rule>) -> Policy {
        Policy::new(vec!["root".into()], vec!["write".into()], rules).unwrap()
    }

    fn rule(pattern: &str, subscribe: &[&str], publish: &[&str]) -> Rule {
        let list = |words: &[&str]| words.iter().map(|word| Box::from(*word)).collect();
        Rule {
            pattern: Pattern::parse(pattern).unwrap(),
            subscribe: list(subscribe),
            publish: list(publish),
        }
    }
}
