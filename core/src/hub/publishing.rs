//! What is published, and what it carries besides its message: whether it may be, and on which condition. Whatever a
//! message with nothing besides does not need is kept out of its way.

use super::{
    Hub,
    errands::{self, KeyUse, Outcome, Owner, Publisher, Via},
    homes::Broadcast,
    peers::Inner,
    questions::{channels_of, is_object},
    types::{CommandId, ConnId, Output, Publication, PublicationOptions, Published},
};
use crate::{
    auth::Verb,
    protocol::{self, Incoming, PublishOptions, publish},
    reason::Reason,
};

/// What a client wants to be published, as it came.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) channel: Option<&'a str>,
    pub(super) event: Option<&'a str>,
    pub(super) data: Option<&'a str>,
}

impl Hub {
    /// Whether the message is one, and this client may publish it.
    #[inline]
    pub(super) fn check_message<'m>(
        &self,
        id: ConnId,
        message: Message<'m>,
    ) -> Result<Broadcast<'m>, Reason> {
        let config = &self.env.config;
        let limits = &config.limits.channels;
        let channel = message
            .channel
            .filter(|name| protocol::channel_is_valid(name, limits.channel_bytes_max))
            .ok_or(Reason::InvalidChannel)?;
        let event = message
            .event
            .filter(|event| !event.is_empty() && event.len() <= limits.event_bytes_max);
        let (Some(event), Some(data)) = (event, message.data) else {
            return Err(Reason::Decode);
        };
        let conn = self.connections.get(id);
        if !conn.is_some_and(|conn| conn.may(config, Verb::Publish, channel)) {
            return Err(Reason::PublishForbidden);
        }
        Ok(Broadcast { channel, event, data })
    }

    /// The request `publish` of a WebSocket client, with members of `data` that may be more than a message.
    #[cold]
    pub(super) fn on_publish_with(
        &mut self,
        id: ConnId,
        incoming: &Incoming<'_>,
        correlation: Option<&str>,
        message: Message<'_>,
    ) {
        let Ok(options) = incoming.publish_options() else {
            return self.refuse(id, Reason::Decode, correlation);
        };
        if options == PublishOptions::default() {
            return self.on_publish(id, correlation, message);
        }
        let broadcast = match self.check_message(id, message) {
            Ok(broadcast) => broadcast,
            Err(reason) => return self.refuse(id, reason, correlation),
        };
        if !self.has_room_for(options.message.state.map_or(0, str::len)) {
            return self.refuse(id, Reason::StateTooBig, correlation);
        }
        let options_of = PublicationOptions::of(options.message);
        let publications = vec![Publication { options: options_of, ..broadcast.to_owned() }];
        let via = Via::Message { conn: id, correlation: correlation.map(Into::into) };
        let Some(conn) = self.connections.get(id) else { return };
        let user = conn.user();
        let owner = Owner::Client(user.as_deref(), conn.ip);
        let key = options.idempotency_key.map(|key| self.key_use(owner, &key, &publications));
        let publisher = Publisher { via, key };
        if self.env.config.hooks.authorize_publish {
            let left = channels_of(&publications);
            self.ask_publish(id, publisher, publications, left);
        } else {
            self.publish(publisher, publications);
        }
    }

    /// Whether a document may be so large.
    fn has_room_for(&self, state_bytes: usize) -> bool {
        state_bytes <= self.env.config.limits.history.state_bytes_max
    }

    fn key_use(&self, owner: Owner<'_>, key: &str, publications: &[Publication]) -> Box<KeyUse> {
        let digest = self.homes.placement().digest(publications);
        Box::new(KeyUse { key: errands::owned(owner, key), digest })
    }

    /// The application publishes.
    pub(super) fn on_publish_command(&mut self, id: Option<CommandId>, publication: Publication) {
        let publisher = Via::Command(id).plainly();
        if let Err(reason) = self.check_command(&publication) {
            self.fail_publish(publisher, reason);
        } else if publication.options.is_some() {
            self.on_publish_command_with(publisher, publication);
        } else if self.homes.of(&publication.channel) == self.env.place.shard {
            match self.broadcast(Broadcast::of(&publication)) {
                Ok(published) => {
                    let done = |id| Output::Done { id, result: Ok(published) };
                    self.outputs.extend(id.map(done));
                }
                Err(reason) => self.fail_publish(publisher, reason),
            }
        } else {
            self.publish(publisher, vec![publication]);
        }
    }

    fn check_command(&self, publication: &Publication) -> Result<(), Reason> {
        let limits = &self.env.config.limits;
        let Publication { channel, event, data, options } = publication;
        if !protocol::channel_is_valid(channel, limits.channels.channel_bytes_max) {
            Err(Reason::InvalidChannel)
        } else if event.is_empty() || event.len() > limits.channels.event_bytes_max {
            Err(Reason::BadPublish)
        } else if data.len() > limits.wire.message_bytes_max {
            Err(Reason::MessageTooBig)
        } else {
            options.as_ref().map_or(Ok(()), |options| self.check_options(options))
        }
    }

    #[cold]
    fn check_options(&self, options: &PublicationOptions) -> Result<(), Reason> {
        let PublicationOptions { idempotency_key, state, .. } = options;
        let key = idempotency_key.as_ref().map(|key| key.len());
        let state = state.as_deref().unwrap_or(b"{}");
        if key.is_some_and(|len| !(1..=publish::KEY_BYTES_MAX).contains(&len)) {
            Err(Reason::BadPublish)
        } else if !self.has_room_for(state.len()) {
            Err(Reason::StateTooBig)
        } else if !std::str::from_utf8(state).is_ok_and(is_object) {
            Err(Reason::BadPublish)
        } else {
            Ok(())
        }
    }

    #[cold]
    fn on_publish_command_with(&mut self, publisher: Publisher, publication: Publication) {
        let options = publication.options.as_ref();
        let key = options.and_then(|options| options.idempotency_key.clone());
        let publications = vec![publication];
        let key = key.map(|key| self.key_use(Owner::Application, &key, &publications));
        self.publish(Publisher { key, ..publisher }, publications);
    }
}

