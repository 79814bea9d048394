//! How a setting's text becomes a value: one small parser per kind, which can also say what it allows.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use mahavishnu_core::{
    auth::Policy,
    config::{Hosts, Origin},
};

use super::value::{MASK, NamedKey, Secret, Shards};

/// A parser for one kind of setting.
pub(crate) trait Kind {
    type Value;

    /// The value, or `None` for text that is not allowed.
    fn parse(&self, text: &str) -> Option<Self::Value>;

    /// The value as it would be written in a file. Secrets are masked. "Not set" is the empty text.
    fn show(&self, value: &Self::Value) -> String;

    /// What is allowed, as the end of the sentence "use …".
    fn allowed(&self) -> String;

    /// Whether the text must never be shown.
    fn is_secret(&self) -> bool {
        false
    }

    /// Whether it is true or false, for which services have words of their own.
    fn is_switch(&self) -> bool {
        false
    }
}

/// true or false, in the spellings that operators use.
pub(crate) struct Bool;

impl Kind for Bool {
    type Value = bool;

    fn parse(&self, text: &str) -> Option<bool> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        }
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }

    fn allowed(&self) -> String {
        "true or false (also 1/0, yes/no, on/off)".into()
    }

    fn is_switch(&self) -> bool {
        true
    }
}

/// A whole number within bounds, both included.
pub(crate) struct Whole {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

/// [`Whole`] as the integer type that the setting has. `max` must fit into it.
pub(crate) struct Int<T> {
    whole: Whole,
    narrow: fn(u64) -> Option<T>,
}

/// Whole numbers from `min` to `max`.
pub(crate) const fn int<T: TryFrom<u64>>(min: u64, max: u64) -> Int<T> {
    Int { whole: Whole { min, max }, narrow: |number| T::try_from(number).ok() }
}

impl<T: std::fmt::Display> Kind for Int<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Option<T> {
        let number =
            digits(text)?.parse().ok().filter(|n| (self.whole.min..=self.whole.max).contains(n))?;
        (self.narrow)(number)
    }

    fn show(&self, value: &T) -> String {
        value.to_string()
    }

    fn allowed(&self) -> String {
        format!("a whole number from {} to {}", self.whole.min, self.whole.max)
    }
}

/// A time in seconds; decimals are fine.
pub(crate) struct Seconds {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

/// Seconds from `min` to `max`.
pub(crate) const fn seconds(min_ms: u64, max: u64) -> Seconds {
    Seconds { min: Duration::from_millis(min_ms), max: Duration::from_secs(max) }
}

impl Kind for Seconds {
    type Value = Duration;

    fn parse(&self, text: &str) -> Option<Duration> {
        if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return None;
        }
        let value = Duration::try_from_secs_f64(text.parse().ok()?).ok()?;
        (self.min..=self.max).contains(&value).then_some(value)
    }

    fn show(&self, value: &Duration) -> String {
        value.as_secs_f64().to_string()
    }

    fn allowed(&self) -> String {
        format!("seconds from {} to {}", self.min.as_secs_f64(), self.max.as_secs())
    }
}

/// Another kind, or 0 for "off".
pub(crate) struct OrOff<K>(pub(crate) K);

impl<K: Kind> Kind for OrOff<K> {
    type Value = Option<K::Value>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text == "0" { Some(None) } else { self.0.parse(text).map(Some) }
    }

    fn show(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| "0".to_owned(), |value| self.0.show(value))
    }

    fn allowed(&self) -> String {
        format!("{}, or 0 for off", self.0.allowed())
    }

    fn is_secret(&self) -> bool {
        self.0.is_secret()
    }
}

/// Another kind, for which nothing is a value too, or the word "off".
pub(crate) struct OffOr<K>(pub(crate) K);

impl<K: Kind> Kind for OffOr<K> {
    type Value = Option<K::Value>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text.eq_ignore_ascii_case(OFF) { Some(None) } else { self.0.parse(text).map(Some) }
    }

    fn show(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| OFF.to_owned(), |value| self.0.show(value))
    }

    fn allowed(&self) -> String {
        format!("{}, or {OFF}", self.0.allowed())
    }
}

const OFF: &str = "off";

/// Another kind, or nothing: an empty text counts as not set.
pub(crate) struct Maybe<K>(pub(crate) K);

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() { Some(None) } else { self.0.parse(text).map(Some) }
    }

    fn show(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(String::new, |value| self.0.show(value))
    }

    fn allowed(&self) -> String {
        self.0.allowed()
    }

    fn is_secret(&self) -> bool {
        self.0.is_secret()
    }
}

