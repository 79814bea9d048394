//! A back-end as the brain: requests go to it as events of a channel, and it answers by the request `answer` or `POST /answer`,
//! on whichever node. What it does not hear of, because nobody subscribes there, documents answer.

use std::borrow::Cow;

use bytes::Bytes;
use http::Request;
use mahavishnu_profiles::Question;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Hub,
    bus::NodeId,
    connections::AnswerTo,
    errands::{Outcome, Via},
    http::{self as answers, Refused},
    nodes::Told,
    peers::Inner,
    questions::{About, Question as Asked, is_object},
    reads::claims,
    types::{ConnId, Publication, RequestError, RequestId, ShardId},
};
use crate::{
    auth::Verb,
    protocol::{Answer, DecodeError, Timestamp, event},
    reason::Reason,
    ws::Payload,
};

/// A question of any hub of any node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) node: NodeId,
    pub(super) shard: ShardId,
    pub(super) request: RequestId,
}

/// What a back-end says to a request.
pub(super) type Reply = Result<Bytes, RequestError>;

/// An answer on its way to the hub that asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) to: Call,
    pub(super) reply: Reply,
    /// Who gave it, and waits for what became of it.
    pub(super) from: Call,
}

/// The event that a back-end gets.
#[derive(Serialize)]
struct Service<'a> {
    request_id: &'a str,
    request: &'a str,
    data: &'a RawValue,
    user: Option<&'a str>,
    deadline: &'a str,
}

/// An answer as it is written.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    request_id: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    error: Option<WrittenError>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenError {
    Text(Box<str>),
    Coded { code: Box<str>, message: Box<str> },
}

impl Call {
    /// `node.shard.index.generation`, in hexadecimal digits.
    fn to_text(self) -> String {
        let Self { node, shard, request: RequestId { index, generation } } = self;
        format!("{node}.{:x}.{index:x}.{generation:x}", shard.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut part = |digits_max: usize| {
            let part = parts.next().filter(|part| (1..=digits_max).contains(&part.len()))?;
            let sound = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            u64::from_str_radix(part, 16).ok().filter(|_| sound)
        };
        let (node, shard) = (NodeId(part(16)?), ShardId(u16::try_from(part(4)?).ok()?));
        let (index, generation) = (u32::try_from(part(8)?).ok()?, u32::try_from(part(8)?).ok()?);
        let call = Self { node, shard, request: RequestId { index, generation } };
        // One question has one name.
        (parts.next().is_none() && call.to_text() == text).then_some(call)
    }
}

/// Reads an answer: whose, and what.
fn read(text: &str) -> Result<(Option<Call>, Reply), DecodeError> {
    let broken = DecodeError::Member(ANSWER_RULE);
    let written: Written<'_> = serde_json::from_str(text).map_err(|_| broken)?;
    let reply = match (written.data, written.error) {
        (Some(data), None) if is_object(data.get()) => {
            Ok(Bytes::copy_from_slice(data.get().as_bytes()))
        }
        (None, Some(WrittenError::Text(message))) => {
            Err(RequestError { code: crate::protocol::error_code::SERVER_ERROR.into(), message })
        }
        (None, Some(WrittenError::Coded { code, message })) if !code.is_empty() => {
            Err(RequestError { code, message })
        }
        _ => return Err(broken),
    };
    let long = reply.as_ref().is_err_and(|error| error.code.len() + error.message.len() > 1_024);
    if long { Err(broken) } else { Ok((Call::parse(&written.request_id), reply)) }
}

/// Asking.
impl Hub {
    /// Hands a request to the back-end, if it is one for it and the client may ask. False: somebody else has to answer.
    #[cold]
    pub(super) fn ask_backend(
        &mut self,
        id: ConnId,
        name: &str,
        data: &str,
        correlation: Option<&str>,
    ) -> bool {
        let config = &self.env.config;
        let Some(backend) = &config.backend else { return false };
        let profile = config.profile.as_ref();
        let question = profile.and_then(|profile| profile.question(name, data));
        let named = backend.requests.contains(name) && !event::OWN.contains(&name);
        let by_profile = match &question {
            Some(Question::Documents { right, by_backend, .. }) => {
                let conn = self.connections.get(id);
                if !conn.is_some_and(|conn| conn.may(config, Verb::Subscribe, right)) {
                    return false;
                }
                *by_backend
            }
            Some(_) => return false,
            None => false,
        };
        if !named && !by_profile {
            return false;
        }
        let channel = backend.channel.clone();
        let deadline = self.env.now.unix + config.limits.requests.request_timeout;
        let answer = AnswerTo::new(correlation, Answer::Response);
        let about = About::Backend { event: name.into(), data: data.into(), answer };
        let Some((request, user)) = self.ask(id, about) else { return true };
        let (node, shard) = (self.env.place.node(), self.env.place.shard);
        let call = Call { node, shard, request }.to_text();
        let deadline = Timestamp::from_unix(deadline).to_string();
        let service = serde_json::from_str(data).ok().and_then(|data| {
            let user = user.as_deref();
            let request_id = &*call;
            let service = Service { request_id, request: name, data, user, deadline: &deadline };
            serde_json::to_vec(&service).ok()
        });
        let publication = Publication::new(&*channel, SERVICE_REQUEST, service.unwrap_or_default());
        self.publish(Via::Backend(request).plainly(), vec![publication]);
        true
    }

