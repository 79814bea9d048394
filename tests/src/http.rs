//! HTTP/1.x by hand: exactly the bytes that a test says, and answers with every detail.

use std::{io, net::SocketAddr};

use serde_json::Value;

use crate::{raw::Raw, stream};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// Status code.
    pub status: u16,
    /// Fields in their order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Content.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a field, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Content as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("bodies are text")
    }

    /// Content as JSON.
    pub fn json(&self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }
}

/// One request, given as bytes, on a connection of its own.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Response {
    Raw::connect(address).exchange(request)
}

/// `GET path`.
pub fn get(address: SocketAddr, path: &str) -> Response {
    try_get(address, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

/// `GET path`, for servers that may not be there.
pub fn try_get(address: SocketAddr, path: &str) -> io::Result<Response> {
    let mut raw = Raw::new(stream::connect(None, address, None)?);
    raw.write(
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    raw.try_response().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// `POST path` with JSON and further fields.
pub fn post(address: SocketAddr, path: &str, fields: &[(&str, &str)], body: &str) -> Response {
    exchange(address, &post_bytes(path, fields, body))
}

/// [`post`], for servers that may not be there, or go before they have answered.
pub fn try_post(address: SocketAddr, path: &str, body: &str) -> io::Result<Response> {
    let mut raw = Raw::new(stream::connect(None, address, None)?);
    raw.write(&post_bytes(path, &[], body));
    raw.try_response().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The bytes of [`post`].
pub fn post_bytes(path: &str, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut head =
        format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n", body.len());
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        head.push_str("Content-Type: application/json\r\n");
    }
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body.as_bytes()].concat()
}

/// An answer without its content.
pub(crate) fn parse_head(head: &str) -> Response {
    let mut lines = head.split("\r\n");
    let mut status_line = lines.next().unwrap_or_default().splitn(3, ' ');
    let version = status_line.next().unwrap_or_default().to_owned();
    let status = status_line.next().and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not an HTTP answer: {head:?}"));
    let headers = lines
        .filter(|line| !line.is_empty())
        .map(|line| line.split_once(':').unwrap_or_else(|| panic!("not a field: {line:?}")))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Response { version, status, headers, body: Vec::new() }
}
