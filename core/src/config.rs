//! What a hub is told at start and on reload.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderName;
use ipnet::IpNet;
use mahavishnu_profiles::Profile;

use crate::{
    auth::{KeySet, Pattern, Policy, Revocations, TokenRules},
    limits::Limits,
    origin::is_loopback,
    protocol::{CorrelationRule, StatusRequest, WelcomeExtra, session_buddy},
    reason::Reason,
    spans::Tracing,
    tls,
};
pub use crate::{
    dialect::{Dialect, Dialects},
    hosts::Hosts,
    origin::Origin,
};

/// Everything a hub needs to know. Shared by all shards; replaced as a whole on reload.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the server calls itself.
    pub service: Service,
    /// Bounds on bytes, counts and time.
    pub limits: Limits,
    /// Where `limits.connections.connections_max` comes from, for operators. It decides nothing.
    pub connections_bound: ConnectionsBound,
    /// Proxies that are believed when they name a client's address. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections of trusted proxies begin with a header of the PROXY protocol (version 1 or 2), which then has
    /// to be there. Default false.
    pub proxy_protocol: bool,
    /// What TLS is served with. Default `None`: no TLS.
    pub tls: Option<tls::Server>,
    /// What clients without TLS get where TLS is served.
    pub plain_on_tls: PlainOnTls,
    /// `/ready` calls a certificate with less than this time left expiring. Default 30 days.
    pub certificate_warning: Duration,
    /// Who may connect.
    pub auth: Auth,
    /// From which web pages. Default [`Origins::Any`].
    pub origins: Origins,
    /// By which names. Default [`Hosts::Any`].
    pub hosts: Hosts,
    /// Who may subscribe and publish where. Default [`Policy::mahavishnu`].
    pub policy: Policy,
    /// Who may publish at all.
    pub publishing: Publishing,
    /// Who may publish when there is no authentication.
    pub anonymous_publish: AnonymousPublish,
    /// What happens to subscribers that read too slowly.
    pub slow_readers: SlowReaders,
    /// What is kept of channels for those who missed something.
    pub history: History,
    /// Whether the driver has a store, which keeps logs, documents and sessions over restarts. Default false. It excludes
    /// `bus`.
    pub store: bool,
    /// Set if the driver has a bus, by which several nodes are one server. Default `None`: this process is alone. With a bus
    /// the logs and documents of channels are what the bus keeps, and `store` counts for nothing.
    pub bus: Option<Bus>,
    /// Which channels have presence: who is there, and events when somebody comes or goes. The first match counts; those
    /// that no rule names have none. Default: none.
    pub presence: Vec<(Pattern, bool)>,
    /// Requests for the status of a thing that are answered by the document of its channel; the first of a name counts.
    /// Default: none, so that they are unknown.
    pub status_requests: Vec<StatusRequest>,
    /// What the service that this server is makes of its events: documents, and answers from them. Default `None`: nothing.
    pub profile: Option<Arc<Profile>>,
    /// A back-end that answers requests over channels. Default `None`: there is none.
    pub backend: Option<Backend>,
    /// Compression of messages.
    pub deflate: DeflateConfig,
    /// When the server stops, clients are told by `session.closing` to come back after a time of their own, spread evenly over
    /// this one, so that they do not all come at once. Default zero: they are told nothing.
    pub drain_return: Duration,
    /// Which protocol clients speak. Default: the family's, on every path.
    pub dialects: Dialects,
    /// Rules that keep old clients working.
    pub compat: Compat,
    /// What the embedding application wants to be asked or told.
    pub hooks: Hooks,
    /// How metrics are labelled.
    pub metrics: MetricsConfig,
    /// What browsers get over plain HTTP. Default: nothing.
    pub pages: Vec<Page>,
    /// Whether [`STATISTICS`] is the server's own channel: once a second, while it has subscribers, the application is asked
    /// for numbers about the server ([`Output::Statistics`](crate::hub::Output::Statistics)), and clients may not publish to
    /// it. Default false: a channel like any other.
    pub statistics: bool,
    /// Which spans there are for [`Hub::take_spans`](crate::hub::Hub::take_spans). Default `None`: none, which costs nothing.
    pub tracing: Option<Tracing>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service: Service::default(),
            limits: Limits::default(),
            connections_bound: ConnectionsBound::default(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            tls: None,
            plain_on_tls: PlainOnTls::default(),
            certificate_warning: Duration::from_secs(30 * 86_400),
            auth: Auth::default(),
            origins: Origins::default(),
            hosts: Hosts::default(),
            policy: Policy::mahavishnu(),
            publishing: Publishing::default(),
            anonymous_publish: AnonymousPublish::default(),
            slow_readers: SlowReaders::default(),
            history: History::default(),
            store: false,
            bus: None,
            presence: Vec::new(),
            status_requests: Vec::new(),
            profile: None,
            backend: None,
            deflate: DeflateConfig::default(),
            drain_return: Duration::ZERO,
            dialects: Dialects::default(),
            compat: Compat::default(),
            hooks: Hooks::default(),
            metrics: MetricsConfig::default(),
            pages: Vec::new(),
            statistics: false,
            tracing: None,
        }
    }
}

