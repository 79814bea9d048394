//! The table of variables. Everything that is said about a variable is said in its row, once.

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;
use mahavishnu_core::{
    auth::TokenRules,
    config::{Dialect, Keep, PlainOnTls, Publishing, WhileAway},
    protocol::StatusRequest,
    tls::Grant,
};
use mahavishnu_store::Fsync;

use super::{
    by_channel::{ByChannel, ChannelRule, Kept, OnOff},
    bytes::{Memory, MemoryLimit},
    dialects::DialectPaths,
    grants::Grants,
    kind::{
        Bool, Host, HostList, Int, KeyList, Kind, List, Maybe, OffOr, OneOf, OrOff, OriginList,
        Path, Paths, SecretText, ServiceName, ShardCount, Text, int, seconds,
    },
    networks::Networks,
    reader::{Reader, Reload, Variable},
    redis::{Endpoint, Endpoints, KeyPrefix},
    service::ServiceProfile,
    status::StatusRequests,
    value::{Correlation, LogFormat, LogLevel, NamedKey, Runtime, Secret, Shards, SlowReader},
};

macro_rules! settings {
    ($($section:literal { $(
        $(#[doc = $doc:literal])+
        $field:ident: $value:ty = $default:expr, $kind:expr, [$name:literal $(, $alias:literal)*], $reload:ident;
    )* })*) => {
        /// The value of every variable. See the table for what each is.
        #[derive(Clone, Debug)]
        pub(crate) struct Settings { $($( $(#[doc = $doc])+ pub(crate) $field: $value, )*)* }

        impl Settings {
            /// Reads every variable; those that are missing or malformed have their default.
            pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
                Self { $($(
                    $field: reader.read(
                        &[concat!("MAHAVISHNU_", $name) $(, concat!("MAHAVISHNU_", $alias))*], &$kind, $default,
                    ),
                )*)* }
            }

            /// Every variable's full name with its value as text, in the order of the table. Secrets are masked.
            pub(crate) fn shown(&self) -> Vec<(&'static str, String)> {
                vec![$($( (concat!("MAHAVISHNU_", $name), $kind.show(&self.$field)), )*)*]
            }
        }

        /// The table as data, for documents and suggestions.
        pub(crate) fn table() -> Vec<Variable> {
            vec![$($( Variable {
                section: $section,
                names: &[concat!("MAHAVISHNU_", $name) $(, concat!("MAHAVISHNU_", $alias))*],
                doc: concat!($($doc),+).trim().to_owned(),
                default: $kind.show(&{ let value: $value = $default; value }),
                allowed: $kind.allowed(),
                reload: Reload::$reload,
                is_secret: $kind.is_secret(),
            }, )*)*]
        }
    };
}

settings! {
    "Service" {
        /// Which service of the family this server is, in its ports, names, limits, permissions and requests, and which
        /// variables it reads besides these: `mahavishnu service list` has the names. A file describes another one. Not set:
        /// none in particular.
        service: Option<String> = None, Maybe(ServiceProfile), ["SERVICE"], Restart;
    }
    "Listening" {
        /// Address that WebSocket, health and publishing listen on. 0.0.0.0 is every IPv4 address, :: every address, a name
        /// all of its own.
        host: String = "127.0.0.1".into(), Host, ["HOST"], Restart;
        /// Port of WebSocket, health and publishing. 0 takes any free port.
        port: u16 = 8686, int::<u16>(0, 65535), ["PORT"], Restart;
        /// Listen at a Unix socket of this path as well, for a proxy on this machine: whoever is of the file's group may
        /// connect (mode 0660). A socket at which nobody listens any more is replaced. Clients there have no address: see
        /// TRUSTED_PROXIES.
        listen_unix: Option<PathBuf> = None, Maybe(Path), ["LISTEN_UNIX"], Restart;
        /// Name of this instance in `/health`.
        server_name: String = "mahavishnu".into(), Text { bytes_max: 128 }, ["SERVER_NAME"], Live;
        /// Serve browsers a page at `/`: health, numbers once a second, and a console. With AUTH_ENABLED it shows nothing but
        /// health before a token.
        page: bool = true, Bool, ["PAGE"], Live;
        /// Asynchronous runtime under the server. A build may have only one of them.
        runtime: Runtime = Runtime::DEFAULT, RUNTIMES, ["RUNTIME"], Restart;
        /// Threads that serve connections; auto is one for each core that the process may use, by its affinity and its
        /// cgroup.
        shards: Shards = Shards::Auto, ShardCount, ["SHARDS"], Restart;
        /// Directory of the PID file and of whatever else is kept. Not set: the service manager's directory, else the
        /// user's state directory.
        state_dir: Option<PathBuf> = None, Maybe(Path), ["STATE_DIR"], Restart;
    }
    "Proxies" {
        /// Proxies that are believed when they name a client's address in `X-Forwarded-For`: limits by address then hold
        /// for the client, not for the proxy. The word unix stands for whoever comes by a Unix socket.
        trusted_proxies: Vec<IpNet> = Vec::new(), Networks, ["TRUSTED_PROXIES"], Live;
        /// Connections of TRUSTED_PROXIES begin with a header of the PROXY protocol, version 1 or 2, and are refused
        /// without one.
        proxy_protocol: bool = false, Bool, ["PROXY_PROTOCOL"], Live;
    }
    "TLS" {
        /// Serve TLS on PORT. Metrics stay without TLS.
        tls_enabled: bool = false, Bool, ["TLS_ENABLED", "WS_TLS_ENABLED"], Live;
        /// Certificate chain, PEM: the server's own certificate first. Several files, with commas between, are chosen from
        /// by the name that a client asks for (SNI).
        cert_file: Vec<PathBuf> = Vec::new(), Paths, ["CERT_FILE", "WS_CERT_FILE"], Live;
        /// Private key, PEM, not encrypted; one for each of CERT_FILE, in the same order. Not set: the keys are in
        /// CERT_FILE.
        key_file: Vec<PathBuf> = Vec::new(), Paths, ["KEY_FILE", "WS_KEY_FILE"], Live;
        /// Certificates that sign client certificates, PEM. By itself it demands nothing: see VERIFY_CLIENT.
        ca_file: Option<PathBuf> = None, Maybe(Path), ["CA_FILE", "WS_CA_FILE"], Live;
        /// Revocation lists (CRL) of the authorities in CA_FILE, PEM; several files with commas between. Client certificates
        /// on them are refused, and after a reload their connections are closed.
        crl_file: Vec<PathBuf> = Vec::new(), Paths, ["CRL_FILE"], Live;
        /// Demand a certificate signed by CA_FILE from every client, and verify it.
        verify_client: bool = false, Bool, ["VERIFY_CLIENT", "WS_VERIFY_CLIENT"], Live;
        /// What the names in a client's certificate permit, instead of a token: `cn:ops=admin;dns:*.agents.example=pool:read|workflow:read`.
        /// Fields are dns, ip, uri, email, cn, o and ou; one `*` stands for any text.
        client_cert_permissions: Vec<Grant> = Vec::new(), Grants, ["CLIENT_CERT_PERMISSIONS"], Live;
        /// What clients without TLS get on PORT while TLS is on: nothing, `/health` only, or, on loopback addresses, all.
        tls_plain: PlainOnTls = PlainOnTls::Health, PLAIN, ["TLS_PLAIN"], Live;
        /// For development: make a certificate, keep it in the state directory and renew it when less than CERT_MIN_DAYS
        /// are left.
        auto_cert: bool = false, Bool, ["AUTO_CERT"], Live;
        /// Names and addresses that AUTO_CERT is for, besides localhost, 127.0.0.1, ::1 and HOST.
        auto_cert_names: Vec<String> = Vec::new(), List, ["AUTO_CERT_NAMES"], Live;
        /// Days of validity below which a certificate is reported as expiring.
        cert_min_days: u32 = 30, int::<u32>(0, 3650), ["CERT_MIN_DAYS"], Live;
    }
    "Process" {
        /// Let the system write a core file if the server crashes. It would hold keys, tokens and messages.
        core_files: bool = false, Bool, ["CORE_FILES"], Restart;
    }
    "Authentication" {
        /// Require a valid token from every client.
        auth_enabled: bool = false, Bool, ["AUTH_ENABLED"], Live;
        /// Key that tokens are signed with (HS256), at least 32 bytes. `openssl rand -base64 32` makes one.
        jwt_secret: Option<Secret> = None, Maybe(SecretText), ["JWT_SECRET"], Live;
        /// Lifetime of tokens made by `token create`, in seconds.
        jwt_expiry: Duration = Duration::from_secs(3600), seconds(1000, 315_360_000), ["JWT_EXPIRY", "TOKEN_EXPIRY"], Live;
        /// Several keys by the `kid` that tokens name, so that keys can be rotated: `kid1:secret1,kid2:secret2`.
        jwt_keys: Vec<NamedKey> = Vec::new(), KeyList, ["JWT_KEYS"], Live;
        /// The same as a file: a JSON object of kid and secret.
        jwt_keys_file: Option<PathBuf> = None, Maybe(Path), ["JWT_KEYS_FILE"], Live;
        /// Refuse tokens that never expire.
        jwt_require_exp: bool = false, Bool, ["JWT_REQUIRE_EXP"], Live;
        /// Seconds by which the clocks of those who make tokens may differ from this one: a token is good so long before its
        /// `nbf` and `iat`, and after its `exp`.
        jwt_leeway: Duration = Duration::from_secs(5), seconds(0, 300), ["JWT_LEEWAY"], Live;
        /// The `aud` that tokens must have, or several with commas between. Not set: tokens with an `aud` are refused.
        jwt_audience: Vec<String> = Vec::new(), List, ["JWT_AUDIENCE"], Live;
        /// The `iss` that tokens must have. Not set: any.
        jwt_issuer: Option<String> = None, Maybe(Text { bytes_max: 256 }), ["JWT_ISSUER"], Live;
        /// Whose rules map permissions to channels: the name of a service.
        auth_policy: String = "mahavishnu".into(), ServiceName, ["AUTH_POLICY"], Live;
        /// Rules of services in the place of the built-in ones. `mahavishnu policy show` prints the format.
        policy_file: Option<PathBuf> = None, Maybe(Path), ["POLICY_FILE"], Live;
        /// Revoked tokens, one JSON object a line. `mahavishnu token revoke` prints them.
        revoked_file: Option<PathBuf> = None, Maybe(Path), ["REVOKED_FILE"], Live;
        /// Seconds that a revocation is kept that does not say when its tokens will have expired, and at most. Those of
        /// REVOKED_FILE are kept as long as they stand there.
        revocation_keep: Duration = Duration::from_secs(30 * 86_400), seconds(1000, 315_360_000), ["REVOCATION_KEEP"], Live;
        /// Seconds before its token expires at which a connection is warned, at most half of the token's life. 0: no
        /// warning.
        token_warning: Duration = Duration::from_secs(60), seconds(0, 86_400), ["TOKEN_WARNING"], Live;
        /// Seconds after its token has expired in which a connection may still refresh it, before it is closed with 1008.
        token_grace: Duration = Duration::from_secs(30), seconds(0, 86_400), ["TOKEN_GRACE"], Live;
        /// On a reload that takes a key away, close the connections whose tokens were signed with it. Otherwise they stay
        /// until their tokens expire.
        jwt_end_removed_keys: bool = false, Bool, ["JWT_END_REMOVED_KEYS"], Live;
        /// Web pages whose scripts may connect, by their origin: `https://app.example.com,https://*.example.org`. Not set:
        /// all, but without authentication on a loopback address pages of this machine only. Programs that are no browsers
        /// are not held up.
        allowed_origins: Vec<String> = Vec::new(), OriginList, ["ALLOWED_ORIGINS"], Live;
        /// Names by which requests may ask for this server, besides addresses, localhost and HOST:
        /// `ws.example.com,*.example.org`. Not set: all, but without authentication on a loopback address no further ones, so
        /// that no web page reaches it by a name of its own (DNS rebinding).
        allowed_hosts: Vec<String> = Vec::new(), HostList, ["ALLOWED_HOSTS"], Live;
        /// Seconds that a client has for authentication.
        auth_timeout: Duration = Duration::from_secs(10), seconds(100, 3600), ["AUTH_TIMEOUT"], Live;
        /// Accept a token in the URL (`?token=`). URLs end up in logs of proxies.
        token_in_query: bool = false, Bool, ["TOKEN_IN_QUERY"], Live;
        /// Accept a token in `Sec-WebSocket-Protocol`, for browsers.
        token_in_subprotocol: bool = false, Bool, ["TOKEN_IN_SUBPROTOCOL"], Live;
        /// Tell clients that may not subscribe or publish which permission it takes. Otherwise only the log and
        /// `mahavishnu explain` do.
        tell_permissions: bool = false, Bool, ["TELL_PERMISSIONS"], Live;
        /// Without authentication, let others than this machine publish.
        allow_remote_publish: bool = false, Bool, ["ALLOW_REMOTE_PUBLISH"], Live;
        /// Who may publish: clients whom the policy lets, or nobody from outside (application): neither over WebSocket nor by
        /// HTTP nor by queues of Redis. What other nodes' applications publish is delivered.
        publishing: Publishing = Publishing::Clients, PUBLISHING, ["PUBLISHING"], Live;
    }
    "Metrics" {
        /// Serve Prometheus metrics on a port of their own.
        metrics_enabled: bool = true, Bool, ["METRICS_ENABLED"], Restart;
        /// Address that metrics listen on. Not set: that of HOST.
        metrics_host: Option<String> = None, Maybe(Host), ["METRICS_HOST"], Restart;
        /// Port that metrics listen on. 0 takes any free port.
        metrics_port: u16 = 9090, int::<u16>(0, 65535), ["METRICS_PORT"], Restart;
        /// Label metrics with whole channel names instead of their patterns: one time series for each channel.
        metrics_channel_names: bool = false, Bool, ["METRICS_CHANNEL_NAMES"], Live;
    }
    "Tracing" {
        /// Name users in the spans that are exported by OpenTelemetry (see docs/telemetry.md). Without it a span has the
        /// client's address only.
        trace_users: bool = false, Bool, ["TRACE_USERS"], Live;
    }
    "Redis" {
        /// Redis by which several servers are one: all of them name the same. Not set, nor REDIS_SENTINELS: this server is
        /// alone.
        redis_host: Option<String> = None, Maybe(Host), ["REDIS_HOST"], Restart;
        /// Port of Redis.
        redis_port: u16 = 6379, int::<u16>(1, 65535), ["REDIS_PORT"], Restart;
        /// Number of the Redis database. Servers of different ones hear nothing of each other.
        redis_db: u16 = 0, int::<u16>(0, 65535), ["REDIS_DB"], Restart;
        /// User of Redis' ACL. Not set: `default`.
        redis_username: Option<String> = None, Maybe(Text { bytes_max: 256 }), ["REDIS_USERNAME"], Live;
        /// Password of Redis. A new one is used from the next connection on.
        redis_password: Option<Secret> = None, Maybe(SecretText), ["REDIS_PASSWORD"], Live;
        /// The same as a file. A line break at its end does not count.
        redis_password_file: Option<PathBuf> = None, Maybe(Path), ["REDIS_PASSWORD_FILE"], Live;
        /// First part of all keys and channels in Redis: servers that are to be one have the same.
        redis_prefix: String = "mahavishnu".into(), KeyPrefix, ["REDIS_PREFIX"], Restart;
        /// TLS to Redis.
        redis_tls: bool = false, Bool, ["REDIS_TLS"], Live;
        /// Certificates that Redis' certificate is trusted by, PEM. Not set: the system's authorities.
        redis_ca_file: Option<PathBuf> = None, Maybe(Path), ["REDIS_CA_FILE"], Live;
        /// Certificate chain that is shown to Redis, PEM. Not set: none.
        redis_cert_file: Option<PathBuf> = None, Maybe(Path), ["REDIS_CERT_FILE"], Live;
        /// Private key of REDIS_CERT_FILE, PEM, not encrypted. Not set: it is in REDIS_CERT_FILE.
        redis_key_file: Option<PathBuf> = None, Maybe(Path), ["REDIS_KEY_FILE"], Live;
        /// Name that Redis' certificate has to be for. Not set: the host's.
        redis_tls_name: Option<String> = None, Maybe(Host), ["REDIS_TLS_NAME"], Live;
        /// Sentinels that say where Redis is, instead of REDIS_HOST and REDIS_PORT: `10.0.0.1:26379,10.0.0.2`. Without a
        /// port it is 26379.
        redis_sentinels: Vec<Endpoint> = Vec::new(), Endpoints { port: 26379 }, ["REDIS_SENTINELS"], Restart;
        /// What the sentinels call the primary.
        redis_sentinel_master: Option<String> = None, Maybe(Text { bytes_max: 256 }), ["REDIS_SENTINEL_MASTER"], Restart;
        /// User of the sentinels' ACL.
        redis_sentinel_username: Option<String> = None, Maybe(Text { bytes_max: 256 }), ["REDIS_SENTINEL_USERNAME"], Live;
        /// Password of the sentinels. Not set: they ask for none.
        redis_sentinel_password: Option<Secret> = None, Maybe(SecretText), ["REDIS_SENTINEL_PASSWORD"], Live;
        /// The same as a file. A line break at its end does not count.
        redis_sentinel_password_file: Option<PathBuf> = None, Maybe(Path), ["REDIS_SENTINEL_PASSWORD_FILE"], Live;
        /// Seconds that a connection to Redis may take until it can be used.
        redis_connect_timeout: Duration = Duration::from_secs(2), seconds(100, 60), ["REDIS_CONNECT_TIMEOUT"], Live;
        /// Seconds of silence, while Redis owes an answer, after which the connection is given up for another one.
        redis_timeout: Duration = Duration::from_secs(5), seconds(500, 300), ["REDIS_TIMEOUT"], Live;
        /// Seconds that publishes wait while Redis is away. Over it they are refused with 503, or answered with 504 if they
        /// were under way and may have been published.
        redis_queue_seconds: Duration = Duration::from_secs(5), seconds(0, 300), ["REDIS_QUEUE_SECONDS"], Live;
        /// Bytes of publishes that wait for Redis or are under way to it, for each shard. Over it publishes are refused.
        redis_queue_bytes: usize = 8_388_608, int::<usize>(65_536, 1_099_511_627_776), ["REDIS_QUEUE_BYTES"], Live;
        /// What becomes of publishes while Redis is away: `queue`, they wait; `refuse`, 503 at once; `local`, subscribers of
        /// this server get them without a number, and nobody else ever does.
        redis_down: WhileAway = WhileAway::Queue, WHILE_AWAY, ["REDIS_DOWN"], Live;
        /// REDIS_DOWN for some channels: `cursor:*=local,audit:*=refuse`. The first match counts.
        redis_down_rules: Vec<ChannelRule<WhileAway>> = Vec::new(), AWAY, ["REDIS_DOWN_RULES"], Live;
        /// Seconds that Redis may be away before `/ready` answers 503. off: never, for balancers that would have nobody left.
        redis_ready_grace: Option<Duration> = Some(Duration::from_secs(10)), OffOr(seconds(0, 86_400)), ["REDIS_READY_GRACE"], Live;
        /// Put back what Redis has lost, from what the servers remember. Otherwise its channels begin anew (epoch).
        redis_heal: bool = true, Bool, ["REDIS_HEAL"], Live;
        /// What this server calls itself among the others, for people. Not set: the machine's name.
        node_name: Option<String> = None, Maybe(Text { bytes_max: 128 }), ["NODE_NAME"], Restart;
        /// Seconds that the others count this server as there without a sign of life. It gives one five times as often.
        node_lease: Duration = Duration::from_secs(10), seconds(1000, 3600), ["NODE_LEASE"], Restart;
        /// Tell the other servers which connections a user has here: `GET /connections` and `POST /disconnect` then know all of
        /// them, and MAX_CONNECTIONS_PER_USER holds for all servers together. Otherwise each knows and counts its own.
        track_connections: bool = true, Bool, ["TRACK_CONNECTIONS"], Live;
        /// A stream in Redis into which others write what is to be published, for example `mahavishnu:ingress`. Not set: none.
        /// Whoever may write there may publish anything.
        ingress_stream: Option<String> = None, Maybe(Text { bytes_max: 256 }), ["INGRESS_STREAM"], Restart;
        /// The same as a list of JSON objects, for example `mahavishnu:queue`.
        ingress_list: Option<String> = None, Maybe(Text { bytes_max: 256 }), ["INGRESS_LIST"], Restart;
    }
    "Limits" {
        /// New connections per minute and address; this machine is exempt.
        rate_limit: Option<u32> = None, OrOff(int::<u32>(1, 1_000_000)), ["RATE_LIMIT"], Live;
        /// Whether RATE_LIMIT and MAX_CONNECTIONS_PER_ADDRESS hold for this machine too.
        rate_limit_loopback: bool = false, Bool, ["RATE_LIMIT_LOOPBACK"], Live;
        /// Open connections of one address, or IPv6 network of 64 bits; this machine is exempt. One more is accepted and
        /// closed with 1013.
        max_connections_per_address: Option<u32> = None, OrOff(int::<u32>(1, 10_000_000)), ["MAX_CONNECTIONS_PER_ADDRESS"], Live;
        /// Open connections of one user. One more is closed with 1013. With Redis it holds for all servers together.
        max_connections_per_user: Option<u32> = None, OrOff(int::<u32>(1, 10_000_000)), ["MAX_CONNECTIONS_PER_USER"], Live;
        /// Messages per second and connection.
        message_rate_limit: Option<u32> = Some(100), OrOff(int::<u32>(1, 1_000_000)), ["MESSAGE_RATE_LIMIT"], Live;
        /// Messages that a connection may send at once.
        message_burst: u32 = 150, int::<u32>(1, 1_000_000), ["MESSAGE_BURST"], Live;
        /// Open WebSocket connections. One more is accepted and closed with 1013.
        max_connections: usize = 10_000, int::<usize>(1, 10_000_000), ["MAX_CONNECTIONS"], Live;
        /// Open WebSocket connections of all servers together. One more is accepted and closed with 1013. What the others have
        /// is known with a delay of a fifth of NODE_LEASE, and what comes in that time may lie beyond it.
        max_connections_cluster: Option<u64> = None, OrOff(int::<u64>(1, 1_000_000_000)), ["MAX_CONNECTIONS_CLUSTER"], Live;
        /// Memory that the server is to make do with: `2G`, or auto for what the control group allows, else half of the
        /// machine's. From it follow a bound on connections, if it is below MAX_CONNECTIONS, and on what waits for slow
        /// readers and what has come only in part. off: 256 MiB and 128 MiB of these for each shard, on every machine.
        memory_limit: MemoryLimit = MemoryLimit::Off, Memory, ["MEMORY_LIMIT"], Live;
        /// Seconds without a byte from the client, pongs included, before it is closed with 1001.
        connection_timeout: Option<Duration> = Some(Duration::from_secs(300)), OrOff(seconds(1000, 86_400)), ["CONNECTION_TIMEOUT"], Live;
        /// Bytes of one message from a client. A longer one is closed with 1009.
        max_message_bytes: usize = 1_048_576, int::<usize>(125, 268_435_456), ["MAX_MESSAGE_BYTES"], Live;
        /// Bytes that wait for one slow reader before SLOW_READER applies.
        outbox_bytes: usize = 1_048_576, int::<usize>(4096, 268_435_456), ["OUTBOX_BYTES"], Live;
        /// What happens to a subscriber whose outbox is full: close it, drop messages and tell it, or keep only the
        /// newest message of each channel.
        slow_reader: SlowReader = SlowReader::Disconnect, OneOf(SlowReader::NAMES), ["SLOW_READER"], Live;
        /// SLOW_READER for some channels: `pool:*=latest,global=gap`. The first match counts.
        slow_reader_rules: Vec<ChannelRule<SlowReader>> = Vec::new(), POLICIES, ["SLOW_READER_RULES"], Live;
        /// Seconds of silence after which the server pings.
        ping_interval: Option<Duration> = Some(Duration::from_secs(20)), OrOff(seconds(100, 86_400)), ["PING_INTERVAL"], Live;
        /// Seconds that a client has to answer a ping.
        pong_timeout: Duration = Duration::from_secs(20), seconds(100, 3600), ["PONG_TIMEOUT"], Live;
        /// Seconds, once the server is told to stop, in which `/ready` answers 503 and everything else goes on: a load balancer
        /// sends nobody any more before the first connection is closed.
        drain_notice: Duration = Duration::ZERO, seconds(0, 3600), ["DRAIN_NOTICE"], Live;
        /// Seconds after that over which connections are closed, one after the other. 0: all at once.
        drain_window: Duration = Duration::ZERO, seconds(0, 3600), ["DRAIN_WINDOW"], Live;
        /// Seconds over which clients are to come back: before they are closed each is told a time of its own by the event
        /// `session.closing`. 0: they are told nothing, and come back as they see fit.
        drain_return: Duration = Duration::ZERO, seconds(0, 3600), ["DRAIN_RETURN"], Live;
        /// Seconds that the last clients have to say goodbye when the server stops. What is left is dropped.
        drain_timeout: Duration = Duration::from_secs(5), seconds(0, 3600), ["DRAIN_TIMEOUT"], Live;
    }
    "Messages" {
        /// Which id an answer carries as `correlation_id`: told from the request's shape, or always the one named.
        correlation: Correlation = Correlation::Auto, CORRELATIONS, ["CORRELATION"], Live;
        /// Repeat `data.status` of answers at the top level, for clients that look there.
        mirror_status: bool = true, Bool, ["MIRROR_STATUS"], Live;
        /// Requests of this family's services that a channel's document answers, for clients that ask so:
        /// `get_workflow_status=workflow:{workflow_id},get_pool_status=pool:{pool_id}`. Without a document the answer has the
        /// status `not_found`. Not set: such requests are unknown. Who may subscribe to the channel may ask.
        status_requests: Vec<StatusRequest> = Vec::new(), StatusRequests, ["STATUS_REQUESTS"], Live;
        /// The channel on which a back-end hears of requests that it is to answer, `system:requests` for example: those that the
        /// service's profile leaves to it, and BACKEND_REQUESTS. Not set: there is no such back-end.
        backend_channel: Option<String> = None, Maybe(Text { bytes_max: 256 }), ["BACKEND_CHANNEL"], Live;
        /// Requests that the back-end of BACKEND_CHANNEL answers besides: `get_test_status,get_weather`.
        backend_requests: Vec<String> = Vec::new(), List, ["BACKEND_REQUESTS"], Live;
        /// Paths on which WebSocket clients speak another protocol: `/session-buddy=session-buddy`. On all others it is the
        /// family's. Whoever may connect there is sent the figures of skills once a second. Connections that are open stay as
        /// they are.
        dialect_paths: Vec<(Box<str>, Dialect)> = Vec::new(), DialectPaths, ["DIALECT_PATHS"], Live;
        /// Compress messages for clients that offer permessage-deflate. The document on compression tells what it costs
        /// and saves.
        deflate: bool = false, Bool, ["DEFLATE"], Live;
        /// How hard to compress: 1 is fast, 9 is small.
        deflate_level: u8 = 1, int::<u8>(1, 9), ["DEFLATE_LEVEL"], Live;
        /// Bytes of a message below which it is not compressed.
        deflate_threshold: usize = 256, int::<usize>(1, 268_435_456), ["DEFLATE_THRESHOLD"], Live;
        /// Which channels' broadcasts are compressed: `metrics:*=off,global=on`. The first match counts; channels that
        /// none matches are.
        deflate_channels: Vec<ChannelRule<bool>> = Vec::new(), SWITCHES, ["DEFLATE_CHANNELS"], Live;
    }
    "History" {
        /// What is kept of each channel, for those who missed something: its last messages/seconds, or off. Without it, who
        /// comes back cannot recover.
        history: Keep = Keep::default(), Kept, ["HISTORY"], Live;
        /// HISTORY for some channels: `workflow:*=1000/3600,cursor:*=off`. The first match counts.
        history_rules: Vec<ChannelRule<Keep>> = Vec::new(), KEPT, ["HISTORY_RULES"], Live;
        /// Bytes that all messages and documents take that are kept, for each shard. Over it channels are forgotten, those
        /// first that were published to longest ago. MEMORY_LIMIT bounds it.
        history_bytes: usize = 67_108_864, int::<usize>(65_536, 1_099_511_627_776), ["HISTORY_BYTES"], Live;
        /// Bytes of one channel's messages that are kept. Over it the oldest go.
        history_channel_bytes: usize = 1_048_576, int::<usize>(1_024, 1_099_511_627_776), ["HISTORY_CHANNEL_BYTES"], Live;
        /// Keep messages, documents and sessions in this file, so that a restart loses none of them: nothing is published that
        /// could not be written to it. Not set: they are kept in memory.
        history_file: Option<PathBuf> = None, Maybe(Path), ["HISTORY_FILE"], Restart;
        /// Bytes of a channel's document. A larger one is refused with `DECODE_ERROR` or 413; 0: every one is.
        state_bytes: usize = 65_536, int::<usize>(0, 268_435_456), ["STATE_BYTES"], Live;
        /// When what was written to HISTORY_FILE is forced to the disk: `always` before each answer, `everysec` once a second,
        /// `no` when the system sees fit. The end of the process loses nothing in either case, a power cut what was not.
        history_fsync: Fsync = Fsync::EverySec, FSYNCS, ["HISTORY_FSYNC"], Restart;
        /// Messages that one subscription recovers or rewinds. Who missed more is not recovered and told so.
        recover_max: u32 = 1_000, int::<u32>(1, 1_000_000), ["RECOVER_MAX"], Live;
        /// Channels whose subscribers get so many of the last messages first, if they do not say what they want:
        /// `workflow:*=10`. For clients that cannot ask; they may get a message twice. The first match counts.
        rewind_rules: Vec<ChannelRule<u32>> = Vec::new(), MESSAGES, ["REWIND_RULES"], Live;
    }
    "Presence and sessions" {
        /// Channels that tell who is in them, and of whom comes and goes: `room:lobby=off,room:*`. The first match counts;
        /// channels that none matches do not.
        presence_rules: Vec<ChannelRule<bool>> = Vec::new(), SWITCHES.or_bare("on"), ["PRESENCE_RULES"], Live;
        /// Members of one channel. A further one is refused with `RATE_LIMIT_EXCEEDED`.
        presence_members_max: u32 = 10_000, int::<u32>(1, 10_000_000), ["PRESENCE_MEMBERS_MAX"], Live;
        /// Bytes that the members of all channels take, for each shard. A member that does not fit is refused with
        /// `RATE_LIMIT_EXCEEDED`. MEMORY_LIMIT bounds it.
        presence_bytes: usize = 67_108_864, int::<usize>(65_536, 1_099_511_627_776), ["PRESENCE_BYTES"], Live;
        /// Bytes of what a member says of itself (`info`). More is refused with `DECODE_ERROR`.
        presence_info_bytes: usize = 1_024, int::<usize>(0, 1_048_576), ["PRESENCE_INFO_BYTES"], Live;
        /// Members who come and go at once that are told one by one. Over it those who watch are told how many, and ask.
        presence_changes_max: u32 = 16, int::<u32>(0, 1_000_000), ["PRESENCE_CHANGES_MAX"], Live;
        /// Seconds that a session waits for its client after its connection has ended, at most. 0: there are no sessions.
        session_seconds: Duration = Duration::from_secs(120), seconds(0, 86_400), ["SESSION_SECONDS"], Live;
        /// Sessions, with and without a connection, for each shard. A further one is refused with `RATE_LIMIT_EXCEEDED`. Their
        /// memory is 1,677 bytes for each, or what MEMORY_LIMIT leaves for them.
        sessions_max: usize = 10_000, int::<usize>(1, 10_000_000), ["SESSIONS_MAX"], Live;
    }
    "Recording" {
        /// Record everything that goes into the server to this file, for `mahavishnu replay`. It holds what clients send,
        /// tokens included, and nobody else can read it. An earlier one is kept beside it, with `.old` at its end.
        record_file: Option<PathBuf> = None, Maybe(Path), ["RECORD_FILE"], Restart;
        /// Bytes after which recording ends.
        record_max_bytes: u64 = 1_073_741_824, int::<u64>(1_048_576, 1_099_511_627_776), ["RECORD_MAX_BYTES"], Restart;
    }
    "Logging" {
        /// Least severe level that is logged.
        log_level: LogLevel = LogLevel::Info, LOG_LEVELS, ["LOG_LEVEL"], Live;
        /// Lines for people or JSON objects for machines.
        log_format: LogFormat = LogFormat::Text, LOG_FORMATS, ["LOG_FORMAT"], Restart;
    }
}

const RUNTIMES: OneOf<Runtime> =
    OneOf(&[(Runtime::Tokio.name(), Runtime::Tokio), (Runtime::Smol.name(), Runtime::Smol)]);

const PUBLISHING: OneOf<Publishing> =
    OneOf(&[("clients", Publishing::Clients), ("application", Publishing::ApplicationOnly)]);

const PLAIN: OneOf<PlainOnTls> = OneOf(&[
    ("health", PlainOnTls::Health),
    ("nothing", PlainOnTls::Nothing),
    ("loopback", PlainOnTls::Loopback),
]);

/// What happens to slow readers, by channel.
const POLICIES: ByChannel<OneOf<SlowReader>> = ByChannel::of("a policy", OneOf(SlowReader::NAMES));

/// On or off, by channel.
const SWITCHES: ByChannel<OnOff> = ByChannel::of("a switch", OnOff);

/// How much is kept, by channel.
const KEPT: ByChannel<Kept> = ByChannel::of("a size", Kept);

/// A number of messages, by channel.
const MESSAGES: ByChannel<Int<u32>> = ByChannel::of("a number", int(0, 1_000_000));

const WHILE_AWAY: OneOf<WhileAway> = OneOf(&[
    ("queue", WhileAway::Queue),
    ("refuse", WhileAway::Refuse),
    ("local", WhileAway::Local),
]);

/// What becomes of publishes while Redis is away, by channel.
const AWAY: ByChannel<OneOf<WhileAway>> = ByChannel::of("a way", WHILE_AWAY);

const CORRELATIONS: OneOf<Correlation> = OneOf(&[
    ("auto", Correlation::Auto),
    ("id", Correlation::Id),
    ("correlation_id", Correlation::Field),
]);

const LOG_LEVELS: OneOf<LogLevel> = OneOf(&[
    ("DEBUG", LogLevel::Debug),
    ("INFO", LogLevel::Info),
    ("WARNING", LogLevel::Warning),
    ("WARN", LogLevel::Warning),
    ("ERROR", LogLevel::Error),
    ("CRITICAL", LogLevel::Critical),
]);

const FSYNCS: OneOf<Fsync> =
    OneOf(&[("always", Fsync::Always), ("everysec", Fsync::EverySec), ("no", Fsync::No)]);

const LOG_FORMATS: OneOf<LogFormat> =
    OneOf(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);

impl Settings {
    /// What is asked of tokens.
    pub(crate) fn token_rules(&self) -> TokenRules {
        TokenRules {
            require_exp: self.jwt_require_exp,
            audience: (!self.jwt_audience.is_empty()).then(|| self.jwt_audience.clone()),
            issuer: self.jwt_issuer.clone(),
            leeway: self.jwt_leeway,
            ..TokenRules::default()
        }
    }

    /// Whether there is to be a Redis.
    pub(crate) fn has_redis(&self) -> bool {
        self.redis_host.is_some() || !self.redis_sentinels.is_empty()
    }

    /// Whether messages of any channel are kept.
    pub(crate) fn keeps_history(&self) -> bool {
        !self.history.is_off() || self.history_rules.iter().any(|rule| !rule.value.is_off())
    }
}
