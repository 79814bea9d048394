//! What a request to publish may carry besides its message: a key, a document, a condition.

use std::borrow::Cow;

use super::{
    decode::{DecodeError, Incoming},
    json::write_string,
    options::{POSITIONS_RULE, flag, members, number},
    position::Epoch,
    scan::Value,
    traceparent::TraceParent,
};

/// What a request to publish asks for besides its message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishOptions<'a> {
    /// `idempotency_key`: the same request under the same key is carried out once. 1 to 256 bytes.
    pub idempotency_key: Option<Cow<'a, str>>,
    /// What goes with the message.
    pub message: MessageOptions<'a>,
}

/// What a message may have with it on its way to its channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MessageOptions<'a> {
    /// `positions`, or one of the others: the answer tells where in the channel the message stands.
    pub positions: bool,
    /// `state`: the channel's document from now on, the JSON text of an object.
    pub state: Option<&'a str>,
    /// `if_offset` and `if_epoch`: only if the channel's document is still this one.
    pub condition: Option<Condition>,
    /// `traceparent`: the span that it is a part of. What is none is ignored.
    pub traceparent: Option<TraceParent>,
}

/// Which document a channel has to have for a message to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The number of the message that the document came with; 0: there must be none.
    pub offset: u64,
    /// In this life of the channel's numbers; `None`: in whichever it is.
    pub epoch: Option<Epoch>,
}

impl<'a> MessageOptions<'a> {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Appends the members, each behind a comma.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if self.positions {
            out.extend_from_slice(b",\"positions\":true");
        }
        if let Some(state) = self.state {
            out.extend_from_slice(b",\"state\":");
            out.extend_from_slice(state.as_bytes());
        }
        if let Some(Condition { offset, epoch }) = self.condition {
            out.extend_from_slice(b",\"if_offset\":");
            out.extend_from_slice(itoa::Buffer::new().format(offset).as_bytes());
            if let Some(epoch) = epoch {
                out.extend_from_slice(b",\"if_epoch\":");
                write_string(out, epoch.as_str());
            }
        }
        if let Some(traceparent) = self.traceparent {
            out.extend_from_slice(b",\"traceparent\":\"");
            traceparent.write(out);
            out.push(b'"');
        }
    }

    /// Reads the values of [`MESSAGE_OPTIONS`], in their order. The place of the one that does not fit.
    pub(super) fn read(values: [Option<Value<'a>>; 5]) -> Result<Self, usize> {
        let [positions, state, if_offset, if_epoch, traceparent] =
            values.map(|value| value.filter(|value| !value.is_null()));
        let positions = positions.map(flag).transpose().map_err(|_| 0_usize)?;
        if state.is_some_and(|state| !state.is_object()) {
            return Err(1);
        }
        let offset = if_offset.map(number).transpose().map_err(|_| 2_usize)?;
        let epoch = if_epoch
            .map(|epoch| epoch.string().and_then(|epoch| Epoch::parse(&epoch)).ok_or(3_usize));
        let condition = match (offset, epoch.transpose()?) {
            (Some(offset), epoch) => Some(Condition { offset, epoch }),
            // Which document is meant is not said.
            (None, Some(_)) => return Err(3),
            (None, None) => None,
        };
        let state = state.map(Value::get);
        // Who changes a document has to know which one is his.
        let positions = positions == Some(true) || state.is_some() || condition.is_some();
        // A client that is not traced rightly is no reason to refuse what it says.
        let traceparent = traceparent.and_then(Value::string);
        let traceparent = traceparent.and_then(|text| TraceParent::parse(&text));
        Ok(Self { positions, state, condition, traceparent })
    }
}

/// The members of a message besides the message itself.
pub(super) const MESSAGE_OPTIONS: [&str; 5] =
    ["positions", "state", "if_offset", "if_epoch", "traceparent"];

/// What each of them may be.
const MESSAGE_RULES: [&str; 4] = [
    POSITIONS_RULE,
    "state must be an object",
    "if_offset must be a whole number",
    "if_epoch must be an epoch that the server gave, beside an if_offset",
];
const KEY_RULE: &str = "idempotency_key must be a string of 1 to 256 bytes";

/// Bytes of an idempotency key, at most.
pub const KEY_BYTES_MAX: usize = 256;

/// The text of an idempotency key, if it is one.
pub(super) fn idempotency_key(value: Value<'_>) -> Option<Cow<'_, str>> {
    value.string().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()))
}