impl Config {
    /// Whether `channel` is one to which the server alone publishes.
    #[must_use]
    pub fn is_own(&self, channel: &str) -> bool {
        (self.statistics && channel == STATISTICS)
            || self.is_hidden(channel)
            || self.is_for_backend(channel)
    }

    /// Whether `channel` is one of the service's own: the server alone publishes to it, and of those with a token only who may do
    /// everything subscribes.
    #[must_use]
    pub fn is_hidden(&self, channel: &str) -> bool {
        self.profile.is_some() && channel.starts_with(SERVICE_CHANNELS)
    }

    /// Whether there are channels to which nobody from outside publishes.
    pub(crate) fn has_own(&self) -> bool {
        self.publishing == Publishing::ApplicationOnly
            || self.statistics
            || self.profile.is_some()
            || self.backend.is_some()
    }

    /// Whether `channel` is the one by which a back-end hears of requests.
    #[must_use]
    pub fn is_for_backend(&self, channel: &str) -> bool {
        self.backend.as_ref().is_some_and(|backend| *channel == *backend.channel)
    }

    /// Whether a token is one of a back-end: it may do everything, or has the permission [`SERVE`].
    #[must_use]
    pub fn serves(&self, claims: &crate::auth::Claims) -> bool {
        claims.permissions.iter().any(|permission| **permission == *SERVE)
            || self.policy.access(&claims.permissions).is_full()
    }

    /// Why nobody from outside may publish to `channel`, if so.
    #[must_use]
    pub fn publishing_off(&self, channel: &str) -> Option<Reason> {
        if self.publishing == Publishing::ApplicationOnly {
            return Some(Reason::PublishingOff);
        }
        self.is_own(channel).then_some(Reason::PublishForbidden)
    }

    /// Whether the document of `channel` is made of the figures of skills that are published there.
    #[must_use]
    pub fn folds_skills(&self, channel: &str) -> bool {
        channel == session_buddy::CHANNEL && self.dialects.include(Dialect::SessionBuddy)
    }

    /// Whether `channel` has presence.
    #[must_use]
    pub fn has_presence(&self, channel: &str) -> bool {
        let rule = self.presence.iter().find(|(pattern, _)| pattern.fits(channel));
        rule.is_some_and(|(_, on)| *on)
    }

    /// Whether logs, documents and sessions are kept by a store.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.store && self.bus.is_none()
    }
}

/// A back-end that answers requests over channels: the server publishes them to it, and it answers by the request `answer` or
/// `POST /answer`. While nobody subscribes, the profile's documents answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where requests are published. Default `system:requests`. The server alone publishes there; who may do everything, or has
    /// the permission [`SERVE`], subscribes and answers; on a server without authentication who may publish there.
    pub channel: Arc<str>,
    /// Requests that it answers besides those of which the profile says so. Default none.
    pub requests: BTreeSet<Box<str>>,
}

