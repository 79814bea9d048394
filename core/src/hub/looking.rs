//! What clients and the application ask about channels: it is known at the channel's home. Each method carries on between
//! departments what one of them has found out.

use std::sync::Arc;

use http::Request;

use super::{
    Hub,
    connections::AnswerTo,
    homes::Known,
    http::Refused,
    looks::{self, Looker, Query, Range},
    output::Output,
    peers::Inner,
    presence::{Asked, Page},
    questions::About,
    reads::{Read, Resource, check_read},
    types::{CommandId, ConnId, Look, ShardId},
};
use crate::{
    auth::Verb,
    protocol::{self, Answer, HistoryRequest, event},
    reason::Reason,
    ws::Payload,
};

impl Hub {
    /// A request that the server answers itself, unless the application has one of that name.
    pub(super) fn on_own_request(
        &mut self,
        id: ConnId,
        name: &str,
        data: &str,
        correlation: Option<&str>,
    ) {
        match name {
            event::GET_HISTORY => self.on_get_history(id, data, correlation),
            event::GET_STATE => match protocol::state_channel(data) {
                Some(channel) => {
                    self.look(id, event::GET_STATE, Some(&channel), Query::State, correlation);
                }
                // A service of the family has a request of this name without a channel.
                None => self.on_inquiry(id, name, data, correlation),
            },
            event::ANSWER if self.env.config.backend.is_some() => {
                self.on_answer_request(id, data, correlation);
            }
            event::KEEP_SESSION => self.on_keep_session(id, data, correlation),
            event::RESUME_SESSION => self.on_resume_session(id, data, correlation),
            event::GET_PRESENCE => self.on_get_presence(id, data, correlation),
            _ => self.on_inquiry(id, name, data, correlation),
        }
    }

    fn on_get_history(&mut self, id: ConnId, data: &str, correlation: Option<&str>) {
        let request = match HistoryRequest::read(data) {
            Ok(request) => request,
            Err(error) => {
                return self.refuse_because(id, &Refused::undecoded(error), correlation);
            }
        };
        let query = Query::History(Range::of(&request, &self.env.config.limits));
        self.look(id, event::GET_HISTORY, request.channel.as_deref(), query, correlation);
    }

    /// Asks a channel's home, if the client may subscribe to the channel.
    pub(super) fn look(
        &mut self,
        id: ConnId,
        event: &'static str,
        channel: Option<&str>,
        query: Query,
        correlation: Option<&str>,
    ) {
        let config = &self.env.config;
        let max = config.limits.channels.channel_bytes_max;
        // Other services have requests of these names without a channel: to those this one is as unknown as ever.
        let Some(channel) = channel else {
            return self.refuse(id, Reason::UnknownRequest, correlation);
        };
        if !protocol::channel_is_valid(channel, max) {
            return self.refuse(id, Reason::InvalidChannel, correlation);
        }
        let conn = self.connections.get(id);
        if !conn.is_some_and(|conn| conn.may(config, Verb::Subscribe, channel)) {
            let refused = Refused::forbidden(config, Verb::Subscribe, channel);
            return self.refuse_because(id, &refused, correlation);
        }
        if let Some(reason) = self.look_refusal(channel, query) {
            return self.refuse(id, reason, correlation);
        }
        let answer = Box::new(AnswerTo::new(correlation, Answer::Response));
        let looker = Looker::Message { conn: id, event, answer };
        let look = looks::Look { looker, channel: channel.into(), query };
        self.look_if_allowed(id, None, Box::new(look));
    }

    /// `GET /history` and the like.
    pub(super) fn on_http_look(
        &mut self,
        id: ConnId,
        resource: Resource,
        request: &Request<Payload<'_>>,
    ) {
        let Some(conn) = self.connections.get(id) else { return };
        let sender = (conn, self.vouched_at_hand(id));
        match check_read(&self.env, &self.tokens, sender, resource, request) {
            Ok(Read { channel, user, query }) => {
                let look = looks::Look { looker: Looker::Http { conn: id }, channel, query };
                self.look_if_allowed(id, user, Box::new(look));
            }
            Err(refused) => self.refuse_http(id, &refused),
        }
    }

    /// Asks a channel's home what the policy allows to know: who may subscribe may, so where the application decides on that,
    /// it decides on this. `user` is the one that a request over HTTP has named.
    fn look_if_allowed(&mut self, id: ConnId, user: Option<Arc<str>>, look: Box<looks::Look>) {
        if self.env.config.hooks.authorize_subscribe {
            let channel = look.channel.clone();
            self.ask_whether(id, user, Verb::Subscribe, channel, About::Look(look));
        } else {
            self.carry_out_look(look);
        }
    }

