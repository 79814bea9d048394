//! Bodies of `POST /publish`, against a model that reads them into [`serde_json::Value`].

use mahavishnu_core::protocol::{
    Epoch, MessageOptions,
    publish::{PublishError, parse},
};
use serde_json::{Value, json};

use crate::envelope::{Read, read};

/// Input: a byte that says how many messages are allowed at once, then a body.
pub fn run(input: &[u8]) {
    let Some((first, body)) = input.split_first() else { return };
    let batch_max = usize::from(first % 8);
    let parsed = parse(body, batch_max);
    if std::str::from_utf8(body).is_err() {
        assert_eq!(parsed, Err(PublishError::Utf8));
        return;
    }
    match read(body) {
        Read::Value(value) => {
            let parsed = parsed.map(|request| Request {
                messages: request
                    .messages
                    .iter()
                    .map(|message| Message {
                        channel: message.channel.to_string(),
                        event: message.event.to_string(),
                        data: serde_json::from_str(message.data).expect("data is JSON"),
                        options: options(&message.options),
                    })
                    .collect(),
                key: request.idempotency_key.map(String::from),
            });
            assert_eq!(parsed, model(&value, batch_max), "{value}");
        }
        Read::NotJson => assert!(
            matches!(parsed, Err(PublishError::Syntax | PublishError::TooDeep)),
            "{parsed:?}"
        ),
        Read::Stricter => {}
    }
}

#[derive(Debug, PartialEq)]
struct Request {
    messages: Vec<Message>,
    key: Option<String>,
}

#[derive(Debug, PartialEq)]
struct Message {
    channel: String,
    event: String,
    data: Value,
    options: Options,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    positions: bool,
    state: Option<Value>,
    if_offset: Option<u64>,
    if_epoch: Option<String>,
}

pub(crate) fn options(options: &MessageOptions<'_>) -> Options {
    let epoch = options.condition.and_then(|condition| condition.epoch);
    Options {
        positions: options.positions,
        state: options.state.map(|state| serde_json::from_str(state).expect("state is JSON")),
        if_offset: options.condition.map(|condition| condition.offset),
        if_epoch: epoch.map(|epoch| epoch.to_string()),
    }
}

fn model(value: &Value, batch_max: usize) -> Result<Request, PublishError> {
    let (messages, key) = match value {
        Value::Array(_) => (batch(value, batch_max)?, None),
        Value::Object(object) => {
            let messages = match object.get("messages") {
                Some(messages) => batch(messages, batch_max)?,
                None => vec![message(0, value)?],
            };
            let key = match object.get("idempotency_key") {
                None | Some(Value::Null) => None,
                Some(Value::String(key)) if (1..=256).contains(&key.len()) => Some(key.clone()),
                Some(_) => return Err(PublishError::Key),
            };
            (messages, key)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(PublishError::Shape);
        }
    };
    if messages.is_empty() { Err(PublishError::Empty) } else { Ok(Request { messages, key }) }
}

fn batch(list: &Value, batch_max: usize) -> Result<Vec<Message>, PublishError> {
    let list = list.as_array().ok_or(PublishError::Shape)?;
    if list.len() > batch_max {
        return Err(PublishError::TooMany);
    }
    list.iter().enumerate().map(|(at, item)| message(at, item)).collect()
}

fn message(at: usize, item: &Value) -> Result<Message, PublishError> {
    let item = item.as_object().ok_or(PublishError::Message(at))?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let channel = text(item.get("channel").or_else(|| item.get("room")));
    let event = text(item.get("event")).filter(|event| !event.is_empty());
    let data = item.get("data").cloned().unwrap_or_else(|| json!({}));
    Ok(Message {
        channel: channel.ok_or(PublishError::Channel(at))?,
        event: event.ok_or(PublishError::Event(at))?,
        data: if data.is_object() { data } else { return Err(PublishError::Data(at)) },
        options: message_options(at, |name| item.get(name).filter(|value| !value.is_null()))?,
    })
}

/// What the members of the message at this index say that are there and not null.
pub(crate) fn message_options<'v>(
    at: usize,
    option: impl Fn(&str) -> Option<&'v Value>,
) -> Result<Options, PublishError> {
    let asked = match option("positions") {
        None => false,
        Some(value) => value.as_bool().ok_or(PublishError::Positions(at))?,
    };
    let state = option("state").cloned();
    if state.as_ref().is_some_and(|state| !state.is_object()) {
        return Err(PublishError::State(at));
    }
    let refused = PublishError::Condition(at);
    let if_offset = option("if_offset").map(|offset| offset.as_u64().ok_or(refused)).transpose()?;
    let epoch = |value: &Value| {
        let text = value.as_str().filter(|text| Epoch::parse(text).is_some());
        text.map(str::to_owned).ok_or(refused)
    };
    let if_epoch = option("if_epoch").map(epoch).transpose()?;
    if if_epoch.is_some() && if_offset.is_none() {
        return Err(refused);
    }
    if if_offset.is_some() && at > 0 {
        return Err(PublishError::LateCondition(at));
    }
    let positions = asked || state.is_some() || if_offset.is_some();
    Ok(Options { positions, state, if_offset, if_epoch })
}
