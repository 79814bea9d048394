//! The kind of setting that switches something on or off by channel.

use mahavishnu_core::auth::Pattern;

use super::kind::{Bool, Kind};

/// On or off for the channels that match a pattern. The first match counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Switch {
    pub(crate) pattern: String,
    pub(crate) on: bool,
}

/// `pattern=on` and `pattern=off` pairs with commas between.
pub(crate) struct Switches;

impl Kind for Switches {
    type Value = Vec<Switch>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        let switch = |pair: &str| {
            let (pattern, on) = pair.split_once('=')?;
            let pattern = pattern.trim();
            Pattern::parse(pattern).ok()?;
            Some(Switch { pattern: pattern.to_owned(), on: Bool.parse(on.trim())? })
        };
        text.split(',').map(switch).collect()
    }

    fn show(&self, value: &Self::Value) -> String {
        let on = |on| if on { "on" } else { "off" };
        let pairs: Vec<_> =
            value.iter().map(|switch| format!("{}={}", switch.pattern, on(switch.on))).collect();
        pairs.join(",")
    }

    fn allowed(&self) -> String {
        "pattern=on and pattern=off pairs with commas between".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_name_a_pattern_and_a_side() {
        let switches = Switches.parse("pool:*=off, global=ON").unwrap();
        assert_eq!(switches[0], Switch { pattern: "pool:*".into(), on: false });
        assert_eq!(switches[1], Switch { pattern: "global".into(), on: true });
        assert_eq!(Switches.show(&switches), "pool:*=off,global=on");
        for text in ["pool:*", "=on", "a=maybe", "a=on,", "a*b=on"] {
            assert_eq!(Switches.parse(text), None, "{text}");
        }
    }
}
