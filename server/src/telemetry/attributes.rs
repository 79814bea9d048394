//! Names with values, as OTLP has them.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

pub(super) fn text(name: &str, value: &str) -> KeyValue {
    attribute(name, Value::StringValue(value.to_owned()))
}

pub(super) fn int(name: &str, value: i64) -> KeyValue {
    attribute(name, Value::IntValue(value))
}

/// A count, which is never that large.
pub(super) fn count(name: &str, value: u64) -> KeyValue {
    int(name, i64::try_from(value).unwrap_or(i64::MAX))
}

fn attribute(name: &str, value: Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
