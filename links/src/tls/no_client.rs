//! Without TLS.

use std::sync::Arc;

use mahavishnu_core::time::Now;

/// TLS to Redis. There is none without the feature `tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {}

/// One connection's TLS, which there is not.
#[derive(Debug)]
pub(crate) enum Session {}

impl Session {
    pub(crate) fn new(client: &Client, _host: &str, _now: Now) -> Result<Self, Arc<str>> {
        match *client {}
    }

    pub(crate) fn receive(&self, _wire: &[u8], _plain: &mut Vec<u8>) -> Result<bool, Arc<str>> {
        match *self {}
    }

    pub(crate) fn send(&self, _plain: &[u8], _wire: &mut Vec<u8>) -> usize {
        match *self {}
    }
}
