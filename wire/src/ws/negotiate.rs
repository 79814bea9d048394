//! The opening handshake, both sides (RFC 6455 §4), and what else a request's headers say about its exchange.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
        SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING,
        UPGRADE,
    },
    uri::Authority,
};
use sha1_smol::Sha1;

use super::deflate::{Deflate, OFFER};
use crate::{entropy::Entropy, reason::Reason};

/// How a server answers an upgrade request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accept<'a> {
    /// The one of the client's subprotocols that was chosen, if any.
    pub subprotocol: Option<&'a str>,
    /// What [`Deflate::choose`] found, if messages may be compressed.
    pub deflate: Option<Deflate>,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    /// The `Host` header: name and, unless it is the scheme's default, port.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Further header fields, such as `Authorization`.
    pub headers: HeaderMap,
    /// Subprotocols offered, best first.
    pub subprotocols: Vec<String>,
    /// Whether permessage-deflate is offered. If the server takes it up, messages may come as
    /// [`Event::Compressed`](super::Event::Compressed).
    pub deflate: bool,
}

/// What kind of exchange a request head begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// A WebSocket handshake; the value is the `Sec-WebSocket-Accept` of a positive answer.
    Upgrade(String),
    /// Anything else, with a body that ends like this.
    Plain(Framing),
}

/// Where a request's body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes.
    Length(usize),
    /// Where its chunks say.
    Chunked,
}

/// Checks a request head. RFC 9112 §3.2 and §6 for every request, RFC 6455 §4.2.1 for a handshake.
pub(super) fn inspect(request: &Request<()>) -> Result<Exchange, Reason> {
    let headers = request.headers();
    // RFC 9112 §3.2: exactly one Host in HTTP/1.1, and a valid one.
    let host = sole(headers, &HOST);
    let lacking = !headers.contains_key(HOST) && request.version() != Version::HTTP_11;
    if !(lacking || host.is_some_and(is_host)) {
        return Err(Reason::BadRequest);
    }
    if !is_target(request) {
        return Err(Reason::BadRequest);
    }
    let framing = framing(request)?;
    // RFC 9110 §7.8: without the connection option the field is not meant for us, and in HTTP/1.0 it has no meaning.
    if request.version() != Version::HTTP_11
        || !has_token(headers, &UPGRADE, "websocket")
        || !has_token(headers, &CONNECTION, "upgrade")
    {
        return Ok(Exchange::Plain(framing));
    }
    if request.method() != Method::GET || framing != Framing::Length(0) {
        return Err(Reason::BadHandshake);
    }
    // §4.4: a version that we do not speak is answered with the one we do.
    if sole(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes() != b"13") {
        return Err(Reason::BadVersion);
    }
    let key =
        sole(headers, &SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).filter(|key| is_key(key));
    let key = key.ok_or(Reason::BadHandshake)?;
    Ok(Exchange::Upgrade(accept_key(key)))
}

/// Whether the connection outlives this exchange if the client has its way (RFC 9112 §9.3).
pub(super) fn keeps_alive(request: &Request<()>) -> bool {
    let headers = request.headers();
    if has_token(headers, &CONNECTION, "close") {
        return false;
    }
    request.version() == Version::HTTP_11 || has_token(headers, &CONNECTION, "keep-alive")
}

/// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
pub(super) fn expects_continue(request: &Request<()>) -> bool {
    request.version() == Version::HTTP_11 && has_token(request.headers(), &EXPECT, "100-continue")
}

