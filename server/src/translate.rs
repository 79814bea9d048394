//! From settings to the core's configuration.

use std::{convert::identity, sync::Arc, time::Duration};

use mahavishnu_core::{
    auth::Pattern,
    config::{
        AnonymousPublish, Auth, Backend, Bus, Compat, Config, DeflateConfig, Dialect, Dialects,
        History, Hosts, IngressKind, IngressSource, MetricsConfig, Origin, Origins, Service,
        SlowPolicy, SlowReaders, WhileAwayRules,
    },
    limits::{self, Limits},
    protocol::{CorrelationRule, WelcomeExtra},
    spans::Tracing,
    wire,
};
use mahavishnu_profiles::{Extra, Profile, Protocol};
use rustix::system::uname;

use crate::{
    exit::{Exit, Failure},
    memory::{BusBytes, Capacity},
    page,
    settings::{ChannelRule, Correlation, Loaded, Settings, SlowReader, is_loopback},
    token,
};

/// What the core is told. `loaded` must be free of problems.
pub(crate) fn core_config(loaded: &Loaded) -> Result<Config, Failure> {
    let settings = &loaded.settings;
    let capacity = Capacity::of(settings);
    let (policy, _) = loaded.policy().ok_or_else(|| {
        Failure::new(Exit::Configuration, format!("no policy {:?}", loaded.policy_name()))
    })?;
    Ok(Config {
        service: service(loaded),
        profile: loaded.service.as_ref().map(|service| service.profile().clone()),
        limits: limits(settings, &capacity),
        connections_bound: capacity.bound,
        trusted_proxies: settings.trusted_proxies.clone(),
        proxy_protocol: settings.proxy_protocol,
        plain_on_tls: settings.tls_plain,
        certificate_warning: Duration::from_secs(u64::from(settings.cert_min_days) * 86_400),
        auth: Auth {
            required: settings.auth_enabled,
            keys: token::key_set(&loaded.keys)?,
            rules: loaded.token_rules(),
            end_removed_keys: settings.jwt_end_removed_keys,
            revoked: loaded.revoked.clone(),
            query_parameter: settings.token_in_query.then(|| QUERY_PARAMETER.into()),
            subprotocol: settings.token_in_subprotocol,
            tell_permissions: settings.tell_permissions,
            certificates: settings.client_cert_permissions.clone(),
        },
        origins: origins(settings),
        hosts: hosts(settings),
        policy,
        publishing: settings.publishing,
        anonymous_publish: match settings.allow_remote_publish {
            true => AnonymousPublish::Anywhere,
            false => AnonymousPublish::Loopback,
        },
        slow_readers: slow_readers(settings)?,
        history: history(settings)?,
        bus: settings.has_redis().then(|| bus(settings)).transpose()?,
        presence: by_channel("PRESENCE_RULES", &settings.presence_rules, identity)?,
        status_requests: settings.status_requests.clone(),
        backend: settings.backend_channel.as_ref().map(|channel| Backend {
            channel: channel.as_str().into(),
            requests: settings.backend_requests.iter().map(|name| name.as_str().into()).collect(),
        }),
        dialects: Dialects { default: dialect(loaded), paths: settings.dialect_paths.clone() },
        deflate: deflate(settings)?,
        drain_return: settings.drain_return,
        compat: Compat {
            correlation: match settings.correlation {
                Correlation::Auto => CorrelationRule::Tolerant,
                Correlation::Id => CorrelationRule::Id,
                Correlation::Field => CorrelationRule::CorrelationId,
            },
            mirror_status: settings.mirror_status,
            ..Compat::default()
        },
        pages: page::pages(settings),
        statistics: settings.page,
        metrics: MetricsConfig {
            channel_names: settings.metrics_channel_names,
            ..MetricsConfig::default()
        },
        tracing: loaded
            .telemetry
            .traces
            .is_some()
            .then_some(Tracing { sampler: loaded.telemetry.sampler, users: settings.trace_users }),
        ..Config::default()
    })
}

