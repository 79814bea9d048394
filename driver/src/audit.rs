//! What an operator may ask for later: who revoked or disconnected whom, and who tried to. One line each; neither a token nor a key.

use mahavishnu_core::{
    hub::{Audit, OrderKind, Published, Whom},
    reason::Reason,
};
use tracing::{info, warn};

/// Writes one line. Names are quoted and escaped by the log: they are a client's words.
pub(crate) fn log(audit: &Audit, result: Result<Published, Reason>) {
    match audit.kind {
        OrderKind::Revoke => log_revocation(audit, result),
        OrderKind::Disconnect => log_disconnect(audit, result),
        // The application's own doing, of which it has a log if it wants one.
        OrderKind::EndSessions | OrderKind::Send => {}
    }
}

fn log_revocation(audit: &Audit, result: Result<Published, Reason>) {
    let address = audit.peer.map(|peer| peer.to_string());
    let (by, address) = (audit.user.as_deref(), address.as_deref());
    let revocation = audit.revocation.as_ref();
    let jti = revocation.and_then(|revocation| revocation.id.as_deref());
    let user = revocation.and_then(|revocation| revocation.user.as_deref());
    let before = revocation.and_then(|revocation| revocation.issued_before);
    let issued_before = before.map(|time| time.as_secs());
    match result {
        Ok(Published { subscribers: closed, .. }) => {
            info!(audit = "revoke", by, address, jti, user, issued_before, closed, "revoked");
        }
        Err(reason @ (Reason::RevokedHere | Reason::NodesUntold)) => {
            let reason = reason.name();
            warn!(
                audit = "revoke",
                by, address, jti, user, issued_before, reason, "revoked on this node"
            );
        }
        Err(reason) => {
            let reason = reason.name();
            warn!(
                audit = "revoke",
                by, address, jti, user, issued_before, reason, "revocation refused"
            );
        }
    }
}

fn log_disconnect(audit: &Audit, result: Result<Published, Reason>) {
    let address = audit.peer.map(|peer| peer.to_string());
    let (by, address) = (audit.user.as_deref(), address.as_deref());
    let (user, connection) = match &audit.whom {
        Some(Whom::User(user)) => (Some(&**user), None),
        Some(Whom::Connection(name)) => (None, Some(name.to_string())),
        None => (None, None),
    };
    let connection = connection.as_deref();
    match result {
        Ok(Published { subscribers: closed, .. }) => {
            info!(audit = "disconnect", by, address, user, connection, closed, "disconnected");
        }
        Err(Reason::DisconnectedHere) => {
            warn!(audit = "disconnect", by, address, user, connection, "disconnected on this node");
        }
        Err(reason) => {
            let reason = reason.name();
            warn!(
                audit = "disconnect",
                by, address, user, connection, reason, "disconnecting refused"
            );
        }
    }
}
