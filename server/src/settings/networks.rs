//! Networks as a setting.

use std::net::IpAddr;

use ipnet::IpNet;
use mahavishnu_core::hub::NO_ADDRESS;

use super::kind::Kind;

/// Addresses and networks with commas between: `127.0.0.1,10.0.0.0/8`.
pub(crate) struct Networks;

impl Kind for Networks {
    type Value = Vec<IpNet>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        text.split(',').map(|item| network(item.trim())).collect()
    }

    fn show(&self, value: &Self::Value) -> String {
        let texts: Vec<_> = value
            .iter()
            .map(|network| match network.prefix_len() == network.max_prefix_len() {
                true if network.addr() == NO_ADDRESS.ip() => UNIX.to_owned(),
                true => network.addr().to_string(),
                false => network.to_string(),
            })
            .collect();
        texts.join(",")
    }

    fn allowed(&self) -> String {
        "addresses or networks with commas between, such as 127.0.0.1,10.0.0.0/8; unix".into()
    }
}

fn network(text: &str) -> Option<IpNet> {
    if text.eq_ignore_ascii_case(UNIX) {
        return Some(NO_ADDRESS.ip().into());
    }
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Those who have no address: they come by a Unix socket.
const UNIX: &str = "unix";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_read_and_shown() {
        let value = Networks.parse("127.0.0.1, 10.0.0.0/8,::1,2001:db8::/32").unwrap();
        assert_eq!(Networks.show(&value), "127.0.0.1,10.0.0.0/8,::1,2001:db8::/32");
        let value = Networks.parse("Unix, 10.0.0.1").unwrap();
        assert_eq!(value.first().map(ToString::to_string).as_deref(), Some("::/128"));
        assert_eq!(Networks.show(&value), "unix,10.0.0.1");
        assert_eq!(Networks.parse(""), Some(Vec::new()));
        for wrong in ["localhost", "10.0.0.0/33", "10.0.0.1,", "*"] {
            assert_eq!(Networks.parse(wrong), None, "{wrong}");
        }
    }
}
