//! What a client asks over HTTP, and how it is answered.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};

use super::{
    Hub, handshake,
    http::{self as answers, Refused, Standing},
    output::Output,
    reads::Resource,
    types::{Backlog, ConnId, Listener},
};
use crate::{
    config::Publishing,
    reason::Reason,
    ws::{CloseWhen, Payload},
};

impl Hub {
    /// A complete request that is not a WebSocket handshake.
    pub(super) fn on_http(&mut self, id: ConnId, request: &Request<Payload<'_>>) {
        if self.connections.get(id).is_some_and(|conn| conn.listener == Listener::Adopted) {
            return self.respond(id, answers::upgrade_required(Reason::UpgradeRequired, request));
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        // What load balancers ask by.
        let asks = reads || *request.method() == Method::OPTIONS;
        let path = request.uri().path();
        if self.connections.is_restricted(id) && !(asks && path == "/health") {
            // Without TLS on a port with TLS: it is told what to do (RFC 2817 §4.2).
            self.env.tally.error(Reason::TlsRequired);
            return self.respond(id, answers::upgrade_required(Reason::TlsRequired, request));
        }
        if !handshake::is_host_allowed(&self.env.config, request.headers()) {
            return self.refuse_http(id, &Reason::HostForbidden.into());
        }
        let resource = Resource::at(path);
        let is_page = self.env.config.pages.iter().any(|page| *page.path == *path);
        let is_read = is_page || path == "/ws" || path.starts_with("/ws/");
        let is_guarded = resource.is_some() || path == "/connections";
        // What is read there is for those who may subscribe, and a page that may not connect may not.
        if (!reads || is_guarded)
            && !handshake::is_origin_allowed(&self.env.config, request.headers())
        {
            return self.refuse_http(id, &Reason::OriginForbidden.into());
        }
        let Some(listener) = self.connections.get(id).map(|conn| conn.listener) else { return };
        if reads
            && listener == Listener::Main
            && let Some(page) = answers::page(&self.env.config, path, request.headers())
        {
            return self.respond(id, page);
        }
        match (listener, path) {
            (Listener::Metrics, _) if reads => self.ask_metrics(id),
            (Listener::Main, "/health") if asks => {
                let (draining, silent) = (self.drain.is_told(), self.questions.is_unanswered());
                let (env, peers, nodes) = (&mut self.env, &self.peers, &self.nodes);
                let answer = answers::health(env, draining, silent, peers, nodes);
                self.respond(id, answers::to_question(answer, request.method()));
            }
            // A handshake that lost fields on its way is no question of a load balancer.
            (Listener::Main, "/") if reads && handshake::is_attempted(request.headers()) => {
                self.respond(id, answers::upgrade_required(Reason::UpgradeRequired, request));
            }
            (Listener::Main, "/ready" | "/" | "*") if asks => {
                let state = (!self.drain.is_told(), self.is_cluster_full());
                let standing = Standing::new(&self.env, state, self.peers.open(), &self.nodes);
                self.respond(id, answers::to_question(standing.answer(), request.method()));
            }
            (Listener::Main, "/health" | "/ready" | "/") => {
                self.answer_not_allowed(id, answers::ASKED_BY);
            }
            (Listener::Main, "/publish" | "/revoke" | "/disconnect" | "/answer")
                if *request.method() == Method::POST
                    && !answers::declares_body(request.headers()) =>
            {
                self.refuse_http(id, &Reason::LengthRequired.into());
            }
            (Listener::Main, "/publish" | "/revoke" | "/disconnect")
                if *request.method() == Method::POST =>
            {
                self.on_permitted_request(id, request);
            }
            (Listener::Main, "/answer")
                if *request.method() == Method::POST && self.env.config.backend.is_some() =>
            {
                self.on_permitted_request(id, request);
            }
            (Listener::Main, "/publish" | "/revoke" | "/disconnect") => {
                self.answer_not_allowed(id, "POST")
            }
            // Of what is written nothing else is here: whoever has misspelt a path sees which there are.
            (Listener::Main, _) if *request.method() == Method::POST && !is_guarded && !is_read => {
                let detail = format!("{}: {WRITTEN_TO}", Reason::NotFound.row().text);
                self.respond(id, answers::refusal(Reason::NotFound, Some(&detail), None));
            }
            _ if !reads => self.answer_not_allowed(id, "GET, HEAD"),
            (Listener::Main, _) if is_guarded => self.on_permitted_request(id, request),
            (Listener::Main, path) if path == "/ws" || path.starts_with("/ws/") => {
                self.respond(id, answers::upgrade_required(Reason::UpgradeRequired, request));
            }
            _ => self.answer_reason(id, Reason::NotFound),
        }
    }

    /// A request that a permission decides on: if the application wants to say so, whose it is.
    fn on_permitted_request(&mut self, id: ConnId, request: &Request<Payload<'_>>) {
        let off = self.env.config.publishing == Publishing::ApplicationOnly;
        if off && request.uri().path() == "/publish" {
            // Whoever it is.
            return self.refuse_http(id, &Reason::PublishingOff.into());
        }
        if let Err(reason) = self.keep_at_hand(id, request) {
            return self.refuse_http(id, &reason.into());
        }
        match self.env.config.hooks.authenticate {
            false => self.carry_out_request(id, request),
            true => self.ask_whose_request(id, request),
        }
    }

    /// It is known whose it is, or it will be found out by what the configuration says.
    pub(super) fn carry_out_request(&mut self, id: ConnId, request: &Request<Payload<'_>>) {
        let path = request.uri().path();
        match (path, Resource::at(path)) {
            ("/publish", _) => self.on_http_publish(id, request),
            ("/answer", _) => self.on_http_answer(id, request),
            ("/revoke", _) => self.on_http_revoke(id, request),
            ("/disconnect", _) => self.on_http_disconnect(id, request),
            ("/connections", _) => self.on_http_connections(id, request),
            (_, Some(resource)) => self.on_http_look(id, resource, request),
            (_, None) => self.answer_reason(id, Reason::NotFound),
        }
    }

    fn ask_metrics(&mut self, id: ConnId) {
        if self.questions.backlog() != Backlog::None {
            return self.refuse_http(id, &Reason::Busy.into());
        }
        if let Some(expires) = self.env.config.tls.as_ref().and_then(|tls| tls.expires()) {
            self.env.tally.certificate(expires, self.env.now.unix);
        }
        let draining = self.drain.is_told();
        let state = (!draining, self.is_cluster_full());
        let ready = Standing::new(&self.env, state, self.peers.open(), &self.nodes).is_ready;
        self.env.tally.readiness(ready, draining);
        if self.scrapes.wait(self.env.now.mono, id) {
            self.outputs.push_back(Output::Metrics { conn: id });
        }
    }

    pub(super) fn answer_json(&mut self, id: ConnId, body: Bytes) {
        self.respond(id, answers::json(StatusCode::OK, body));
    }

    /// A refusal from the table of reasons; the connection is kept where HTTP allows.
    pub(super) fn answer_reason(&mut self, id: ConnId, reason: Reason) {
        self.respond(id, answers::refusal(reason, None, None));
    }

    fn answer_not_allowed(&mut self, id: ConnId, allow: &'static str) {
        self.respond(id, answers::refusal(Reason::MethodNotAllowed, None, Some(allow)));
    }

    /// A request that is not carried out, counted as an error.
    pub(super) fn refuse_http(&mut self, id: ConnId, refused: &Refused) {
        let client = self.connections.get(id).map(|conn| conn.ip);
        self.env.tally.error_of(refused.reason, client, refused.rule);
        self.respond(id, answers::refusal(refused.reason, refused.detail.as_deref(), None));
    }

    pub(super) fn respond(&mut self, id: ConnId, mut response: Response<Bytes>) {
        if self.drain.has_begun() {
            let close = header::HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        self.forget_at_hand(id);
        self.connections.respond(&mut self.env, id, response);
    }

    /// Ends a connection that speaks plain HTTP, unless an answer is due: then the answer ends it.
    pub(super) fn end_http(&mut self, id: ConnId) {
        if self.connections.get(id).is_some_and(|conn| !conn.ws.owes_answer()) {
            self.connections.close(&self.env, id, Reason::Shutdown, CloseWhen::AfterData);
            self.retire(id, Reason::HttpDone);
        }
        self.connections.mark_dirty(id.index);
    }
}

/// What a request that writes is told whose path is none.
const WRITTEN_TO: &str = "POST goes to /publish, /revoke or /disconnect";
