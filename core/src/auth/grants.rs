//! Channel patterns that a token carries itself: for tokens that are good for one workflow or one diagram only.

use serde_json::Value;

use super::{
    claims::PERMISSION_BYTES_MAX,
    policy::{Pattern, Verb},
};

/// What a token's claim `channels` opens, beside what its permissions do: `{"subscribe": ["workflow:42"], "publish": []}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Channels whose events may be received.
    pub subscribe: Vec<Pattern>,
    /// Channels that events may be sent to.
    pub publish: Vec<Pattern>,
}

impl Grants {
    /// Reads the claim. `None`: not what the claim must be, or more than [`GRANTS_MAX`] patterns.
    #[must_use]
    pub fn read(claim: Option<&Value>) -> Option<Self> {
        let Some(claim) = claim.filter(|claim| !claim.is_null()) else {
            return Some(Self::default());
        };
        let object = claim.as_object()?;
        // A misspelt verb must not silently open nothing, nor a new one be taken for granted.
        if object.keys().any(|key| key != "subscribe" && key != "publish") {
            return None;
        }
        let this = Self {
            subscribe: read(object.get("subscribe"))?,
            publish: read(object.get("publish"))?,
        };
        (this.subscribe.len() + this.publish.len() <= GRANTS_MAX).then_some(this)
    }

    /// The first pattern that opens `channel` for `verb`, as its index.
    #[must_use]
    pub fn opens(&self, verb: Verb, channel: &str) -> Option<usize> {
        self.of(verb).iter().position(|pattern| pattern.fits(channel))
    }

    /// The patterns for `verb`.
    #[must_use]
    pub fn of(&self, verb: Verb) -> &[Pattern] {
        match verb {
            Verb::Subscribe => &self.subscribe,
            Verb::Publish => &self.publish,
        }
    }
}

fn read(list: Option<&Value>) -> Option<Vec<Pattern>> {
    let Some(list) = list else { return Some(Vec::new()) };
    let pattern = |item: &Value| {
        let text = item.as_str().filter(|text| text.len() <= PERMISSION_BYTES_MAX)?;
        Pattern::parse(text).ok()
    };
    list.as_array()?.iter().take(GRANTS_MAX + 1).map(pattern).collect()
}

/// Patterns of one token, of both kinds together. Over it: the token is refused.
pub const GRANTS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_open_their_channels_for_their_verb() {
        let grants =
            Grants::read(Some(&json!({ "subscribe": ["pool:1", "team:*"], "publish": ["a"] })));
        let grants = grants.unwrap();
        assert_eq!(grants.opens(Verb::Subscribe, "pool:1"), Some(0));
        assert_eq!(grants.opens(Verb::Subscribe, "team:x"), Some(1));
        assert_eq!(grants.opens(Verb::Subscribe, "a"), None);
        assert_eq!(grants.opens(Verb::Publish, "a"), Some(0));
        assert_eq!(grants.opens(Verb::Publish, "pool:1"), None);
    }

    #[test]
    fn a_claim_that_is_absent_opens_nothing() {
        for claim in [None, Some(json!(null)), Some(json!({})), Some(json!({ "publish": [] }))] {
            assert_eq!(Grants::read(claim.as_ref()), Some(Grants::default()));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let many = vec!["a"; GRANTS_MAX];
        for claim in [
            json!("a"),
            json!(["a"]),
            json!({ "subscribe": "a" }),
            json!({ "subscribe": [5] }),
            json!({ "subscribe": ["a*b"] }),
            json!({ "subscribe": [""] }),
            json!({ "read": ["a"] }),
            json!({ "subscribe": ["x".repeat(257)] }),
            json!({ "subscribe": many, "publish": ["b"] }),
        ] {
            assert_eq!(Grants::read(Some(&claim)), None, "{claim}");
        }
        assert!(Grants::read(Some(&json!({ "subscribe": many }))).is_some());
    }
}
