//! HTTP/1.x heads in, under bounds of bytes, fields and work.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
};

use crate::{limits::Limits, reason::Reason};

/// A request's or a response's head.
pub(super) trait Head: Sized {
    /// Parses what may be only a part of a head; `None` if it is.
    fn parse(bytes: &[u8], limits: &Limits) -> Result<Option<Self>, Reason>;
}

/// A head that is on its way. Looks at each byte once to find the end, so that a head that comes byte by byte costs no
/// more than one that comes at once; what is no head at all is noticed before its end.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    kept: Vec<u8>,
    line: Line,
    /// Bytes of `kept` to which the parser had no objection.
    probed: usize,
}

impl HeadReader {
    /// Takes a head off `wire`, or all of `wire` if the head's end is not in it.
    pub(super) fn receive<H: Head>(
        &mut self,
        limits: &Limits,
        wire: &mut &mut [u8],
    ) -> Result<Option<H>, Reason> {
        if self.kept.is_empty() {
            skip_empty_lines(wire);
        }
        let end = self.line.find_end(wire);
        let take = end.unwrap_or(wire.len());
        let (taken, rest) = std::mem::take(wire).split_at_mut(take);
        *wire = rest;
        if self.kept.len() + taken.len() > limits.head_bytes_max {
            let mut allowed = self.kept.iter().chain(taken.iter()).take(limits.head_bytes_max + 1);
            let line_ended = allowed.any(|byte| *byte == b'\n');
            // RFC 9112 §3 wants the one of a request line.
            return Err(if line_ended { Reason::HeadTooLarge } else { Reason::UriTooLong });
        }
        if end.is_none() {
            self.kept.extend_from_slice(taken);
            return self.probe::<H>(limits).map(|()| None);
        }
        let head = if self.kept.is_empty() {
            H::parse(taken, limits)?
        } else {
            self.kept.extend_from_slice(taken);
            H::parse(&self.kept, limits)?
        };
        *self = Self::default();
        head.ok_or(Reason::BadRequest).map(Some)
    }

    /// Bytes of memory for what has come of a head.
    pub(super) fn capacity(&self) -> usize {
        self.kept.capacity()
    }

    /// Whether nothing of a head has come. Empty lines do not count (RFC 9112 §2.2).
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Notices early what cannot become a head, such as a TLS handshake. Each try covers at least twice the bytes of the
    /// one before: that keeps the work in proportion to the bytes.
    fn probe<H: Head>(&mut self, limits: &Limits) -> Result<(), Reason> {
        if self.kept.is_empty() || self.kept.len() < 2 * self.probed {
            return Ok(());
        }
        self.probed = self.kept.len();
        match H::parse(&self.kept, limits)? {
            None => Ok(()),
            Some(_) => Err(Reason::BadRequest),
        }
    }
}

impl Head for Request<()> {
    fn parse(bytes: &[u8], limits: &Limits) -> Result<Option<Self>, Reason> {
        let mut fields = vec![httparse::EMPTY_HEADER; limits.headers_max];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(used)) if used == bytes.len() => {}
            // The end that the parser sees is not the one that we saw.
            Ok(httparse::Status::Complete(_)) => return Err(Reason::BadRequest),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(refusal(error)),
        }
        let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
        let mut request = Self::new(());
        *request.method_mut() =
            Method::from_bytes(method.as_bytes()).map_err(|_| Reason::BadRequest)?;
        if target.len() > TARGET_BYTES_MAX {
            return Err(Reason::UriTooLong);
        }
        // RFC 3986 §2: what is not ASCII is percent-encoded.
        if !target.is_ascii() {
            return Err(Reason::BadRequest);
        }
        *request.uri_mut() = Uri::try_from(target).map_err(|_| Reason::BadRequest)?;
        *request.version_mut() = version(parsed.version);
        *request.headers_mut() = header_map(parsed.headers)?;
        Ok(Some(request))
    }
}

impl Head for Response<()> {
    fn parse(bytes: &[u8], limits: &Limits) -> Result<Option<Self>, Reason> {
        let mut fields = vec![httparse::EMPTY_HEADER; limits.headers_max];
        let mut parsed = httparse::Response::new(&mut fields);
        match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(used)) if used == bytes.len() => {}
            Ok(httparse::Status::Complete(_)) => return Err(Reason::BadRequest),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(refusal(error)),
        }
        let mut response = Self::new(());
        let status = parsed.code.unwrap_or_default();
        *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Reason::BadRequest)?;
        *response.version_mut() = version(parsed.version);
        *response.headers_mut() = header_map(parsed.headers)?;
        Ok(Some(response))
    }
}

/// Where the current line stands, across chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// Something is on it.
    #[default]
    Filled,
    /// It has just begun.
    Begun,
    /// A carriage return is all that is on it.
    Return,
}

impl Line {
    /// The number of bytes up to and with the empty line that ends the head, if it is in `bytes`. Bare line feeds count
    /// as line ends (RFC 9112 §2.2 allows that), as they do for the parser.
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            *self = match (*self, byte) {
                (Self::Filled, b'\n') => Self::Begun,
                (Self::Begun | Self::Return, b'\n') => return Some(at + 1),
                (Self::Begun, b'\r') => Self::Return,
                _ => Self::Filled,
            };
        }
        None
    }
}