impl Default for Backend {
    fn default() -> Self {
        Self { channel: "system:requests".into(), requests: BTreeSet::new() }
    }
}

/// The permission of back-ends that answer requests.
pub const SERVE: &str = "service:communicate";

/// What bounds the number of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionsBound {
    /// Somebody's choice, or the default.
    #[default]
    Setting,
    /// What fits into the memory that there is.
    Memory,
    /// What the operating system lets this process open.
    Files,
}

impl ConnectionsBound {
    /// The word in `/ready` and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Memory => "memory",
            Self::Files => "files",
        }
    }
}

/// The server's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Label `server` of all metrics. Default `mahavishnu`.
    pub label: Arc<str>,
    /// `server` in the welcome. Default `None`: as `label`.
    pub server: Option<Arc<str>>,
    /// `server` in `/health`. Default `mahavishnu`.
    pub name: Arc<str>,
    /// `message` in the welcome. Default "Connected to Mahavishnu orchestration".
    pub greeting: Arc<str>,
    /// What the welcome has behind `authenticated`, in this order. Default: all of it.
    pub welcome: Arc<[WelcomeExtra]>,
    /// Redis as `/health` reports it: `passing` when nothing depends on it. Default `passing`.
    pub redis_check: &'static str,
    /// The exposition of metrics as `/health` reports it. Default `passing`.
    pub metrics_check: &'static str,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            label: "mahavishnu".into(),
            server: None,
            name: "mahavishnu".into(),
            greeting: "Connected to Mahavishnu orchestration".into(),
            welcome: WelcomeExtra::ALL.into(),
            redis_check: "passing",
            metrics_check: "passing",
        }
    }
}

/// Authentication (RFC 7519 tokens).
#[derive(Clone, Debug, Default)]
pub struct Auth {
    /// Whether a connection must authenticate before anything else. Default false.
    pub required: bool,
    /// Keys that tokens are verified with. Without keys no token is looked at.
    pub keys: KeySet,
    /// What is asked of a token beyond its signature.
    pub rules: TokenRules,
    /// Whether a reload without a key ends the connections whose tokens were signed with it. Default false: they stay
    /// until their tokens expire.
    pub end_removed_keys: bool,
    /// Tokens that are revoked from the start, for example by a file. Default none. Those of
    /// [`Command::Revoke`](crate::hub::Command::Revoke) are kept beside, over reloads.
    pub revoked: Arc<Revocations>,
    /// Query parameter of the handshake that may carry a token. Default `None`: URLs end up in logs.
    pub query_parameter: Option<Box<str>>,
    /// Whether a token may come as a subprotocol (`bearer, <token>` or `bearer.<token>`). Default false.
    pub subprotocol: bool,
    /// Whether a client that may not do something with a channel is told which permission it takes. Default false: the
    /// policy is told to nobody.
    pub tell_permissions: bool,
    /// What the names in a client's certificate permit. A client that a grant names needs no token; its user is the
    /// certificate's common name. Default: none.
    pub certificates: Vec<tls::Grant>,
}

/// What clients without TLS get on a port with TLS. Metrics have a port of their own, without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainOnTls {
    /// The connection is closed at its first byte.
    Nothing,
    /// `/health`; all else is refused with the advice to use TLS.
    #[default]
    Health,
    /// The same, but clients on loopback addresses get everything: a proxy on this machine that terminates TLS.
    Loopback,
}

/// The web pages whose scripts may connect, publish and revoke. A browser names the page's origin (RFC 6454); programs
/// that are no browsers name none and are not held up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// All.
    #[default]
    Any,
    /// Pages that this machine serves, by its loopback addresses or as `localhost`.
    Local,
    /// These.
    Only(Vec<Origin>),
}

