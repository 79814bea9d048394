//! Whose connection it is behind a proxy: `X-Forwarded-For`, from proxies that the operator trusts.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// The client's address, if `peer` is a trusted proxy that names one.
///
/// Each proxy adds the address that it saw at the end of the list, so it is read from there, over all lines of the field:
/// the first one that is no trusted proxy is the client. What stands before it was sent by the client and proves nothing,
/// whatever bytes it is made of: it is never looked at. An entry that is no address ends the search at the proxy that
/// passed it on; one that is empty is passed over (RFC 9110 §5.6.1).
pub(super) fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    proxies: &[IpNet],
) -> Option<IpAddr> {
    if !is_trusted(peer, proxies) {
        return None;
    }
    let (mut hop, mut client) = (peer.to_canonical(), None);
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    for entry in entries.map(<[u8]>::trim_ascii).take(HOPS_MAX) {
        if entry.is_empty() {
            continue;
        }
        let Some(address) = address(entry).filter(|address| may_come_from(*address, hop)) else {
            break;
        };
        client = Some(address);
        if !is_trusted(address, proxies) {
            break;
        }
        hop = address;
    }
    client
}

/// Whether a host with this address can have been a client of the proxy `hop`. A loopback address exempts from limits, and
/// on another machine it would not be ours.
fn may_come_from(address: IpAddr, hop: IpAddr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && (!address.is_loopback() || hop.is_loopback())
}

pub(super) fn is_trusted(peer: IpAddr, proxies: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    proxies.iter().any(|network| network.contains(&peer))
}

/// An address, as proxies write it: alone, in brackets, with a port, in quotes (RFC 7239 §6), with a zone (RFC 4007 §11).
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let text = text.strip_prefix('"').map_or(Some(text), |quoted| quoted.strip_suffix('"'))?;
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
                return None;
            }
            host_address(host)?
        }
        None => host_address(text).or_else(|| {
            let (host, port) = text.rsplit_once(':')?;
            is_port(port).then(|| host.parse().ok().map(IpAddr::V4))?
        })?,
    };
    Some(address.to_canonical())
}

