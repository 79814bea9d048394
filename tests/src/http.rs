//! HTTP/1.x by hand: exactly the bytes that a test says, and answers with every detail.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use crate::wait::DEADLINE;

/// An answer.
#[derive(Clone, Debug)]
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

/// A connection that carries one request after the other.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Connects, or panics.
    pub fn to(address: SocketAddr) -> Self {
        Self::open(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// Sends bytes as they are. A server that answers early may have closed already: that shows when reading.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next answer to a request that was not HEAD.
    pub fn read(&mut self) -> Response {
        self.try_read(true).expect("an answer")
    }

    /// The next answer to a HEAD request.
    pub fn read_head(&mut self) -> Response {
        self.try_read(false).expect("an answer")
    }

    /// The next answer.
    pub fn try_read(&mut self, has_body: bool) -> io::Result<Response> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).expect("heads are ASCII");
        let mut response = parse_head(&head);
        let length = match response.header("content-length") {
            _ if !has_body || response.status < 200 => 0,
            Some(length) => length.parse().expect("a number"),
            None => usize::MAX,
        };
        while self.buffer.len() < length {
            if self.fill()? == 0 {
                assert_eq!(length, usize::MAX, "the body is shorter than promised");
                break;
            }
        }
        response.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        Ok(response)
    }

    /// Panics unless the server closes now, without a further byte.
    pub fn expect_end(&mut self) {
        let read = self.fill();
        let over = matches!(&read, Ok(0))
            || read.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset);
        assert!(over && self.buffer.is_empty(), "expected the end, got {read:?} {:?}", self.rest());
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let count = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    fn rest(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }
}

/// One request, given as bytes, on a connection of its own.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Response {
    let mut connection = Connection::to(address);
    connection.write(request);
    connection.read()
}

/// `GET path`.
pub fn get(address: SocketAddr, path: &str) -> Response {
    try_get(address, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

/// `GET path`, for servers that may not be there.
pub fn try_get(address: SocketAddr, path: &str) -> io::Result<Response> {
    let mut connection = Connection::open(address)?;
    connection.write(
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    connection.try_read(true)
}

/// `POST path` with JSON and further fields.
pub fn post(address: SocketAddr, path: &str, fields: &[(&str, &str)], body: &str) -> Response {
    exchange(address, &post_bytes(path, fields, body))
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

fn parse_head(head: &str) -> Response {
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