/// RFC 9112 §2.2: empty lines before a request line are ignored.
fn skip_empty_lines(wire: &mut &mut [u8]) {
    let empty = wire.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if let Some((_, rest)) = std::mem::take(wire).split_at_mut_checked(empty) {
        *wire = rest;
    }
}

fn refusal(error: httparse::Error) -> Reason {
    match error {
        httparse::Error::TooManyHeaders => Reason::HeadTooLarge,
        httparse::Error::Version => Reason::HttpVersion,
        httparse::Error::HeaderName
        | httparse::Error::HeaderValue
        | httparse::Error::NewLine
        | httparse::Error::Status
        | httparse::Error::Token => Reason::BadRequest,
    }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 }
}

fn header_map(fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Reason> {
    let mut map = HeaderMap::try_with_capacity(fields.len()).map_err(|_| Reason::HeadTooLarge)?;
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Reason::BadRequest)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Reason::BadRequest)?;
        map.try_append(name, value).map_err(|_| Reason::HeadTooLarge)?;
    }
    Ok(map)
}

/// What [`Uri`] can hold.
const TARGET_BYTES_MAX: usize = u16::MAX as usize - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        limits: &Limits,
        bytes: &[u8],
        step: usize,
    ) -> (Result<Option<Request<()>>, Reason>, Vec<u8>) {
        let mut reader = HeadReader::default();
        let mut bytes = bytes.to_vec();
        let len = bytes.len();
        for chunk in 0..len.div_ceil(step) {
            let mut wire = &mut bytes[chunk * step..len.min((chunk + 1) * step)];
            let result = reader.receive(limits, &mut wire);
            if !matches!(result, Ok(None)) {
                let left = wire.len();
                let at = len.min((chunk + 1) * step) - left;
                return (result, bytes[at..].to_vec());
            }
        }
        (Ok(None), Vec::new())
    }

    #[test]
    fn a_head_ends_at_its_empty_line_however_it_is_cut() {
        for head in
            [&b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\r\n\n\r\nGET /x HTTP/1.1\nHost: a\n\n"]
        {
            let bytes = [head, b"\r\nrest"].concat();
            for step in 1..bytes.len() {
                let (result, rest) = read(&Limits::default(), &bytes, step);
                let request = result.unwrap().unwrap();
                assert_eq!(request.uri(), "/x");
                assert_eq!(request.headers()["host"], "a");
                assert_eq!(rest, b"\r\nrest", "{step}");
            }
        }
    }

    #[test]
    fn what_is_not_http_is_noticed_before_an_end_comes() {
        for garbage in [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET / FTP/1.1\r\n", b"(((((((("] {
            assert!(read(&Limits::default(), garbage, 64).0.is_err(), "{garbage:?}");
        }
        assert_eq!(
            read(&Limits::default(), b"GET / HTTP/2.0\r\n", 64).0.unwrap_err(),
            Reason::HttpVersion
        );
    }

    #[test]
    fn size_and_number_of_fields_are_bounded() {
        let limits = Limits { head_bytes_max: 100, headers_max: 2, ..Limits::default() };
        let long = [&b"GET / HTTP/1.1\r\nA: "[..], &[b'x'; 100]].concat();
        for step in [1, 7, 200] {
            assert_eq!(read(&limits, &long, step).0.unwrap_err(), Reason::HeadTooLarge, "{step}");
        }
        let many = b"GET / HTTP/1.1\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n";
        assert_eq!(read(&limits, many, 200).0.unwrap_err(), Reason::HeadTooLarge);
        let exact = b"GET / HTTP/1.1\r\nA: 1\r\nB: 1\r\n\r\n";
        let limits = Limits { head_bytes_max: exact.len(), ..limits };
        assert!(read(&limits, exact, 200).0.unwrap().is_some());
    }

    #[test]
    fn a_long_target_is_told_from_a_long_head() {
        let limits = Limits { head_bytes_max: 100, ..Limits::default() };
        let target = [&b"GET /"[..], &[b'x'; 200], b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        let field = [&b"GET / HTTP/1.1\r\nA: "[..], &[b'x'; 200], b"\r\n\r\n"].concat();
        for step in 1..300 {
            let result = read(&limits, &target, step).0;
            assert_eq!(result.unwrap_err(), Reason::UriTooLong, "{step}");
            assert_eq!(read(&limits, &field, step).0.unwrap_err(), Reason::HeadTooLarge, "{step}");
        }
        let limits = Limits { head_bytes_max: 1 << 20, ..limits };
        let target = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(65_534));
        assert_eq!(read(&limits, target.as_bytes(), 99).0.unwrap_err(), Reason::UriTooLong);
        let target = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(65_533));
        assert!(read(&limits, target.as_bytes(), 9999).0.unwrap().is_some());
    }

    #[test]
    fn malformed_heads_are_bad_requests() {
        for head in [
            &b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: 1\r\n 2\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: \0\r\n\r\n",
            b"GET  / HTTP/1.1\r\n\r\n",
            b"G\xffT / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\r\n\r\n",
            b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(
                read(&Limits::default(), head, 999).0.unwrap_err(),
                Reason::BadRequest,
                "{head:?}"
            );
        }
    }

    #[test]
    fn targets_of_every_form_are_read() {
        for (target, path) in [("/a?b=c", "/a"), ("http://h:1/a", "/a"), ("*", "*")] {
            let head = format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            let request = read(&Limits::default(), head.as_bytes(), 999).0.unwrap().unwrap();
            assert_eq!(request.uri().path(), path);
        }
    }
}