/// What clients speak where no path says something else: what the service's do.
fn dialect(loaded: &Loaded) -> Dialect {
    match loaded.service.as_ref().map(|service| service.profile().protocol) {
        Some(Protocol::SessionBuddy) => Dialect::SessionBuddy,
        Some(Protocol::Family) | None => Dialect::Family,
    }
}

/// What the server calls itself, and says to whoever connects.
fn service(loaded: &Loaded) -> Service {
    let settings = &loaded.settings;
    let plain = Service {
        name: settings.server_name.as_str().into(),
        metrics_check: if settings.metrics_enabled { "passing" } else { "disabled" },
        ..Service::default()
    };
    let Some(service) = &loaded.service else { return plain };
    let Profile { label, welcome, .. } = &**service.profile();
    let extra = |extra: &Extra| match extra {
        Extra::Secure => WelcomeExtra::Secure,
        Extra::RateLimit => WelcomeExtra::RateLimit,
        Extra::TlsMode => WelcomeExtra::TlsMode,
    };
    Service {
        label: label.clone().into(),
        server: Some(welcome.server.clone().into()),
        greeting: welcome.message.clone().into(),
        welcome: welcome.extras.iter().map(extra).collect(),
        ..plain
    }
}

fn limits(settings: &Settings, capacity: &Capacity) -> Limits {
    let default = Limits::default();
    Limits {
        wire: wire::Limits {
            message_bytes_max: settings.max_message_bytes,
            // A message that WebSocket may carry can also be posted, with room for its envelope.
            body_bytes_max: default
                .wire
                .body_bytes_max
                .max(settings.max_message_bytes.saturating_add(ENVELOPE_BYTES)),
            ping_interval: settings.ping_interval,
            pong_timeout: settings.pong_timeout,
            connection_timeout: settings.connection_timeout,
            ..default.wire
        },
        connections: limits::Connections {
            connections_max: capacity.connections_max,
            // Health checks must get through when all connections are taken.
            sockets_max: capacity
                .connections_max
                .saturating_add((capacity.connections_max / 5).max(SPARE_SOCKETS))
                .min(capacity.sockets_max),
            connects_per_minute: settings.rate_limit,
            connects_limit_loopback: settings.rate_limit_loopback,
            connections_per_address_max: settings.max_connections_per_address,
            connections_per_user_max: settings.max_connections_per_user,
            connections_cluster_max: settings.max_connections_cluster,
            messages_per_second: settings.message_rate_limit,
            messages_burst: settings.message_burst,
            partial_bytes_max: capacity.partial_bytes_max,
            ..default.connections
        },
        auth: limits::Auth {
            auth_timeout: settings.auth_timeout,
            token_warning: settings.token_warning,
            token_grace: settings.token_grace,
            ..default.auth
        },
        revocations: limits::Revocations {
            revocation_keep: settings.revocation_keep,
            ..default.revocations
        },
        delivery: limits::Delivery {
            outbox_bytes_max: settings.outbox_bytes,
            queued_bytes_max: capacity.queued_bytes_max,
            ..default.delivery
        },
        history: limits::History {
            history_channel_bytes_max: settings.history_channel_bytes,
            history_bytes_max: capacity.history_bytes_max,
            recover_messages_max: settings.recover_max,
            state_bytes_max: settings.state_bytes,
            ..default.history
        },
        presence: limits::Presence {
            presence_members_max: settings.presence_members_max,
            presence_info_bytes_max: settings.presence_info_bytes,
            presence_bytes_max: capacity.presence_bytes_max,
            presence_changes_max: settings.presence_changes_max,
        },
        sessions: limits::Sessions {
            session_window: settings.session_seconds,
            sessions_max: settings.sessions_max,
            sessions_bytes_max: capacity.sessions_bytes_max,
            ..default.sessions
        },
        bus: bus_limits(&capacity.bus, default.bus),
        publishing: limits::Publishing {
            idempotency_bytes_max: capacity.idempotency_bytes_max,
            ..default.publishing
        },
        ..default
    }
}