/// Whether any field called `name` contains `token` in its comma-separated list, in any case.
pub(super) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// The client's request head, and the `Sec-WebSocket-Accept` that proves that the server understood it.
pub(super) fn client_head(request: &ClientRequest, entropy: &mut Entropy) -> (Vec<u8>, String) {
    let mut nonce = [0; 16];
    entropy.fill(&mut nonce);
    let key = base64(&nonce);
    let mut head = Vec::with_capacity(512);
    head.extend_from_slice(b"GET ");
    visible(&mut head, &request.path);
    head.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    visible(&mut head, &request.host);
    head.extend_from_slice(
        b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
    );
    head.extend_from_slice(b"Sec-WebSocket-Key: ");
    head.extend_from_slice(key.as_bytes());
    if !request.subprotocols.is_empty() {
        head.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        for (at, subprotocol) in request.subprotocols.iter().enumerate() {
            head.extend_from_slice(if at == 0 { b"" } else { b", " });
            visible(&mut head, subprotocol);
        }
    }
    if request.deflate {
        head.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
        head.extend_from_slice(OFFER.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    super::http1::fields(&mut head, &request.headers);
    head.extend_from_slice(b"\r\n");
    let accept_key = accept_key(key.as_bytes());
    (head, accept_key)
}

/// Checks the server's answer (RFC 6455 §4.1, the numbered list of what a client must validate).
pub(super) fn check_answer(
    answer: &Response<()>,
    accept_key: &str,
    offered: &[String],
    deflate: bool,
) -> Result<Option<Deflate>, Reason> {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Reason::HandshakeRefused);
    }
    let headers = answer.headers();
    let proven = sole(headers, &SEC_WEBSOCKET_ACCEPT)
        .is_some_and(|value| value.as_bytes() == accept_key.as_bytes());
    let chosen = match headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        false => true,
        true => sole(headers, &SEC_WEBSOCKET_PROTOCOL)
            .is_some_and(|value| offered.iter().any(|offer| offer.as_bytes() == value.as_bytes())),
    };
    let sound = proven
        && chosen
        && has_token(headers, &UPGRADE, "websocket")
        && has_token(headers, &CONNECTION, "upgrade")
        // An extension that was not offered.
        && (deflate || !headers.contains_key(SEC_WEBSOCKET_EXTENSIONS));
    match (sound, deflate) {
        (false, _) => Err(Reason::BadHandshake),
        (true, false) => Ok(None),
        (true, true) => Deflate::check(headers),
    }
}

/// Appends what of `text` may stand in a request line or token: a caller's line breaks must not become header lines.
fn visible(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(u8::is_ascii_graphic));
}

/// The value of a field that must not be repeated.
fn sole<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { Some(value) }
}

/// Whether a field says host and port, or nothing (RFC 9110 §7.2).
fn is_host(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    // An authority can have user information as well.
    value.is_empty() || (!value.contains(&b'@') && Authority::try_from(value).is_ok())
}

/// Whether a request's target has the form that belongs to its method (RFC 9112 §3.2).
fn is_target(request: &Request<()>) -> bool {
    let uri = request.uri();
    if request.method() == Method::CONNECT {
        return uri.scheme().is_none() && uri.authority().is_some();
    }
    let asterisk = uri.path() == "*" && request.method() == Method::OPTIONS;
    let absolute = uri.scheme().is_some() == uri.authority().is_some();
    asterisk || (absolute && uri.path().starts_with('/'))
}

/// Where the body ends. Whatever two readers might understand differently is refused (RFC 9112 §6.3, §11.2).
fn framing(request: &Request<()>) -> Result<Framing, Reason> {
    let headers = request.headers();
    if !headers.contains_key(TRANSFER_ENCODING) {
        return content_length(headers).map(Framing::Length);
    }
    // RFC 9112 §6.1: both together are an attempt at smuggling, and HTTP/1.0 does not know the field.
    if headers.contains_key(CONTENT_LENGTH) || request.version() != Version::HTTP_11 {
        return Err(Reason::BadRequest);
    }
    // A list over several lines is what some readers join, and of which others see one line.
    let codings = sole(headers, &TRANSFER_ENCODING).and_then(|value| value.to_str().ok());
    let codings = codings.ok_or(Reason::BadRequest)?.split(',').map(str::trim);
    let is_chunked = |coding: &str| coding.eq_ignore_ascii_case("chunked");
    let (mut last, mut others) = ("", 0);
    for (at, coding) in codings.enumerate() {
        // RFC 9112 §7: chunked is applied once, and last.
        if coding.is_empty() || is_chunked(last) {
            return Err(Reason::BadRequest);
        }
        (last, others) = (coding, at);
    }
    match (is_chunked(last), others) {
        // §6.3, item 4: where the body ends cannot be told.
        (false, _) => Err(Reason::BadRequest),
        (true, 0) => Ok(Framing::Chunked),
        // §6.1: a coding that we do not know.
        (true, _) => Err(Reason::TransferCoding),
    }
}

