//! Origins of web pages (RFC 6454), as browsers send them and as operators write them.

use std::net::{IpAddr, Ipv6Addr};

/// One origin, `https://app.example.com` or `http://localhost:3000`; all hosts below a domain,
/// `https://*.example.com`; or `null`, the origin of pages that have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `None`: `null`.
    parts: Option<Parts>,
    /// The host is the domain that all allowed ones are below.
    below: bool,
}

/// Scheme, host and port, in small letters (RFC 6454 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    scheme: Box<str>,
    host: Box<str>,
    /// `None`: the scheme's own.
    port: Option<u16>,
}

impl Origin {
    /// Reads one, in any case. `None`: not an origin.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.eq_ignore_ascii_case(NULL) {
            return Some(Self { parts: None, below: false });
        }
        let (scheme, authority) = text.split_once("://")?;
        let below = authority.strip_prefix("*.");
        let parts = Parts::parse(scheme, below.unwrap_or(authority))?;
        Some(Self { parts: Some(parts), below: below.is_some() })
    }

    pub(crate) fn fits(&self, header: &[u8]) -> bool {
        let Ok(header) = std::str::from_utf8(header) else { return false };
        let Some(allowed) = &self.parts else { return header == NULL };
        let Some(found) = header
            .split_once("://")
            .and_then(|(scheme, authority)| Parts::parse(scheme, authority))
        else {
            return false;
        };
        let host = match self.below {
            true => found
                .host
                .strip_suffix(&*allowed.host)
                .and_then(|labels| labels.strip_suffix('.'))
                .is_some(),
            false => found.host == allowed.host,
        };
        host && found.scheme == allowed.scheme && found.port == allowed.port
    }
}

impl Parts {
    /// RFC 6454 §7.1: nothing but scheme, host and port; no user, path, query or fragment.
    fn parse(scheme: &str, authority: &str) -> Option<Self> {
        let mut letters = scheme.bytes();
        let sound = letters.next()?.is_ascii_alphabetic()
            && letters.all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c));
        if !sound {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_port(authority)?;
        let host = host_of(host)?;
        // Browsers leave the scheme's own port out.
        let own = match scheme.as_str() {
            "https" | "wss" => Some(443),
            "http" | "ws" => Some(80),
            _ => None,
        };
        let port = port.filter(|port| Some(*port) != own);
        Some(Self { scheme: scheme.into(), host, port })
    }
}

