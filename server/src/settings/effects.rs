//! Settings that have no effect because of another one: who sets them believes in something that does not happen.

use mahavishnu_core::config::Publishing;

use super::{Settings, table::table};

/// One reason for which settings have no effect.
struct Idle {
    /// Which, in full.
    names: &'static [&'static str],
    /// Whether it is so.
    is: fn(&Settings, Keys) -> bool,
    /// Why, for the operator.
    why: &'static str,
}

/// Whether there are keys to verify tokens with.
#[derive(Clone, Copy)]
struct Keys(bool);

const IDLE: &[Idle] = &[
    Idle {
        names: &[
            "MAHAVISHNU_CERT_FILE",
            "MAHAVISHNU_KEY_FILE",
            "MAHAVISHNU_CA_FILE",
            "MAHAVISHNU_CRL_FILE",
            "MAHAVISHNU_VERIFY_CLIENT",
            "MAHAVISHNU_CLIENT_CERT_PERMISSIONS",
            "MAHAVISHNU_TLS_PLAIN",
            "MAHAVISHNU_AUTO_CERT",
            "MAHAVISHNU_AUTO_CERT_NAMES",
        ],
        is: |settings, _| !settings.tls_enabled,
        why: "MAHAVISHNU_TLS_ENABLED is false",
    },
    Idle {
        names: &["MAHAVISHNU_CA_FILE", "MAHAVISHNU_CRL_FILE", "MAHAVISHNU_CLIENT_CERT_PERMISSIONS"],
        is: |settings, _| settings.tls_enabled && !settings.verify_client,
        why: "clients are asked for certificates only if MAHAVISHNU_VERIFY_CLIENT is true",
    },
    Idle {
        names: &["MAHAVISHNU_AUTO_CERT"],
        is: |settings, _| settings.tls_enabled && !settings.cert_file.is_empty(),
        why: "there is a MAHAVISHNU_CERT_FILE",
    },
    Idle {
        names: &["MAHAVISHNU_AUTO_CERT_NAMES"],
        is: |settings, _| settings.tls_enabled && !settings.auto_cert,
        why: "MAHAVISHNU_AUTO_CERT is false",
    },
    Idle {
        names: &["MAHAVISHNU_KEY_FILE"],
        is: |settings, _| settings.tls_enabled && settings.cert_file.is_empty(),
        why: "there is no MAHAVISHNU_CERT_FILE",
    },
    Idle {
        names: &["MAHAVISHNU_PROXY_PROTOCOL"],
        is: |settings, _| settings.trusted_proxies.is_empty(),
        why: "MAHAVISHNU_TRUSTED_PROXIES names nobody whose connections begin with its header",
    },
    Idle {
        names: &[
            "MAHAVISHNU_JWT_REQUIRE_EXP",
            "MAHAVISHNU_JWT_AUDIENCE",
            "MAHAVISHNU_JWT_ISSUER",
            "MAHAVISHNU_JWT_END_REMOVED_KEYS",
            "MAHAVISHNU_REVOKED_FILE",
            "MAHAVISHNU_REVOCATION_KEEP",
            "MAHAVISHNU_TOKEN_WARNING",
            "MAHAVISHNU_TOKEN_GRACE",
            "MAHAVISHNU_TOKEN_IN_QUERY",
            "MAHAVISHNU_TOKEN_IN_SUBPROTOCOL",
            "MAHAVISHNU_TELL_PERMISSIONS",
        ],
        // Where a token is required, that there is no key is said already.
        is: |settings, keys| !keys.0 && !settings.auth_enabled,
        why: "there is no key to verify tokens with (MAHAVISHNU_JWT_SECRET, MAHAVISHNU_JWT_KEYS)",
    },
    Idle {
        names: &["MAHAVISHNU_MAX_CONNECTIONS_PER_USER"],
        is: |settings, keys| {
            let by_certificate = settings.tls_enabled && settings.verify_client;
            !(keys.0 || settings.auth_enabled || by_certificate)
        },
        why: "neither tokens nor client certificates name users",
    },
    Idle {
        names: &["MAHAVISHNU_AUTH_TIMEOUT"],
        is: |settings, _| !settings.auth_enabled,
        why: "MAHAVISHNU_AUTH_ENABLED is false",
    },
    Idle {
        names: &["MAHAVISHNU_ALLOW_REMOTE_PUBLISH"],
        is: |settings, _| settings.auth_enabled,
        why: "with MAHAVISHNU_AUTH_ENABLED a token says who may publish",
    },
    Idle {
        names: &[
            "MAHAVISHNU_ALLOW_REMOTE_PUBLISH",
            "MAHAVISHNU_INGRESS_STREAM",
            "MAHAVISHNU_INGRESS_LIST",
        ],
        is: |settings, _| settings.publishing == Publishing::ApplicationOnly,
        why: "with MAHAVISHNU_PUBLISHING=application nobody from outside publishes",
    },
    Idle {
        names: &[
            "MAHAVISHNU_METRICS_HOST",
            "MAHAVISHNU_METRICS_PORT",
            "MAHAVISHNU_METRICS_CHANNEL_NAMES",
        ],
        is: |settings, _| !settings.metrics_enabled,
        why: "MAHAVISHNU_METRICS_ENABLED is false",
    },
    Idle {
        names: &[
            "MAHAVISHNU_REDIS_PORT",
            "MAHAVISHNU_REDIS_DB",
            "MAHAVISHNU_REDIS_USERNAME",
            "MAHAVISHNU_REDIS_PASSWORD",
            "MAHAVISHNU_REDIS_PASSWORD_FILE",
            "MAHAVISHNU_REDIS_PREFIX",
            "MAHAVISHNU_REDIS_TLS",
            "MAHAVISHNU_REDIS_CONNECT_TIMEOUT",
            "MAHAVISHNU_REDIS_TIMEOUT",
            "MAHAVISHNU_REDIS_QUEUE_SECONDS",
            "MAHAVISHNU_REDIS_QUEUE_BYTES",
            "MAHAVISHNU_REDIS_DOWN",
            "MAHAVISHNU_REDIS_DOWN_RULES",
            "MAHAVISHNU_REDIS_READY_GRACE",
            "MAHAVISHNU_REDIS_HEAL",
            "MAHAVISHNU_NODE_NAME",
            "MAHAVISHNU_NODE_LEASE",
            "MAHAVISHNU_TRACK_CONNECTIONS",
            "MAHAVISHNU_MAX_CONNECTIONS_CLUSTER",
            "MAHAVISHNU_INGRESS_STREAM",
            "MAHAVISHNU_INGRESS_LIST",
        ],
        is: |settings, _| !settings.has_redis(),
        why: "neither MAHAVISHNU_REDIS_HOST nor MAHAVISHNU_REDIS_SENTINELS is set",
    },
    Idle {
        names: &["MAHAVISHNU_REDIS_PORT"],
        is: |settings, _| !settings.redis_sentinels.is_empty(),
        why: "the sentinels say where Redis is",
    },
    Idle {
        names: &[
            "MAHAVISHNU_REDIS_SENTINEL_MASTER",
            "MAHAVISHNU_REDIS_SENTINEL_USERNAME",
            "MAHAVISHNU_REDIS_SENTINEL_PASSWORD",
            "MAHAVISHNU_REDIS_SENTINEL_PASSWORD_FILE",
        ],
        is: |settings, _| settings.redis_sentinels.is_empty(),
        why: "MAHAVISHNU_REDIS_SENTINELS is not set",
    },
    Idle {
        names: &[
            "MAHAVISHNU_REDIS_CA_FILE",
            "MAHAVISHNU_REDIS_CERT_FILE",
            "MAHAVISHNU_REDIS_KEY_FILE",
            "MAHAVISHNU_REDIS_TLS_NAME",
        ],
        is: |settings, _| !settings.redis_tls,
        why: "MAHAVISHNU_REDIS_TLS is false",
    },
    Idle {
        names: &["MAHAVISHNU_REDIS_KEY_FILE"],
        is: |settings, _| settings.redis_tls && settings.redis_cert_file.is_none(),
        why: "there is no MAHAVISHNU_REDIS_CERT_FILE",
    },
    Idle {
        names: &["MAHAVISHNU_RATE_LIMIT_LOOPBACK"],
        is: |settings, _| {
            settings.rate_limit.is_none() && settings.max_connections_per_address.is_none()
        },
        why: "MAHAVISHNU_RATE_LIMIT and MAHAVISHNU_MAX_CONNECTIONS_PER_ADDRESS are 0",
    },
    Idle {
        names: &["MAHAVISHNU_MESSAGE_BURST"],
        is: |settings, _| settings.message_rate_limit.is_none(),
        why: "MAHAVISHNU_MESSAGE_RATE_LIMIT is 0",
    },
    Idle {
        names: &["MAHAVISHNU_PONG_TIMEOUT"],
        is: |settings, _| settings.ping_interval.is_none(),
        why: "MAHAVISHNU_PING_INTERVAL is 0",
    },
    Idle {
        names: &[
            "MAHAVISHNU_DEFLATE_LEVEL",
            "MAHAVISHNU_DEFLATE_THRESHOLD",
            "MAHAVISHNU_DEFLATE_CHANNELS",
        ],
        is: |settings, _| !settings.deflate,
        why: "MAHAVISHNU_DEFLATE is false",
    },
    Idle {
        names: &[
            "MAHAVISHNU_HISTORY_CHANNEL_BYTES",
            "MAHAVISHNU_RECOVER_MAX",
            "MAHAVISHNU_REWIND_RULES",
        ],
        is: |settings, _| !settings.keeps_history(),
        why: "MAHAVISHNU_HISTORY is off, and MAHAVISHNU_HISTORY_RULES keep nothing",
    },
    Idle {
        names: &["MAHAVISHNU_HISTORY_FSYNC"],
        is: |settings, _| settings.history_file.is_none(),
        why: "MAHAVISHNU_HISTORY_FILE is not set",
    },
    Idle {
        names: &[
            "MAHAVISHNU_PRESENCE_MEMBERS_MAX",
            "MAHAVISHNU_PRESENCE_BYTES",
            "MAHAVISHNU_PRESENCE_INFO_BYTES",
            "MAHAVISHNU_PRESENCE_CHANGES_MAX",
        ],
        is: |settings, _| !settings.presence_rules.iter().any(|rule| rule.value),
        why: "MAHAVISHNU_PRESENCE_RULES name no channels that have members",
    },
    Idle {
        names: &["MAHAVISHNU_SESSIONS_MAX"],
        is: |settings, _| settings.session_seconds.is_zero(),
        why: "MAHAVISHNU_SESSION_SECONDS is 0",
    },
    Idle {
        names: &["MAHAVISHNU_RECORD_MAX_BYTES"],
        is: |settings, _| settings.record_file.is_none(),
        why: "MAHAVISHNU_RECORD_FILE is not set",
    },
];