impl Origins {
    /// Whether a request with this `Origin` header may go on. What is no origin is none of a list.
    #[must_use]
    pub fn allow(&self, header: Option<&[u8]>) -> bool {
        match (self, header) {
            (Self::Any, _) | (Self::Local | Self::Only(_), None) => true,
            (Self::Local, Some(header)) => is_loopback(header),
            (Self::Only(list), Some(header)) => list.iter().any(|origin| origin.fits(header)),
        }
    }
}

/// Who may publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publishing {
    /// Clients whom the policy lets, or who need no permission: over WebSocket, by `POST /publish`, and by queues of the bus.
    #[default]
    Clients,
    /// Nobody from outside, whatever a token says: only the embedding application, here and on other nodes. Others are refused
    /// with [`Reason::PublishingOff`]; `authorize_publish` is asked about nothing.
    ApplicationOnly,
}

/// Who may publish on a server that requires no authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnonymousPublish {
    /// Clients on this machine that no proxy and no foreign web page stands before.
    #[default]
    Loopback,
    /// Anyone who can reach the port.
    Anywhere,
}

/// What happens to a broadcast that does not fit into a subscriber's outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowPolicy {
    /// The subscriber is closed with a retryable code; it can come back and fetch what it missed.
    #[default]
    Disconnect,
    /// The messages are dropped for this subscriber, which is told how many and which as soon as there is room.
    Gap,
    /// Only the newest message of the channel is kept waiting.
    Latest,
}

/// [`SlowPolicy`] by channel pattern.
#[derive(Clone, Debug, Default)]
pub struct SlowReaders {
    /// For channels that no rule names. Default [`SlowPolicy::Disconnect`].
    pub default: SlowPolicy,
    /// First match wins.
    pub rules: Vec<(Pattern, SlowPolicy)>,
}

impl SlowReaders {
    /// The policy of `channel`.
    #[must_use]
    pub fn of(&self, channel: &str) -> SlowPolicy {
        self.rules
            .iter()
            .find(|(pattern, _)| pattern.fits(channel))
            .map_or(self.default, |(_, policy)| *policy)
    }
}

/// How many messages of a channel are kept, and for how long: for those who come back, and those who come late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// For channels that no rule names. Default [`Keep::default`].
    pub default: Keep,
    /// The first match counts.
    pub rules: Vec<(Pattern, Keep)>,
    /// Channels whose subscribers are sent so many of the last messages first, if they do not say what they want: for
    /// clients that cannot ask. The first match counts. Default: none.
    pub rewind: Vec<(Pattern, u32)>,
}

impl History {
    /// What is kept of `channel`.
    #[must_use]
    pub fn of(&self, channel: &str) -> Keep {
        let rule = self.rules.iter().find(|(pattern, _)| pattern.fits(channel));
        rule.map_or(self.default, |(_, keep)| *keep)
    }

    /// How many of its last messages who subscribes to `channel` is sent without asking.
    #[must_use]
    pub fn rewind(&self, channel: &str) -> u32 {
        let rule = self.rewind.iter().find(|(pattern, _)| pattern.fits(channel));
        rule.map_or(0, |(_, messages)| *messages)
    }
}

/// How much of a channel is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Messages. Zero: none.
    pub messages: u32,
    /// For how long after it was published a message is kept.
    pub time: Duration,
}

impl Keep {
    /// Nothing is kept.
    pub const OFF: Self = Self { messages: 0, time: Duration::ZERO };

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_off(self) -> bool {
        self.messages == 0 || self.time.is_zero()
    }
}

impl Default for Keep {
    /// 100 messages, 300 s.
    fn default() -> Self {
        Self { messages: 100, time: Duration::from_secs(300) }
    }
}

