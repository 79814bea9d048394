//! Whose connection it is behind a proxy: `X-Forwarded-For`, from proxies that the operator trusts.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// The client's address, if `peer` is a trusted proxy that names one.
///
/// Each proxy adds the address that it saw at the end of the list, so it is read from there: the first one that is no
/// trusted proxy is the client. What stands before it was sent by the client and proves nothing. An entry that is no
/// address ends the search at the proxy that passed it on.
pub(super) fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    proxies: &[IpNet],
) -> Option<IpAddr> {
    if !is_trusted(peer, proxies) {
        return None;
    }
    let values: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut client = None;
    for entry in values.iter().rev().flat_map(|value| value.rsplit(',')).take(HOPS_MAX) {
        let Some(address) = address(entry.trim()) else { break };
        client = Some(address);
        if !is_trusted(address, proxies) {
            break;
        }
    }
    client
}

pub(super) fn is_trusted(peer: IpAddr, proxies: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    proxies.iter().any(|network| network.contains(&peer))
}

/// An address, as proxies write it: alone, in brackets, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => text,
    };
    let address = bare.parse().ok().or_else(|| {
        let (host, port) = bare.rsplit_once(':')?;
        port.parse::<u16>()
            .ok()
            .and_then(|_| host.parse::<std::net::Ipv4Addr>().ok())
            .map(IpAddr::V4)
    });
    address.map(|address: IpAddr| address.to_canonical())
}

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Proxies in a row that are looked through.
const HOPS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, lists: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(FORWARDED_FOR, list.parse().unwrap());
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
}