fn bus_limits(bytes: &BusBytes, default: limits::Bus) -> limits::Bus {
    limits::Bus {
        bus_queue_bytes_max: bytes.queue,
        bus_waiting_bytes_max: bytes.waiting,
        bus_hole_bytes_max: default.bus_hole_bytes_max.min(bytes.holes),
        bus_holes_bytes_max: bytes.holes,
        bus_reads_max: (bytes.pages / default.bus_page_bytes_max).max(1),
        ..default
    }
}

fn slow_readers(settings: &Settings) -> Result<SlowReaders, Failure> {
    let policy = |policy| match policy {
        SlowReader::Disconnect => SlowPolicy::Disconnect,
        SlowReader::Gap => SlowPolicy::Gap,
        SlowReader::Latest => SlowPolicy::Latest,
    };
    Ok(SlowReaders {
        default: policy(settings.slow_reader),
        rules: by_channel("SLOW_READER_RULES", &settings.slow_reader_rules, policy)?,
    })
}

fn deflate(settings: &Settings) -> Result<DeflateConfig, Failure> {
    Ok(DeflateConfig {
        enabled: settings.deflate,
        level: settings.deflate_level,
        threshold_bytes: settings.deflate_threshold,
        channels: by_channel("DEFLATE_CHANNELS", &settings.deflate_channels, identity)?,
    })
}

fn history(settings: &Settings) -> Result<History, Failure> {
    Ok(History {
        default: settings.history,
        rules: by_channel("HISTORY_RULES", &settings.history_rules, identity)?,
        rewind: by_channel("REWIND_RULES", &settings.rewind_rules, identity)?,
    })
}

/// What this server is among the others, and what it does without Redis.
fn bus(settings: &Settings) -> Result<Bus, Failure> {
    Ok(Bus {
        node_name: node_name(settings).into(),
        lease: settings.node_lease,
        queue_time: settings.redis_queue_seconds,
        ready_grace: settings.redis_ready_grace,
        heal: settings.redis_heal,
        while_away: WhileAwayRules {
            default: settings.redis_down,
            rules: by_channel("REDIS_DOWN_RULES", &settings.redis_down_rules, identity)?,
        },
        track_connections: settings.track_connections,
        ingress: ingress(settings),
    })
}

/// Queues in Redis from which this server publishes.
fn ingress(settings: &Settings) -> Vec<Arc<IngressSource>> {
    let source = |kind, name: &Option<String>| {
        let name = name.as_deref()?.into();
        Some(Arc::new(IngressSource { kind, name }))
    };
    let stream = source(IngressKind::Stream, &settings.ingress_stream);
    stream.into_iter().chain(source(IngressKind::List, &settings.ingress_list)).collect()
}

/// What this server calls itself among the others.
pub(crate) fn node_name(settings: &Settings) -> String {
    let machine = || uname().nodename().to_string_lossy().into_owned();
    settings.node_name.clone().unwrap_or_else(machine)
}

/// The rules of a setting as the core has them.
fn by_channel<T: Copy, U>(
    name: &str,
    rules: &[ChannelRule<T>],
    value: impl Fn(T) -> U,
) -> Result<Vec<(Pattern, U)>, Failure> {
    let rule = |rule: &ChannelRule<T>| {
        let pattern = Pattern::parse(&rule.pattern).map_err(|error| {
            Failure::new(Exit::Configuration, format!("MAHAVISHNU_{name}: {error}"))
        })?;
        Ok((pattern, value(rule.value)))
    };
    rules.iter().map(rule).collect()
}

/// Where a token is looked for in the URL, if that is allowed.
const QUERY_PARAMETER: &str = "token";
const ENVELOPE_BYTES: usize = 64 * 1024;
const SPARE_SOCKETS: usize = 200;