/// Whether a browser's page comes from this machine.
pub(crate) fn is_loopback(header: &[u8]) -> bool {
    let parts = std::str::from_utf8(header)
        .ok()
        .and_then(|header| header.split_once("://"))
        .and_then(|(scheme, authority)| Parts::parse(scheme, authority));
    parts.is_some_and(|parts| {
        let host = parts.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// Host and port, `None` if what stands for a port is none.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_host = authority.rfind(']').map_or(0, |end| end + 1);
    match authority.get(after_host..)?.find(':') {
        None => Some((authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at_checked(after_host + colon)?;
            let digits = port.strip_prefix(':')?;
            let sound = digits.bytes().all(|digit| digit.is_ascii_digit());
            sound.then(|| digits.parse().ok()).flatten().map(|port| (host, Some(port)))
        }
    }
}

/// A name in small letters, or an address. Browsers send other names than ASCII in Punycode (RFC 6454 §4).
fn host_of(text: &str) -> Option<Box<str>> {
    if let Some(rest) = text.strip_prefix('[') {
        let address: Ipv6Addr = rest.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]").into());
    }
    // One dot at the end names the same host to DNS, but another one to browsers.
    is_name(text.strip_suffix('.').unwrap_or(text)).then(|| text.to_ascii_lowercase().into())
}

/// Whether this may be a host's name: labels of ASCII letters, digits, `-` and `_`, with dots between.
pub(crate) fn is_name(text: &str) -> bool {
    let is_sound = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
    text.split('.').all(|label| !label.is_empty() && label.bytes().all(is_sound))
}

const NULL: &str = "null";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_whole() {
        for (allowed, header, fits) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "HTTPS://A.EXAMPLE", true),
            ("https://A.example:443", "https://a.example", true),
            ("https://a.example", "https://a.example:443", true),
            ("http://a.example", "http://a.example:80", true),
            ("http://a.example", "http://a.example:443", false),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example", "https://a.example.evil", false),
            ("https://a.example", "https://a.example.", false),
            ("https://a.example", "https://a.example/", false),
            ("https://a.example", "https://a.example:443/", false),
            ("https://a.example", "https://a.example?", false),
            ("https://a.example", "https://a.example#", false),
            ("https://a.example", "https://user@a.example", false),
            ("https://a.example", "https://a.example@evil.com", false),
            ("https://a.example", "https://a.example https://evil.com", false),
            ("https://a.example", " https://a.example", false),
            ("https://a.example", "https://a.example,https://a.example", false),
            ("https://a.example", "https:/a.example", false),
            ("https://a.example", "https:a.example", false),
            ("https://a.example", "a.example", false),
            ("https://a.example", "//a.example", false),
            ("https://a.example", "https://a%2eexample", false),
            ("https://a.example", "https://a.example\\.evil.com", false),
            ("https://a.example", "", false),
            ("http://localhost:3000", "http://localhost:3000", true),
            ("http://localhost:3000", "http://localhost:30001", false),
            ("http://localhost:3000", "http://localhost:03000", true),
            ("http://localhost:3000", "http://localhost:3000.evil.com", false),
            ("http://localhost:3000", "http://localhost:+3000", false),
            ("http://localhost:3000", "http://localhost:", false),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("http://[0:0::1]:3000", "http://[::1]:3000", true),
            ("http://[::1]", "http://[::1]evil.com", false),
            ("https://*.example.com", "https://x.y.example.com", true),
            ("https://*.example.com", "https://X.Example.Com:443", true),
            ("https://*.example.com:8443", "https://x.example.com:8443", true),
            ("https://*.example.com", "https://x.example.com:8443", false),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "https://x..example.com", false),
            ("https://*.example.com", "https://evilexample.com", false),
            ("https://*.example.com", "https://x.example.com.evil", false),
            ("https://*.example.org", "https://evil.com/.example.org", false),
            ("https://*.example.org", "https://evil.com?.example.org", false),
            ("https://*.example.org", "https://evil.com#.example.org", false),
            ("https://*.example.org", "https://evil.com:1.example.org", false),
            ("https://*.example.org", "https://evil.com:443@x.example.org", false),
            ("https://*.example.org", "https://evil.com\\.example.org", false),
            ("https://*.example.org", "https://evil.com\t.example.org", false),
            ("https://*.example.org", "https://[::1].example.org", false),
            ("https://*.example.org", "https://b\u{fc}cher.example.org", false),
            ("https://*.example.org", "https://xn--bcher-kva.example.org", true),
            ("https://*.example.org", "https://evil.com https://x.example.org", false),
            ("tauri://localhost", "tauri://localhost", true),
            ("null", "null", true),
            ("null", "Null", false),
            ("null", "null://a", false),
            ("https://a.example", "null", false),
        ] {
            let origin = Origin::parse(allowed).unwrap();
            assert_eq!(origin.fits(header.as_bytes()), fits, "{allowed} {header}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "a.example",
            "https://",
            "https://a/b",
            "https://a/",
            "*",
            "https://*",
            "https://a*b",
            "://a",
            "https://*.",
            "https://*.*.a",
            "https://x.*.a",
            "https://a:b",
            "https://a:65536",
            "https://a b",
            "https://u@a",
            "https://[::1",
            "https://a..b",
            "1http://a",
            "ht tp://a",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_pages_of_this_machine_are_loopback() {
        for origin in [
            "http://localhost",
            "http://LOCALHOST:3000",
            "http://127.0.0.1:1",
            "http://127.9.9.9",
            "http://[::1]:3000",
        ] {
            assert!(is_loopback(origin.as_bytes()), "{origin}");
        }
        for origin in [
            "null",
            "",
            "localhost",
            "http://localhost.example.com",
            "http://localhost@evil.com",
            "http://localhost:3000.evil.com",
            "http://localhost/",
            "http://127.0.0.1.evil.com",
            "http://[::1]evil.com",
            "http://[::1",
            "http://evil.com:80@localhost",
            "http://[localhost]",
            "https://192.0.2.1",
        ] {
            assert!(!is_loopback(origin.as_bytes()), "{origin}");
        }
    }
}
