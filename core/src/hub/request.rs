//! Questions to the embedding application: requests that it answers, subscriptions and publishes that it decides on.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    Hub,
    answer::AnswerTo,
    conn::Session,
    publish::Origin,
    timers::Timer,
    types::{ConnId, Output, Publication, RequestError, RequestId},
};
use crate::{auth::Verb, protocol::Answer, reason::Reason, time::Now};

/// A question that waits for the application.
#[derive(Debug)]
pub(crate) struct Question {
    conn: ConnId,
    about: About,
}

#[derive(Debug)]
enum About {
    Request {
        event: Box<str>,
        answer: AnswerTo,
    },
    /// `cancelled`: unsubscribed before the application had decided.
    Subscribe {
        channel: Box<str>,
        answer: AnswerTo,
        cancelled: bool,
    },
    Publish {
        origin: Origin,
        publications: Vec<Publication>,
        left: Vec<Box<str>>,
    },
}

impl Hub {
    /// A request of the application's own vocabulary.
    pub(crate) fn on_request(
        &mut self,
        now: Now,
        id: ConnId,
        event: &str,
        data: &str,
        correlation: Option<&str>,
    ) {
        if !self.config.hooks.requests.contains(event) {
            self.refuse(now, id, Reason::UnknownRequest, correlation);
            return;
        }
        let data = Bytes::copy_from_slice(data.as_bytes());
        let event: Box<str> = event.into();
        let answer = AnswerTo::new(correlation, Answer::Response);
        let about = About::Request { event: event.clone(), answer };
        let Some((request, user)) = self.ask(now, id, about, correlation) else { return };
        self.outputs.push_back(Output::Request { id: request, conn: id, user, event, data });
    }

    /// Puts a subscription that the policy allows to the application.
    pub(crate) fn ask_subscribe(&mut self, now: Now, id: ConnId, channel: &str, answer: AnswerTo) {
        let correlation = answer.correlation.clone();
        let about = About::Subscribe { channel: channel.into(), answer, cancelled: false };
        let Some((request, user)) = self.ask(now, id, about, correlation.as_deref()) else {
            return;
        };
        let (channel, identity) = (channel.into(), self.identity(id));
        self.outputs.push_back(Output::Authorize {
            id: request,
            conn: id,
            user,
            verb: Verb::Subscribe,
            channel,
            identity,
        });
    }

    /// Puts a publish that the policy allows to the application, one channel at a time.
    pub(crate) fn ask_publish(
        &mut self,
        now: Now,
        id: ConnId,
        origin: Origin,
        publications: Vec<Publication>,
    ) {
        let mut left: Vec<Box<str>> =
            publications.iter().map(|publication| publication.channel.clone()).collect();
        left.sort();
        left.dedup();
        self.ask_next_publish(now, id, origin, publications, left);
    }

    fn ask_next_publish(
        &mut self,
        now: Now,
        id: ConnId,
        origin: Origin,
        publications: Vec<Publication>,
        mut left: Vec<Box<str>>,
    ) {
        let Some(channel) = left.pop() else {
            self.publish(now, origin, publications);
            return;
        };
        let correlation = origin.correlation().map(Box::<str>::from);
        let about = About::Publish { origin, publications, left };
        let Some((request, user)) = self.ask(now, id, about, correlation.as_deref()) else {
            return;
        };
        let identity = self.identity(id);
        self.outputs.push_back(Output::Authorize {
            id: request,
            conn: id,
            user,
            verb: Verb::Publish,
            channel,
            identity,
        });
    }

    /// Registers a question under the connection's limit.
    fn ask(
        &mut self,
        now: Now,
        id: ConnId,
        about: About,
        correlation: Option<&str>,
    ) -> Option<(RequestId, Option<Arc<str>>)> {
        let (max, timeout) = (
            self.config.limits.requests.requests_in_flight_max,
            self.config.limits.requests.request_timeout,
        );
        let conn = self.conn(id)?;
        let user = conn.user();
        if conn.aside.get().asked.len() >= usize::from(max) {
            if let About::Publish { origin, .. } = about {
                self.fail_publish(now, &origin, Reason::RequestsInFlight);
            } else {
                self.refuse(now, id, Reason::RequestsInFlight, correlation);
            }
            return None;
        }
        let (index, generation) = self.questions.insert(Question { conn: id, about })?;
        let request = RequestId { index, generation };
        if let Some((conn, _)) = self.conn_mut(id) {
            conn.aside.put().asked.push(request);
        }
        self.timers.arm(now.mono + timeout, Timer::Question(request));
        Some((request, user))
    }

