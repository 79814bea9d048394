//! The embedding application: answers questions after a while, or never.

use std::{collections::BTreeMap, fmt, time::Duration};

use bytes::Bytes;
use mahavishnu_core::{
    auth::Verb,
    http::Request,
    hub::{Authentication, Command, Denial, Handler, Refusal, RefusedBy, RequestError, RequestId},
};

use crate::{
    clock::{MILLI, Nanos},
    random::Random,
    swarm::Options,
};

/// What it has yet to say, by ticket.
#[derive(Debug)]
pub(crate) struct Application {
    random: Random,
    answers: BTreeMap<u64, (usize, Command)>,
    tickets: u64,
    pub(crate) healing: bool,
    /// Who answers instead of chance.
    pub(crate) handlers: Option<Handlers>,
}

/// An answer and the time it takes; `None`: there is none, ever.
pub type After<T> = Option<(Duration, T)>;

type OnRequest = dyn Fn(&str, &[u8]) -> After<Result<Bytes, RequestError>>;
type OnAuthorize = dyn Fn(Verb, &str) -> After<bool>;
type OnAuthenticate = dyn Fn(&Request<()>) -> After<Option<Authentication>>;

/// An application that knows what it wants.
pub struct Handlers {
    /// Answers a request, given its event and data.
    pub request: Box<OnRequest>,
    /// Decides on a subscription or a publish, given the channel.
    pub authorize: Box<OnAuthorize>,
    /// Says whose a handshake or a request over HTTP is, given its head. `None`: it panics.
    pub authenticate: Box<OnAuthenticate>,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").finish_non_exhaustive()
    }
}

impl Application {
    pub(crate) fn new(options: &Options) -> Self {
        let random = Random::new(options.seed, 2);
        Self { random, answers: BTreeMap::new(), tickets: 0, healing: false, handlers: None }
    }

    /// A client's request. When to [`take`](Self::take) the answer, or never.
    pub(crate) fn on_request(
        &mut self,
        options: &Options,
        hub: usize,
        id: RequestId,
        event: &str,
        data: &[u8],
    ) -> Option<(Nanos, u64)> {
        if let Some(handlers) = &self.handlers {
            let (delay, result) = (handlers.request)(event, data)?;
            return Some(self.keep(delay, hub, Command::Reply { id, result }));
        }
        let result = match self.random.below(10) {
            0 => Err(RequestError { code: "NOT_FOUND".into(), message: "no such thing".into() }),
            // An application may be wrong.
            1 => Ok(Bytes::from_static(b"not an object")),
            _ => Ok(Bytes::from_static(br#"{"answer":42}"#)),
        };
        self.plan(options, hub, Command::Reply { id, result })
    }

    /// Something to decide on.
    pub(crate) fn on_authorize(
        &mut self,
        options: &Options,
        hub: usize,
        id: RequestId,
        verb: Verb,
        channel: &str,
    ) -> Option<(Nanos, u64)> {
        if let Some(handlers) = &self.handlers {
            let (delay, allow) = (handlers.authorize)(verb, channel)?;
            return Some(self.keep(delay, hub, Command::Decide { id, allow }));
        }
        let allow = self.healing || !self.random.chance(100);
        self.plan(options, hub, Command::Decide { id, allow })
    }

    /// Whose is it? Chance leaves it to the configuration, cannot say at present, panics, or never says anything.
    pub(crate) fn on_authenticate(
        &mut self,
        options: &Options,
        hub: usize,
        id: RequestId,
        request: &Request<()>,
    ) -> Option<(Nanos, u64)> {
        if let Some(handlers) = &self.handlers {
            let (delay, outcome) = (handlers.authenticate)(request)?;
            let failed = Command::Failed(Handler::Authenticate(id));
            let said = outcome.map(|outcome| Command::Authenticated { id, outcome });
            return Some(self.keep(delay, hub, said.unwrap_or(failed)));
        }
        let command = match self.random.below(20) {
            0 if !self.healing => Command::Failed(Handler::Authenticate(id)),
            1 if !self.healing => {
                let refusal = Refusal { denial: Denial::Later, by: RefusedBy::default() };
                Command::Authenticated { id, outcome: Authentication::Refuse(refusal) }
            }
            // An application may be wrong.
            2 if !self.healing => Command::Decide { id, allow: true },
            _ => Command::Authenticated { id, outcome: Authentication::Pass },
        };
        self.plan(options, hub, command)
    }

    fn plan(&mut self, options: &Options, hub: usize, command: Command) -> Option<(Nanos, u64)> {
        if !self.healing && self.random.chance(options.app_silent_pm) {
            return None;
        }
        self.tickets += 1;
        self.answers.insert(self.tickets, (hub, command));
        let delay = if self.healing { 0 } else { self.random.below(options.app_ms * MILLI + 1) };
        Some((delay, self.tickets))
    }

    fn keep(&mut self, delay: Duration, hub: usize, command: Command) -> (Nanos, u64) {
        self.tickets += 1;
        self.answers.insert(self.tickets, (hub, command));
        (delay.as_nanos() as Nanos, self.tickets)
    }

    /// The process has ended, and with it all that it was asked.
    pub(crate) fn forget(&mut self) {
        self.answers.clear();
    }

    /// Whom an answer is for.
    pub(crate) fn hub_of(&self, ticket: u64) -> Option<usize> {
        self.answers.get(&ticket).map(|(hub, _)| *hub)
    }

    pub(crate) fn take(&mut self, ticket: u64) -> Option<(usize, Command)> {
        self.answers.remove(&ticket)
    }
}
