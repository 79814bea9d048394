//! HTTP/1.1 answers out.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode, Version,
    header::{
        ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION,
        TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
    },
};

use super::negotiate::Accept;
use crate::{protocol::write_string, reason::Reason};

/// The answer that a reason stands for in the table of reasons: its status, the header fields that RFC 9110 asks for
/// with that status, and a body of the same form as every other refusal. `None` if the reason is not one for HTTP.
///
/// 405 lists `GET, HEAD`: a resource with other methods replaces `Allow`.
#[must_use]
pub fn refusal(reason: Reason) -> Option<Response<Bytes>> {
    let row = reason.row();
    let status = StatusCode::from_u16(row.status?).ok()?;
    let mut response = Response::new(refusal_body(reason, row.text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match status {
        // RFC 9110 §15.5.22, and RFC 6455 §4.4 for the version.
        // RFC 2817 §3.3.
        StatusCode::UPGRADE_REQUIRED if reason == Reason::TlsRequired => {
            headers.insert(UPGRADE, HeaderValue::from_static("TLS/1.2, HTTP/1.1"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        }
        StatusCode::UPGRADE_REQUIRED => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        // What follows may be the body whose length is missing.
        StatusCode::LENGTH_REQUIRED => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    Some(response)
}

/// The body of a refusal, with what exactly was wrong in place of the table's text.
#[must_use]
pub fn refusal_body(reason: Reason, detail: &str) -> Bytes {
    let row = reason.row();
    let mut body = br#"{"status":"error""#.to_vec();
    for (name, text) in [
        (&br#","error_code":"#[..], row.code.unwrap_or_else(|| reason.name())),
        (br#","error_message":"#, detail),
        (br#","retry":"#, row.retry.as_str()),
    ] {
        body.extend_from_slice(name);
        write_string(&mut body, text);
    }
    body.push(b'}');
    body.into()
}

/// How a request wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// The connection is kept for a further request.
    pub(super) keep_alive: bool,
    /// The request was a HEAD: the answer has no body.
    pub(super) head_only: bool,
    pub(super) version: Version,
}

/// Encodes an answer's head. Framing fields are ours: whatever `response` says about them is ignored.
pub(super) fn response_head(response: &Response<Bytes>, manner: Manner) -> Vec<u8> {
    let status = response.status();
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in response.headers() {
        if name != CONNECTION && name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
            field(&mut out, name.as_str(), value.as_bytes());
        }
    }
    if has_body(status) {
        field(&mut out, CONTENT_LENGTH.as_str(), response.body().len().to_string().as_bytes());
    }
    connection(&mut out, response.headers(), manner);
    out.extend_from_slice(b"\r\n");
    out
}

/// Whether an answer with this status can have a body (RFC 9110 §6.4.1).
pub(super) fn has_body(status: StatusCode) -> bool {
    !(status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED)
}

/// Encodes the positive answer to a handshake (RFC 6455 §4.2.2).
pub(super) fn switching_protocols(accept_key: &str, accept: &Accept<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    field(&mut out, "sec-websocket-accept", accept_key.as_bytes());
    // A name that is not a token cannot have been offered, and could break the head.
    let subprotocol =
        accept.subprotocol.filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()));
    if let Some(subprotocol) = subprotocol {
        field(&mut out, "sec-websocket-protocol", subprotocol.as_bytes());
    }
    if let Some(deflate) = accept.deflate {
        field(&mut out, "sec-websocket-extensions", deflate.answer().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Appends header fields.
pub(super) fn fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        field(out, name.as_str(), value.as_bytes());
    }
}

/// RFC 9110 §15.2.1.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// `Connection`: the answer's own options (426 has one) and whether the connection is kept (RFC 9112 §9.3).
fn connection(out: &mut Vec<u8>, headers: &HeaderMap, manner: Manner) {
    let persistence = match (manner.keep_alive, manner.version) {
        (false, _) => Some("close"),
        (true, Version::HTTP_10) => Some("keep-alive"),
        (true, _) => None,
    };
    let own = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let own = own.filter(|option| {
        !option.eq_ignore_ascii_case("close") && !option.eq_ignore_ascii_case("keep-alive")
    });
    let options: Vec<&str> = own.chain(persistence).collect();
    if !options.is_empty() {
        field(out, CONNECTION.as_str(), options.join(", ").as_bytes());
    }
}

/// What `Retry-After` says. Clients add their own jitter.
const RETRY_AFTER_SECONDS: &str = "1";

#[cfg(test)]
mod tests {
    use super::*;

    fn text(response: &Response<Bytes>, manner: Manner) -> String {
        String::from_utf8(response_head(response, manner)).unwrap()
    }

    const KEPT: Manner = Manner { keep_alive: true, head_only: false, version: Version::HTTP_11 };
    const CLOSED: Manner = Manner { keep_alive: false, ..KEPT };

    #[test]
    fn every_reason_with_a_status_has_an_answer_in_json() {
        for reason in Reason::ALL {
            let Some(response) = refusal(*reason) else {
                assert_eq!(reason.row().status, None);
                continue;
            };
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(body["error_message"], reason.row().text);
            assert!(!body["error_code"].as_str().unwrap().is_empty());
        }
    }

    #[test]
    fn statuses_bring_the_fields_that_they_need() {
        let upgrade = text(&refusal(Reason::BadVersion).unwrap(), CLOSED);
        assert!(upgrade.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{upgrade}");
        assert!(upgrade.contains("\r\nupgrade: websocket\r\n"), "{upgrade}");
        assert!(upgrade.contains("\r\nsec-websocket-version: 13\r\n"), "{upgrade}");
        assert!(upgrade.contains("\r\nconnection: Upgrade, close\r\n"), "{upgrade}");
        assert!(
            text(&refusal(Reason::MethodNotAllowed).unwrap(), CLOSED)
                .contains("\r\nallow: GET, HEAD\r\n")
        );
        assert!(
            text(&refusal(Reason::AuthMissing).unwrap(), CLOSED)
                .contains("\r\nwww-authenticate: Bearer\r\n")
        );
        assert!(
            text(&refusal(Reason::MaxConnections).unwrap(), CLOSED).contains("\r\nretry-after: ")
        );
        assert!(text(&refusal(Reason::ConnectRate).unwrap(), CLOSED).contains("\r\nretry-after: "));
    }

    #[test]
    fn framing_fields_are_ours() {
        let response = Response::builder()
            .header("Content-Length", "999")
            .header("Transfer-Encoding", "chunked")
            .header("Connection", "close")
            .body(Bytes::from_static(b"abc"))
            .unwrap();
        assert_eq!(text(&response, KEPT), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
        let old = Manner { version: Version::HTTP_10, ..KEPT };
        assert!(text(&response, old).contains("connection: keep-alive\r\n"));
        let empty = Response::builder().status(204).body(Bytes::new()).unwrap();
        assert_eq!(text(&empty, CLOSED), "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    }

    #[test]
    fn a_subprotocol_cannot_break_the_head() {
        let accept = Accept { subprotocol: Some("a\r\nb: c"), ..Accept::default() };
        let head = String::from_utf8(switching_protocols("key", &accept)).unwrap();
        assert!(!head.contains("b: c"), "{head}");
    }
}
