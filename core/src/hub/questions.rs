//! Questions to the embedding application: requests that it answers, subscriptions and publishes that it decides on.

use std::{sync::Arc, time::Duration};

use http::Request;
use serde_json::value::RawValue;

use super::{
    attending::Wishes,
    connections::{AnswerTo, Connections},
    env::Env,
    errands::Publisher,
    looks::Look,
    slab::Slab,
    types::{Backlog, ConnId, Publication, RequestId},
};
use crate::{limits, reason::Reason, time::Instant, time::Timers};

/// Those that wait for an answer.
#[derive(Debug)]
pub(super) struct Questions {
    slots: Slab<Question>,
    timers: Timers<RequestId>,
    /// The last one was not answered in time.
    silent: bool,
    /// What the application has no room for.
    backlog: Backlog,
}

/// A question that waits for the application.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) conn: ConnId,
    pub(super) about: About,
}

/// What it is about.
#[derive(Debug)]
pub(super) enum About {
    Request {
        event: Box<str>,
        answer: AnswerTo,
    },
    /// `cancelled`: unsubscribed before the application had decided.
    Subscribe {
        channel: Box<str>,
        answer: AnswerTo,
        wishes: Wishes,
        cancelled: bool,
    },
    /// `left`: the channels that are still to be asked about.
    Publish {
        publisher: Publisher,
        publications: Vec<Publication>,
        left: Vec<Box<str>>,
    },
    /// Something that who may subscribe may know.
    Look(Box<Look>),
    /// Whose a request over HTTP is, or without a body a handshake.
    Whose {
        request: Arc<Request<()>>,
        body: Option<Vec<u8>>,
    },
    /// A back-end is to answer it, not the application.
    Backend {
        event: Box<str>,
        data: Box<str>,
        answer: AnswerTo,
    },
    /// A back-end's answer is on its way to who has asked; `None`: it came over HTTP.
    Answering {
        answer: Option<AnswerTo>,
    },
}

impl About {
    fn timeout(&self, limits: &limits::Requests) -> Duration {
        match self {
            Self::Whose { .. } => limits.authenticate_timeout,
            Self::Request { .. }
            | Self::Subscribe { .. }
            | Self::Publish { .. }
            | Self::Backend { .. }
            | Self::Answering { .. }
            | Self::Look(_) => limits.request_timeout,
        }
    }

    /// Whether it is the application that is to say something.
    fn is_for_application(&self) -> bool {
        !matches!(self, Self::Backend { .. } | Self::Answering { .. })
    }
}

