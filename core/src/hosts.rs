//! Names that a server answers to (RFC 9110 §7.2).
//!
//! A web page can point a name of its own at an address that only the visitor's browser reaches, 127.0.0.1 for one, and then
//! talk to what listens there as if to its own server (DNS rebinding). It cannot choose the `Host` that the browser sends,
//! which is that name: a server that answers to its own names only is out of its reach.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::origin::is_name;

/// Which names of a server count in requests. Default: any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hosts {
    /// Any name.
    #[default]
    Any,
    /// Addresses, `localhost` and what is below it, and these names; `*.example.com` is all names below a domain.
    Only(Vec<Box<str>>),
}

impl Hosts {
    /// Whether a request with this `Host` field may go on. One without is from no browser, but from HTTP/1.0.
    #[must_use]
    pub fn allow(&self, header: Option<&[u8]>) -> bool {
        let (Self::Only(names), Some(header)) = (self, header) else { return true };
        let Some(host) = std::str::from_utf8(header).ok().and_then(host_of) else { return false };
        is_address(&host)
            || host == LOCAL
            || is_below(&host, LOCAL)
            || names.iter().any(|name| match name.strip_prefix("*.") {
                Some(domain) => is_below(&host, &domain.to_ascii_lowercase()),
                None => host == name.to_ascii_lowercase(),
            })
    }

    /// Whether this may stand in a list of names: a name without a port, perhaps after `*.`.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        let name = text.strip_prefix("*.").unwrap_or(text);
        !name.ends_with('.') && host_of(name).is_some_and(|host| host == name.to_ascii_lowercase())
    }
}

/// The host of a field, in small letters, without its port and without a dot at its end.
fn host_of(field: &str) -> Option<String> {
    let (host, port) = match field.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            let port = after.strip_prefix(':').unwrap_or(after);
            return is_port(port).then(|| address.to_owned());
        }
        None => field.split_once(':').unwrap_or((field, "")),
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    (is_name(name) && is_port(port)).then(|| name.to_ascii_lowercase())
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|digit| digit.is_ascii_digit())
}

fn is_address(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok()
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).and_then(|labels| labels.strip_suffix('.')).is_some()
}

const LOCAL: &str = "localhost";

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(names: &[&str], header: &str) -> bool {
        Hosts::Only(names.iter().map(|name| Box::from(*name)).collect())
            .allow(Some(header.as_bytes()))
    }

    #[test]
    fn this_machine_is_known_by_addresses_and_localhost() {
        for own in [
            "localhost",
            "LOCALHOST:8686",
            "localhost.",
            "app.localhost:1",
            "127.0.0.1",
            "127.0.0.1:8686",
            "[::1]",
            "[::1]:8686",
            "192.0.2.7:80",
        ] {
            assert!(allows(&[], own), "{own}");
        }
        for foreign in [
            "evil.com",
            "evil.com:8686",
            "localhost.evil.com",
            "evillocalhost",
            "127.0.0.1.evil.com",
            "127.0.0.1@evil.com",
            "evil.com/localhost",
            "evil.com#.localhost",
            "localhost:8686@evil.com",
            "localhost:evil",
            "localhost:123456",
            "[::1].evil.com",
            "[::1]evil.com",
            "[evil.com]",
            "[]",
            "[::1",
            "",
            ".",
            ".localhost",
            "a..localhost",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "l\u{f6}calhost",
            " localhost",
        ] {
            assert!(!allows(&[], foreign), "{foreign}");
        }
        assert!(!Hosts::Only(Vec::new()).allow(Some(b"\xff.localhost")));
    }

    #[test]
    fn further_names_are_exact_or_all_below_a_domain() {
        let names = ["ws.example.com", "*.example.org"];
        for (host, allowed) in [
            ("ws.example.com", true),
            ("WS.example.com:443", true),
            ("ws.example.com.", true),
            ("a.ws.example.com", false),
            ("example.com", false),
            ("ws.example.com.evil.com", false),
            ("a.example.org", true),
            ("a.b.example.org:1", true),
            ("example.org", false),
            ("evilexample.org", false),
        ] {
            assert_eq!(allows(&names, host), allowed, "{host}");
        }
    }

    #[test]
    fn whoever_names_none_is_no_browser() {
        assert!(Hosts::Only(Vec::new()).allow(None));
        assert!(Hosts::Any.allow(Some(b"evil.com")));
    }

    #[test]
    fn names_of_a_list_have_no_port_and_no_path() {
        for good in ["a", "a.example", "*.a.example", "A.example", "xn--a"] {
            assert!(Hosts::is_name(good), "{good}");
        }
        for bad in ["", "*", "*.", "a:1", "a/b", "http://a", "a b", "a.", "*.*.a", "a*", "[::1]"] {
            assert!(!Hosts::is_name(bad), "{bad}");
        }
    }
}
