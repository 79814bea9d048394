//! Requests that documents answer: each of the documents is asked for at its channel's home, one after the other, and what is
//! known so far goes along. So a request that nobody waits for any more leaves nothing behind.

use std::sync::Arc;

use mahavishnu_profiles::{Profile, Question};

use super::{
    Hub,
    connections::AnswerTo,
    http::Refused,
    looks::{Look, Looker, Query},
    questions::About,
    types::ConnId,
};
use crate::{
    auth::Verb,
    protocol::{self, Answer, StatusRequest},
    reason::Reason,
};

/// A request that is being answered.
#[derive(Clone, Debug)]
pub(super) struct Inquiry {
    conn: ConnId,
    event: Box<str>,
    answer: AnswerTo,
    form: Form,
    /// Whose documents it takes, and those that are there; an empty one: there is none.
    channels: Vec<Box<str>>,
    documents: Vec<Box<str>>,
}

/// How an answer is made of documents.
#[derive(Clone, Debug)]
enum Form {
    /// By a setting, for a thing of this name.
    Setting { request: Arc<StatusRequest>, thing: Box<str> },
    /// By the service's profile, for this data.
    Profile { profile: Arc<Profile>, data: Box<str> },
}

impl Inquiry {
    /// The next document that it takes.
    fn next(&self) -> Option<Box<str>> {
        self.channels.get(self.documents.len()).cloned()
    }

    /// Bytes that it takes.
    pub(super) fn weight(&self) -> usize {
        let texts = self.channels.iter().chain(&self.documents).map(|text| text.len());
        let of = match &self.form {
            Form::Setting { thing, .. } => thing.len(),
            Form::Profile { data, .. } => data.len(),
        };
        size_of::<Self>() + self.event.len() + of + texts.sum::<usize>()
    }

    /// The answer, when all documents are there.
    fn answered(&self, unix_ms: u64) -> Box<str> {
        let texts = self.documents.iter().map(|document| &**document);
        let documents: Vec<_> =
            texts.map(|document| Some(document).filter(|text| !text.is_empty())).collect();
        match &self.form {
            Form::Setting { request, thing } => {
                request.answer(thing, documents.first().copied().flatten()).into()
            }
            Form::Profile { profile, data } => {
                profile.answer(&self.event, data, &documents, unix_ms).into()
            }
        }
    }
}

impl Hub {
    /// A request that documents may answer: what the configuration says of it counts more than what the profile does.
    pub(super) fn on_inquiry(
        &mut self,
        id: ConnId,
        event: &str,
        data: &str,
        correlation: Option<&str>,
    ) {
        let config = &self.env.config;
        let setting = config.status_requests.iter().find(|request| request.event() == event);
        let profile = config.profile.as_ref().filter(|_| setting.is_none());
        let (form, channels, right) = if let Some(request) = setting {
            let Some(thing) = request.thing(data) else {
                return self.refuse(id, Reason::UnknownRequest, correlation);
            };
            let channel: Box<str> = request.channel(&thing).into();
            let form = Form::Setting { request: Arc::new(request.clone()), thing: thing.into() };
            (form, vec![channel.clone()], channel)
        } else {
            match profile.and_then(|profile| Some((profile, profile.question(event, data)?))) {
                Some((profile, Question::Documents { channels, right, .. })) => {
                    let form = Form::Profile { profile: profile.clone(), data: data.into() };
                    (form, channels, right)
                }
                Some((_, Question::Missing(key))) => {
                    return self.refuse_because(id, &missing(&key), correlation);
                }
                Some(_) | None => return self.refuse(id, Reason::UnknownRequest, correlation),
            }
        };
        let answer = AnswerTo::new(correlation, Answer::Response);
        let documents = Vec::with_capacity(channels.len());
        let inquiry = Inquiry { conn: id, event: event.into(), answer, form, channels, documents };
        self.inquire(Box::new(inquiry), &right);
    }

    /// Begins, if the client may: who may subscribe to the channel that the answer is told of may ask.
    fn inquire(&mut self, inquiry: Box<Inquiry>, right: &str) {
        let config = &self.env.config;
        let id = inquiry.conn;
        let correlation = inquiry.answer.correlation.as_deref();
        let max = config.limits.channels.channel_bytes_max;
        let valid = |channel: &str| protocol::channel_is_valid(channel, max);
        if !inquiry.channels.iter().all(|channel| valid(channel)) || !valid(right) {
            return self.refuse(id, Reason::InvalidChannel, correlation);
        }
        if !self.connections.get(id).is_some_and(|it| it.may(config, Verb::Subscribe, right)) {
            let refused = Refused::forbidden(config, Verb::Subscribe, right);
            return self.refuse_because(id, &refused, correlation);
        }
        let Some(channel) = inquiry.next() else { return self.finish_inquiry(&inquiry) };
        let asks = config.hooks.authorize_subscribe;
        let look = Look { looker: Looker::Inquiry(inquiry), channel, query: Query::Document };
        if asks {
            let about = About::Look(Box::new(look));
            self.ask_whether(id, None, Verb::Subscribe, right.into(), about);
        } else {
            self.carry_out_look(Box::new(look));
        }
    }

    /// A home has told one of its documents.
    pub(super) fn go_on_inquiring(
        &mut self,
        mut inquiry: Box<Inquiry>,
        result: Result<Box<str>, Reason>,
    ) {
        let document = match result {
            Ok(document) => document,
            Err(reason) => {
                let Inquiry { conn, event, answer, .. } = *inquiry;
                let correlation = answer.correlation.as_deref();
                return self.answer_seen(conn, &event, Err(reason), correlation);
            }
        };
        inquiry.documents.push(document);
        match inquiry.next().filter(|_| self.connections.is_active(inquiry.conn)) {
            Some(channel) => {
                let looker = Looker::Inquiry(inquiry);
                self.carry_out_look(Box::new(Look { looker, channel, query: Query::Document }));
            }
            None => self.finish_inquiry(&inquiry),
        }
    }

    fn finish_inquiry(&mut self, inquiry: &Inquiry) {
        let unix_ms = u64::try_from(self.env.now.unix.as_millis()).unwrap_or(u64::MAX);
        let result = Ok(inquiry.answered(unix_ms));
        let correlation = inquiry.answer.correlation.as_deref();
        self.answer_seen(inquiry.conn, &inquiry.event, result, correlation);
    }
}

/// What a request lacks that names a thing by this member.
fn missing(key: &str) -> Refused {
    let text = Reason::InvalidChannel.row().text;
    Refused::with(Reason::InvalidChannel, format!("{text}: {key} has to be a string"))
}