/// One of a few words, in any case. The first word of a value is how it is shown.
#[derive(Clone, Copy)]
pub(crate) struct OneOf<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Kind for OneOf<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Option<T> {
        self.0.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value)
    }

    fn show(&self, value: &T) -> String {
        self.0
            .iter()
            .find(|(_, of)| of == value)
            .map_or_else(String::new, |(word, _)| (*word).to_owned())
    }

    fn allowed(&self) -> String {
        match self.0 {
            [] => String::new(),
            [(only, _)] => (*only).to_owned(),
            [first @ .., (last, _)] => {
                let words: Vec<_> = first.iter().map(|(word, _)| *word).collect();
                format!("{} or {last}", words.join(", "))
            }
        }
    }
}

/// Text on one line.
pub(crate) struct Text {
    pub(crate) bytes_max: usize,
}

impl Kind for Text {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let sound =
            !text.is_empty() && text.len() <= self.bytes_max && !text.chars().any(char::is_control);
        sound.then(|| text.to_owned())
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn allowed(&self) -> String {
        format!("text of at most {} bytes without control characters", self.bytes_max)
    }
}

/// An IP address or a host name. Brackets around an IPv6 address are taken off.
pub(crate) struct Host;

impl Kind for Host {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
        let is_name = bare == text
            && (1..=253).contains(&bare.len())
            && bare.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            // All digits and dots is a mistyped address, not a name.
            && !bare.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        (is_name || bare.parse::<IpAddr>().is_ok()).then(|| bare.to_owned())
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn allowed(&self) -> String {
        "an IP address or a host name".into()
    }
}

/// A path of a file or directory.
pub(crate) struct Path;

impl Kind for Path {
    type Value = PathBuf;

    fn parse(&self, text: &str) -> Option<PathBuf> {
        (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
    }

    fn show(&self, value: &PathBuf) -> String {
        value.display().to_string()
    }

    fn allowed(&self) -> String {
        "a path".into()
    }
}

/// Paths with commas between.
pub(crate) struct Paths;

impl Kind for Paths {
    type Value = Vec<PathBuf>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        text.split(',').map(|path| Path.parse(path.trim())).collect()
    }

    fn show(&self, value: &Self::Value) -> String {
        let paths: Vec<_> = value.iter().map(|path| path.display().to_string()).collect();
        paths.join(",")
    }

    fn allowed(&self) -> String {
        "a path, or several with commas between".into()
    }
}

/// A password or key.
pub(crate) struct SecretText;

impl Kind for SecretText {
    type Value = Secret;

    fn parse(&self, text: &str) -> Option<Secret> {
        (!text.is_empty()).then(|| Secret::new(text))
    }

    fn show(&self, _: &Secret) -> String {
        MASK.to_owned()
    }

    fn allowed(&self) -> String {
        "text".into()
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// `kid1:secret1,kid2:secret2`.
pub(crate) struct KeyList;

impl Kind for KeyList {
    type Value = Vec<NamedKey>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        let mut keys: Vec<NamedKey> = Vec::new();
        for pair in text.split(',') {
            let (kid, secret) = pair.split_once(':')?;
            let kid = kid.trim();
            if kid.is_empty() || secret.is_empty() || keys.iter().any(|key| key.kid == kid) {
                return None;
            }
            keys.push(NamedKey { kid: kid.to_owned(), secret: Secret::new(secret) });
        }
        Some(keys)
    }

    fn show(&self, value: &Self::Value) -> String {
        let pairs: Vec<_> = value.iter().map(|key| format!("{}:{MASK}", key.kid)).collect();
        pairs.join(",")
    }

    fn allowed(&self) -> String {
        "kid:secret pairs with commas between, each kid once".into()
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// `auto` or a number of threads.
pub(crate) struct ShardCount;

impl Kind for ShardCount {
    type Value = Shards;

    fn parse(&self, text: &str) -> Option<Shards> {
        if text.eq_ignore_ascii_case("auto") {
            return Some(Shards::Auto);
        }
        int(1, u64::from(Shards::MAX)).parse(text).map(Shards::Count)
    }

    fn show(&self, value: &Shards) -> String {
        match value {
            Shards::Auto => "auto".into(),
            Shards::Count(count) => count.to_string(),
        }
    }

    fn allowed(&self) -> String {
        format!("auto or a whole number from 1 to {}", Shards::MAX)
    }
}

/// The name of a service whose policy the core knows, in any case.
pub(crate) struct ServiceName;

impl Kind for ServiceName {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let name = text.to_ascii_lowercase();
        Policy::services().any(|known| known == name).then_some(name)
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn allowed(&self) -> String {
        let names: Vec<_> = Policy::services().collect();
        format!("one of {}", names.join(", "))
    }
}

/// Texts with commas between, none of them empty.
pub(crate) struct List;

impl Kind for List {
    type Value = Vec<String>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        let items: Vec<_> = text.split(',').map(|item| item.trim().to_owned()).collect();
        (!items.iter().any(|item| item.is_empty() || item.chars().any(char::is_control)))
            .then_some(items)
    }

    fn show(&self, value: &Self::Value) -> String {
        value.join(",")
    }

    fn allowed(&self) -> String {
        "one or more texts with commas between".into()
    }
}

/// Origins of web pages (RFC 6454) with commas between.
pub(crate) struct OriginList;

impl Kind for OriginList {
    type Value = Vec<String>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        let items = List.parse(text)?;
        let sound = |item: &String| item == "*" || Origin::parse(item).is_some();
        items.iter().all(sound).then_some(items)
    }

    fn show(&self, value: &Self::Value) -> String {
        value.join(",")
    }

    fn allowed(&self) -> String {
        "scheme://host[:port] with commas between; *. before a host takes in all below it; * for all"
            .into()
    }
}

/// Names of a server, with commas between.
pub(crate) struct HostList;

impl Kind for HostList {
    type Value = Vec<String>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        let items = List.parse(text)?;
        items.iter().all(|item| item == "*" || Hosts::is_name(item)).then_some(items)
    }

