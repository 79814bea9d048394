//! Leaves out of answers in what servers may differ: times, numbers of connections, the wording of refusals.

use std::collections::BTreeMap;

use mahavishnu_test_redis::Value;

use crate::{arguments::sha, plan::Words};

/// Names that one side gives by its clock, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Ids(BTreeMap<String, usize>);

/// Refusals whose code is all that matters.
const CODES: &[&str] = &[
    "LOADING",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "READONLY",
    "MASTERDOWN",
    "BUSY",
    "NOPERM",
    "NOAUTH",
    "NOSCRIPT",
];

/// What Valkey says in other words.
const WORDING: &[(&str, &str)] = &[
    ("This Valkey command", "This Redis command"),
    ("Unknown command", "Unknown Redis command"),
    ("argument for this call", "argument for this redis lib call"),
    ("calling command from script", "calling Redis command from script"),
    ("Command arguments must", "Lua redis lib command arguments must"),
];

/// What a command was answered, without what may differ.
pub(crate) fn answer(command: &Words, value: Value, ids: &mut Ids) -> Value {
    let name = String::from_utf8_lossy(&command[0]).to_lowercase();
    match (name.as_str(), value) {
        // For how long it is somebody else's, and for how long the first entry has waited.
        ("evalsha", Value::Array(mut items)) if command[1] == sha("take").as_bytes() => {
            let at = if items.first() == Some(&Value::Bulk(b"other".to_vec())) { 1 } else { 2 };
            if let Some(time) = items.get_mut(at) {
                *time = Value::Integer(0);
            }
            any(Value::Array(items), ids)
        }
        // Rounded to minutes.
        ("pttl", Value::Integer(ms)) if ms > 1000 => Value::Integer((ms + 30_000) / 60_000),
        ("hgetall", Value::Array(items)) => {
            let items: Vec<Value> = items.into_iter().map(|item| any(item, ids)).collect();
            let mut pairs: Vec<Vec<Value>> = items.chunks(2).map(<[Value]>::to_vec).collect();
            pairs.sort_by_key(|pair| format!("{pair:?}"));
            Value::Array(pairs.concat())
        }
        ("hello", Value::Array(items)) => {
            let pairs = items.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()));
            answer(command, Value::Map(pairs.collect()), ids)
        }
        ("hello", Value::Map(pairs)) => {
            let kept = pairs
                .into_iter()
                .filter(|(name, _)| ["proto", "mode", "role"].contains(&name.text().as_str()));
            Value::Map(kept.collect())
        }
        ("scan", Value::Array(items)) => {
            let mut keys = items[1].items().to_vec();
            keys.sort_by_key(|key| format!("{key:?}"));
            Value::Array(vec![items[0].clone(), Value::Array(keys)])
        }
        (_, value) => any(value, ids),
    }
}

/// The same for what came without being asked for.
pub(crate) fn any(value: Value, ids: &mut Ids) -> Value {
    match value {
        Value::Error(text) => Value::Error(error(&text)),
        Value::Bulk(bytes) => Value::Bulk(times(bytes, ids)),
        Value::Double(text) => {
            Value::Double(String::from_utf8(times(text.into_bytes(), ids)).expect("it was text"))
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| any(item, ids)).collect()),
        Value::Push(items) => Value::Push(items.into_iter().map(|item| any(item, ids)).collect()),
        Value::Map(pairs) => {
            let mut pairs: Vec<(Value, Value)> =
                pairs.into_iter().map(|(key, value)| (any(key, ids), any(value, ids))).collect();
            pairs.sort_by_key(|pair| format!("{pair:?}"));
            Value::Map(pairs)
        }
        Value::Integer(number) if is_time(&number.to_string()) => Value::Simple("<time>".into()),
        other => other,
    }
}

/// Whether these digits are milliseconds of these years.
fn is_time(number: &str) -> bool {
    number.len() == 13 && (number.starts_with("17") || number.starts_with("18"))
}

fn error(text: &str) -> String {
    let text = text.split(" script: ").next().unwrap_or_default();
    let mut text = text.to_owned();
    for (valkey, redis) in WORDING {
        text = text.replace(valkey, redis);
    }
    let text = text.as_str();
    let code = text.split(' ').next().unwrap_or_default();
    if CODES.contains(&code) {
        return code.to_owned();
    }
    // Where in a script it was, but not in which words.
    match text.strip_prefix("ERR user_script:") {
        Some(rest) => format!("ERR user_script:{}", rest.split(':').next().unwrap_or_default()),
        None => text.trim_end().to_owned(),
    }
}

/// Times of this year in milliseconds are named in the order in which they come.
fn times(bytes: Vec<u8>, ids: &mut Ids) -> Vec<u8> {
    let Ok(text) = String::from_utf8(bytes.clone()) else { return bytes };
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        rest = behind;
        if !is_time(number) {
            out.push_str(number);
            continue;
        }
        let seq = rest
            .strip_prefix('-')
            .map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
        match seq.filter(|seq| !seq.is_empty()) {
            Some(seq) => {
                let name = format!("{number}-{seq}");
                let next = ids.0.len();
                out.push_str(&format!("<id {}>", ids.0.entry(name).or_insert(next)));
                rest = &rest[1 + seq.len()..];
            }
            None => out.push_str("<time>"),
        }
    }
    out.push_str(rest);
    out.into_bytes()
}
