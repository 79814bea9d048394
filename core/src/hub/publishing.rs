//! What is published, before it is: whether it may be, and what it carries besides its message. Whatever a message with
//! nothing besides does not need is kept out of its way.

use super::{
    Hub,
    errands::{self, KeyUse, Owner, Publisher, Via},
    homes::Broadcast,
    questions::channels_of,
    types::{CommandId, ConnId, Output, Publication, PublicationOptions},
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
        let Publication { channel, event, data, .. } = publication;
        if !protocol::channel_is_valid(channel, limits.channels.channel_bytes_max) {
            Err(Reason::InvalidChannel)
        } else if event.is_empty() || event.len() > limits.channels.event_bytes_max {
            Err(Reason::BadPublish)
        } else if data.len() > limits.wire.message_bytes_max {
            Err(Reason::MessageTooBig)
        } else {
            let key = publication.options.as_ref().and_then(|o| o.idempotency_key.as_ref());
            let fits = key.is_none_or(|key| (1..=publish::KEY_BYTES_MAX).contains(&key.len()));
            if fits { Ok(()) } else { Err(Reason::BadPublish) }
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
