//! The PROXY protocol: a proxy that passes bytes on unread says first whose connection it is.
//!
//! Versions 1 (a line of text) and 2 (binary) of the specification published with HAProxy. The header comes before
//! anything else, TLS included, and only from proxies that the operator trusts: from anybody else it would be a way to
//! be anybody.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Connections, transport::Layer};
use crate::{
    config::Config,
    hub::{
        env::Env,
        forwarded::is_trusted,
        types::{ConnId, Listener, Peer},
    },
    reason::Reason,
};

/// A header that has not come whole yet.
#[derive(Debug, Default)]
pub(super) struct Pending(Vec<u8>);

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    /// Not all of it is there.
    Partial,
    /// So many bytes; `None`: the proxy speaks for itself, or does not know.
    Whole(usize, Option<SocketAddr>),
    /// No header.
    Malformed,
}

/// What is left of the bytes that came, once the header is off their front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum AfterHeader {
    /// Everything from here on.
    From(usize),
    /// Nothing; more of the header has to come.
    Nothing,
    /// No header came.
    Malformed,
}

impl Connections {
    /// Where a header goes that a new connection has to begin with, if it has to.
    pub(super) fn proxy_header_of(config: &Config, peer: Peer) -> Option<Pending> {
        let expected = config.proxy_protocol
            && peer.listener == Listener::Main
            && is_trusted(peer.address.ip(), &config.trusted_proxies);
        expected.then(Pending::default)
    }

