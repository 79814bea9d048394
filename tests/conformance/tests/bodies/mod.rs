//! The bodies: what every driver's server must do.

pub(crate) mod application;
pub(crate) mod auth;
pub(crate) mod authenticate;
pub(crate) mod catch_up;
pub(crate) mod drain;
pub(crate) mod handshake;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod limits;
pub(crate) mod messages;
pub(crate) mod positions;
pub(crate) mod presence;
pub(crate) mod publish_options;
pub(crate) mod reads;
pub(crate) mod recovery;
pub(crate) mod session_buddy;
pub(crate) mod sessions;
pub(crate) mod shards;
pub(crate) mod slow;
pub(crate) mod state;
pub(crate) mod timeouts;
pub(crate) mod tls;
pub(crate) mod transport;
pub(crate) mod ways;
