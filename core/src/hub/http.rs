//! Plain HTTP on the WebSocket port, and the metrics port: what is answered, and whether a publish may be carried out.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use serde::Serialize;

use super::{
    connections::{Conn, may_publish_anonymously},
    env::Env,
    errands::{self, KeyUse, Owner, Publisher, Via},
    handshake::{is_attempted, is_direct, is_proxied},
    nodes::{Nodes, Overall},
    peers::Peers,
    reads::claims,
    spans,
    tokens::Tokens,
    types::{ConnId, Placement, Publication, PublicationOptions},
};
use crate::{
    auth::{Claims, Verb},
    config::{Bus, Config, Publishing},
    metrics::Forbidden,
    protocol::{self, DecodeError, MessageOptions, publish},
    reason::Reason,
    time::Instant,
    ws::{self, Payload},
};

/// A response as [`ws::Connection::respond`] takes it.
type Answer = Response<Bytes>;

const JSON: &str = "application/json";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The body of `/health`.
#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
    server: &'a str,
    timestamp: String,
    checks: Checks<'a>,
    metrics: HealthMetrics,
}

#[derive(Serialize)]
struct Checks<'a> {
    websocket: &'a str,
    redis: &'a str,
    pools: &'a str,
    metrics: &'a str,
}

#[derive(Serialize)]
struct HealthMetrics {
    active_connections: u64,
    total_connections: u64,
    uptime_seconds: u64,
}

/// The body of `/ready`.
#[derive(Serialize)]
struct Ready<'a> {
    status: &'a str,
    server: &'a str,
    /// What this node calls itself; absent without a bus.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    checks: ReadyChecks<'a>,
    connections: ReadyConnections,
    #[serde(skip_serializing_if = "Option::is_none")]
    bus: Option<ReadyBus<'a>>,
}

/// How the bus does.
#[derive(Serialize)]
struct ReadyBus<'a> {
    probe_ms: Option<f64>,
    probe_age_ms: Option<u64>,
    /// Up, of so many.
    links: String,
    nodes: usize,
    /// Of these, so many have a lease and are not heard; absent if there are none.
    #[serde(skip_serializing_if = "is_zero")]
    silent: u32,
    reconciled: bool,
    /// Why it takes no writes, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<&'a str>,
    /// Why it is away, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl<'a> ReadyBus<'a> {
    fn new(nodes: &Nodes, overall: &'a Overall) -> Self {
        let Overall { probe_time, probe_age, up, total, reconciled, full, .. } = *overall;
        // A thousandth of a millisecond is as exact as it gets.
        let milliseconds = |time: Duration| time.as_micros() as f64 / 1e3;
        Self {
            probe_ms: probe_time.map(milliseconds),
            probe_age_ms: probe_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            links: format!("{up}/{total}"),
            nodes: nodes.len(),
            silent: nodes.silent(),
            reconciled,
            full,
            cause: overall.cause.as_deref(),
        }
    }
}

/// How full this instance is, and what bounds it.
#[derive(Serialize)]
struct ReadyConnections {
    open: u64,
    max: usize,
    bound: &'static str,
}

#[derive(Serialize)]
struct ReadyChecks<'a> {
    accepting: &'a str,
    capacity: &'a str,
    /// Whether the first certificate to expire is valid; absent without TLS. It decides nothing: behind a proxy that does
    /// not verify it, an expired certificate still works, and all instances would go at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<&'a str>,
    /// Absent without a bus.
    #[serde(skip_serializing_if = "Option::is_none")]
    bus: Option<&'a str>,
}

/// Those who asked for metrics. Who asks while another's are being put together gets the same: one text, however many
/// wait for it or do not read it.
#[derive(Debug, Default)]
pub(super) struct Scrapes {
    waiting: Vec<ConnId>,
    /// When the first of them asked.
    asked: Option<Instant>,
}

impl Scrapes {
    /// One more. Whether the application is to be asked; once more, if it has kept the others waiting for long.
    pub(super) fn wait(&mut self, now: Instant, id: ConnId) -> bool {
        self.waiting.push(id);
        let asked = self.asked.filter(|at| now.saturating_duration_since(*at) < ASKED_AGAIN_AFTER);
        self.asked = asked.or(Some(now));
        asked.is_none()
    }

