//! One connection as the hub sees it: the socket's protocol and what is above it.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    extras::{Extras, Gap, Rare},
    subscriptions::Subscriptions,
    transport::Transport,
};
use crate::{
    auth::{Access, Verb},
    config::{AnonymousPublish, Config, Dialect},
    hub::{
        types::{Listener, Peer, RequestId},
        visitors::{Allowance, Entered, Who, network},
    },
    time::Tick,
    tls::Identity,
    wire, ws,
};

/// A connection. Boxed in the slab, so that its size is paid only while it exists. An idle one takes no more than this:
/// whatever is there only at times is in [`extras`](Self::extras).
#[derive(Debug)]
pub(in crate::hub) struct Conn {
    pub(super) transport: Transport,
    pub(in crate::hub) ws: ws::Connection,
    pub(in crate::hub) phase: Phase,
    /// What its client speaks.
    pub(in crate::hub) dialect: Dialect,
    /// The client, or the last proxy that is not trusted to name it.
    pub(in crate::hub) ip: IpAddr,
    pub(in crate::hub) port: u16,
    pub(in crate::hub) listener: Listener,
    pub(in crate::hub) entered: Entered,
    /// A header of the PROXY protocol came first: whoever it is, it is not this machine's own.
    pub(super) proxied: bool,
    /// Whether it comes from this machine, past no proxy and from no foreign web page.
    pub(in crate::hub) local: bool,
    /// Through a TLS handshake.
    pub(in crate::hub) secure: bool,
    /// On the list of connections to settle.
    pub(super) touched: bool,
    /// On the list of connections to flush.
    pub(super) dirty: bool,
    /// Its socket took no more when it was last written to.
    pub(super) blocked: bool,
    /// On the list of the backlog.
    pub(super) listed: bool,
    /// Whether there are gaps among the extras, or messages that it missed are still to come: at hand for the hand-out,
    /// which asks each member.
    lossy: bool,
    pub(in crate::hub) allowance: Allowance,
    pub(in crate::hub) subscriptions: Subscriptions,
    /// The timer entry that is believed in.
    pub(super) armed: Option<Tick>,
    pub(super) extras: Extras,
}

/// How far a connection has come above the socket's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Phase {
    /// Still HTTP.
    Http,
    /// WebSocket, waiting for the auth message.
    Unauthenticated {
        /// Pings answered so far.
        pings: u8,
    },
    /// Welcomed.
    Active,
    /// Over; only its last bytes may still be on their way.
    Gone,
}

impl Phase {
    /// The limits that hold for what the peer sends at this point.
    pub(super) fn limits<'l>(
        self,
        before_auth: &'l wire::Limits,
        otherwise: &'l wire::Limits,
    ) -> &'l wire::Limits {
        match self {
            Self::Unauthenticated { .. } => before_auth,
            Self::Http | Self::Active | Self::Gone => otherwise,
        }
    }

    /// Whether it is a WebSocket connection that counts.
    pub(in crate::hub) fn is_open(self) -> bool {
        matches!(self, Self::Unauthenticated { .. } | Self::Active)
    }
}

impl Conn {
    pub(super) fn new(transport: Transport, ws: ws::Connection, peer: Peer) -> Self {
        Self {
            transport,
            ws,
            phase: Phase::Http,
            dialect: Dialect::Family,
            ip: peer.address.ip(),
            port: peer.address.port(),
            listener: peer.listener,
            entered: Entered::default(),
            proxied: false,
            local: false,
            secure: false,
            touched: false,
            dirty: false,
            blocked: false,
            listed: false,
            lossy: false,
            allowance: Allowance::default(),
            subscriptions: Subscriptions::default(),
            armed: None,
            extras: Extras::default(),
        }
    }

    pub(in crate::hub) fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// Whether its address, as far as it is known, is one of this machine, and nobody stands between.
    pub(in crate::hub) fn is_loopback(&self) -> bool {
        !self.proxied && self.ip.to_canonical().is_loopback()
    }

    pub(in crate::hub) fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    #[cfg(all(test, feature = "tls"))]
    pub(in crate::hub) fn has_records_to_write(&self) -> bool {
        self.transport.wants_write()
    }

    #[cfg(test)]
    pub(in crate::hub) fn takes_more_memory(&self) -> bool {
        self.extras.takes_memory()
    }

    /// What it has only at times.
    pub(in crate::hub) fn rare(&self) -> &Rare {
        self.extras.get()
    }

    /// To put something there.
    pub(in crate::hub) fn rare_mut(&mut self) -> &mut Rare {
        self.extras.put()
    }

    /// To change or take out what is there, if anything is.
    pub(in crate::hub) fn rare_if_any(&mut self) -> Option<&mut Rare> {
        self.extras.get_mut()
    }

    pub(in crate::hub) fn user(&self) -> Option<Arc<str>> {
        self.rare().token.as_ref().and_then(|token| token.claims.user.clone())
    }

    /// Whom limits are about: its user, or without one its address.
    pub(in crate::hub) fn who(&self) -> Who {
        self.user().map_or_else(|| Who::Address(network(self.ip)), Who::User)
    }

    pub(in crate::hub) fn identity(&self) -> Option<Arc<Identity>> {
        self.rare().identity.clone()
    }

