//! JSON as text: what parsing hides.

use std::fmt;

use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

/// The nine fields of every message, in their order.
pub const FIELDS: [&str; 9] = [
    "id",
    "correlation_id",
    "type",
    "event",
    "data",
    "timestamp",
    "room",
    "error_code",
    "error_message",
];

/// The keys of an object in the order in which they stand there.
pub fn keys(text: &str) -> Vec<String> {
    struct Keys;

    impl<'de> Visitor<'de> for Keys {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut keys = Vec::new();
            while let Some((key, IgnoredAny)) = map.next_entry()? {
                keys.push(key);
            }
            Ok(keys)
        }
    }

    serde_json::Deserializer::from_str(text)
        .deserialize_map(Keys)
        .unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Panics unless `text` is a message with the nine fields first, in their order and with their types, and no white
/// space. Returns it parsed.
pub fn message(text: &str) -> Value {
    let keys = keys(text);
    assert_eq!(keys.iter().take(9).map(String::as_str).collect::<Vec<_>>(), FIELDS, "{text}");
    let value: Value = serde_json::from_str(text).expect("its keys were read");
    assert_eq!(value.to_string().len(), text.len(), "white space in {text}");
    for name in ["id", "type", "timestamp"] {
        assert!(value[name].is_string(), "{name} in {text}");
    }
    for name in ["correlation_id", "event", "room", "error_code", "error_message"] {
        assert!(value[name].is_string() || value[name].is_null(), "{name} in {text}");
    }
    assert!(value["data"].is_object(), "{text}");
    assert!(is_uuid4(value["id"].as_str().unwrap_or_default()), "{text}");
    assert!(is_utc_micros(value["timestamp"].as_str().unwrap_or_default()), "{text}");
    value
}

/// Whether it is a random UUID (RFC 9562 §5.4) in lower case.
pub fn is_uuid4(text: &str) -> bool {
    fits(text, "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx")
}

/// Whether it is ISO 8601 with microseconds and the offset of UTC.
pub fn is_utc_micros(text: &str) -> bool {
    fits(text, "dddd-dd-ddTdd:dd:dd.dddddd+00:00")
}

/// Whether it is RFC 3339 with `Z`, to the second or finer.
pub fn is_zulu(text: &str) -> bool {
    let Some(start) = text.get(..19) else { return false };
    let fraction = text.get(19..).and_then(|rest| rest.strip_suffix('Z'));
    let digits = |fraction: &str| {
        fraction.is_empty()
            || fraction.strip_prefix('.').is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()))
    };
    fits(start, "dddd-dd-ddTdd:dd:dd") && fraction.is_some_and(digits)
}

/// `d` is a digit, `x` a hexadecimal digit, `y` one of 8, 9, a and b; the rest stands for itself.
fn fits(text: &str, shape: &str) -> bool {
    let same = |(byte, shape): (u8, u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        b'x' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        b'y' => matches!(byte, b'8' | b'9' | b'a' | b'b'),
        _ => byte == shape,
    };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order() {
        assert_eq!(keys(r#"{"b":{"x":1},"a":[2]}"#), ["b", "a"]);
    }

    #[test]
    fn shapes_are_told_apart() {
        assert!(is_uuid4("0b1f1c3e-0000-4000-8000-00000000000f"));
        assert!(!is_uuid4("0b1f1c3e-0000-1000-8000-00000000000f"));
        assert!(is_utc_micros("2026-02-11T10:30:00.000001+00:00"));
        assert!(!is_utc_micros("2026-02-11T10:30:00.000001"));
        assert!(is_zulu("2026-02-11T10:30:00Z") && is_zulu("2026-02-11T10:30:00.5Z"));
        assert!(!is_zulu("2026-02-11T10:30:00") && !is_zulu("2026-02-11"));
    }
}
