//! What an operator may ask for later: who revoked what, and who tried to. One line each; neither a token nor a key.

use mahavishnu_core::{
    hub::{Audit, Published},
    reason::Reason,
};
use tracing::{info, warn};

/// Writes one line. Names are quoted and escaped by the log: they are a client's words.
pub(crate) fn log(audit: &Audit, result: Result<Published, Reason>) {
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
        Err(reason) => {
            let reason = reason.name();
            warn!(
                audit = "revoke",
                by, address, jti, user, issued_before, reason, "revocation refused"
            );
        }
    }
}