    /// What the policy says. Without a user every channel is open to subscribers; publishing then asks where the
    /// connection comes from.
    pub(in crate::hub) fn may(&self, config: &Config, verb: Verb, channel: &str) -> bool {
        let rare = self.rare();
        if verb == Verb::Subscribe && config.is_for_backend(channel) {
            return self.serves(config);
        }
        match (&rare.token, verb) {
            (Some(token), _) => {
                let access = rare.access.as_deref().unwrap_or(&Access::NONE);
                let grants = &token.claims.grants;
                config.policy.decide_with(access, grants, verb, channel).allowed
                    && (verb == Verb::Publish || access.is_full() || !config.is_hidden(channel))
            }
            (None, Verb::Subscribe) => !config.auth.required,
            (None, Verb::Publish) => {
                !config.auth.required && may_publish_anonymously(config, self.local)
            }
        }
    }

    /// Whether it is a back-end's.
    pub(in crate::hub) fn serves(&self, config: &Config) -> bool {
        match &self.rare().token {
            Some(token) => config.serves(&token.claims),
            None => !config.auth.required && may_publish_anonymously(config, self.local),
        }
    }

    /// From now on it is not counted under its user. Under whom it was, if it was.
    pub(in crate::hub) fn exit_as_user(&mut self) -> Option<Who> {
        self.entered.take(Entered::USER).then(|| self.user()).flatten().map(Who::User)
    }

    /// Puts it, which has this `index`, on the list of those to flush, where it stands once.
    #[inline]
    pub(super) fn line_up_to_flush(&mut self, dirty: &mut VecDeque<u32>, index: u32) {
        if !self.dirty {
            self.dirty = true;
            dirty.push_back(index);
        }
    }

    /// One more question of it waits for the application.
    pub(in crate::hub) fn asks(&mut self, request: RequestId) {
        self.rare_mut().asked.push(request);
    }
}

/// Losses.
impl Conn {
    /// Subscribed to something whose messages it lost and was not told of yet, or is still being sent.
    pub(in crate::hub) fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// Whether it lost messages that it was not told of yet.
    pub(in crate::hub) fn has_gaps(&self) -> bool {
        self.lossy && !self.rare().gaps().is_empty()
    }

    /// Whether what it missed in some channel is still to come.
    pub(in crate::hub) fn is_catching(&self) -> bool {
        self.lossy && self.rare().catching > 0
    }

    /// In one more channel.
    pub(in crate::hub) fn begin_catching(&mut self) {
        self.lossy = true;
        self.extras.put().catching += 1;
    }

    /// In one less.
    pub(in crate::hub) fn end_catching(&mut self) {
        if let Some(rare) = self.extras.get_mut() {
            rare.catching -= 1;
            self.lossy = rare.catching > 0 || !rare.gaps().is_empty();
            self.extras.tidy();
        }
    }

    /// Whether it lost messages of the channel and was not told of them yet.
    pub(in crate::hub) fn has_gap_in(&self, channel: u32) -> bool {
        self.lossy && self.rare().gaps().iter().any(|gap| gap.channel == channel)
    }

    /// Adds to what it will be told: to a gap of the same channel by `extend`, or else `gap`.
    pub(in crate::hub) fn add_gap(&mut self, gap: Gap, extend: impl FnOnce(&mut Gap)) {
        self.lossy = true;
        let gaps = self.extras.put().gaps_mut();
        match gaps.iter_mut().find(|known| known.channel == gap.channel) {
            Some(known) => extend(known),
            None => gaps.push(gap),
        }
    }

    /// It will be told now.
    pub(in crate::hub) fn take_gaps(&mut self) -> Vec<Gap> {
        self.lossy = self.rare().catching > 0;
        self.extras.get_mut().map(|rare| std::mem::take(rare.gaps_mut())).unwrap_or_default()
    }

    /// It has left the channel, and need not be told.
    pub(in crate::hub) fn forget_gap_in(&mut self, channel: u32) {
        if let Some(rare) = self.extras.get_mut() {
            rare.gaps_mut().retain(|gap| gap.channel != channel);
            self.lossy = rare.catching > 0 || !rare.gaps().is_empty();
            self.extras.tidy();
        }
    }
}

/// Who may publish on a server that requires no authentication.
pub(in crate::hub) fn may_publish_anonymously(config: &Config, local: bool) -> bool {
    match config.anonymous_publish {
        AnonymousPublish::Anywhere => true,
        AnonymousPublish::Loopback => local,
    }
}

#[cfg(test)]
mod tests {
    use crate::time::Instant;

    use super::*;

    #[test]
    fn it_takes_little_besides_its_protocol() {
        assert_eq!(size_of::<Conn>() - size_of::<ws::Connection>(), 80);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn only_this_machine_itself_is_loopback() {
        let now = crate::time::Now { mono: Instant::now(), unix: std::time::Duration::ZERO };
        let conn = |address: &str, proxied| {
            let peer = Peer { address: address.parse().unwrap(), listener: Listener::Main };
            let ws = ws::Connection::server(now);
            Conn { proxied, ..Conn::new(Transport::default(), ws, peer) }
        };
        assert!(conn("127.0.0.1:1", false).is_loopback());
        assert!(conn("[::ffff:127.0.0.1]:1", false).is_loopback());
        assert!(!conn("192.0.2.1:1", false).is_loopback());
        assert!(!conn("127.0.0.1:1", true).is_loopback());
    }

    /// The documented budget: below 512 bytes for an idle connection, its slot in the slab included.
    #[test]
    fn an_idle_connection_keeps_its_budget() {
        assert!(size_of::<Conn>() + 16 < 512, "{}", size_of::<Conn>());
    }
}