/// Whether whoever is on this machine is let in, and nobody else can be: then a browser on it is the way in.
fn is_open_to_this_machine(settings: &Settings) -> bool {
    let by_certificate = settings.tls_enabled && settings.verify_client;
    !settings.auth_enabled && !by_certificate && is_loopback(&settings.host)
}

fn origins(settings: &Settings) -> Origins {
    match settings.allowed_origins.as_slice() {
        [] if is_open_to_this_machine(settings) => Origins::Local,
        [] => Origins::Any,
        list if list.iter().any(|one| one == ALL) => Origins::Any,
        list => Origins::Only(list.iter().filter_map(|text| Origin::parse(text)).collect()),
    }
}

fn hosts(settings: &Settings) -> Hosts {
    let list = settings.allowed_hosts.as_slice();
    if list.iter().any(|one| one == ALL) || (list.is_empty() && !is_open_to_this_machine(settings))
    {
        return Hosts::Any;
    }
    let own = Hosts::is_name(&settings.host).then_some(&settings.host);
    Hosts::Only(list.iter().chain(own).map(|name| name.as_str().into()).collect())
}

/// Instead of a list: whatever comes.
const ALL: &str = "*";

#[cfg(test)]
mod tests {
    use mahavishnu_core::config::{Dialect, Keep, PlainOnTls, Publishing, WhileAway};

    use super::*;
    use crate::settings::testing::load;