impl Questions {
    pub(super) fn new(start: Instant) -> Self {
        Self {
            slots: Slab::new(),
            timers: Timers::new(start),
            silent: false,
            backlog: Backlog::None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the application has not answered the last question in time, or is asked nothing more at present.
    pub(super) fn is_unanswered(&self) -> bool {
        self.silent || self.backlog != Backlog::None
    }

    pub(super) fn set_backlog(&mut self, backlog: Backlog) {
        self.backlog = backlog;
    }

    pub(super) fn backlog(&self) -> Backlog {
        self.backlog
    }

    /// Registers a question under its connection's limit, and says whose it is. What it was about comes back if there are
    /// too many, with what that is called; `None` if the connection is gone.
    #[expect(clippy::type_complexity, reason = "the three outcomes of one question")]
    pub(super) fn ask(
        &mut self,
        env: &Env,
        connections: &mut Connections,
        id: ConnId,
        about: About,
    ) -> Option<Result<(RequestId, Option<Arc<str>>), (About, Reason)>> {
        let limits = &env.config.limits;
        let conn = connections.get(id)?;
        let user = conn.user();
        if conn.rare().asked.len() >= usize::from(limits.requests.requests_in_flight_max) {
            return Some(Err((about, Reason::RequestsInFlight)));
        }
        if self.backlog != Backlog::None && about.is_for_application() {
            return Some(Err((about, Reason::Busy)));
        }
        let timeout = about.timeout(&limits.requests);
        let (index, generation) = self.slots.insert(Question { conn: id, about })?;
        let request = RequestId { index, generation };
        connections.edit(id)?.asks(request);
        self.timers.arm(env.now.mono + timeout, request);
        Some(Ok((request, user)))
    }

    /// The application has answered: takes the question back, unless its connection is gone or its time is over.
    pub(super) fn answered(
        &mut self,
        connections: &mut Connections,
        id: RequestId,
    ) -> Option<Question> {
        let question = self.take(connections, id)?;
        self.silent = false;
        Some(question)
    }

    /// Takes a question back if it is such a one.
    pub(super) fn take_if(
        &mut self,
        connections: &mut Connections,
        id: RequestId,
        is_one: impl Fn(&About) -> bool,
    ) -> Option<Question> {
        let question = self.slots.get_at(id.index, id.generation)?;
        if is_one(&question.about) { self.take(connections, id) } else { None }
    }

    /// The connection does not want the channel any more: if the application is still to decide on that, its decision
    /// comes too late.
    pub(super) fn cancel_subscribe(&mut self, connections: &Connections, id: ConnId, name: &str) {
        let Some(conn) = connections.get(id) else { return };
        for request in &conn.rare().asked {
            if let Some(question) = self.slots.get_at_mut(request.index, request.generation)
                && let About::Subscribe { channel, cancelled, .. } = &mut question.about
                && **channel == *name
            {
                *cancelled = true;
            }
        }
    }

    /// Takes all questions of a connection back: whatever the application decides, nothing comes of it.
    pub(super) fn forget(&mut self, connections: &mut Connections, id: ConnId) {
        let asked = connections.get(id).map(|conn| conn.rare().asked.clone()).unwrap_or_default();
        for request in asked {
            self.take(connections, request);
        }
    }

    fn take(&mut self, connections: &mut Connections, id: RequestId) -> Option<Question> {
        let question = self.slots.remove_at(id.index, id.generation)?;
        connections.forget_question(question.conn, id);
        Some(question)
    }

    /// When the next one's time is over; it may have been answered.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Entries of the timer heap.
    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// The question whose time was over first, by `until`; nothing if it was answered.
    pub(super) fn take_due(
        &mut self,
        connections: &mut Connections,
        until: Instant,
    ) -> Option<Question> {
        let (_, id) = self.timers.pop_due(until)?;
        let question = self.take(connections, id)?;
        self.silent |= question.about.is_for_application();
        Some(question)
    }

    /// Entries of questions that were answered stay in the heap; too many of them are cleared out.
    pub(super) fn compact_timers(&mut self) {
        let slots = &self.slots;
        self.timers.compact(slots.len(), |_, id| slots.get_at(id.index, id.generation).is_some());
    }

    /// Every question of a connection that is there is on its list, and every one on a list is there.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, connections: &Connections) {
        let mut listed = 0;
        for id in connections.ids() {
            for request in connections.get(id).map_or(&[][..], |conn| &conn.rare().asked) {
                let question = self.slots.get_at(request.index, request.generation);
                assert_eq!(question.map(|question| question.conn), Some(id), "a question");
                listed += 1;
            }
        }
        let live = self.slots.indices().filter_map(|index| self.slots.get(index));
        let live = live.filter(|question| connections.get(question.conn).is_some());
        assert_eq!(live.count(), listed, "questions of connections");
    }
}

/// The channels of a publish that are to be asked about, each once; the last is asked first.
pub(super) fn channels_of(publications: &[Publication]) -> Vec<Box<str>> {
    let mut channels: Vec<Box<str>> =
        publications.iter().map(|publication| publication.channel.clone()).collect();
    channels.sort();
    channels.dedup();
    channels
}

/// Whether an application's answer is what the protocol's `data` must be.
pub(super) fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        hub::testing::{active, connections, end, env, wait},
        protocol::Answer,
    };

    fn about(channel: &str) -> About {
        let answer = AnswerTo::new(None, Answer::Response);
        About::Subscribe {
            channel: channel.into(),
            answer,
            wishes: Wishes::default(),
            cancelled: false,
        }
    }

    #[test]
    fn so_many_questions_of_a_connection_wait() {
        let mut config = Config::default();
        config.limits.requests.requests_in_flight_max = 1;
        let mut env = env(config);
        let mut connections = connections(&env);
        let id = active(&mut env, &mut connections);
        let mut questions = Questions::new(env.started);

        let (first, _) = questions.ask(&env, &mut connections, id, about("a")).unwrap().unwrap();
        assert!(questions.ask(&env, &mut connections, id, about("b")).unwrap().is_err());
        questions.check(&connections);

        assert!(questions.answered(&mut connections, first).is_some());
        assert!(questions.answered(&mut connections, first).is_none(), "it is answered once");
        assert!(questions.ask(&env, &mut connections, id, about("c")).unwrap().is_ok());
        questions.check(&connections);
    }

    #[test]
    fn one_that_is_not_answered_in_time_says_so() {
        let mut env = env(Config::default());
        let mut connections = connections(&env);
        let id = active(&mut env, &mut connections);
        let mut questions = Questions::new(env.started);
        questions.ask(&env, &mut connections, id, about("a")).unwrap().unwrap();
        let due = questions.next_deadline().unwrap();
        assert_eq!(due, env.now.mono + env.config.limits.requests.request_timeout);

        assert!(questions.take_due(&mut connections, env.now.mono).is_none());
        let step = due - env.now.mono;
        wait(&mut env, step + Duration::from_millis(1));
        let late = questions.take_due(&mut connections, env.now.mono).unwrap();

        assert_eq!(late.conn, id);
        assert!(questions.is_unanswered() && questions.len() == 0);
    }

    #[test]
    fn a_wish_taken_back_is_remembered_until_the_decision() {
        let mut env = env(Config::default());
        let mut connections = connections(&env);
        let id = active(&mut env, &mut connections);
        let mut questions = Questions::new(env.started);
        let (a, _) = questions.ask(&env, &mut connections, id, about("a")).unwrap().unwrap();
        let (b, _) = questions.ask(&env, &mut connections, id, about("b")).unwrap().unwrap();

        questions.cancel_subscribe(&connections, id, "a");

        let mut cancelled = |request| {
            let about = questions.answered(&mut connections, request).unwrap().about;
            matches!(about, About::Subscribe { cancelled: true, .. })
        };
        assert!(cancelled(a) && !cancelled(b));
    }

    #[test]
    fn the_question_of_one_who_is_gone_is_answered_to_nobody() {
        let mut env = env(Config::default());
        let mut connections = connections(&env);
        let id = active(&mut env, &mut connections);
        let mut questions = Questions::new(env.started);
        let (request, _) = questions.ask(&env, &mut connections, id, about("a")).unwrap().unwrap();

        end(&mut env, &mut connections, id);
        questions.check(&connections);

        assert_eq!(questions.answered(&mut connections, request).unwrap().conn, id);
        assert!(questions.ask(&env, &mut connections, id, about("b")).is_none());
    }

    #[test]
    fn each_channel_is_asked_about_once() {
        let publication = |channel: &str| Publication::new(channel, "e", "{}");
        let channels = channels_of(&["b", "a", "b"].map(publication));
        assert_eq!(channels, ["a".into(), "b".into()]);
    }

    #[test]
    fn an_answer_is_an_object() {
        assert!(is_object(" {\"a\":1} ") && !is_object("[]") && !is_object("{") && !is_object(""));
    }
}