/// A line for each reason that applies, with the settings that are not at their default and have no effect for it.
pub(super) fn without_effect(
    settings: &Settings,
    has_keys: bool,
    passed_over: impl Fn(&str) -> bool,
) -> Vec<String> {
    let (table, shown) = (table(), settings.shown());
    let is_meant = |name: &str| {
        let given = shown.iter().find(|(shown, _)| *shown == name);
        let row = table.iter().find(|row| row.name() == name);
        !passed_over(name) && given.zip(row).is_some_and(|((_, value), row)| *value != row.default)
    };
    let line = |idle: &Idle| {
        let names: Vec<_> = idle.names.iter().copied().filter(|name| is_meant(name)).collect();
        let verb = if names.len() == 1 { "has" } else { "have" };
        (!names.is_empty()).then(|| format!("{} {verb} no effect: {}", names.join(", "), idle.why))
    };
    IDLE.iter().filter(|idle| (idle.is)(settings, Keys(has_keys))).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::testing::load;

    type Pairs = &'static [(&'static str, &'static str)];

    /// One setting with a value that is not its default, and what it takes to have an effect.
    const CASES: &[(&str, &str, Pairs)] = &[
        ("CERT_FILE", "c.pem", TLS),
        ("KEY_FILE", "k.pem", &[("TLS_ENABLED", "true"), ("CERT_FILE", "c.pem")]),
        ("CA_FILE", "ca.pem", MTLS),
        ("CRL_FILE", "crl.pem", MTLS),
        ("VERIFY_CLIENT", "true", TLS),
        ("CLIENT_CERT_PERMISSIONS", "cn:ops=admin", MTLS),
        ("TLS_PLAIN", "nothing", TLS),
        ("AUTO_CERT", "true", &[("TLS_ENABLED", "true")]),
        ("AUTO_CERT_NAMES", "a.example", &[("TLS_ENABLED", "true"), ("AUTO_CERT", "true")]),
        ("PROXY_PROTOCOL", "true", &[("TRUSTED_PROXIES", "10.0.0.1")]),
        ("JWT_REQUIRE_EXP", "true", KEYS),
        ("JWT_AUDIENCE", "a", KEYS),
        ("JWT_ISSUER", "a", KEYS),
        ("JWT_END_REMOVED_KEYS", "true", KEYS),
        ("REVOKED_FILE", "r", KEYS),
        ("REVOCATION_KEEP", "60", KEYS),
        ("TOKEN_WARNING", "1", KEYS),
        ("TOKEN_GRACE", "1", KEYS),
        ("TOKEN_IN_QUERY", "true", KEYS),
        ("TOKEN_IN_SUBPROTOCOL", "true", KEYS),
        ("TELL_PERMISSIONS", "true", KEYS),
        ("MAX_CONNECTIONS_PER_USER", "1", KEYS),
        ("AUTH_TIMEOUT", "1", &[("AUTH_ENABLED", "true"), ("JWT_SECRET", STRONG)]),
        ("ALLOW_REMOTE_PUBLISH", "true", &[]),
        ("METRICS_HOST", "127.0.0.2", &[]),
        ("METRICS_PORT", "1", &[]),
        ("METRICS_CHANNEL_NAMES", "true", &[]),
        ("REDIS_PORT", "1", REDIS),
        ("REDIS_DB", "1", REDIS),
        ("REDIS_USERNAME", "x", REDIS),
        ("REDIS_PASSWORD", "x", REDIS),
        ("REDIS_PASSWORD_FILE", "p", REDIS),
        ("REDIS_PREFIX", "x", REDIS),
        ("REDIS_TLS", "true", REDIS),
        ("REDIS_CA_FILE", "c", REDIS_TLS),
        ("REDIS_CERT_FILE", "c", REDIS_TLS),
        ("REDIS_KEY_FILE", "c", &[REDIS_TLS[0], REDIS_TLS[1], ("REDIS_CERT_FILE", "c")]),
        ("REDIS_TLS_NAME", "x", REDIS_TLS),
        ("REDIS_SENTINEL_MASTER", "x", SENTINELS),
        ("REDIS_SENTINEL_USERNAME", "x", SENTINELS),
        ("REDIS_SENTINEL_PASSWORD", "x", SENTINELS),
        ("REDIS_SENTINEL_PASSWORD_FILE", "x", SENTINELS),
        ("REDIS_CONNECT_TIMEOUT", "1", REDIS),
        ("REDIS_TIMEOUT", "1", REDIS),
        ("REDIS_QUEUE_SECONDS", "1", SENTINELS),
        ("REDIS_QUEUE_BYTES", "1048576", REDIS),
        ("REDIS_DOWN", "local", REDIS),
        ("REDIS_DOWN_RULES", "a=refuse", REDIS),
        ("REDIS_READY_GRACE", "off", REDIS),
        ("REDIS_HEAL", "false", REDIS),
        ("NODE_NAME", "a", REDIS),
        ("NODE_LEASE", "5", REDIS),
        ("TRACK_CONNECTIONS", "false", REDIS),
        ("MAX_CONNECTIONS_CLUSTER", "5", REDIS),
        ("INGRESS_STREAM", "in", REDIS),
        ("INGRESS_LIST", "in", REDIS),
        ("RATE_LIMIT_LOOPBACK", "true", &[("RATE_LIMIT", "1")]),
        ("MESSAGE_BURST", "1", &[]),
        ("PONG_TIMEOUT", "1", &[]),
        ("DEFLATE_LEVEL", "9", DEFLATE),
        ("DEFLATE_THRESHOLD", "1", DEFLATE),
        ("DEFLATE_CHANNELS", "a=off", DEFLATE),
        ("HISTORY_CHANNEL_BYTES", "2097152", &[]),
        ("HISTORY_FSYNC", "no", &[("HISTORY_FILE", "h")]),
        ("RECOVER_MAX", "1", &[("HISTORY", "off"), ("HISTORY_RULES", "a=1/1")]),
        ("REWIND_RULES", "a=1", &[]),
        ("PRESENCE_MEMBERS_MAX", "1", PRESENCE),
        ("PRESENCE_BYTES", "65536", PRESENCE),
        ("PRESENCE_INFO_BYTES", "1", PRESENCE),
        ("PRESENCE_CHANGES_MAX", "1", PRESENCE),
        ("SESSIONS_MAX", "1", &[]),
        ("RECORD_MAX_BYTES", "1048576", &[("RECORD_FILE", "r")]),
    ];
    /// What takes the effect away from those that have one by default.
    const SWITCHED_OFF: &[(&str, (&str, &str))] = &[
        ("ALLOW_REMOTE_PUBLISH", ("AUTH_ENABLED", "true")),
        ("METRICS_HOST", ("METRICS_ENABLED", "false")),
        ("METRICS_PORT", ("METRICS_ENABLED", "false")),
        ("METRICS_CHANNEL_NAMES", ("METRICS_ENABLED", "false")),
        ("MESSAGE_BURST", ("MESSAGE_RATE_LIMIT", "0")),
        ("PONG_TIMEOUT", ("PING_INTERVAL", "0")),
        ("HISTORY_CHANNEL_BYTES", ("HISTORY", "off")),
        ("RECOVER_MAX", ("HISTORY", "off")),
        ("REWIND_RULES", ("HISTORY", "off")),
        ("PRESENCE_MEMBERS_MAX", ("PRESENCE_RULES", "a=off")),
        ("PRESENCE_BYTES", ("PRESENCE_RULES", "a=off")),
        ("PRESENCE_INFO_BYTES", ("PRESENCE_RULES", "a=off")),
        ("PRESENCE_CHANGES_MAX", ("PRESENCE_RULES", "a=off")),
        ("SESSIONS_MAX", ("SESSION_SECONDS", "0")),
    ];
    const STRONG: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
    const TLS: Pairs = &[("TLS_ENABLED", "true"), ("CERT_FILE", "c.pem")];
    const MTLS: Pairs = &[
        ("TLS_ENABLED", "true"),
        ("CERT_FILE", "c.pem"),
        ("VERIFY_CLIENT", "true"),
        ("CA_FILE", "ca.pem"),
    ];
    const KEYS: Pairs = &[("JWT_SECRET", STRONG)];
    const REDIS: Pairs = &[("REDIS_HOST", "localhost")];
    const PRESENCE: Pairs = &[("PRESENCE_RULES", "a=off,b")];
    const REDIS_TLS: Pairs = &[("REDIS_HOST", "localhost"), ("REDIS_TLS", "true")];
    const SENTINELS: Pairs = &[("REDIS_SENTINELS", "s"), ("REDIS_SENTINEL_MASTER", "m")];
    const DEFLATE: Pairs = &[("DEFLATE", "true")];

    fn says_so(name: &str, pairs: &[(&str, &str)]) -> bool {
        let loaded = load(pairs);
        let full = format!("MAHAVISHNU_{name}");
        loaded.warnings.iter().any(|line| {
            line.split_once(" no effect: ")
                .is_some_and(|(names, _)| names.split([' ', ',']).any(|one| one == full))
        })
    }

    #[test]
    fn a_setting_without_effect_is_said_and_one_with_an_effect_is_not() {
        for (name, value, needed) in CASES {
            let off = SWITCHED_OFF.iter().filter(|(switched, _)| switched == name);
            let idle: Vec<_> = off.map(|(_, pair)| *pair).chain([(*name, *value)]).collect();
            assert!(says_so(name, &idle), "{name} is idle with {idle:?}");
            let needed: Vec<_> = needed.iter().copied().filter(|(one, _)| one != name).collect();
            let effective = [&needed[..], &[(*name, *value)]].concat();
            assert!(!says_so(name, &effective), "{name} has an effect with {effective:?}");
        }
    }

    #[test]
    fn every_reason_is_tried_and_every_name_is_one_of_the_table() {
        for name in IDLE.iter().flat_map(|idle| idle.names) {
            assert!(table().iter().any(|row| row.name() == *name), "{name}");
            let bare = name.trim_start_matches("MAHAVISHNU_");
            assert!(CASES.iter().any(|(tried, ..)| *tried == bare), "{name}");
        }
    }

    #[test]
    fn what_is_at_its_default_is_not_spoken_of() {
        let pairs =
            [("VERIFY_CLIENT", "false"), ("METRICS_PORT", "9090"), ("MESSAGE_BURST", "150")];
        let off = [("METRICS_ENABLED", "false"), ("MESSAGE_RATE_LIMIT", "0")];
        assert_eq!(load(&[&pairs[..], &off].concat()).warnings, [""; 0]);
    }
}