    fn show(&self, value: &Self::Value) -> String {
        value.join(",")
    }

    fn allowed(&self) -> String {
        "names without a port, with commas between; *. before a name takes in all below it; * for all"
            .into()
    }
}

/// `text` if it is digits only: `parse` alone would also take a plus sign.
fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_in_all_spellings() {
        for text in ["true", "TRUE", "True", "1", "yes", "ON"] {
            assert_eq!(Bool.parse(text), Some(true), "{text}");
        }
        for text in ["false", "False", "0", "No", "off"] {
            assert_eq!(Bool.parse(text), Some(false), "{text}");
        }
        for text in ["", "2", "t", "enabled", " true"] {
            assert_eq!(Bool.parse(text), None, "{text}");
        }
    }

    #[test]
    fn whole_numbers_hold_their_bounds() {
        let port = int::<u16>(0, 65535);
        assert_eq!(port.parse("0"), Some(0));
        assert_eq!(port.parse("65535"), Some(65535));
        for text in ["", "65536", "-1", "+1", "80 ", "8_0", "1e3", "99999999999999999999999"] {
            assert_eq!(port.parse(text), None, "{text}");
        }
    }

    #[test]
    fn seconds_take_decimals_and_hold_their_bounds() {
        let time = seconds(100, 60);
        assert_eq!(time.parse("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(time.parse("60"), Some(Duration::from_secs(60)));
        for text in ["", "0", "0.05", "60.1", "-1", "1s", "inf", "NaN", "1e1", "."] {
            assert_eq!(time.parse(text), None, "{text}");
        }
        assert_eq!(OrOff(time).parse("0"), Some(None));
        let at_once = OffOr(seconds(0, 60));
        assert_eq!(at_once.parse("0"), Some(Some(Duration::ZERO)));
        assert_eq!(at_once.parse("OFF").map(|value| at_once.show(&value)).as_deref(), Some("off"));
        assert_eq!(at_once.parse("never"), None);
    }

    #[test]
    fn hosts_are_addresses_or_names() {
        for text in ["127.0.0.1", "0.0.0.0", "::1", "localhost", "ws-1.example.com"] {
            assert_eq!(Host.parse(text).as_deref(), Some(text));
        }
        assert_eq!(Host.parse("[::1]").as_deref(), Some("::1"));
        for text in ["", "127.0.0", "1.2.3.4.5", "a b", "http://x", "[x]", "host:80"] {
            assert_eq!(Host.parse(text), None, "{text}");
        }
    }

    #[test]
    fn keys_name_each_kid_once() {
        let keys = KeyList.parse("new:abc:d,old:xyz").unwrap();
        assert_eq!(keys[0].kid, "new");
        assert_eq!(keys[0].secret.reveal(), "abc:d", "only the first colon separates");
        assert_eq!(keys[1].secret.reveal(), "xyz");
        for text in ["abc", "k:", ":s", "a:1,a:2", "a:1,"] {
            assert_eq!(KeyList.parse(text), None, "{text}");
        }
    }
}