    /// Those that the answer is for.
    pub(super) fn take(&mut self) -> Vec<ConnId> {
        self.asked = None;
        std::mem::take(&mut self.waiting)
    }
}

/// A shorter wait for metrics is usual.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The answer to `/health`.
pub(super) fn health(
    env: &mut Env,
    draining: bool,
    unanswered: bool,
    peers: &Peers,
    nodes: &Nodes,
) -> Answer {
    let bus = env.config.bus.as_ref().map(|_| nodes.overall(env).verdict.as_str());
    let timestamp = env.timestamp().zulu();
    let service = &env.config.service;
    let health = Health {
        status: if draining { "draining" } else { "healthy" },
        server: &service.name,
        timestamp,
        checks: Checks {
            websocket: if draining { "draining" } else { "passing" },
            redis: bus.unwrap_or(service.redis_check),
            pools: if unanswered { "failing" } else { "passing" },
            metrics: service.metrics_check,
        },
        metrics: HealthMetrics {
            active_connections: peers.open(),
            total_connections: peers.total(),
            uptime_seconds: env.now.mono.saturating_duration_since(env.started).as_secs(),
        },
    };
    json(StatusCode::OK, serde_json::to_vec(&health).unwrap_or_default().into())
}

/// Whether this instance should be sent new clients, and why. It may have stopped taking any, and all nodes together may be
/// full.
pub(super) struct Standing<'e> {
    pub(super) is_ready: bool,
    accepting: bool,
    room: bool,
    open: u64,
    env: &'e Env,
    bus: Option<(&'e Bus, Overall)>,
    nodes: &'e Nodes,
}

impl<'e> Standing<'e> {
    pub(super) fn new(
        env: &'e Env,
        (accepting, crowded): (bool, bool),
        open: u64,
        nodes: &'e Nodes,
    ) -> Self {
        let config = &env.config;
        let room = open < config.limits.connections.connections_max as u64 && !crowded;
        let bus = config.bus.as_ref().map(|bus| (bus, nodes.overall(env)));
        let delivers = bus.as_ref().is_none_or(|(_, overall)| overall.ready);
        Self { is_ready: accepting && room && delivers, accepting, room, open, env, bus, nodes }
    }

    /// The answer to `/ready`, and to `/` for whoever wants no page: load balancers ask by it.
    pub(super) fn answer(&self) -> Answer {
        let status = match self.is_ready {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        json(status, serde_json::to_vec(&self.ready()).unwrap_or_default().into())
    }

    fn ready(&self) -> Ready<'_> {
        let config = &self.env.config;
        let word = |passing: bool| if passing { "passing" } else { "failing" };
        Ready {
            status: if self.is_ready { "ready" } else { "not_ready" },
            server: &config.service.name,
            node: self.bus.as_ref().map(|(bus, _)| &*bus.node_name),
            checks: ReadyChecks {
                accepting: word(self.accepting),
                capacity: word(self.room),
                certificate: certificate_state(self.env),
                bus: self.bus.as_ref().map(|(_, overall)| overall.verdict.as_str()),
            },
            connections: ReadyConnections {
                open: self.open,
                max: config.limits.connections.connections_max,
                bound: config.connections_bound.as_str(),
            },
            bus: self.bus.as_ref().map(|(_, overall)| ReadyBus::new(self.nodes, overall)),
        }
    }
}

fn certificate_state(env: &Env) -> Option<&'static str> {
    let left = env.config.tls.as_ref()?.expires()?.checked_sub(env.now.unix);
    Some(match left {
        None => "expired",
        Some(left) if left < env.config.certificate_warning => "expiring",
        Some(_) => "valid",
    })
}

