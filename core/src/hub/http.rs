//! Plain HTTP on the WebSocket port: health, readiness, publishing; and the metrics port.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use serde::Serialize;

use super::{
    Hub,
    handshake::{bearer, is_direct, origin},
    publish::Origin,
    types::{ConnId, Listener, Output, Publication},
};
use crate::{
    auth::Verb,
    protocol::{self, publish},
    reason::Reason,
    time::Now,
    ws::{self, Payload},
};

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
    checks: ReadyChecks<'a>,
    connections: ReadyConnections,
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
}

impl Hub {
    /// A complete request that is not a WebSocket handshake.
    pub(crate) fn on_http(&mut self, now: Now, id: ConnId, request: Request<Payload<'_>>) {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if self.is_restricted(id) && !(reads && request.uri().path() == "/health") {
            self.refuse_plain(now, id);
            return;
        }
        if !reads && !self.config.origins.allow(origin(request.headers())) {
            self.refuse_http(now, id, Reason::OriginForbidden);
            return;
        }
        let Some(conn) = self.conn(id) else { return };
        match (conn.listener, request.uri().path()) {
            (Listener::Metrics, _) if reads => self.ask_metrics(now, id),
            (Listener::Main, "/health") if reads => self.answer_health(now, id),
            (Listener::Main, "/ready") if reads => self.answer_ready(now, id),
            (Listener::Main, "/publish") if *request.method() == Method::POST => {
                self.on_http_publish(now, id, &request);
            }
            (Listener::Main, "/revoke") if *request.method() == Method::POST => {
                self.on_http_revoke(now, id, &request);
            }
            (Listener::Main, "/publish" | "/revoke") => self.answer_not_allowed(now, id, "POST"),
            _ if !reads => self.answer_not_allowed(now, id, "GET, HEAD"),
            (Listener::Main, path) if path == "/" || path == "/ws" || path.starts_with("/ws/") => {
                self.answer_reason(now, id, Reason::UpgradeRequired);
            }
            _ => self.answer_reason(now, id, Reason::NotFound),
        }
    }

    fn answer_health(&mut self, now: Now, id: ConnId) {
        let service = self.config.service.clone();
        let health = Health {
            status: if self.is_draining() { "draining" } else { "healthy" },
            server: &service.name,
            timestamp: self.timestamp(now).zulu(),
            checks: Checks {
                websocket: if self.is_draining() { "draining" } else { "passing" },
                redis: service.redis_check,
                pools: if self.application_silent { "failing" } else { "passing" },
                metrics: service.metrics_check,
            },
            metrics: HealthMetrics {
                active_connections: self.connections(),
                total_connections: self.census.iter().map(|census| census.total).sum(),
                uptime_seconds: now.mono.saturating_duration_since(self.started).as_secs(),
            },
        };
        let body = serde_json::to_vec(&health).unwrap_or_default();
        self.answer_json(now, id, 200, body.into());
    }

    /// Whether this instance should be sent new clients.
    fn answer_ready(&mut self, now: Now, id: ConnId) {
        let service = self.config.service.clone();
        let accepting = !self.is_draining();
        let room = self.connections() < self.config.limits.connections.connections_max as u64;
        let word = |passing: bool| if passing { "passing" } else { "failing" };
        let ready = Ready {
            status: if accepting && room { "ready" } else { "not_ready" },
            server: &service.name,
            checks: ReadyChecks {
                accepting: word(accepting),
                capacity: word(room),
                certificate: self.certificate_state(now),
            },
            connections: ReadyConnections {
                open: self.connections(),
                max: self.config.limits.connections.connections_max,
                bound: self.config.connections_bound.as_str(),
            },
        };
        let body = serde_json::to_vec(&ready).unwrap_or_default();
        self.answer_json(now, id, if accepting && room { 200 } else { 503 }, body.into());
    }

    fn certificate_state(&self, now: Now) -> Option<&'static str> {
        let left = self.config.tls.as_ref()?.expires().checked_sub(now.unix);
        Some(match left {
            None => "expired",
            Some(left) if left < self.config.certificate_warning => "expiring",
            Some(_) => "valid",
        })
    }

    /// `POST /publish`: content type, token, shape, permission for every message, then all or nothing.
    fn on_http_publish(&mut self, now: Now, id: ConnId, request: &Request<Payload<'_>>) {
        match self.check_http_publish(now, id, request) {
            Ok((origin, publications)) if self.config.hooks.authorize_publish => {
                self.ask_publish(now, id, origin, publications);
            }
            Ok((origin, publications)) => self.publish(now, origin, publications),
            Err(refused) => self.refuse_request(now, id, &refused),
        }
    }

    fn check_http_publish(
        &self,
        now: Now,
        id: ConnId,
        request: &Request<Payload<'_>>,
    ) -> Result<(Origin, Vec<Publication>), Refused> {
        let headers = request.headers();
        if !is_json(headers) {
            return Err(Reason::NotJson.into());
        }
        let access = match bearer(headers) {
            Some(token) if !self.config.auth.keys.is_empty() => {
                let token = self.verify(now, token).map_err(|_| Reason::AuthFailed)?;
                Some((self.config.policy.access(&token.claims.permissions), token.claims.grants))
            }
            _ => match self.certified(id) {
                Some(claims) => {
                    Some((self.config.policy.access(&claims.permissions), claims.grants))
                }
                None if self.config.auth.required => return Err(Reason::AuthRequired.into()),
                None => None,
            },
        };
        let limits = &self.config.limits;
        let body = publish::parse(request.body(), limits.publishing.publish_batch_max).map_err(
            |error| Refused { reason: Reason::BadPublish, detail: Some(error.to_string().into()) },
        )?;
        let loopback = self.conn(id).ok_or(Reason::Internal)?.is_loopback();
        let anonymous = self.may_publish_anonymously(loopback && is_direct(headers));
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
            let allowed = match &access {
                Some((access, grants)) => {
                    let policy = &self.config.policy;
                    policy.decide_with(access, grants, Verb::Publish, &message.channel).allowed
                }
                None => anonymous,
            };
            if !allowed {
                return Err(Reason::PublishForbidden.into());
            }
            publications.push(Publication {
                channel: message.channel.as_ref().into(),
                event: message.event.as_ref().into(),
                data: Bytes::copy_from_slice(message.data.as_bytes()),
            });
        }
        let key = match headers.get("idempotency-key") {
            Some(value) => Some(header_key(value)?),
            None => body.idempotency_key.as_deref(),
        };
        let digest = self.homes.placement().digest(request.body());
        Ok((Origin::Http { conn: id, key: key.map(Into::into), digest }, publications))
    }

    fn ask_metrics(&mut self, now: Now, id: ConnId) {
        if let Some(tls) = &self.config.tls {
            self.metrics.certificate(tls.expires(), now.unix);
        }
        self.outputs.push_back(Output::Metrics { conn: id });
    }

    /// Refuses a client that speaks without TLS on a port with TLS, and says what to do (RFC 2817 §4.2).
    pub(crate) fn refuse_plain(&mut self, now: Now, id: ConnId) {
        self.refuse_http(now, id, Reason::TlsRequired);
    }

    /// The application has rendered the metrics.
    pub(crate) fn on_exposition(&mut self, now: Now, id: ConnId, text: Bytes) {
        self.answer(now, id, 200, EXPOSITION, text);
    }

    pub(crate) fn answer_json(&mut self, now: Now, id: ConnId, status: u16, body: Bytes) {
        self.answer(now, id, status, JSON, body);
    }

    /// A refusal from the table of reasons; the connection is kept where HTTP allows.
    pub(crate) fn answer_reason(&mut self, now: Now, id: ConnId, reason: Reason) {
        self.answer_refusal(now, id, reason, None, None);
    }

    /// [`answer_reason`](Self::answer_reason), counted as an error.
    pub(crate) fn refuse_http(&mut self, now: Now, id: ConnId, reason: Reason) {
        self.refuse_request(now, id, &reason.into());
    }

    /// A request that is not carried out, counted as an error.
    pub(crate) fn refuse_request(&mut self, now: Now, id: ConnId, refused: &Refused) {
        self.tally.error(refused.reason);
        self.answer_refusal(now, id, refused.reason, refused.detail.as_deref(), None);
    }

    fn answer_not_allowed(&mut self, now: Now, id: ConnId, allow: &'static str) {
        self.answer_refusal(now, id, Reason::MethodNotAllowed, None, Some(allow));
    }

    pub(crate) fn answer_refusal(
        &mut self,
        now: Now,
        id: ConnId,
        reason: Reason,
        detail: Option<&str>,
        allow: Option<&'static str>,
    ) {
        let mut response = ws::refusal(reason).unwrap_or_default();
        if let Some(detail) = detail {
            *response.body_mut() = ws::refusal_body(reason, detail);
        }
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
        }
        self.respond(now, id, response);
    }

    fn answer(
        &mut self,
        now: Now,
        id: ConnId,
        status: u16,
        content_type: &'static str,
        body: Bytes,
    ) {
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        self.respond(now, id, response);
    }

    /// Answers, and goes on with what the client had sent ahead.
    fn respond(&mut self, now: Now, id: ConnId, mut response: Response<Bytes>) {
        if self.is_draining() {
            response
                .headers_mut()
                .insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
        let Some((conn, limits)) = self.conn_mut(id) else { return };
        if !conn.ws.is_http() {
            return;
        }
        let status = response.status().as_u16();
        let scrape = conn.listener == Listener::Metrics;
        conn.ws.respond(now, limits, response);
        let more = conn.ws.has_buffered_input();
        if !scrape {
            self.tally.answered(status);
        }
        self.stand_behind(id);
        self.settle(id);
        if more {
            self.resume.push_back(id);
        }
    }
}

/// Whether a body is declared as JSON. A browser asks first before it sends JSON to another site, and is told no: a form
/// can neither publish nor revoke.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = value.and_then(|value| value.split(';').next());
    media.is_some_and(|media| media.trim().eq_ignore_ascii_case(JSON))
}

/// The `Idempotency-Key` header, under the same rule as the body's field.
fn header_key(value: &header::HeaderValue) -> Result<&str, Refused> {
    let key = value.to_str().ok().filter(|key| (1..=publish::KEY_BYTES_MAX).contains(&key.len()));
    key.ok_or_else(|| Refused {
        reason: Reason::BadPublish,
        detail: Some(publish::PublishError::Key.to_string().into()),
    })
}

/// A request that is not carried out.
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) detail: Option<Box<str>>,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, detail: None }
    }
}