/// The zone says by which interface the proxy reaches it, and does not tell it from others there.
fn host_address(host: &str) -> Option<IpAddr> {
    match host.split_once('%') {
        Some((host, zone)) if !zone.is_empty() => host.parse().ok().map(IpAddr::V6),
        Some(_) => None,
        None => host.parse().ok(),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Proxies in a row that are looked through.
const HOPS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, lists: &[&'static str]) -> Option<String> {
        let lists: Vec<_> = lists.iter().map(|list| list.as_bytes()).collect();
        client_of(peer, &lists)
    }

    fn client_of(peer: &str, lists: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(FORWARDED_FOR, http::HeaderValue::from_bytes(list).unwrap());
        }
        let proxies = ["127.0.0.1/32".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let found = client_address(peer.parse().unwrap(), &headers, &proxies);
        found.map(|address| address.to_string())
    }

    #[test]
    fn a_trusted_proxy_is_believed() {
        for (lists, expected) in [
            (&["192.0.2.7"][..], "192.0.2.7"),
            (&["192.0.2.7, 10.0.0.1"], "192.0.2.7"),
            (&["192.0.2.7", "10.0.0.1,10.0.0.2"], "192.0.2.7"),
            (&["[2001:db8::7]:4711"], "2001:db8::7"),
            (&["192.0.2.7:4711"], "192.0.2.7"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
            (&["10.0.0.9"], "10.0.0.9"),
        ] {
            assert_eq!(client("127.0.0.1", lists).as_deref(), Some(expected), "{lists:?}");
        }
        assert_eq!(client("::ffff:10.1.2.3", &["192.0.2.7"]).as_deref(), Some("192.0.2.7"));
    }

    #[test]
    fn what_the_client_has_put_before_is_not_believed() {
        assert_eq!(client("127.0.0.1", &["198.51.100.1, 192.0.2.7"]).as_deref(), Some("192.0.2.7"));
        assert_eq!(client("127.0.0.1", &["127.0.0.1, 192.0.2.7"]).as_deref(), Some("192.0.2.7"));
        assert_eq!(client("127.0.0.1", &["x, 10.0.0.1"]).as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(client("192.0.2.1", &["198.51.100.1"]), None);
        assert_eq!(client("127.0.0.1", &[]), None);
        assert_eq!(client("127.0.0.1", &["unknown"]), None);
        assert_eq!(client("127.0.0.1", &["2001:db8::7:4711:x"]), None);
    }

    /// Whatever a client puts there itself, what its proxy adds behind it counts.
    #[test]
    fn no_byte_before_it_hides_the_address_that_a_proxy_added() {
        let junk: [&[u8]; 28] = [
            b"foo",
            b"\xe9",
            b"\xff\xfe",
            b"\xc3\xa9",
            b"a\x80b, \x9f",
            b",",
            b",,,, ,",
            b"\t",
            b"\"",
            b"\"unclosed, ",
            b"\"a,b\"",
            b"[",
            b"[::1",
            b"]",
            b"127.0.0.1",
            b"10.0.0.1, 127.0.0.1",
            b"unknown",
            b"_hidden",
            b"for=198.51.100.1;by=10.0.0.1",
            b"198.51.100.1:99999",
            b"0.0.0.0",
            b"256.1.1.1",
            b"0x7f.1",
            b"2130706433",
            b"%",
            b"fe80::1%",
            b";",
            b"",
        ];
        for byte in (0x80..=0xff).map(|byte| vec![byte]).chain(junk.map(<[u8]>::to_vec)) {
            for list in
                [&[&byte[..], b", 192.0.2.7"].concat()[..], &[&byte[..], b",192.0.2.7,"].concat()]
            {
                assert_eq!(
                    client_of("127.0.0.1", &[list]).as_deref(),
                    Some("192.0.2.7"),
                    "{list:?}"
                );
            }
            let lines: [&[u8]; 3] = [&byte, &byte, b"192.0.2.7, 10.0.0.2"];
            assert_eq!(client_of("127.0.0.1", &lines).as_deref(), Some("192.0.2.7"), "{byte:?}");
        }
    }

    #[test]
    fn an_entry_that_is_no_address_ends_the_search_at_the_last_that_is() {
        for entry in [
            "unknown",
            "_hidden",
            "unix:",
            "localhost",
            "192.0.2.7x",
            "192.0.2.7 192.0.2.8",
            "192.0.2.07",
            "192.0.2",
            "192.0.2.7:",
            "192.0.2.7:+80",
            "192.0.2.7:65536",
            "2001:db8::7:4711:x",
            "[2001:db8::7]4711",
            "[2001:db8::7]:",
            "[2001:db8::7",
            "2001:db8::7]",
            "\"192.0.2.7",
            "192.0.2.7\"",
            "\"\"",
            "[]",
            "192.0.2.7%eth0",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            let list: &'static str = format!("198.51.100.1, {entry}, 10.0.0.1").leak();
            assert_eq!(client("127.0.0.1", &[list]).as_deref(), Some("10.0.0.1"), "{entry}");
        }
    }

    #[test]
    fn an_address_is_read_in_every_form_that_proxies_write() {
        for (entry, expected) in [
            ("\"192.0.2.7\"", "192.0.2.7"),
            ("\"192.0.2.7:4711\"", "192.0.2.7"),
            ("\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("2001:DB8::7", "2001:db8::7"),
            ("[::ffff:192.0.2.7]:1", "192.0.2.7"),
            ("::ffff:c000:207", "192.0.2.7"),
            ("fe80::7%eth0", "fe80::7"),
            ("[fe80::7%25eth0]:1", "fe80::7"),
            ("\t192.0.2.7 ", "192.0.2.7"),
        ] {
            let list: &'static str = format!("\"x, {entry}").leak();
            assert_eq!(client("10.0.0.1", &[list]).as_deref(), Some(expected), "{entry}");
        }
        assert_eq!(client("127.0.0.1", &["127.0.0.1"]).as_deref(), Some("127.0.0.1"), "its own");
    }

    #[test]
    fn a_list_of_any_length_is_read_from_its_end_only() {
        let list = "10.0.0.1,".repeat(100);
        let list: &'static str = format!("192.0.2.7, {list}").leak();
        assert_eq!(client("127.0.0.1", &[list]).as_deref(), Some("10.0.0.1"));
    }
}