/// How a node uses its bus, and what it does while the bus is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    /// What this node calls itself, for people. Default `mahavishnu`.
    pub node_name: Arc<str>,
    /// How long the other nodes count this one as there without a sign of life. Default 10 s.
    pub lease: Duration,
    /// How long publishes wait for a bus that is away, and subscriptions for what it keeps of their channel. Default 5 s. Over
    /// it: publishes are refused, or answered as unknown if they were under way; subscriptions begin with what is known.
    pub queue_time: Duration,
    /// How long the bus may be away before `/ready` says so. Default 10 s. `None`: it never does.
    pub ready_grace: Option<Duration>,
    /// Whether what the bus has lost is put back from what this node keeps. Default true. Otherwise a new epoch begins.
    pub heal: bool,
    /// What becomes of publishes while the bus is away.
    pub while_away: WhileAwayRules,
    /// Whether users' connections are told to the other nodes: for operators, and so that limits on a user's connections hold
    /// over all nodes. Default true. Those that are open when it is switched on are not.
    pub track_connections: bool,
    /// Queues of the bus into which others write what is to be published. Default none. One hub of one node takes entries out
    /// of each, that of the process's first hub.
    pub ingress: Vec<Arc<IngressSource>>,
}

/// A queue of the bus into which others write what is to be published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IngressSource {
    /// What it is.
    pub kind: IngressKind,
    /// Its name there.
    pub name: Box<str>,
}

/// What a queue of the bus is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IngressKind {
    /// A stream. Its entries have the fields `channel`, `event` and `data`, and may have `id` and `state`.
    Stream,
    /// A list. Its elements are JSON objects with these members.
    List,
}

impl IngressKind {
    /// As metrics have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::List => "list",
        }
    }
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            node_name: "mahavishnu".into(),
            lease: Duration::from_secs(10),
            queue_time: Duration::from_secs(5),
            ready_grace: Some(Duration::from_secs(10)),
            heal: true,
            while_away: WhileAwayRules::default(),
            track_connections: true,
            ingress: Vec::new(),
        }
    }
}

/// What becomes of a publish while the bus is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhileAway {
    /// It waits, [`queue_time`](Bus::queue_time) at most.
    #[default]
    Queue,
    /// It is refused at once.
    Refuse,
    /// Subscribers of this node get it, without a number; nobody else ever does.
    Local,
}

/// [`WhileAway`] by channel pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhileAwayRules {
    /// For channels that no rule names. Default [`WhileAway::Queue`].
    pub default: WhileAway,
    /// The first match counts.
    pub rules: Vec<(Pattern, WhileAway)>,
}

impl WhileAwayRules {
    /// What holds for `channel`.
    #[must_use]
    pub fn of(&self, channel: &str) -> WhileAway {
        let rule = self.rules.iter().find(|(pattern, _)| pattern.fits(channel));
        rule.map_or(self.default, |(_, away)| *away)
    }
}

/// Compression of messages (permessage-deflate, RFC 7692).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeflateConfig {
    /// Whether a client's offer is taken up. Default false: it costs the publishing core time that most networks do not
    /// give back; the figures are in docs/compression.md. Switched off by a reload, clients that have it get plain
    /// messages from then on.
    pub enabled: bool,
    /// zlib's level, 1 (fast) to 9 (small). Default 1.
    pub level: u8,
    /// Bytes of a message below which it goes out as it is. Default 256.
    pub threshold_bytes: usize,
    /// Which channels' broadcasts are compressed: the first match counts, and those that no rule names are. What a
    /// connection is sent alone is not a matter of channels.
    pub channels: Vec<(Pattern, bool)>,
}

impl Default for DeflateConfig {
    fn default() -> Self {
        Self { enabled: false, level: 1, threshold_bytes: 256, channels: Vec::new() }
    }
}

impl DeflateConfig {
    /// Whether broadcasts of `channel` are compressed for those who take it.
    #[must_use]
    pub fn covers(&self, channel: &str) -> bool {
        self.enabled
            && self
                .channels
                .iter()
                .find(|(pattern, _)| pattern.fits(channel))
                .is_none_or(|(_, covered)| *covered)
    }
}

/// Rules that keep old clients working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compat {
    /// Which of a request's ids its answer is correlated with.
    pub correlation: CorrelationRule,
    /// Whether answers repeat `data.status` at the top level, where older documents look for it. Default true.
    pub mirror_status: bool,
    /// Whether broadcasts carry a tenth field `offset`: their number in the channel. Default false.
    pub offsets: bool,
}