    /// A request was published. If nobody subscribes to it, documents answer.
    pub(super) fn on_backend_told(&mut self, request: RequestId, results: &[Outcome]) {
        let heard = results.iter().any(|outcome| outcome.published.subscribers > 0);
        if heard {
            return;
        }
        let Some((conn, event, data, answer)) = self.take_backend(request) else { return };
        if self.connections.is_active(conn) {
            self.on_own_request(conn, &event, &data, answer.correlation.as_deref());
        }
    }

    /// It was not.
    pub(super) fn on_backend_untold(&mut self, request: RequestId, reason: Reason) {
        if let Some((conn, _, _, answer)) = self.take_backend(request) {
            self.refuse_active(conn, reason, answer.correlation.as_deref());
        }
    }

    /// Takes a question to the back-end back, and no other.
    fn take_backend(&mut self, id: RequestId) -> Option<(ConnId, Box<str>, Box<str>, AnswerTo)> {
        let is_one = |about: &About| matches!(about, About::Backend { .. });
        let Asked { conn, about } = self.questions.take_if(&mut self.connections, id, is_one)?;
        match about {
            About::Backend { event, data, answer } => Some((conn, event, data, answer)),
            About::Request { .. }
            | About::Subscribe { .. }
            | About::Publish { .. }
            | About::Answering { .. }
            | About::Whose { .. }
            | About::Look(_) => None,
        }
    }
}

/// Answering.
impl Hub {
    /// The request `answer`.
    pub(super) fn on_answer_request(&mut self, id: ConnId, data: &str, correlation: Option<&str>) {
        let config = &self.env.config;
        if config.backend.is_none() {
            return self.refuse(id, Reason::UnknownRequest, correlation);
        }
        if !self.connections.get(id).is_some_and(|conn| conn.serves(config)) {
            return self.refuse(id, Reason::PublishForbidden, correlation);
        }
        match read(data) {
            Ok((call, reply)) => {
                let answer = AnswerTo::new(correlation, Answer::Response);
                self.bring(id, Some(answer), call, reply);
            }
            Err(error) => self.refuse_because(id, &Refused::undecoded(error), correlation),
        }
    }

    /// `POST /answer`.
    pub(super) fn on_http_answer(&mut self, id: ConnId, request: &Request<Payload<'_>>) {
        let config = &self.env.config;
        let Some(conn) = self.connections.get(id).filter(|_| config.backend.is_some()) else {
            return self.answer_reason(id, Reason::NotFound);
        };
        if !answers::is_json(request.headers()) {
            return self.refuse_http(id, &Reason::NotJson.into());
        }
        let sender = (conn, self.vouched_at_hand(id));
        let serves = match claims(&self.env, &self.tokens, sender, request.headers()) {
            Ok(Some(claims)) => config.serves(&claims),
            Ok(None) => answers::may_post_anonymously(config, conn, request.headers()),
            Err(reason) => return self.refuse_http(id, &reason.into()),
        };
        if !serves {
            return self.refuse_http(id, &Reason::PublishForbidden.into());
        }
        let read = std::str::from_utf8(request.body()).map(read);
        match read {
            Ok(Ok((call, reply))) => self.bring(id, None, call, reply),
            _ => {
                let refused =
                    Refused::with(Reason::BadPublish, format!("Invalid answer: {ANSWER_RULE}"));
                self.refuse_http(id, &refused);
            }
        }
    }

    /// Brings an answer to who has asked. `answer`: of a client by message; otherwise it came over HTTP.
    fn bring(&mut self, id: ConnId, answer: Option<AnswerTo>, to: Option<Call>, reply: Reply) {
        let about = About::Answering { answer };
        let Some(to) = to else { return self.fail_question(id, about, Reason::NotAsked) };
        let (node, shard) = (self.env.place.node(), self.env.place.shard);
        if (to.node, to.shard) == (node, shard) {
            let taken = self.take_reply(to.request, reply);
            return self.tell_given(id, about, taken);
        }
        let elsewhere = to.node != node;
        if elsewhere && (self.env.config.bus.is_none() || !self.following.is_up()) {
            let known = self.env.config.bus.is_some();
            let reason = if known { Reason::BusAway } else { Reason::NotAsked };
            return self.fail_question(id, about, reason);
        }
        let Some((request, _)) = self.ask(id, about) else { return };
        let given = Given { to, reply, from: Call { node, shard, request } };
        if elsewhere {
            self.nodes.tell_all(&mut self.calls, Told::Given(Box::new(given)));
        } else if to.shard.0 < self.env.place.shards {
            self.tell(to.shard, Inner::Given(Box::new(given)));
        } else {
            self.on_given_told(request, false);
        }
    }

