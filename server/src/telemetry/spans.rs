//! Spans of the core as OTLP has them, under the names of the semantic conventions where there are such.

use mahavishnu_core::{
    reason::Reason,
    spans::{Entrance, Operation, Span},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::KeyValue,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span as Told, Status, span::SpanKind, status::StatusCode,
    },
};

use super::{
    SCHEMA, Source,
    attributes::{count, int, text},
    nanos,
};

/// A batch of spans.
pub(super) fn request(source: &Source, spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(source.resource.clone()),
            scope_spans: vec![ScopeSpans {
                scope: Some(source.scope.clone()),
                spans: spans.into_iter().map(told).collect(),
                schema_url: SCHEMA.into(),
            }],
            schema_url: SCHEMA.into(),
        }],
    }
}

fn told(span: Span) -> Told {
    let (name, kind) = match span.operation {
        Operation::Handshake { .. } => ("websocket handshake", SpanKind::Server),
        Operation::Auth => ("auth", SpanKind::Internal),
        Operation::Publish { via: Entrance::Application, .. } => ("publish", SpanKind::Internal),
        Operation::Publish { via: Entrance::Queue, .. } => ("publish", SpanKind::Consumer),
        Operation::Publish { .. } => ("publish", SpanKind::Server),
        Operation::Append { .. } => ("append", SpanKind::Client),
    };
    let mut attributes = attributes(&span);
    if let Some(client) = span.client {
        attributes.push(text("client.address", &client.ip().to_canonical().to_string()));
        // A proxy that names a client does not name its port.
        if client.port() != 0 {
            attributes.push(int("client.port", i64::from(client.port())));
        }
    }
    attributes.extend(span.user.as_deref().map(|user| text("user.id", user)));
    let status = span.outcome.err().map(|reason| {
        attributes.push(text("error.type", reason.name()));
        // From the table of reasons, which has nothing of what came in.
        Status { message: reason.row().text.into(), code: StatusCode::Error.into() }
    });
    Told {
        trace_id: span.context.trace.to_vec(),
        span_id: span.context.span.to_vec(),
        parent_span_id: span.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        flags: SAMPLED,
        name: name.into(),
        kind: kind.into(),
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.end),
        attributes,
        status,
        ..Told::default()
    }
}

fn attributes(span: &Span) -> Vec<KeyValue> {
    let status = |accepted: u16| {
        let refused = |reason: Reason| reason.row().status.unwrap_or(accepted);
        int(
            "http.response.status_code",
            i64::from(span.outcome.map_or_else(refused, |()| accepted)),
        )
    };
    match &span.operation {
        Operation::Handshake { secure, accepted } => vec![
            text("http.request.method", "GET"),
            if *accepted { int("http.response.status_code", 101) } else { status(101) },
            text("network.protocol.name", "websocket"),
            text("url.scheme", if *secure { "wss" } else { "ws" }),
        ],
        Operation::Auth => Vec::new(),
        Operation::Publish { via, channel, messages, bytes, subscribers } => {
            let mut list = messaging("publish", channel, *messages);
            list.push(count("messaging.message.body.size", *bytes as u64));
            list.push(count("mahavishnu.subscribers", *subscribers));
            match via {
                Entrance::Message => list.push(text("network.protocol.name", "websocket")),
                Entrance::Http => {
                    list.push(text("network.protocol.name", "http"));
                    list.push(text("http.request.method", "POST"));
                    list.push(text("http.route", "/publish"));
                    list.push(status(200));
                }
                Entrance::Application | Entrance::Queue => {}
            }
            list
        }
        Operation::Append { channel, messages } => {
            let mut list = messaging("append", channel, *messages);
            // The only bus that this program has.
            list.push(text("db.system.name", "redis"));
            list
        }
    }
}

fn messaging(operation: &str, channel: &str, messages: u32) -> Vec<KeyValue> {
    let mut list = vec![
        text("messaging.system", "mahavishnu"),
        text("messaging.operation.name", operation),
        text("messaging.operation.type", "send"),
    ];
    if !channel.is_empty() {
        list.push(text("messaging.destination.name", channel));
    }
    if messages > 1 {
        list.push(int("messaging.batch.message_count", i64::from(messages)));
    }
    list
}

/// The flag of W3C Trace Context: what is not kept is not exported.
const SAMPLED: u32 = 1;