impl Default for Compat {
    fn default() -> Self {
        Self { correlation: CorrelationRule::default(), mirror_status: true, offsets: false }
    }
}

/// What the embedding application takes part in.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Request events that the application answers (`get_pool_status`, …). All others get `UNKNOWN_REQUEST`.
    pub requests: BTreeSet<Box<str>>,
    /// Whether every subscription that the policy allows, and every question about a channel that only who may subscribe may
    /// ask, is put to the application as well. Default false.
    pub authorize_subscribe: bool,
    /// Whether every publish that the policy allows is put to the application as well. Default false.
    pub authorize_publish: bool,
    /// Whether the application is told of connections that open and close. Default false.
    pub lifecycle: bool,
    /// Whether it is told of connections that become subscribers of channels and cease to be. Default false.
    pub subscriptions: bool,
    /// Whether every handshake, and every request over HTTP that a permission decides on, is put to the application first,
    /// which says whose it is: [`Output::Authenticate`](crate::hub::Output::Authenticate). Default false.
    pub authenticate: bool,
    /// Whether the application is told what is known of each connection:
    /// [`Introduction`](crate::hub::Introduction). Default false.
    pub introduce: bool,
    /// Header fields of handshakes and requests that are told with it. Default none. Bytes are bounded by
    /// [`kept_request_bytes_max`](crate::limits::Requests::kept_request_bytes_max).
    pub keep_headers: Vec<HeaderName>,
}

/// How metrics are labelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Whether `channel` labels are full names instead of patterns. Default false: names are unbounded.
    pub channel_names: bool,
    /// Full names that get a label of their own; all further ones are `other`. Default 1,000.
    pub channel_names_max: usize,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { channel_names: false, channel_names_max: 1_000 }
    }
}

/// The channel of numbers about this server, if [`Config::statistics`] says so. Each node has its own: what is told there goes
/// to no bus and no log, and has no number.
pub const STATISTICS: &str = "system:stats";

/// What names of channels begin with into which the service's [profile](Config::profile) gathers events of others.
pub const SERVICE_CHANNELS: &str = "system:service:";

/// A file for browsers. With it go headers by which it loads from this server alone, runs scripts of this server alone and is
/// framed by nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Page {
    /// Its path, for example `/page/page.css`. At `/` it is for those who ask for `text/html` by `Accept`; others get what
    /// `/ready` answers.
    pub path: Box<str>,
    /// Its `Content-Type`, for example `text/html; charset=utf-8`.
    pub content_type: &'static str,
    /// What is sent.
    pub body: Bytes,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, content_type, body } = self;
        write!(f, "Page({path}, {content_type}, {} bytes)", body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_origin_it_is_no_browser() {
        let none = Origins::Only(Vec::new());
        assert!(none.allow(None) && !none.allow(Some(b"https://a")) && !none.allow(Some(b"\xff")));
        assert!(Origins::Any.allow(Some(b"https://a")));
    }

    #[test]
    fn there_is_presence_where_the_first_rule_says_so() {
        let rule = |pattern, on| (Pattern::parse(pattern).unwrap(), on);
        let presence = vec![rule("room:secret", false), rule("room:*", true)];
        let config = Config { presence, ..Config::default() };
        assert!(config.has_presence("room:1"));
        assert!(!config.has_presence("room:secret") && !config.has_presence("pool:1"));
        assert!(!Config::default().has_presence("room:1"));
    }

    #[test]
    fn first_slow_reader_rule_wins() {
        let readers = SlowReaders {
            default: SlowPolicy::Disconnect,
            rules: vec![
                (Pattern::parse("pool:hot").unwrap(), SlowPolicy::Latest),
                (Pattern::parse("pool:*").unwrap(), SlowPolicy::Gap),
            ],
        };
        assert_eq!(readers.of("pool:hot"), SlowPolicy::Latest);
        assert_eq!(readers.of("pool:1"), SlowPolicy::Gap);
        assert_eq!(readers.of("workflow:1"), SlowPolicy::Disconnect);
    }
}
