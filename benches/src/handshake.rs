//! The opening handshake of RFC 6455 §4, both sides, no more of it than a benchmark needs.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::Result;

/// The server under test, from a `ws://host:port/path?query` or `wss:` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where to connect.
    pub address: SocketAddr,
    /// The `Host` header.
    pub authority: String,
    /// Path and query of the request line.
    pub path: String,
    /// Whether to speak TLS.
    pub tls: bool,
}

impl Target {
    /// Splits and resolves a URL.
    ///
    /// # Errors
    /// Neither `ws:` nor `wss:`, or a host that does not resolve.
    pub fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (tls, port) = match scheme {
            "ws" => (false, 80),
            "wss" => (true, 443),
            _ => return Err(format!("not a ws:// or wss:// URL: {url}").into()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let with_port = if authority.contains(':') {
            authority.to_owned()
        } else {
            format!("{authority}:{port}")
        };
        let address = with_port
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| format!("no address for {authority}"))?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { address, authority: authority.to_owned(), path: path.to_owned(), tls })
    }

    /// The same server under another path.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    /// The upgrade request, with a bearer token if there is one.
    #[must_use]
    pub fn request(&self, token: Option<&str>) -> Vec<u8> {
        let authorization =
            token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{authorization}\r\n",
            self.path, self.authority
        )
        .into_bytes()
    }
}

/// Checks the server's answer at the start of `bytes`. `None`: more bytes are needed. Otherwise the length of the
/// head; frames may follow it.
///
/// # Errors
/// Anything but a correct 101, with what the server said.
pub fn check_response(bytes: &[u8]) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(bytes)? else {
        return Ok(None);
    };
    if response.code != Some(101) {
        return Err(
            format!("upgrade refused: {}", String::from_utf8_lossy(bytes).trim_end()).into()
        );
    }
    let accept = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
    if accept.map(|header| header.value) != Some(ACCEPT) {
        return Err("upgrade answered with a wrong Sec-WebSocket-Accept".into());
    }
    Ok(Some(head_bytes))
}

/// What a server learns from a complete upgrade request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Path and query of the request line.
    pub path: String,
    /// Length of the request head; frames may follow it.
    pub head_bytes: usize,
    /// The 101 to send.
    pub response: Vec<u8>,
}

/// Reads the request at the start of `bytes`. `None`: more bytes are needed.
///
/// # Errors
/// Not HTTP, or no key to answer.
pub fn accept_request(bytes: &[u8]) -> Result<Option<Upgrade>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = request.parse(bytes)? else {
        return Ok(None);
    };
    let key =
        request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-key"));
    let key = key.ok_or("request without Sec-WebSocket-Key")?.value;
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        tungstenite::handshake::derive_accept_key(key)
    )
    .into_bytes();
    Ok(Some(Upgrade { path: request.path.unwrap_or("/").to_owned(), head_bytes, response }))
}

/// The sample nonce of RFC 6455 §1.3 and its answer: every connection uses it, so that the generator neither needs
/// SHA-1 nor spends time on it. Nothing on a benchmark's path caches by it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HEADERS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_authority_and_path() {
        let target = Target::parse("ws://127.0.0.1:8686/ws?room=1").unwrap();

        assert_eq!(target.address, "127.0.0.1:8686".parse().unwrap());
        assert_eq!(
            (target.authority.as_str(), target.path.as_str()),
            ("127.0.0.1:8686", "/ws?room=1")
        );
        assert_eq!(Target::parse("ws://127.0.0.1").unwrap().path, "/");
        assert!(Target::parse("wss://127.0.0.1:1").is_ok_and(|target| target.tls));
        assert!(Target::parse("http://127.0.0.1:1").is_err());
    }

    #[test]
    fn both_sides_agree() {
        let target = Target::parse("ws://127.0.0.1:1/sub").unwrap();
        let request = target.request(None);

        let upgrade = accept_request(&request).unwrap().unwrap();

        assert_eq!((upgrade.path.as_str(), upgrade.head_bytes), ("/sub", request.len()));
        assert_eq!(check_response(&upgrade.response).unwrap(), Some(upgrade.response.len()));
        assert_eq!(accept_request(&request[..request.len() - 1]).unwrap(), None);
        assert_eq!(check_response(&upgrade.response[..upgrade.response.len() - 1]).unwrap(), None);
    }

    #[test]
    fn bytes_after_the_head_are_not_part_of_it() {
        let target = Target::parse("ws://127.0.0.1:1/").unwrap();
        let mut response = accept_request(&target.request(None)).unwrap().unwrap().response;
        let head_bytes = response.len();
        response.extend_from_slice(b"\x81\x02hi");

        assert_eq!(check_response(&response).unwrap(), Some(head_bytes));
    }

    #[test]
    fn a_refusal_is_shown() {
        let refused =
            check_response(b"HTTP/1.1 401 Unauthorized\r\nX-Reason: token\r\n\r\n").unwrap_err();

        assert!(refused.to_string().contains("401 Unauthorized"), "{refused}");
    }

    #[test]
    fn a_wrong_accept_key_is_refused() {
        let response = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: bm90IHRoZSBzYW1wbGU=\r\n\r\n";

        assert!(check_response(response).is_err());
    }

    #[test]
    fn a_token_goes_into_the_authorization_header() {
        let request = Target::parse("ws://127.0.0.1:1/").unwrap().request(Some("abc"));

        assert!(String::from_utf8(request).unwrap().contains("\r\nAuthorization: Bearer abc\r\n"));
    }
}
