//! Whose is it? The application says it of a handshake, or of a request over HTTP that a permission decides on, before
//! anything else is done with it.

use std::sync::Arc;

use http::Request;

use super::{
    Hub,
    connections::Phase,
    handshake,
    introduction::Data,
    output::Output,
    questions::{About, Question},
    types::{ConnId, RequestId},
};
use crate::{auth::Claims, reason::Reason, ws::Payload};

/// What the application says to a handshake, or to a request over HTTP.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// Nothing: what the configuration says of tokens and certificates decides, as if nobody had been asked.
    Pass,
    /// Whose it is, and what they may do: as a verified token would have said it. A token that came along is not looked at.
    Access {
        /// User, permissions, channels, expiry. Without `issued_at` it counts as issued now.
        claims: Box<Claims>,
        /// What the application wants to find again with the connection: [`Introduction::data`](super::Introduction::data).
        data: Option<Data>,
    },
    /// Nobody who may come in.
    Refuse(Refusal),
}

/// How somebody is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub denial: Denial,
    /// How a handshake is told. A request over HTTP gets a status in any case.
    pub by: RefusedBy,
}

/// Why the application lets somebody not in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// Nobody knows who it is: [`Reason::Unauthorized`].
    Unauthorized,
    /// It is known who it is, and that they may not: [`Reason::AccessDenied`].
    Forbidden,
    /// It cannot be found out at present: [`Reason::Undecided`]. A handshake is accepted and closed with 1013 whatever
    /// [`Refusal::by`] says: clients come back after that, and give up for good after an HTTP error.
    Later,
}

/// How a handshake is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusedBy {
    /// With an HTTP status, 401 or 403: the cheapest way, which clients of this protocol understand as final. Browsers tell
    /// scripts nothing of it but that there was an error.
    #[default]
    Status,
    /// It is accepted; an error message, and a close frame with 1008, say why: scripts in browsers see both.
    Close,
}

impl Denial {
    /// The row of the table of reasons.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Unauthorized => Reason::Unauthorized,
            Self::Forbidden => Reason::AccessDenied,
            Self::Later => Reason::Undecided,
        }
    }
}

/// Asking.
impl Hub {
    /// A handshake waits until the application says whose it is. It counts from here on.
    pub(super) fn ask_whose_handshake(&mut self, id: ConnId, request: Request<()>) {
        let Some(conn) = self.connections.edit(id) else { return };
        if let Err(reason) = handshake::check_target(&self.env.config, request.headers()) {
            return self.refuse_http(id, &reason.into());
        }
        handshake::locate(&self.env.config, conn, request.headers());
        if let Some(reason) = self.admission(id) {
            return self.turn_away(id, &request, reason);
        }
        self.ask_whose(id, Arc::new(request), None);
    }

    /// A request that a permission decides on waits likewise.
    pub(super) fn ask_whose_request(&mut self, id: ConnId, request: &Request<Payload<'_>>) {
        let body = request.body().to_vec();
        let head = request.clone().map(drop);
        self.ask_whose(id, Arc::new(head), Some(body));
    }

    fn ask_whose(&mut self, id: ConnId, request: Arc<Request<()>>, body: Option<Vec<u8>>) {
        let (upgrade, body_bytes) = (body.is_none(), body.as_ref().map_or(0, Vec::len));
        let about = About::Whose { request: request.clone(), body };
        let Some((question, _)) = self.ask(id, about) else { return };
        let Some(conn) = self.connections.get(id) else { return };
        let (peer, identity, secure) = (conn.peer(), conn.identity(), conn.secure);
        let output = Output::Authenticate {
            id: question,
            conn: id,
            peer,
            identity,
            secure,
            request,
            upgrade,
            body_bytes,
        };
        self.outputs.push_back(output);
    }
}

/// Being told.
impl Hub {
    pub(super) fn on_authenticated(&mut self, id: RequestId, outcome: Authentication) {
        let question = self.questions.answered(&mut self.connections, id);
        let Some(Question { conn, about }) = question else { return };
        match about {
            About::Whose { request, body: None } => {
                self.on_whose_handshake(conn, &request, outcome)
            }
            About::Whose { request, body: Some(body) } => {
                self.on_whose_request(conn, &request, body, outcome);
            }
            // It answers something else than was asked.
            about @ (About::Request { .. }
            | About::Subscribe { .. }
            | About::Publish { .. }
            | About::Backend { .. }
            | About::Answering { .. }
            | About::Look(_)) => {
                self.fail_question(conn, about, Reason::RequestFailed);
                self.go_on_resuming(conn);
            }
        }
    }