/// Carrying out.
impl Hub {
    /// Publishes the first message if its condition holds, and only then the rest.
    #[cold]
    pub(super) fn carry_out_if(
        &mut self,
        publisher: Publisher,
        mut publications: Vec<Publication>,
    ) {
        let rest = publications.split_off(publications.len().min(1));
        let Some(first) = publications.pop() else { return };
        let (home, outcome) = (self.homes.of(&first.channel), Outcome::open(&first));
        if home != self.env.place.shard {
            // They wait here, but on the credit of the hub that is asked.
            let held = rest.iter().map(Publication::weight).sum::<usize>();
            let held = u32::try_from(held).unwrap_or(u32::MAX);
            let Some(ticket) = self.errands.first(&self.env, publisher, outcome, rest) else {
                return;
            };
            return self
                .tell(home, Inner::Publish { ticket, firm: false, held, publication: first });
        }
        match self.broadcast_if(&first) {
            Ok(published) => {
                let results = vec![Outcome { published, ..outcome }];
                self.carry_out_firmly(publisher, results, rest);
            }
            Err(reason) => self.give_up(publisher, reason),
        }
    }

    /// Broadcasts a message with what it carries, here, where its channel is at home, unless its condition does not hold
    /// or a hub with subscribers takes nothing in at present.
    pub(super) fn broadcast_if(&mut self, publication: &Publication) -> Result<Published, Reason> {
        let full = self.peers.full();
        if full != 0 && self.homes.remote(&publication.channel) & full != 0 {
            return Err(Reason::Busy);
        }
        let condition = publication.options.as_ref().and_then(|options| options.condition);
        if condition.is_some_and(|condition| !self.homes.holds(&publication.channel, &condition)) {
            return Err(Reason::StateConflict);
        }
        Ok(self.broadcast_whole(publication))
    }

    /// Broadcasts a message with what it carries, whatever is under way.
    pub(super) fn broadcast_whole(&mut self, publication: &Publication) -> Published {
        let broadcast = Broadcast::of(publication);
        let done = match &publication.options {
            None => self.homes.broadcast(&mut self.env, broadcast),
            Some(options) => self.homes.broadcast_with(&mut self.env, broadcast, options),
        };
        self.on_broadcast(done)
    }
}
