//! The kinds of settings that say where Redis is and what is whose in it.

use super::kind::{Host, Kind, int};

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// A name, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Hosts with ports, with commas between. One without a port has `port`.
pub(crate) struct Endpoints {
    pub(crate) port: u16,
}

impl Endpoints {
    fn endpoint(&self, text: &str) -> Option<Endpoint> {
        let whole = |text: &str| Host.parse(text).map(|host| Endpoint { host, port: self.port });
        let with_port = || {
            let (host, port) = text.rsplit_once(':')?;
            // An address with colons has brackets, or its last part would be a port.
            if host.contains(':') && !host.starts_with('[') {
                return None;
            }
            Some(Endpoint { host: Host.parse(host)?, port: int(1, 65535).parse(port)? })
        };
        whole(text).or_else(with_port)
    }
}

impl Kind for Endpoints {
    type Value = Vec<Endpoint>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        text.split(',').map(|one| self.endpoint(one.trim())).collect()
    }

    fn show(&self, value: &Self::Value) -> String {
        let one = |Endpoint { host, port }: &Endpoint| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        value.iter().map(one).collect::<Vec<_>>().join(",")
    }

    fn allowed(&self) -> String {
        "host:port with commas between; an IPv6 address with a port is in brackets".into()
    }
}

/// The first part of names in Redis.
pub(crate) struct KeyPrefix;

impl Kind for KeyPrefix {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        // Braces would decide on which node of a Redis Cluster a key lies, and patterns of an ACL have letters of their own.
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:/".contains(&byte);
        let sound = (1..=PREFIX_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits);
        sound.then(|| text.to_owned())
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn allowed(&self) -> String {
        format!("1 to {PREFIX_BYTES_MAX} letters, digits and . - _ : /")
    }
}

const PREFIX_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const SENTINELS: Endpoints = Endpoints { port: 26379 };

    #[test]
    fn endpoints_have_a_port_or_the_usual_one() {
        let text = "10.0.0.1:1, s-2.example,[::1]:3,::1,[fe80::2]";
        let endpoints = SENTINELS.parse(text).unwrap();
        let shown = "10.0.0.1:1,s-2.example:26379,[::1]:3,[::1]:26379,[fe80::2]:26379";
        assert_eq!(SENTINELS.show(&endpoints), shown);
        assert_eq!(SENTINELS.parse(shown), Some(endpoints));
        assert_eq!(SENTINELS.parse(""), Some(Vec::new()));
        for bad in ["a:0", "a:65536", "a:", ":1", "a,", "redis://a", "a b", "[a]:1", "1.2.3:4"] {
            assert_eq!(SENTINELS.parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn prefixes_cannot_be_mistaken_for_anything_else() {
        for good in ["mahavishnu", "a", "team/app:v-1_2.x"] {
            assert_eq!(KeyPrefix.parse(good).as_deref(), Some(good));
        }
        let long = "a".repeat(65);
        for bad in ["", "a{b}", "a*", "a b", "é", "a?", "a[b]", long.as_str()] {
            assert_eq!(KeyPrefix.parse(bad), None, "{bad}");
        }
    }
}