/// The body's declared length.
fn content_length(headers: &HeaderMap) -> Result<usize, Reason> {
    if !headers.contains_key(CONTENT_LENGTH) {
        return Ok(0);
    }
    let digits =
        sole(headers, &CONTENT_LENGTH).map(HeaderValue::as_bytes).ok_or(Reason::BadRequest)?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Reason::BadRequest);
    }
    // Only digits, so what does not parse is a number beyond any limit.
    Ok(std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(usize::MAX))
}

/// Whether `key` is base64 of 16 bytes (RFC 6455 §4.2.1).
fn is_key(key: &[u8]) -> bool {
    let symbol = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.strip_suffix(b"==").is_some_and(|symbols| symbols.iter().all(symbol))
}

/// The `Sec-WebSocket-Accept` that answers a key (RFC 6455 §4.2.2, item 5.4).
fn accept_key(key: &[u8]) -> String {
    let mut digest = Sha1::new();
    digest.update(key);
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64(&digest.digest().bytes())
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let index = (bits >> (18 - 6 * at) & 0x3F) as usize;
            let symbol = ALPHABET.get(index).filter(|_| at <= group.len());
            text.push(symbol.copied().map_or('=', char::from));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().uri("/").version(Version::HTTP_11);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn handshake() -> Vec<(&'static str, &'static str)> {
        vec![
            ("Host", "a"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
        ]
    }

    fn without(name: &str) -> Request<()> {
        request(&handshake().into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>())
    }

    fn with(name: &'static str, value: &'static str) -> Request<()> {
        let mut fields: Vec<_> = handshake().into_iter().filter(|(n, _)| *n != name).collect();
        fields.push((name, value));
        request(&fields)
    }

    #[test]
    fn the_rfcs_example_is_accepted() {
        let exchange = inspect(&request(&handshake()));
        assert_eq!(exchange, Ok(Exchange::Upgrade("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned())));
    }

    #[test]
    fn tokens_are_found_in_lists_over_several_lines_in_any_case() {
        let mut request = with("Connection", "keep-alive, UPGRADE");
        request.headers_mut().insert(UPGRADE, HeaderValue::from_static("h2c"));
        request.headers_mut().append(UPGRADE, HeaderValue::from_static("foo, WebSocket"));
        assert!(matches!(inspect(&request), Ok(Exchange::Upgrade(_))));
    }

    #[test]
    fn a_request_without_upgrade_is_plain() {
        assert_eq!(inspect(&without("Upgrade")), Ok(Exchange::Plain(Framing::Length(0))));
        assert_eq!(inspect(&without("Connection")), Ok(Exchange::Plain(Framing::Length(0))));
        assert_eq!(
            inspect(&with("Connection", "keep-alive")),
            Ok(Exchange::Plain(Framing::Length(0)))
        );
    }

    #[test]
    fn malformed_handshakes_are_refused() {
        assert_eq!(inspect(&without("Host")), Err(Reason::BadRequest));
        assert_eq!(inspect(&without("Sec-WebSocket-Version")), Err(Reason::BadVersion));
        assert_eq!(inspect(&with("Sec-WebSocket-Version", "8")), Err(Reason::BadVersion));
        assert_eq!(inspect(&without("Sec-WebSocket-Key")), Err(Reason::BadHandshake));
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZ===",
            "!GhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert_eq!(
                inspect(&with("Sec-WebSocket-Key", key)),
                Err(Reason::BadHandshake),
                "{key}"
            );
        }
        let mut twice = request(&handshake());
        twice.headers_mut().append(SEC_WEBSOCKET_KEY, HeaderValue::from_static(KEY));
        assert_eq!(inspect(&twice), Err(Reason::BadHandshake));
        let mut post = request(&handshake());
        *post.method_mut() = Method::POST;
        assert_eq!(inspect(&post), Err(Reason::BadHandshake));
    }

    #[test]
    fn body_lengths_are_unambiguous() {
        let length =
            |fields: &[(&str, &str)]| inspect(&request(&[&[("Host", "a")], fields].concat()));
        assert_eq!(length(&[("Content-Length", "12")]), Ok(Exchange::Plain(Framing::Length(12))));
        assert_eq!(
            length(&[("Content-Length", "99999999999999999999999")]),
            Ok(Exchange::Plain(Framing::Length(usize::MAX)))
        );
        for bad in ["", "+1", "-1", "1,1", "0x1"] {
            assert_eq!(length(&[("Content-Length", bad)]), Err(Reason::BadRequest), "{bad:?}");
        }
        assert_eq!(
            length(&[("Content-Length", "1"), ("Content-Length", "1")]),
            Err(Reason::BadRequest)
        );
    }

    #[test]
    fn a_transfer_coding_is_chunked_alone_or_refused() {
        let framing = |values: &[&str]| {
            let coded = values.iter().map(|value| ("Transfer-Encoding", *value));
            let fields: Vec<_> = [("Host", "a")].into_iter().chain(coded).collect();
            inspect(&request(&fields))
        };
        for chunked in ["chunked", "Chunked", "CHUNKED"] {
            assert_eq!(framing(&[chunked]), Ok(Exchange::Plain(Framing::Chunked)), "{chunked}");
        }
        for unknown in ["gzip, chunked", "x,chunked", "identity, chunked", "gzip;q=1, chunked"] {
            assert_eq!(framing(&[unknown]), Err(Reason::TransferCoding), "{unknown}");
        }
        for smuggled in [
            "",
            "identity",
            "xchunked",
            "chunkedx",
            "gzip",
            "chunked, gzip",
            "chunked, chunked",
            "chunked, identity",
            "gzip, chunked, chunked",
            "chunked,",
            ", chunked",
            ",chunked",
            "chunked;q=1",
            "\"chunked\"",
            "chun ked",
            "chunked identity",
        ] {
            assert_eq!(framing(&[smuggled]), Err(Reason::BadRequest), "{smuggled:?}");
        }
        for twice in [["chunked", "chunked"], ["gzip", "chunked"], ["chunked", "identity"]] {
            assert_eq!(framing(&twice), Err(Reason::BadRequest), "{twice:?}");
        }
        let both = [("Host", "a"), ("Transfer-Encoding", "chunked"), ("Content-Length", "1")];
        assert_eq!(inspect(&request(&both)), Err(Reason::BadRequest));
        let mut old = request(&both[..2]);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(inspect(&old), Err(Reason::BadRequest));
    }

    #[test]
    fn an_upgrade_has_no_body_and_is_not_asked_for_in_http_1_0() {
        assert_eq!(inspect(&with("Content-Length", "1")), Err(Reason::BadHandshake));
        assert_eq!(inspect(&with("Transfer-Encoding", "chunked")), Err(Reason::BadHandshake));
        assert!(matches!(inspect(&with("Content-Length", "0")), Ok(Exchange::Upgrade(_))));
        let mut old = request(&handshake());
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(inspect(&old), Ok(Exchange::Plain(Framing::Length(0))));
    }

    #[test]
    fn a_target_has_the_form_that_its_method_asks_for() {
        let judge = |method: &str, target: &str| {
            let mut request = request(&[("Host", "a")]);
            *request.method_mut() = method.parse().unwrap();
            *request.uri_mut() = target.parse().unwrap();
            inspect(&request).map(|_| ())
        };
        for (method, target) in [
            ("GET", "/"),
            ("GET", "/a?b"),
            ("OPTIONS", "/a"),
            ("GET", "http://a"),
            ("GET", "http://a/b"),
            ("OPTIONS", "*"),
            ("CONNECT", "a:80"),
        ] {
            assert_eq!(judge(method, target), Ok(()), "{method} {target}");
        }
        for (method, target) in [
            ("GET", "*"),
            ("POST", "*"),
            ("GET", "a:80"),
            ("GET", "a"),
            ("OPTIONS", "a:80"),
            ("CONNECT", "/"),
            ("CONNECT", "http://a/"),
            ("CONNECT", "*"),
        ] {
            assert_eq!(judge(method, target), Err(Reason::BadRequest), "{method} {target}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        let judge = |host: &str| inspect(&request(&[("Host", host)])).map(|_| ());
        for host in ["", "a", "a:1", "a.example.org.", "A_b", "127.0.0.1:80", "[::1]", "[::1]:80"] {
            assert_eq!(judge(host), Ok(()), "{host}");
        }
        for host in ["a/b", "a b", "a, b", "u@a", "u:p@a", "http://a", "a?b", "a#b", "[::1", "a\t"]
        {
            assert_eq!(judge(host), Err(Reason::BadRequest), "{host}");
        }
    }

    #[test]
    fn two_hosts_are_refused() {
        assert_eq!(inspect(&request(&[("Host", "a"), ("Host", "b")])), Err(Reason::BadRequest));
    }

    #[test]
    fn base64_is_rfc_4648() {
        assert_eq!(base64(b"the sample nonce"), KEY);
        assert_eq!(base64(&[0xFF; 16]), "/////////////////////w==");
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text, "RFC 4648 §10");
        }
    }

    #[test]
    fn accept_keys_are_those_of_tungstenite() {
        for number in 0_u8..=255 {
            let key = base64(&[number; 16]);
            let theirs = tungstenite::handshake::derive_accept_key(key.as_bytes());
            assert_eq!(accept_key(key.as_bytes()), theirs);
        }
    }

    #[test]
    fn answers_are_checked() {
        let answer = |fields: &[(&str, &str)]| {
            let mut builder = Response::builder().status(101);
            for (name, value) in fields {
                builder = builder.header(*name, *value);
            }
            builder.body(()).unwrap()
        };
        let sound =
            [("Upgrade", "WebSocket"), ("Connection", "upgrade"), ("Sec-WebSocket-Accept", "k")];
        let check = |answer: &Response<()>| check_answer(answer, "k", &["a".to_owned()], false);
        assert_eq!(check(&answer(&sound)), Ok(None));
        assert_eq!(
            check(&answer(&[&sound[..], &[("Sec-WebSocket-Protocol", "a")]].concat())),
            Ok(None)
        );
        assert_eq!(
            check(&answer(&[&sound[..], &[("Sec-WebSocket-Protocol", "b")]].concat())),
            Err(Reason::BadHandshake)
        );
        assert_eq!(
            check(&answer(&[&sound[..], &[("Sec-WebSocket-Extensions", "x")]].concat())),
            Err(Reason::BadHandshake)
        );
        let agreed = "permessage-deflate; server_no_context_takeover";
        let agreed = answer(&[&sound[..], &[("Sec-WebSocket-Extensions", agreed)]].concat());
        assert_eq!(check(&agreed), Err(Reason::BadHandshake), "not offered");
        assert!(matches!(check_answer(&agreed, "k", &[], true), Ok(Some(_))));
        for missing in 0..3 {
            let fields: Vec<_> = sound
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != missing)
                .map(|(_, f)| *f)
                .collect();
            assert_eq!(check(&answer(&fields)), Err(Reason::BadHandshake), "{missing}");
        }
        let refused = Response::builder().status(503).body(()).unwrap();
        assert_eq!(check(&refused), Err(Reason::HandshakeRefused));
    }
}