/// `POST /publish`: content type, token, shape, permission for every message, then all or nothing.
pub(super) fn check_publish(
    env: &Env,
    tokens: &Tokens,
    placement: &Placement,
    (id, conn, vouched): (ConnId, &Conn, Option<&Claims>),
    request: &Request<Payload<'_>>,
) -> Result<(Publisher, Vec<Publication>), Refused> {
    let (config, headers) = (&env.config, request.headers());
    if config.publishing == Publishing::ApplicationOnly {
        return Err(Reason::PublishingOff.into());
    }
    if !is_json(headers) {
        return Err(Reason::NotJson.into());
    }
    let claims = claims(env, tokens, (conn, vouched), headers)?;
    let user = claims.as_ref().and_then(|claims| claims.user.clone());
    let access = claims.map(|claims| (config.policy.access(&claims.permissions), claims.grants));
    let limits = &config.limits;
    let body = publish::parse(request.body(), limits.publishing.publish_batch_max)
        .map_err(|error| Refused::with(Reason::BadPublish, error.to_string()))?;
    let anonymous = may_publish_anonymously(config, conn.is_loopback() && is_direct(headers));
    let parent = spans::traceparent(headers);
    let mut publications = Vec::with_capacity(body.messages.len());
    for message in &body.messages {
        if !protocol::channel_is_valid(&message.channel, limits.channels.channel_bytes_max) {
            return Err(Reason::InvalidChannel.into());
        }
        if message.event.len() > limits.channels.event_bytes_max
            || message.data.len() > limits.wire.message_bytes_max
        {
            return Err(Reason::BadPublish.into());
        }
        let state = message.options.state.map_or(0, str::len);
        if state > limits.history.state_bytes_max {
            return Err(Reason::StateTooBig.into());
        }
        let allowed = match &access {
            Some((access, grants)) => {
                config.policy.decide_with(access, grants, Verb::Publish, &message.channel).allowed
            }
            None => anonymous,
        };
        let own = config.is_own(&message.channel);
        if !allowed || own {
            return Err(match access {
                Some(_) if !own => Refused::forbidden(config, Verb::Publish, &message.channel),
                // It is not a permission that is missing.
                Some(_) | None => Reason::PublishForbidden.into(),
            });
        }
        publications.push(Publication {
            channel: message.channel.as_ref().into(),
            event: message.event.as_ref().into(),
            data: Bytes::copy_from_slice(message.data.as_bytes()),
            options: PublicationOptions::of(MessageOptions {
                traceparent: message.options.traceparent.or(parent),
                ..message.options
            }),
        });
    }
    let key = match headers.get("idempotency-key") {
        Some(value) => Some(header_key(value)?),
        None => body.idempotency_key.as_deref(),
    };
    let owner = Owner::Client(user.as_deref(), conn.ip);
    let key = key.map(|key| KeyUse {
        key: errands::owned(owner, key),
        digest: placement.digest(&publications, config.bus.is_some()),
    });
    Ok((Publisher { key: key.map(Box::new), ..Via::Http(id).plainly() }, publications))
}

/// Whether a request without a token or a certificate may post on this server, which then wants none.
pub(super) fn may_post_anonymously(config: &Config, conn: &Conn, headers: &HeaderMap) -> bool {
    may_publish_anonymously(config, conn.is_loopback() && is_direct(headers))
}

/// An answer about this instance's state, as the method that asked for it has it (RFC 9110 §9.3.7).
pub(super) fn to_question(mut answer: Answer, method: &Method) -> Answer {
    if *method == Method::OPTIONS {
        answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(ASKED_BY));
    }
    answer
}

/// The methods by which an instance's state is asked for.
pub(super) const ASKED_BY: &str = "GET, HEAD, OPTIONS";

/// Whether a request says that it has a body, if only an empty one (RFC 9112 §6.3).
pub(super) fn declares_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING)
}

/// An answer with a body of JSON.
pub(super) fn json(status: StatusCode, body: Bytes) -> Answer {
    answer(status, JSON, body)
}

/// Metrics in Prometheus' text format.
pub(super) fn exposition(text: Bytes) -> Answer {
    answer(StatusCode::OK, EXPOSITION, text)
}

fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// The file for browsers at `path`, if it is for this request.
pub(super) fn page(config: &Config, path: &str, headers: &HeaderMap) -> Option<Answer> {
    let page = config.pages.iter().find(|page| *page.path == *path)?;
    if path == "/" && (is_attempted(headers) || !asks_for_html(headers)) {
        return None;
    }
    let mut response = answer(StatusCode::OK, page.content_type, page.body.clone());
    for (name, value) in OF_PAGES {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    Some(response)
}

/// Whether a request names HTML among what it takes, as browsers do and programs do not (RFC 9110 §12.5.1). `*/*` names
/// nothing.
fn asks_for_html(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = lists.flat_map(|list| list.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("text/html"));
        is_html && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// What goes with every file for browsers. Nothing is loaded from elsewhere, nothing within a document is run, and no other
/// page frames it or reads it.
const OF_PAGES: [(header::HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::VARY, "Accept"),
];

/// A refusal from the table of reasons.
pub(super) fn refusal(reason: Reason, detail: Option<&str>, allow: Option<&'static str>) -> Answer {
    let mut response = ws::refusal(reason).unwrap_or_default();
    if let Some(detail) = detail {
        *response.body_mut() = ws::refusal_body(reason, detail);
    }
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
    }
    response
}

/// What a request without a handshake is told where one is needed. `Upgrade` is for the next hop alone, and not every proxy
/// keeps it to itself: nginx passes it on, and over HTTP/2 an answer with it is malformed (RFC 9113 §8.2.2), so that the
/// client sees no answer at all. So it is only there for whoever could use it, although RFC 9110 §15.5.22 has it always.
pub(super) fn upgrade_required<T>(reason: Reason, request: &Request<T>) -> Answer {
    let lost = is_attempted(request.headers())
        .then_some(LOST)
        .filter(|_| reason == Reason::UpgradeRequired);
    let mut response = refusal(reason, lost, None);
    if request.version() != Version::HTTP_11 || is_proxied(request.headers()) {
        response.headers_mut().remove(header::UPGRADE);
        response.headers_mut().remove(header::CONNECTION);
    }
    response
}

const LOST: &str = "This is a WebSocket server, and the handshake came without Upgrade or Connection: a proxy on the way \
    has to pass both on, in HTTP/1.1";

/// Whether a body is declared as JSON. A browser asks first before it sends JSON to another site, and is told no: a form
/// can neither publish nor revoke.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = value.and_then(|value| value.split(';').next());
    media.is_some_and(|media| media.trim().eq_ignore_ascii_case(JSON))
}

/// The `Idempotency-Key` header, under the same rule as the body's field.
fn header_key(value: &header::HeaderValue) -> Result<&str, Refused> {
    let key = value.to_str().ok().filter(|key| (1..=publish::KEY_BYTES_MAX).contains(&key.len()));
    key.ok_or_else(|| Refused::with(Reason::BadPublish, publish::PublishError::Key.to_string()))
}

/// A request that is not carried out.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    /// In place of the reason's own text. It never repeats input.
    pub(super) detail: Option<Box<str>>,
    /// Which rule of the policy asks for a permission that is missing.
    pub(super) rule: Option<Forbidden>,
}

impl Refused {
    pub(super) fn with(reason: Reason, detail: impl Into<Box<str>>) -> Self {
        Self { reason, detail: Some(detail.into()), rule: None }
    }

    /// What a message breaks.
    #[cold]
    pub(super) fn undecoded(error: DecodeError) -> Self {
        Self::with(Reason::Decode, format!("{}: {error}", Reason::Decode.row().text))
    }

    /// What the policy does not let this client do.
    #[cold]
    pub(super) fn forbidden(config: &Config, verb: Verb, channel: &str) -> Self {
        let reason = match verb {
            Verb::Subscribe => Reason::SubscribeForbidden,
            Verb::Publish => Reason::PublishForbidden,
        };
        let detail = config.auth.tell_permissions.then(|| {
            let needs = config.policy.needs(verb, channel);
            format!("{}: it takes {needs}", reason.row().text).into()
        });
        Self { reason, detail, rule: Some((verb, config.policy.label(channel))) }
    }
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, detail: None, rule: None }
    }
}
