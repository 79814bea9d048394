//! Addresses of servers as people write them, for the client subcommands.

use std::{io, net::TcpStream, time::Duration};

use crate::{
    dial,
    exit::{Exit, Failure},
};

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Without brackets, also if it is an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// https:// or wss://
    pub(crate) tls: bool,
    /// Without a slash at its end: empty for the root.
    pub(crate) path: String,
}

impl Target {
    /// The server that `--url`, else MAHAVISHNU_URL names, else the default one on this machine.
    pub(crate) fn from_args(url: Option<&str>) -> Result<Self, Failure> {
        match url {
            Some(url) => Self::parse(url),
            None => Self::parse(
                std::env::var("MAHAVISHNU_URL")
                    .ok()
                    .filter(|url| !url.is_empty())
                    .as_deref()
                    .unwrap_or(DEFAULT),
            ),
        }
    }

    /// Reads `http://host:port/path`; ws:// is the same, https:// and wss:// are the same over TLS, and without a scheme
    /// the port is 8686 unless given.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        // Before anything is said about it.
        if url.contains(['?', '#', '@'])
            || url.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            // Not shown: a password or token may be in it.
            return Err(Failure::new(
                Exit::Configuration,
                "--url: use only scheme, host, port and path",
            ));
        }
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (port_default, tls) = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => (80, false),
            "https" | "wss" => (443, true),
            "" => (8686, false),
            _ => return Err(fault(url, "use http://, https://, ws:// or wss://")),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split_authority(authority).ok_or_else(|| fault(url, "use host:port"))?;
        let port = match port {
            "" => port_default,
            digits => digits.parse().map_err(|_| fault(url, "the port is a number up to 65535"))?,
        };
        Ok(Self { host: host.to_owned(), port, tls, path: path.trim_end_matches('/').to_owned() })
    }

    /// Tries every address of the host, for at most `timeout` in all.
    pub(crate) fn connect(&self, timeout: Duration) -> io::Result<TcpStream> {
        dial::connect(&self.host, self.port, timeout)
    }

    /// Host and port as in a `Host` header.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The address of its WebSocket.
    pub(crate) fn ws(&self) -> String {
        let scheme = if self.tls { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// The address of `resource` (with its slash) over HTTP.
    pub(crate) fn http(&self, resource: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}{resource}", self.authority(), self.path)
    }
}

/// Host without brackets, and the port's text, empty if there is none.
fn split_authority(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            let port = if after.is_empty() { "" } else { after.strip_prefix(':')? };
            (host.parse::<std::net::Ipv6Addr>().is_ok().then_some(host)?, port)
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    (!host.is_empty()).then_some((host, port))
}

fn fault(url: &str, text: &str) -> Failure {
    Failure::new(Exit::Configuration, format!("--url: {url:?} is not allowed; {text}"))
}

const DEFAULT: &str = "http://127.0.0.1:8686";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(url: &str) -> (String, u16, String) {
        let target = Target::parse(url).unwrap();
        (target.host, target.port, target.path)
    }

    #[test]
    fn http_and_ws_are_the_same_server() {
        assert_eq!(parts("http://h:1/"), ("h".into(), 1, String::new()));
        assert_eq!(parts("ws://h:1/a/b/"), ("h".into(), 1, "/a/b".into()));
        assert_eq!(parts("WS://h"), ("h".into(), 80, String::new()));
        assert_eq!(parts("localhost"), ("localhost".into(), 8686, String::new()));
        assert_eq!(parts("http://[::1]:9"), ("::1".into(), 9, String::new()));
        assert_eq!(Target::parse("[::1]").unwrap().http("/health"), "http://[::1]:8686/health");
    }

    #[test]
    fn https_and_wss_are_over_tls() {
        for url in ["https://h", "WSS://h"] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.port, target.tls), (443, true));
        }
        assert_eq!(Target::parse("wss://h:1").unwrap().http("/health"), "https://h:1/health");
        assert!(!Target::parse("h").unwrap().tls);
    }

    #[test]
    fn what_is_shown_is_the_scheme_port_and_path_that_are_used() {
        for (given, ws, http) in [
            ("wss://h", "wss://h:443", "https://h:443/x"),
            ("https://[::1]:9/a/", "wss://[::1]:9/a", "https://[::1]:9/a/x"),
            ("http://h", "ws://h:80", "http://h:80/x"),
            ("WS://h:1", "ws://h:1", "http://h:1/x"),
            ("h", "ws://h:8686", "http://h:8686/x"),
        ] {
            let target = Target::parse(given).unwrap();
            assert_eq!((target.ws().as_str(), target.http("/x").as_str()), (ws, http), "{given}");
        }
    }

    #[test]
    fn other_addresses_are_refused_in_one_line() {
        for url in [
            "ftp://h",
            "http://",
            "http://:1",
            "http://h:x",
            "h:65536",
            "http://[h]:1",
            "ws://u:p@h",
            "ws://h/?token=x",
            "",
        ] {
            let failure = Target::parse(url).unwrap_err();
            assert_eq!(failure.exit, Exit::Configuration, "{url}");
        }
    }

    /// Where a user, a query or a fragment has its secret, with whatever around it.
    fn secretive() -> impl Strategy<Value = String> {
        let scheme = "(http|https|ws|wss|ftp|[a-z@:/]{0,6})(://|:/|:|)";
        let secret = "([a-z:]{0,5}S@|hS@|h/\\?t=S|h#S)";
        (scheme, secret, "[a-z0-9:./\\[\\]@?#]{0,12}")
            .prop_map(|(before, secret, after)| before + &secret.replace('S', SECRET) + &after)
    }

    const SECRET: &str = "Zk9QxT7vLm3W";

    proptest! {
        #[test]
        fn no_answer_repeats_a_password_or_a_token(url in secretive()) {
            if let Err(failure) = Target::parse(&url) {
                prop_assert_eq!(failure.exit, Exit::Configuration);
                prop_assert_eq!(failure.lines.len(), 1);
                prop_assert!(!failure.lines[0].contains(SECRET), "{}", failure);
            } else {
                prop_assert!(false, "{} is taken", url);
            }
        }

        #[test]
        fn any_text_has_an_answer(
            url in prop_oneof![any::<String>(), "(https?|wss?)?(://)?[a-z0-9\\[\\]:./ @-]{0,16}"],
        ) {
            match Target::parse(&url) {
                Ok(target) => {
                    prop_assert!(!target.host.is_empty() && !target.path.ends_with('/'));
                    // What is shown of it names the same server.
                    prop_assert_eq!(Target::parse(&target.ws()), Ok(target.clone()));
                    prop_assert_eq!(Target::parse(&target.http("")), Ok(target));
                }
                Err(failure) => {
                    prop_assert_eq!(failure.exit, Exit::Configuration);
                    let line = failure.to_string();
                    prop_assert!(!line.contains(char::is_control), "{:?}", line);
                }
            }
        }
    }
}