    fn on_whose_handshake(&mut self, id: ConnId, request: &Request<()>, outcome: Authentication) {
        // It may have ended meanwhile.
        if !self.waits_to_be_known(id) {
            return;
        }
        if let Some(reason) = self.lacks_room() {
            return self.turn_away(id, request, reason);
        }
        match outcome {
            Authentication::Pass => self.shake_hands(id, request, handshake::Word::None),
            Authentication::Access { claims, data } => {
                if data.is_some() {
                    self.at_hand.entry(id).or_default().data = data;
                }
                let claims = self.vouched(*claims);
                self.shake_hands(id, request, handshake::Word::Vouched(claims));
            }
            Authentication::Refuse(Refusal { denial: Denial::Later, .. }) => {
                self.turn_away(id, request, Reason::Undecided);
            }
            Authentication::Refuse(Refusal { denial, by: RefusedBy::Close }) => {
                self.turn_away(id, request, denial.reason());
            }
            Authentication::Refuse(Refusal { denial, by: RefusedBy::Status }) => {
                self.refuse_http(id, &denial.reason().into());
            }
        }
        self.connections.go_on(id);
    }

    fn on_whose_request(
        &mut self,
        id: ConnId,
        request: &Request<()>,
        body: Vec<u8>,
        outcome: Authentication,
    ) {
        if !self.waits_to_be_known(id) {
            return;
        }
        match outcome {
            Authentication::Pass => {}
            Authentication::Access { claims, data } => {
                let claims = self.vouched(*claims);
                if self.tokens.is_withdrawn(&self.env, &claims) {
                    return self.refuse_http(id, &Reason::Unauthorized.into());
                }
                let at_hand = self.at_hand.entry(id).or_default();
                (at_hand.vouched, at_hand.data) = (Some(Box::new(claims)), data);
            }
            Authentication::Refuse(refusal) => {
                return self.refuse_http(id, &refusal.denial.reason().into());
            }
        }
        let request = request.clone().map(|()| Payload::from(body));
        self.carry_out_request(id, &request);
    }

    /// The application has not said whose it is.
    pub(super) fn on_undecided(
        &mut self,
        id: ConnId,
        request: &Request<()>,
        upgrade: bool,
        reason: Reason,
    ) {
        if !self.waits_to_be_known(id) {
            return;
        }
        // Whatever has come in its way: who tries again may get in.
        let reason = if reason == Reason::Busy { reason } else { Reason::Undecided };
        if !upgrade {
            return self.refuse_http(id, &reason.into());
        }
        self.turn_away(id, request, reason);
        self.connections.go_on(id);
    }

    fn waits_to_be_known(&self, id: ConnId) -> bool {
        let conn = self.connections.get(id);
        conn.is_some_and(|conn| conn.phase == Phase::Http && conn.ws.owes_answer())
    }

    /// What the application says of somebody, as a token that was issued now.
    fn vouched(&self, claims: Claims) -> Claims {
        let now = std::time::Duration::from_secs(self.env.now.unix.as_secs());
        Claims { issued_at: claims.issued_at.or(Some(now)), ..claims }
    }

    /// The handshake with which a connection waits to be known, if it does; whatever the application says of it now comes
    /// too late.
    pub(super) fn take_handshake(&mut self, id: ConnId) -> Option<Arc<Request<()>>> {
        if !self.env.config.hooks.authenticate || !self.waits_to_be_known(id) {
            return None;
        }
        let asked = self.connections.get(id)?.rare().asked.clone();
        let is_handshake = |about: &About| matches!(about, About::Whose { body: None, .. });
        asked.into_iter().find_map(|question| {
            let taken = self.questions.take_if(&mut self.connections, question, is_handshake)?;
            let About::Whose { request, .. } = taken.about else { return None };
            Some(request)
        })
    }

    /// Accepts a handshake only to say why it may not stay: clients of this protocol give up for good when a handshake is
    /// answered with an HTTP error, and scripts in browsers do not see it.
    pub(super) fn turn_away(&mut self, id: ConnId, request: &Request<()>, reason: Reason) {
        let subprotocol = handshake::subprotocol(&self.env.config, request);
        let Some(conn) = self.connections.edit(id) else { return };
        let answer = crate::ws::Accept { subprotocol: subprotocol.as_deref(), deflate: None };
        conn.ws.accept(self.env.now, &answer);
        if reason.row().close == Some(CLOSED_FOR_GOOD) {
            self.connections.send_error(&mut self.env, id, reason, None);
        }
        self.close(id, reason);
        if self.env.spans.is_some() {
            self.trace_handshake(id, request.headers(), Err(reason));
        }
    }
}

/// Policy violation (RFC 6455 §7.4.1).
const CLOSED_FOR_GOOD: u16 = 1008;