    /// The connection does not want the channel any more: if the application is still to decide on that, its decision
    /// comes too late.
    pub(crate) fn cancel_subscribe(&mut self, id: ConnId, name: &str) {
        let Some(conn) = self.conns.get_at(id.index, id.generation) else { return };
        for request in &conn.aside.get().asked {
            if self.questions.get_at(request.index, request.generation).is_some()
                && let Some(question) = self.questions.get_mut(request.index)
                && let About::Subscribe { channel, cancelled, .. } = &mut question.about
                && **channel == *name
            {
                *cancelled = true;
            }
        }
    }

    /// Takes all questions of a connection back: whatever the application decides, nothing comes of it.
    pub(crate) fn forget_questions(&mut self, id: ConnId) {
        let asked = self.conn(id).map(|conn| conn.aside.get().asked.clone()).unwrap_or_default();
        for request in asked {
            self.take_question(request);
        }
    }

    /// Takes a question back, unless it was answered or its connection is gone.
    fn take_question(&mut self, id: RequestId) -> Option<Question> {
        self.questions.get_at(id.index, id.generation)?;
        let question = self.questions.remove(id.index)?;
        if let Some((conn, _)) = self.conn_mut(question.conn)
            && let Some(aside) = conn.aside.get_mut()
        {
            aside.asked.retain(|asked| *asked != id);
            conn.aside.tidy();
        }
        Some(question)
    }

    pub(crate) fn on_reply(
        &mut self,
        now: Now,
        id: RequestId,
        result: Result<Bytes, RequestError>,
    ) {
        let Some(Question { conn, about }) = self.take_question(id) else { return };
        self.application_silent = false;
        let About::Request { event, answer } = about else {
            // A reply where a decision was due decides nothing.
            self.fail_question(now, conn, about, Reason::RequestFailed);
            return;
        };
        if self.conn(conn).is_none_or(|found| found.session != Session::Active) {
            return;
        }
        let correlation = answer.correlation.as_deref();
        match result {
            Ok(data) => match std::str::from_utf8(&data).ok().filter(|data| is_object(data)) {
                Some(data) => self.answer_request(now, conn, &event, data, correlation),
                None => self.refuse(now, conn, Reason::RequestFailed, correlation),
            },
            Err(error) => {
                self.tally.error(Reason::RequestFailed);
                self.send_application_error(now, conn, &error, correlation);
            }
        }
        self.settle(conn);
    }

    pub(crate) fn on_decision(&mut self, now: Now, id: RequestId, allow: bool) {
        let Some(Question { conn, about }) = self.take_question(id) else { return };
        self.application_silent = false;
        match about {
            About::Subscribe { channel, answer, cancelled: true } if allow => {
                if self.conn(conn).is_some_and(|found| found.session == Session::Active) {
                    self.answer_subscribed(now, conn, &channel, &answer);
                }
            }
            About::Subscribe { channel, answer, .. } if allow => {
                if self.conn(conn).is_some_and(|found| found.session == Session::Active) {
                    self.subscribe(now, conn, &channel, answer);
                }
            }
            About::Publish { origin, publications, left } if allow => {
                self.ask_next_publish(now, conn, origin, publications, left);
            }
            About::Subscribe { .. } => {
                self.fail_question(now, conn, about, Reason::SubscribeForbidden)
            }
            About::Publish { .. } => self.fail_question(now, conn, about, Reason::PublishForbidden),
            About::Request { .. } => self.fail_question(now, conn, about, Reason::RequestFailed),
        }
        self.settle(conn);
    }

    pub(crate) fn on_question_timer(&mut self, now: Now, id: RequestId) {
        let Some(Question { conn, about }) = self.take_question(id) else { return };
        self.application_silent = true;
        self.fail_question(now, conn, about, Reason::GatewayTimeout);
        self.settle(conn);
    }

    fn fail_question(&mut self, now: Now, conn: ConnId, about: About, reason: Reason) {
        match about {
            About::Request { answer, .. } | About::Subscribe { answer, .. } => {
                if self.conn(conn).is_some_and(|found| found.session == Session::Active) {
                    self.refuse(now, conn, reason, answer.correlation.as_deref());
                }
            }
            About::Publish { origin, .. } => self.fail_publish(now, &origin, reason),
        }
    }
}

/// Whether an application's answer is what the protocol's `data` must be.
fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok()
}