    /// An answer has come to the hub that asked, or to the first one of its process.
    pub(super) fn on_given(&mut self, given: Box<Given>) {
        let own = (self.env.place.node(), self.env.place.shard);
        let Given { to, from, .. } = *given;
        if to.node != own.0 || to.shard.0 >= self.env.place.shards {
            return;
        }
        if to.shard != own.1 {
            return self.tell(to.shard, Inner::Given(given));
        }
        let taken = self.take_reply(to.request, given.reply);
        if from.node == own.0 {
            self.tell(from.shard, Inner::GivenTold { request: from.request, taken });
        } else {
            self.nodes.tell_all(&mut self.calls, Told::Taken { from, taken });
        }
    }

    /// Another node has said what became of an answer.
    pub(super) fn on_taken_elsewhere(&mut self, from: Call, taken: bool) {
        if from.node == self.env.place.node() && from.shard.0 < self.env.place.shards {
            self.tell(from.shard, Inner::GivenTold { request: from.request, taken });
        }
    }

    /// What became of an answer that was given here.
    pub(super) fn on_given_told(&mut self, request: RequestId, taken: bool) {
        let is_one = |about: &About| matches!(about, About::Answering { .. });
        let question = self.questions.take_if(&mut self.connections, request, is_one);
        if let Some(Asked { conn, about }) = question {
            self.tell_given(conn, about, taken);
        }
    }

    fn tell_given(&mut self, conn: ConnId, about: About, taken: bool) {
        if !taken {
            return self.fail_question(conn, about, Reason::NotAsked);
        }
        let About::Answering { answer } = about else { return };
        match answer {
            Some(answer) if self.connections.is_active(conn) => {
                let correlation = answer.correlation.as_deref();
                let (env, connections) = (&mut self.env, &mut self.connections);
                connections.answer_request(env, conn, event::ANSWER, ANSWERED, correlation);
            }
            Some(_) => {}
            None => self.answer_json(conn, Bytes::from_static(ANSWERED.as_bytes())),
        }
    }

    /// Answers who has asked, if nobody else has and there is still time.
    fn take_reply(&mut self, request: RequestId, reply: Reply) -> bool {
        let Some((conn, name, _, answer)) = self.take_backend(request) else { return false };
        if !self.connections.is_active(conn) {
            return false;
        }
        let correlation = answer.correlation.as_deref();
        match reply {
            Ok(data) => {
                let data = std::str::from_utf8(&data).unwrap_or("{}");
                self.answer_seen(conn, &name, Ok(data.into()), correlation);
            }
            Err(error) => {
                self.env.tally.error(Reason::RequestFailed);
                let (env, connections) = (&mut self.env, &mut self.connections);
                connections.send_application_error(env, conn, &error, correlation);
            }
        }
        true
    }
}

/// The event by which a back-end hears of a request.
const SERVICE_REQUEST: &str = "service.request";
const ANSWERED: &str = r#"{"status":"answered"}"#;
const ANSWER_RULE: &str = "an answer has request_id, and data, which is an object, or error, which is a string or has code and message, up to 1024 bytes";

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        let request = RequestId { index: 0x1f, generation: 2 };
        Call { node: NodeId(0xabc), shard: ShardId(3), request }
    }

    #[test]
    fn a_question_has_one_name() {
        assert_eq!(call().to_text(), "0000000000000abc.3.1f.2");
        assert_eq!(Call::parse("0000000000000abc.3.1f.2"), Some(call()));
        for text in [
            "",
            "abc.3.1f.2",
            "0000000000000abc.3.1F.2",
            "0000000000000abc.3.01f.2",
            "0000000000000abc.3.1f.2.0",
            "0000000000000abc.3.1f",
            "0000000000000abc.+3.1f.2",
            "0000000000000abc.10000.1f.2",
            "0000000000000abc.3.100000000.2",
        ] {
            assert_eq!(Call::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_answer_is_data_or_an_error() {
        let reply = |rest: &str| {
            let text = format!(r#"{{"request_id":"0000000000000abc.3.1f.2",{rest}}}"#);
            read(&text).ok().map(|(to, reply)| {
                assert_eq!(to, Some(call()));
                reply
            })
        };
        assert_eq!(reply(r#""data":{"a":1}"#), Some(Ok(Bytes::from_static(br#"{"a":1}"#))));
        let error = |code: &str, message: &str| {
            Some(Err(RequestError { code: code.into(), message: message.into() }))
        };
        assert_eq!(reply(r#""error":"broken""#), error("SERVER_ERROR", "broken"));
        let coded = reply(r#""error":{"code":"NOT_FOUND","message":"no"}"#);
        assert_eq!(coded, error("NOT_FOUND", "no"));
        for rest in [
            r#""data":[]"#,
            r#""data":null"#,
            r#""data":{},"error":"x""#,
            r#""error":{"code":"","message":"x"}"#,
            r#""error":7"#,
            r#""x":1"#,
        ] {
            assert_eq!(reply(rest), None, "{rest}");
        }
        let long = format!(r#""error":"{}""#, "x".repeat(1_100));
        assert_eq!(reply(&long), None);
        assert!(read(r#"{"data":{}}"#).is_err());
        assert_eq!(read(r#"{"request_id":"7","data":{}}"#).ok().map(|(to, _)| to), Some(None));
    }
}
