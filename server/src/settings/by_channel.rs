//! The kind of setting that says something by channel, and what it can say.

use std::time::Duration;

use mahavishnu_core::{auth::Pattern, config::Keep};

use super::kind::{Bool, Kind, int, seconds};

/// What holds for the channels that match a pattern. The first match counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelRule<T> {
    pub(crate) pattern: String,
    pub(crate) value: T,
}

/// `pattern=value` pairs with commas between.
pub(crate) struct ByChannel<K> {
    kind: K,
    /// What a value is called, with its article.
    noun: &'static str,
    /// The value that a pattern alone stands for.
    bare: Option<&'static str>,
}

impl<K> ByChannel<K> {
    /// Each pattern has a value, which is called `noun`.
    pub(crate) const fn of(noun: &'static str, kind: K) -> Self {
        Self { kind, noun, bare: None }
    }

    /// A pattern alone stands for `value`.
    pub(crate) const fn or_bare(self, value: &'static str) -> Self
    where
        K: Copy,
    {
        Self { bare: Some(value), ..self }
    }
}

impl<K: Kind> Kind for ByChannel<K> {
    type Value = Vec<ChannelRule<K::Value>>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        let rule = |pair: &str| {
            let (pattern, value) = pair.split_once('=').or_else(|| Some((pair, self.bare?)))?;
            let pattern = pattern.trim();
            Pattern::parse(pattern).ok()?;
            Some(ChannelRule { pattern: pattern.to_owned(), value: self.kind.parse(value.trim())? })
        };
        text.split(',').map(rule).collect()
    }

    fn show(&self, value: &Self::Value) -> String {
        let pair = |rule: &ChannelRule<K::Value>| {
            format!("{}={}", rule.pattern, self.kind.show(&rule.value))
        };
        value.iter().map(pair).collect::<Vec<_>>().join(",")
    }

    fn allowed(&self) -> String {
        let bare =
            self.bare.map_or_else(String::new, |bare| format!(", a pattern alone is {bare}"));
        let noun = self.noun.split_once(' ').map_or(self.noun, |(_, noun)| noun);
        format!(
            "pattern={noun} pairs with commas between{bare}; {} is {}",
            self.noun,
            self.kind.allowed()
        )
    }
}

/// on or off, and whatever else [`Bool`] takes.
#[derive(Clone, Copy)]
pub(crate) struct OnOff;

impl Kind for OnOff {
    type Value = bool;

    fn parse(&self, text: &str) -> Option<bool> {
        Bool.parse(text)
    }

    fn show(&self, value: &bool) -> String {
        if *value { "on" } else { "off" }.to_owned()
    }

    fn allowed(&self) -> String {
        "on or off".to_owned()
    }
}

/// How much of a channel is kept: `messages/seconds`, or `off`.
#[derive(Clone, Copy)]
pub(crate) struct Kept;

impl Kind for Kept {
    type Value = Keep;

    fn parse(&self, text: &str) -> Option<Keep> {
        if text.eq_ignore_ascii_case("off") || text == "0" {
            return Some(Keep::OFF);
        }
        let (messages, time) = text.split_once('/')?;
        Some(Keep {
            messages: int(1, KEPT_MESSAGES_MAX).parse(messages.trim())?,
            time: seconds(1000, KEPT_SECONDS_MAX).parse(time.trim())?,
        })
    }

    fn show(&self, value: &Keep) -> String {
        match value.is_off() {
            true => "off".to_owned(),
            false => format!("{}/{}", value.messages, value.time.as_secs_f64()),
        }
    }

    fn allowed(&self) -> String {
        format!(
            "messages/seconds, from 1/1 to {KEPT_MESSAGES_MAX}/{KEPT_SECONDS_MAX}, or off for none"
        )
    }
}

const KEPT_MESSAGES_MAX: u64 = 1_000_000;
/// 30 days.
const KEPT_SECONDS_MAX: u64 = Duration::from_secs(30 * 86_400).as_secs();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_a_pattern_and_a_value() {
        let switches = ByChannel::of("a switch", OnOff);
        let rules = switches.parse("pool:*=off, global=ON").unwrap();
        assert_eq!(rules[0], ChannelRule { pattern: "pool:*".into(), value: false });
        assert_eq!(rules[1], ChannelRule { pattern: "global".into(), value: true });
        assert_eq!(switches.show(&rules), "pool:*=off,global=on");
        for text in ["pool:*", "=on", "a=maybe", "a=on,", "a*b=on", "=", ","] {
            assert_eq!(switches.parse(text), None, "{text}");
        }
        assert_eq!(switches.parse(""), Some(Vec::new()));
    }

    #[test]
    fn a_pattern_alone_stands_for_something_only_where_that_is_said() {
        let switches = ByChannel::of("a switch", OnOff).or_bare("on");
        let rules = switches.parse("room:lobby=off, room:*").unwrap();
        assert_eq!(switches.show(&rules), "room:lobby=off,room:*=on");
        for text in ["", "room:*,", "a b*c", "="] {
            assert_eq!(switches.parse(text).filter(|rules| !rules.is_empty()), None, "{text}");
        }
    }

    #[test]
    fn what_is_kept_has_both_bounds_or_is_off() {
        let keep = |messages, seconds| Keep { messages, time: Duration::from_secs(seconds) };
        assert_eq!(Kept.parse("100/300"), Some(keep(100, 300)));
        assert_eq!(Kept.parse(" 1 / 2592000".trim()), Some(keep(1, 2_592_000)));
        assert_eq!(Kept.show(&keep(1_000, 3_600)), "1000/3600");
        for text in ["off", "OFF", "0"] {
            assert_eq!(Kept.parse(text).map(|keep| Kept.show(&keep)).as_deref(), Some("off"));
        }
        for text in
            ["", "/", "100", "100/", "/300", "0/300", "100/0", "-1/5", "1/5/9", "1000001/1", "on"]
        {
            assert_eq!(Kept.parse(text), None, "{text}");
        }
        assert_eq!(Kept.parse(&Kept.show(&Keep::default())), Some(Keep::default()));
    }
}