impl Incoming<'_> {
    /// What a request to publish asks for besides its message. Fails if a member has a value of another type.
    pub fn publish_options(&self) -> Result<PublishOptions<'_>, DecodeError> {
        match self.data {
            Some(data) if self.members.more => publish_options(data),
            _ => Ok(PublishOptions::default()),
        }
    }
}

/// The `channel` that the `data` of a `get_state` names. `None`: missing or not a string, so that it is none of ours.
#[must_use]
pub fn state_channel(data: &str) -> Option<Cow<'_, str>> {
    let [channel] = members(data, &["channel"]).ok()?;
    channel.and_then(Value::string)
}

#[cold]
fn publish_options(data: &str) -> Result<PublishOptions<'_>, DecodeError> {
    let [positions, state, if_offset, if_epoch, parent] = MESSAGE_OPTIONS;
    let names = &[positions, state, if_offset, if_epoch, parent, "idempotency_key"];
    let [positions, state, if_offset, if_epoch, parent, key] = members(data, names)?;
    let message = MessageOptions::read([positions, state, if_offset, if_epoch, parent]);
    let rule = |at: usize| MESSAGE_RULES.get(at).copied().unwrap_or_default();
    let key = key.map(|key| idempotency_key(key).ok_or(DecodeError::Member(KEY_RULE)));
    let message = message.map_err(|at| DecodeError::Member(rule(at)))?;
    Ok(PublishOptions { idempotency_key: key.transpose()?, message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::decode_text;

    fn publish(data: &str) -> Result<PublishOptions<'static>, DecodeError> {
        let text = format!(r#"{{"type":"request","event":"publish","data":{data}}}"#);
        let text: &'static str = text.leak();
        let incoming: &'static Incoming<'static> = Box::leak(Box::new(decode_text(text).unwrap()));
        incoming.publish_options()
    }

    #[test]
    fn a_publish_carries_what_is_read_with_it() {
        let all = r#"{"channel":"c","event":"e","idempotency_key":"k\u0031","state":{"n": 1},"if_offset":7,"if_epoch":"0123456789"}"#;
        let condition = Condition { offset: 7, epoch: Epoch::parse("0123456789") };
        let message = MessageOptions {
            positions: true,
            state: Some(r#"{"n": 1}"#),
            condition: Some(condition),
            traceparent: None,
        };
        let expected = PublishOptions { idempotency_key: Some("k1".into()), message };
        assert_eq!(publish(all), Ok(expected));
        let nothing = Ok(PublishOptions::default());
        assert_eq!(publish(r#"{"channel":"c","event":"e","data":{"state":{}}}"#), nothing);
        let nulls = r#"{"idempotency_key":null,"positions":null,"state":null,"if_offset":null}"#;
        assert_eq!(publish(nulls), nothing);
        assert_eq!(publish(r#"{"positions":false}"#), nothing);
    }

    #[test]
    fn a_document_is_asked_for_by_its_channel() {
        assert_eq!(state_channel(r#"{"channel":"pool:\u0037"}"#).as_deref(), Some("pool:7"));
        for data in ["{}", r#"{"channel":7}"#, r#"{"state_path":"a.b"}"#, r#"{"channel":null}"#] {
            assert_eq!(state_channel(data), None, "{data}");
        }
    }

    #[test]
    fn who_changes_a_document_is_told_its_position() {
        for data in [r#"{"positions":true}"#, r#"{"state":{}}"#, r#"{"if_offset":0}"#] {
            assert!(publish(data).unwrap().message.positions, "{data}");
        }
        let silenced = publish(r#"{"state":{},"positions":false}"#).unwrap();
        assert!(silenced.message.positions);
    }

    #[test]
    fn a_publish_with_values_of_other_types_is_refused() {
        let long = format!(r#""idempotency_key":"{}""#, "k".repeat(KEY_BYTES_MAX + 1));
        for member in [
            r#""positions":"yes""#,
            r#""idempotency_key":5"#,
            r#""idempotency_key":"""#,
            &long,
            r#""state":[]"#,
            r#""state":"{}""#,
            r#""if_offset":-1"#,
            r#""if_offset":"1""#,
            r#""if_offset":1,"if_epoch":"?""#,
            r#""if_offset":1,"if_epoch":5"#,
            r#""if_epoch":"0123456789""#,
        ] {
            let name = member.rsplit_once("\":").unwrap().0.rsplit('"').next().unwrap();
            let refused = publish(&format!("{{{member}}}")).unwrap_err();
            assert!(
                matches!(refused, DecodeError::Member(rule) if rule.starts_with(name)),
                "{member}"
            );
        }
    }
}
