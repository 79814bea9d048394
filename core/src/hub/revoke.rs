//! Revoking tokens: by `POST /revoke` or by command. The hub that is asked tells the others and answers when all have
//! done it: from then on no hub accepts such a token or delivers to its connection.

use std::time::Duration;

use http::Request;

use super::{
    Hub,
    conn::Conn,
    handshake::bearer,
    http::{Refused, is_json},
    publish::{Asker, Origin, Pending},
    types::{Audit, CommandId, ConnId, Inner, Output, Published, ShardId, Ticket},
};
use crate::{
    auth::{Revocation, RevocationError},
    reason::Reason,
    time::Now,
    ws::Payload,
};

impl Hub {
    /// `POST /revoke`: content type, token with full access, shape.
    pub(crate) fn on_http_revoke(&mut self, now: Now, id: ConnId, request: &Request<Payload<'_>>) {
        let peer = self.conn(id).map(Conn::peer);
        let mut audit = Box::new(Audit { peer, user: None, revocation: None });
        let asker = Asker::Http(id);
        match self.check_http_revoke(now, request, &mut audit) {
            Ok(revocation) => self.revoke(now, Origin::Revoke { asker, audit }, &revocation),
            Err(refused) => self.fail_revoke(now, asker, audit, &refused),
        }
    }

    /// Notes in `audit` what it finds out.
    fn check_http_revoke(
        &self,
        now: Now,
        request: &Request<Payload<'_>>,
        audit: &mut Audit,
    ) -> Result<Revocation, Refused> {
        if !is_json(request.headers()) {
            return Err(Reason::NotJson.into());
        }
        // Whoever may end others' sessions is somebody, also where clients need no token.
        let token = bearer(request.headers()).filter(|_| !self.config.auth.keys.is_empty());
        let token = token.ok_or(Reason::AuthRequired)?;
        let token = self.verify(now, token).map_err(|_| Reason::AuthFailed)?;
        audit.user.clone_from(&token.claims.user);
        if !self.config.policy.access(&token.claims.permissions).is_full() {
            return Err(Reason::RevokeForbidden.into());
        }
        let refused = |error: RevocationError| Refused {
            reason: Reason::BadRevocation,
            detail: Some(error.to_string().into()),
        };
        let body = std::str::from_utf8(request.body());
        let body = body.map_err(|_| refused(RevocationError::Shape))?;
        let revocation = Revocation::parse(body).map_err(refused)?;
        audit.revocation = Some(revocation.clone());
        Ok(revocation)
    }

    /// The application, or an operator through it, revokes.
    pub(crate) fn on_revoke_command(
        &mut self,
        now: Now,
        id: Option<CommandId>,
        revocation: &Revocation,
    ) {
        let audit = Audit { peer: None, user: None, revocation: Some(revocation.clone()) };
        let origin = Origin::Revoke { asker: Asker::Command(id), audit: Box::new(audit) };
        match revocation.check() {
            Ok(()) => self.revoke(now, origin, revocation),
            Err(_) => self.fail_publish(now, &origin, Reason::BadRevocation),
        }
    }

    /// All hubs have carried it out.
    pub(crate) fn finish_revoke(
        &mut self,
        now: Now,
        asker: Asker,
        audit: Box<Audit>,
        published: Published,
    ) {
        self.outputs.push_back(Output::Audit { audit, result: Ok(published) });
        match asker {
            Asker::Http(conn) => {
                let closed = published.subscribers;
                let answer = format!("{{\"status\":\"revoked\",\"closed\":{closed}}}");
                self.answer_json(now, conn, 200, answer.into());
            }
            Asker::Command(Some(id)) => {
                self.outputs.push_back(Output::Done { id, result: Ok(published) });
            }
            Asker::Command(None) => {}
        }
    }

    /// It is not carried out. Not every attempt of many is written down: a log can be flooded, too.
    pub(crate) fn fail_revoke(
        &mut self,
        now: Now,
        asker: Asker,
        audit: Box<Audit>,
        refused: &Refused,
    ) {
        let reason = refused.reason;
        let rate = self.config.limits.revocations.audit_refusals_per_minute.max(1);
        if self.audited.take(now.mono, MINUTE / rate, rate).is_ok() {
            self.outputs.push_back(Output::Audit { audit, result: Err(reason) });
        }
        match asker {
            Asker::Http(conn) => self.refuse_request(now, conn, refused),
            Asker::Command(id) => {
                self.tally.error(reason);
                if let Some(id) = id {
                    self.outputs.push_back(Output::Done { id, result: Err(reason) });
                }
            }
        }
    }

    fn revoke(&mut self, now: Now, origin: Origin, revocation: &Revocation) {
        // Others may be revoking at this moment, so a hub can come to hold a few more than the limit.
        let max = self.config.limits.revocations.revocations_max;
        if self.revocations.len() >= max || self.revoking >= max {
            self.fail_publish(now, &origin, Reason::RevocationsFull);
            return;
        }
        let own = self.place.shard;
        let shards = (0..self.place.shards.max(1)).map(ShardId);
        let results = shards.clone().map(|_| (Box::default(), NOBODY)).collect();
        let waiting = u32::from(self.place.shards.max(1));
        let pending = Pending { results, waiting, revokes: true, ..Pending::of(origin) };
        // However busy publishers keep this hub: a token that has leaked is revoked at once.
        let Some(ticket) = self.hold(pending) else { return };
        self.revoking += 1;
        for shard in shards.filter(|shard| *shard != own) {
            let ticket = Ticket { item: u32::from(shard.0), ..ticket };
            let revocation = Box::new(revocation.clone());
            self.tell(now, shard, Inner::Revoke { ticket, revocation });
        }
        let published = self.apply_revocation(now, revocation);
        self.on_published(now, Ticket { item: u32::from(own.0), ..ticket }, published);
    }

    /// Another hub was asked to revoke.
    pub(crate) fn on_revoke(&mut self, now: Now, ticket: Ticket, revocation: &Revocation) {
        let published = self.apply_revocation(now, revocation);
        self.tell(now, ticket.shard, Inner::Published { ticket, published });
    }

    fn apply_revocation(&mut self, now: Now, revocation: &Revocation) -> Published {
        let before = self.revocations.len() as i64;
        self.revocations.add(now.unix, revocation, self.config.limits.revocations.revocation_keep);
        if self.place.shard == ShardId(0) {
            // All hubs hold the same: one of them counts.
            self.tally.revocations += self.revocations.len() as i64 - before;
        }
        Published { subscribers: self.end_tokens(now, |claims| revocation.fits(claims)), offset: 0 }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const NOBODY: Published = Published { subscribers: 0, offset: 0 };