    /// Takes the header off the front of what came.
    pub(in crate::hub) fn take_proxy_header(
        &mut self,
        env: &Env,
        id: ConnId,
        wire: &[u8],
    ) -> AfterHeader {
        let Some(conn) = self.edit(id) else { return AfterHeader::From(0) };
        let Some(Layer::ProxyHeader(pending)) = conn.transport.layer_mut() else {
            return AfterHeader::From(0);
        };
        let before = pending.0.len();
        let room = BYTES_MAX.saturating_sub(before).min(wire.len());
        pending.0.extend_from_slice(wire.get(..room).unwrap_or(wire));
        let header = parse(&pending.0);
        if header == Header::Partial {
            return AfterHeader::Nothing;
        }
        conn.transport = Self::transport_of(&env.config, Listener::Main);
        match header {
            Header::Whole(length, source) => {
                let source = source.unwrap_or_else(|| conn.peer());
                (conn.ip, conn.port) = (source.ip(), source.port());
                // Also without a source: a proxy that does not say who is behind it must not make them local.
                conn.proxied = true;
                AfterHeader::From(length.saturating_sub(before))
            }
            Header::Partial | Header::Malformed => {
                conn.ws.refuse(env.now, Reason::BadProxyHeader);
                AfterHeader::Malformed
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Header {
    let common = |signature: &[u8]| signature.iter().zip(bytes).all(|(a, b)| a == b);
    if common(SIGNATURE) {
        binary(bytes)
    } else if common(LINE) {
        line(bytes)
    } else {
        Header::Malformed
    }
}

/// Version 1: `PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n`.
fn line(bytes: &[u8]) -> Header {
    let Some(end) = bytes.windows(2).take(LINE_MAX).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE_MAX { Header::Partial } else { Header::Malformed };
    };
    let text = bytes.get(..end).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let mut fields = text.split(' ').skip(1);
    let family = fields.next();
    if family == Some("UNKNOWN") {
        return Header::Whole(end + 2, None);
    }
    let source: Option<IpAddr> = fields.next().and_then(|source| source.parse().ok());
    let port = fields.nth(1).and_then(|port| port.parse().ok());
    match (family, source, port) {
        (Some("TCP4"), Some(source @ IpAddr::V4(_)), Some(port))
        | (Some("TCP6"), Some(source @ IpAddr::V6(_)), Some(port)) => {
            Header::Whole(end + 2, Some(SocketAddr::new(source, port)))
        }
        _ => Header::Malformed,
    }
}

/// Version 2: signature, version and command, family, length, addresses, and fields that nobody asked for.
fn binary(bytes: &[u8]) -> Header {
    let Some((&[command, family, high, low], rest)) =
        bytes.get(SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk)
    else {
        return Header::Partial;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = SIGNATURE.len() + 4 + length;
    if command >> 4 != 2 || command & 0xf > 1 || whole > BYTES_MAX {
        return Header::Malformed;
    }
    let Some(addresses) = rest.get(..length) else { return Header::Partial };
    let local = command & 0xf == 0;
    match (local, family) {
        // LOCAL: the proxy's own connection, such as a health check.
        (true, _) => Header::Whole(whole, None),
        (false, TCP4) => source::<4>(addresses).map_or(Header::Malformed, |(source, port)| {
            Header::Whole(whole, Some((Ipv4Addr::from(source), port).into()))
        }),
        (false, TCP6) => source::<16>(addresses).map_or(Header::Malformed, |(source, port)| {
            Header::Whole(whole, Some((Ipv6Addr::from(source), port).into()))
        }),
        // Unix sockets and the like have no address that a limit could be about.
        (false, _) => Header::Whole(whole, None),
    }
}

/// Source and its port; the destination's stand between and behind them.
fn source<const N: usize>(addresses: &[u8]) -> Option<([u8; N], u16)> {
    let (source, rest) = addresses.split_first_chunk::<N>()?;
    let (_, ports) = rest.split_first_chunk::<N>()?;
    let (port, _) = ports.split_first_chunk()?;
    Some((*source, u16::from_be_bytes(*port)))
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const LINE: &[u8; 6] = b"PROXY ";
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Bytes of a line, by the specification.
const LINE_MAX: usize = 107;

/// Bytes of a header of either version: addresses and what a proxy usually adds. A longer one is malformed.
const BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[0x20 | command, family][..], &length, rest].concat()
    }

    #[test]
    fn a_line_names_the_client() {
        for (text, expected) in [
            ("PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n", Some("192.0.2.7:56324")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n", Some("[2001:db8::7]:56324")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        ] {
            let header = parse(text.as_bytes());
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(header, Header::Whole(text.len(), expected), "{text}");
        }
    }

    #[test]
    fn a_binary_header_names_the_client() {
        let four = [192, 0, 2, 7, 192, 0, 2, 1, 0xdc, 4, 1, 187, 3, 0, 0];
        let bytes = v2(1, TCP4, &four);
        let client = "192.0.2.7:56324".parse().unwrap();
        assert_eq!(parse(&bytes), Header::Whole(bytes.len(), Some(client)));

        let six =
            [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0xdc, 4, 1, 187]].concat();
        let bytes = v2(1, TCP6, &six);
        let client = "[2001:db8::7]:56324".parse().unwrap();
        assert_eq!(parse(&bytes), Header::Whole(bytes.len(), Some(client)));

        let check = v2(0, 0, &[]);
        assert_eq!(parse(&check), Header::Whole(check.len(), None));
    }

    #[test]
    fn anything_else_is_malformed() {
        let short = v2(1, TCP4, &[192, 0, 2, 7]);
        let long = v2(1, TCP4, &[0; BYTES_MAX]);
        let version = [SIGNATURE, &[0x31, TCP4, 0, 0][..]].concat();
        let lines = [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.0.2.7\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 99999 443\r\n",
            b"PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n",
            &[&b"PROXY "[..], &[b'x'; LINE_MAX]].concat(),
        ];
        for bytes in lines.iter().copied().chain([&short[..], &long, &version]) {
            assert_eq!(parse(bytes), Header::Malformed, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        /// However much of a header has come, it is not taken for anything else.
        #[test]
        fn a_part_is_partial(at in 0.0..1.0f64, binary: bool) {
            let whole = if binary {
                v2(1, TCP4, &[192, 0, 2, 7, 192, 0, 2, 1, 0xdc, 4, 1, 187])
            } else {
                b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n".to_vec()
            };
            let cut = (at * whole.len() as f64) as usize;
            prop_assert_eq!(parse(&whole[..cut]), Header::Partial);
        }

        #[test]
        fn noise_never_panics(bytes: Vec<u8>, binary: bool) {
            let start: &[u8] = if binary { SIGNATURE } else { LINE };
            let _ = parse(&[start, &bytes].concat());
        }
    }
}
