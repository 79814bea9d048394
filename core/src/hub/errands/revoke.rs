//! `POST /revoke`: who may revoke what.

use http::Request;

use crate::{
    auth::{Revocation, RevocationError},
    hub::{
        env::Env,
        handshake::bearer,
        http::{Refused, is_json},
        tokens::Tokens,
        types::Audit,
    },
    reason::Reason,
    ws::Payload,
};

/// Content type, token with full access, shape. Notes in `audit` what it finds out.
pub(in crate::hub) fn check(
    env: &Env,
    tokens: &Tokens,
    request: &Request<Payload<'_>>,
    audit: &mut Audit,
) -> Result<Revocation, Refused> {
    if !is_json(request.headers()) {
        return Err(Reason::NotJson.into());
    }
    let config = &env.config;
    // Whoever may end others' sessions is somebody, also where clients need no token.
    let token = bearer(request.headers()).filter(|_| !config.auth.keys.is_empty());
    let token = token.ok_or(Reason::AuthRequired)?;
    let token = tokens.verify(env, token).map_err(|_| Reason::AuthFailed)?;
    audit.user.clone_from(&token.claims.user);
    if !config.policy.access(&token.claims.permissions).is_full() {
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