    #[test]
    fn defaults_are_those_of_the_core() {
        let config = core_config(&load(&[])).unwrap();
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.service, Service::default());
        assert_eq!(config.compat, Compat::default());
        assert_eq!(config.metrics, MetricsConfig::default());
        assert_eq!(config.deflate, DeflateConfig::default());
        assert_eq!((config.history, config.presence), (History::default(), Vec::new()));
        assert_eq!(config.anonymous_publish, AnonymousPublish::default());
        assert_eq!(config.plain_on_tls, PlainOnTls::default());
        assert_eq!(config.certificate_warning, Config::default().certificate_warning);
        assert!(
            !config.auth.required
                && config.auth.keys.is_empty()
                && config.auth.query_parameter.is_none()
        );
    }

    #[test]
    fn every_setting_reaches_the_core() {
        let config = core_config(&load(&[
            ("SERVER_NAME", "prod"),
            ("AUTH_ENABLED", "true"),
            ("JWT_SECRET", "q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu"),
            ("JWT_AUDIENCE", "a,b"),
            ("AUTH_POLICY", "crackerjack"),
            ("AUTH_TIMEOUT", "3"),
            ("TOKEN_IN_QUERY", "true"),
            ("TOKEN_WARNING", "0"),
            ("TOKEN_GRACE", "5"),
            ("REVOCATION_KEEP", "60"),
            ("JWT_END_REMOVED_KEYS", "true"),
            ("ALLOWED_ORIGINS", "https://a.example,null"),
            ("TOKEN_IN_SUBPROTOCOL", "true"),
            ("TELL_PERMISSIONS", "true"),
            ("ALLOW_REMOTE_PUBLISH", "true"),
            ("PUBLISHING", "application"),
            ("METRICS_CHANNEL_NAMES", "true"),
            ("RATE_LIMIT", "100"),
            ("RATE_LIMIT_LOOPBACK", "true"),
            ("MAX_CONNECTIONS_PER_ADDRESS", "9"),
            ("MAX_CONNECTIONS_PER_USER", "8"),
            ("TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8"),
            ("PROXY_PROTOCOL", "true"),
            ("MESSAGE_RATE_LIMIT", "0"),
            ("MESSAGE_BURST", "7"),
            ("MAX_CONNECTIONS", "50"),
            ("CONNECTION_TIMEOUT", "0"),
            ("MAX_MESSAGE_BYTES", "8388608"),
            ("OUTBOX_BYTES", "16777216"),
            ("SLOW_READER", "gap"),
            ("SLOW_READER_RULES", "pool:*=latest"),
            ("PING_INTERVAL", "0"),
            ("PONG_TIMEOUT", "2"),
            ("CORRELATION", "id"),
            ("MIRROR_STATUS", "false"),
            ("TLS_PLAIN", "nothing"),
            ("CERT_MIN_DAYS", "7"),
            ("CLIENT_CERT_PERMISSIONS", "cn:ops=admin"),
            ("DEFLATE", "on"),
            ("DEFLATE_LEVEL", "6"),
            ("DEFLATE_THRESHOLD", "100"),
            ("DEFLATE_CHANNELS", "pool:*=off"),
            ("HISTORY", "off"),
            ("HISTORY_RULES", "pool:*=7/60,global=off"),
            ("HISTORY_BYTES", "33554432"),
            ("HISTORY_CHANNEL_BYTES", "16777216"),
            ("RECOVER_MAX", "5"),
            ("REWIND_RULES", "pool:*=3"),
            ("PRESENCE_RULES", "pool:0=off,pool:*"),
            ("PRESENCE_MEMBERS_MAX", "4"),
            ("PRESENCE_BYTES", "65536"),
            ("PRESENCE_INFO_BYTES", "8"),
            ("PRESENCE_CHANGES_MAX", "2"),
            ("STATE_BYTES", "9"),
            ("SESSIONS_MAX", "11"),
            ("SESSION_SECONDS", "0"),
            ("REDIS_HOST", "redis.example"),
            ("REDIS_QUEUE_SECONDS", "1"),
            ("REDIS_QUEUE_BYTES", "16777216"),
            ("REDIS_DOWN", "refuse"),
            ("REDIS_DOWN_RULES", "cursor:*=local"),
            ("REDIS_READY_GRACE", "off"),
            ("REDIS_HEAL", "false"),
            ("NODE_NAME", "a1"),
            ("NODE_LEASE", "3"),
            ("TRACK_CONNECTIONS", "false"),
            ("MAX_CONNECTIONS_CLUSTER", "150"),
            ("DRAIN_RETURN", "7"),
            ("INGRESS_STREAM", "in"),
            ("INGRESS_LIST", "list"),
            ("STATUS_REQUESTS", "get_pool_status=pool:{pool_id}"),
            ("BACKEND_CHANNEL", "system:requests"),
            ("BACKEND_REQUESTS", "get_a,get_b"),
            ("DIALECT_PATHS", "/session-buddy=session-buddy"),
        ]))
        .unwrap();
        assert_eq!(&*config.service.name, "prod");
        assert!(config.auth.required && config.auth.subprotocol);
        assert_eq!(config.auth.keys.len(), 1);
        assert_eq!(config.auth.rules.audience, Some(vec!["a".into(), "b".into()]));
        assert_eq!(config.auth.query_parameter.as_deref(), Some("token"));
        assert!(config.policy.labels().any(|label| label == "quality:*"));
        assert_eq!(config.anonymous_publish, AnonymousPublish::Anywhere);
        assert_eq!(config.publishing, Publishing::ApplicationOnly);
        assert!(config.metrics.channel_names);
        assert_eq!(config.plain_on_tls, PlainOnTls::Nothing);
        assert_eq!(config.certificate_warning, Duration::from_secs(7 * 86_400));
        assert_eq!(config.auth.certificates.len(), 1);
        assert_eq!(config.slow_readers.of("pool:1"), SlowPolicy::Latest);
        assert_eq!(config.slow_readers.of("global"), SlowPolicy::Gap);
        assert_eq!(config.drain_return, Duration::from_secs(7));
        assert_eq!(config.status_requests[0].channel("7"), "pool:7");
        let requests = ["get_a", "get_b"].map(Into::into).into();
        assert_eq!(config.backend, Some(Backend { requests, ..Backend::default() }));
        assert_eq!(config.dialects.of("/session-buddy"), Dialect::SessionBuddy);
        assert_eq!(config.dialects.of("/"), Dialect::Family);
        assert_eq!(config.compat.correlation, CorrelationRule::Id);
        assert!(!config.compat.mirror_status);
        assert_eq!((config.deflate.level, config.deflate.threshold_bytes), (6, 100));
        assert!(config.deflate.covers("global") && !config.deflate.covers("pool:1"));
        let kept = Keep { messages: 7, time: Duration::from_secs(60) };
        assert_eq!((config.history.of("pool:1"), config.history.of("a")), (kept, Keep::OFF));
        assert_eq!((config.history.rewind("pool:1"), config.history.rewind("global")), (3, 0));
        let on: Vec<_> = config.presence.iter().map(|(at, on)| (at.fits("pool:1"), *on)).collect();
        assert_eq!(on, [(false, false), (true, true)]);
        assert!(config.auth.end_removed_keys);
        assert!(config.origins.allow(Some(b"null")) && !config.origins.allow(Some(b"https://b")));
        let bus = config.bus.unwrap();
        assert_eq!((&*bus.node_name, bus.lease), ("a1", Duration::from_secs(3)));
        assert_eq!((bus.queue_time, bus.ready_grace), (Duration::from_secs(1), None));
        let away = [bus.while_away.of("cursor:1"), bus.while_away.of("global")];
        assert_eq!((away, bus.heal), ([WhileAway::Local, WhileAway::Refuse], false));
        assert_eq!(config.limits.bus.bus_queue_bytes_max, 16 << 20);
        let queues: Vec<_> = bus.ingress.iter().map(|queue| (queue.kind, &*queue.name)).collect();
        assert_eq!(queues, [(IngressKind::Stream, "in"), (IngressKind::List, "list")]);
        let limits = config.limits;
        let of_history = &limits.history;
        assert_eq!(
            (of_history.history_bytes_max, of_history.history_channel_bytes_max),
            (32 << 20, 16 << 20)
        );
        assert_eq!((of_history.recover_messages_max, of_history.state_bytes_max), (5, 9));
        let of_presence = limits::Presence {
            presence_members_max: 4,
            presence_info_bytes_max: 8,
            presence_bytes_max: 65_536,
            presence_changes_max: 2,
        };
        assert_eq!(limits.presence, of_presence);
        assert_eq!(
            (limits.sessions.session_window, limits.sessions.sessions_max),
            (Duration::ZERO, 11)
        );
        assert_eq!(
            (
                limits.auth.token_warning,
                limits.auth.token_grace,
                limits.revocations.revocation_keep
            ),
            (Duration::ZERO, Duration::from_secs(5), Duration::from_secs(60))
        );
        assert_eq!(
            (
                limits.connections.connects_per_minute,
                limits.connections.messages_per_second,
                limits.connections.messages_burst
            ),
            (Some(100), None, 7)
        );
        assert!(limits.connections.connects_limit_loopback);
        assert_eq!(
            (
                limits.connections.connections_per_address_max,
                limits.connections.connections_per_user_max
            ),
            (Some(9), Some(8))
        );
        assert_eq!(limits.connections.connections_cluster_max, Some(150));
        assert_eq!((config.trusted_proxies.len(), config.proxy_protocol), (2, true));
        assert_eq!((limits.connections.connections_max, limits.connections.sockets_max), (50, 250));
        assert_eq!(
            (limits.wire.message_bytes_max, limits.delivery.outbox_bytes_max),
            (8 << 20, 16 << 20)
        );
        assert!(limits.wire.body_bytes_max > limits.wire.message_bytes_max);
        assert_eq!((limits.wire.connection_timeout, limits.wire.ping_interval), (None, None));
        assert_eq!(
            (limits.wire.pong_timeout, limits.auth.auth_timeout),
            (Duration::from_secs(2), Duration::from_secs(3))
        );
    }
}