    pub(super) fn carry_out_look(&mut self, look: Box<looks::Look>) {
        let home = self.homes.of(&look.channel);
        if self.peers.is_full(home) {
            return self.on_seen(look.looker, Err(Reason::Busy));
        }
        self.tell(home, Inner::Look(look));
    }

    /// The application asks.
    pub(super) fn on_look_command(&mut self, id: CommandId, channel: Box<str>, look: Look) {
        let limits = &self.env.config.limits;
        if !protocol::channel_is_valid(&channel, limits.channels.channel_bytes_max) {
            let result = Err(Reason::InvalidChannel);
            return self.outputs.push_back(Output::Looked { id, result });
        }
        let query = match look {
            Look::History { limit, after, before } => {
                let request = HistoryRequest { channel: None, limit: Some(limit), after, before };
                Query::History(Range::of(&request, limits))
            }
            Look::State => Query::State,
            Look::Presence { members, after } => Query::Presence(Page { members, after }),
        };
        if let Some(reason) = self.look_refusal(&channel, query) {
            return self.outputs.push_back(Output::Looked { id, result: Err(reason) });
        }
        let looker = Looker::Command { id };
        let home = self.homes.of(&channel);
        self.tell(home, Inner::Look(Box::new(looks::Look { looker, channel, query })));
    }

    /// Why nobody is told that of this channel, if so.
    fn look_refusal(&self, channel: &str, query: Query) -> Option<Reason> {
        let off = matches!(query, Query::Presence(_)) && !self.env.config.has_presence(channel);
        off.then_some(Reason::PresenceOff)
    }

    /// Somebody asks this hub, at which the channel is at home and so much of it is known.
    pub(super) fn answer_look(&mut self, from: ShardId, look: looks::Look, known: Known) {
        let looks::Look { looker, channel, query } = look;
        self.seal_channel(&channel);
        let result = match query {
            Query::History(_) | Query::State | Query::Document if known == Known::Nothing => {
                Err(Reason::BusAway)
            }
            Query::History(range) => self.homes.history(&mut self.env, &channel, range),
            Query::State => Ok(self.homes.state(&mut self.env, &channel)),
            Query::Document => {
                let document = self.homes.document_of(&channel).unwrap_or_default();
                Ok(String::from_utf8(document.into()).unwrap_or_default().into())
            }
            Query::Presence(page) => {
                return self.presence.ask(Asked { from, looker, channel, page });
            }
        };
        self.tell(from, Inner::Seen { looker, result });
    }

    /// Whether what waits for a connection leaves room for so much more.
    fn has_room(&self, id: ConnId, bytes: usize) -> bool {
        let max = self.env.config.limits.delivery.outbox_bytes_max;
        self.connections.get(id).is_some_and(|conn| conn.ws.outbox().bytes() + bytes <= max)
    }

    /// The home has answered.
    pub(super) fn on_seen(&mut self, looker: Looker, result: Result<Box<str>, Reason>) {
        match (looker, result) {
            (Looker::Inquiry(inquiry), result) => self.go_on_inquiring(inquiry, result),
            (Looker::Message { conn, event, answer }, result) => {
                self.answer_seen(conn, event, result, answer.correlation.as_deref());
            }
            (Looker::Http { conn }, Ok(json)) => self.answer_json(conn, json.into_string().into()),
            (Looker::Http { conn }, Err(reason)) => self.refuse_http(conn, &reason.into()),
            (Looker::Feed, result) => self.tell_feed(result),
            (Looker::Command { id }, result) => {
                let result = result.map(|json| json.into_string().into());
                self.outputs.push_back(Output::Looked { id, result });
            }
        }
    }

    pub(super) fn answer_seen(
        &mut self,
        conn: ConnId,
        event: &str,
        result: Result<Box<str>, Reason>,
        correlation: Option<&str>,
    ) {
        if !self.connections.is_active(conn) {
            return;
        }
        match result {
            // Answers that come later do not stop the reading of further questions.
            Ok(json) if !self.has_room(conn, json.len()) => {
                self.refuse(conn, Reason::RequestsInFlight, correlation);
            }
            Ok(json) => {
                self.connections.answer_request(&mut self.env, conn, event, &json, correlation);
            }
            Err(reason) => self.refuse(conn, reason, correlation),
        }
    }
}
