//! What protects a server, and a reload that would take it away by saying nothing.

use super::{check::Loaded, sources::Source, table::table};

/// What a reload takes away of what protects the server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Weakened {
    /// By name: somebody has said so.
    pub(crate) said: Vec<&'static str>,
    /// Nobody says anything about it any more: a file that became empty, or a line that got lost.
    pub(crate) lost: Vec<&'static str>,
}

impl Weakened {
    /// One line for each that is lost.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let line = |name: &&str| {
            format!(
                "{name}: is not set any more, and a reload takes no protection away that nobody has said to take away; set {name} again, or to what it is to be, or restart"
            )
        };
        self.lost.iter().map(line).collect()
    }
}

/// Compares two readings. Without a value, each of [`PROTECTIONS`] protects least.
pub(crate) fn weakened(old: &Loaded, new: &Loaded) -> Weakened {
    let mut weakened = Weakened::default();
    let shown = old.settings.shown().into_iter().zip(new.settings.shown());
    for (variable, ((name, before), (_, after))) in table().iter().zip(shown) {
        if !PROTECTIONS.contains(&name) || before == variable.default || after != variable.default {
            continue;
        }
        match new.origins.get(name) {
            None | Some(Source::Default | Source::Service(_)) => weakened.lost.push(name),
            Some(_) => weakened.said.push(name),
        }
    }
    weakened
}

/// Variables of which the default protects less than any other value.
const PROTECTIONS: [&str; 19] = [
    "MAHAVISHNU_PROXY_PROTOCOL",
    "MAHAVISHNU_TLS_ENABLED",
    "MAHAVISHNU_CRL_FILE",
    "MAHAVISHNU_VERIFY_CLIENT",
    "MAHAVISHNU_AUTH_ENABLED",
    "MAHAVISHNU_JWT_REQUIRE_EXP",
    "MAHAVISHNU_JWT_ISSUER",
    "MAHAVISHNU_POLICY_FILE",
    "MAHAVISHNU_REVOKED_FILE",
    "MAHAVISHNU_JWT_END_REMOVED_KEYS",
    "MAHAVISHNU_ALLOWED_ORIGINS",
    "MAHAVISHNU_ALLOWED_HOSTS",
    "MAHAVISHNU_REDIS_TLS",
    "MAHAVISHNU_RATE_LIMIT",
    "MAHAVISHNU_RATE_LIMIT_LOOPBACK",
    "MAHAVISHNU_MAX_CONNECTIONS_PER_ADDRESS",
    "MAHAVISHNU_MAX_CONNECTIONS_PER_USER",
    "MAHAVISHNU_MAX_CONNECTIONS_CLUSTER",
    "MAHAVISHNU_MEMORY_LIMIT",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::testing::load;

    const STRONG: (&str, &str) = ("JWT_SECRET", "q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu");

    #[test]
    fn every_protection_is_a_setting_that_a_reload_can_change() {
        for name in PROTECTIONS {
            let found = table().into_iter().find(|variable| variable.name() == name);
            let found = found.unwrap_or_else(|| panic!("{name}"));
            assert!(matches!(found.reload, crate::settings::reader::Reload::Live), "{name}");
        }
    }

    #[test]
    fn what_nobody_says_any_more_is_lost_and_what_is_said_is_said() {
        let rows: [(&str, &str, &str); 12] = [
            ("PROXY_PROTOCOL", "true", "false"),
            ("TLS_ENABLED", "true", "false"),
            ("VERIFY_CLIENT", "true", "false"),
            ("AUTH_ENABLED", "true", "false"),
            ("JWT_REQUIRE_EXP", "true", "false"),
            ("JWT_END_REMOVED_KEYS", "true", "false"),
            ("REDIS_TLS", "true", "false"),
            ("RATE_LIMIT", "10", "off"),
            ("MAX_CONNECTIONS_PER_ADDRESS", "10", "off"),
            ("MAX_CONNECTIONS_PER_USER", "10", "off"),
            ("MAX_CONNECTIONS_CLUSTER", "10", "off"),
            ("MEMORY_LIMIT", "2G", "off"),
        ];
        for (name, on, off) in rows {
            let full = format!("MAHAVISHNU_{name}");
            let old = load(&[STRONG, (name, on)]);
            let lost = weakened(&old, &load(&[STRONG]));
            assert_eq!((lost.lost, lost.said.len()), (vec![&*full], 0), "{name}");
            let said = weakened(&old, &load(&[STRONG, (name, off)]));
            assert_eq!((said.lost.len(), said.said), (0, vec![&*full]), "{name}");
            assert_eq!(weakened(&old, &old), Weakened::default());
            assert_eq!(weakened(&load(&[STRONG]), &old), Weakened::default(), "{name}: added");
            let off = load(&[STRONG, (name, off)]);
            assert_eq!(weakened(&off, &load(&[STRONG])), Weakened::default(), "{name}: was off");
        }
        let names = [("ALLOWED_ORIGINS", "https://a.example"), ("JWT_ISSUER", "us")];
        assert_eq!(weakened(&load(&names), &load(&[])).lost.len(), 2);
    }
}
