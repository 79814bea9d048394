//! `POST /revoke` and `POST /disconnect`: who may order what, and the answers.

use std::sync::Arc;

use http::Request;

use crate::{
    auth::{Claims, Revocation, RevocationError},
    hub::{
        env::Env,
        handshake::bearer,
        http::{Refused, is_json},
        nodes::{OrderKind, Spread, Whom, WhomError},
        output::Audit,
        tokens::Tokens,
    },
    reason::Reason,
    ws::Payload,
};

/// A request, and what the application has said of who has sent it.
type Asked<'r> = (Option<&'r Claims>, &'r Request<Payload<'r>>);

/// `POST /revoke`: content type, token with full access, shape. Notes in `audit` what it finds out.
pub(in crate::hub) fn revocation(
    env: &Env,
    tokens: &Tokens,
    (vouched, request): Asked<'_>,
    audit: &mut Audit,
) -> Result<Revocation, Refused> {
    if !is_json(request.headers()) {
        return Err(Reason::NotJson.into());
    }
    let (user, is_full) = operator(env, tokens, (vouched, request))?;
    audit.user = user;
    if !is_full {
        return Err(Reason::RevokeForbidden.into());
    }
    let refused = |error: RevocationError| Refused::with(Reason::BadRevocation, error.to_string());
    let body = std::str::from_utf8(request.body());
    let body = body.map_err(|_| refused(RevocationError::Shape))?;
    let revocation = Revocation::parse(body).map_err(refused)?;
    audit.revocation = Some(revocation.clone());
    Ok(revocation)
}

/// `POST /disconnect`: the same.
pub(in crate::hub) fn disconnect(
    env: &Env,
    tokens: &Tokens,
    (vouched, request): Asked<'_>,
    audit: &mut Audit,
) -> Result<Whom, Refused> {
    if !is_json(request.headers()) {
        return Err(Reason::NotJson.into());
    }
    let (user, is_full) = operator(env, tokens, (vouched, request))?;
    audit.user = user;
    if !is_full {
        return Err(Reason::OperatorsOnly.into());
    }
    let refused = |error: WhomError| Refused::with(Reason::BadDisconnect, error.to_string());
    let body = std::str::from_utf8(request.body());
    let body = body.map_err(|_| refused(WhomError::Shape))?;
    let whom = Whom::parse(body).map_err(refused)?;
    audit.whom = Some(whom.clone());
    Ok(whom)
}

/// Whose request it is, and whether its token opens everything. Whoever may end others' sessions is somebody, also where
/// clients need no token.
pub(in crate::hub) fn operator(
    env: &Env,
    tokens: &Tokens,
    (vouched, request): Asked<'_>,
) -> Result<(Option<Arc<str>>, bool), Reason> {
    let config = &env.config;
    if let Some(claims) = vouched {
        let is_full = config.policy.access(&claims.permissions).is_full();
        return Ok((claims.user.clone(), is_full));
    }
    let token = bearer(request.headers()).filter(|_| !config.auth.keys.is_empty());
    let token = token.ok_or(Reason::AuthRequired)?;
    let token = tokens.verify(env, token).map_err(|_| Reason::AuthFailed)?;
    let is_full = config.policy.access(&token.claims.permissions).is_full();
    Ok((token.claims.user, is_full))
}

/// The body of the answer when an order was carried out, and so many connections have ended.
pub(in crate::hub) fn answer(kind: OrderKind, closed: u32, spread: Option<Spread>) -> String {
    let status = match kind {
        OrderKind::Revoke => "revoked",
        OrderKind::Disconnect => "disconnected",
        OrderKind::EndSessions => "ended",
        OrderKind::Send => "sent",
    };
    let nodes = spread.map_or_else(String::new, |spread| {
        let Spread { nodes, confirmed, .. } = spread;
        format!(",\"nodes\":{nodes},\"confirmed\":{confirmed}")
    });
    format!("{{\"status\":\"{status}\",\"closed\":{closed}{nodes}}}")
}
