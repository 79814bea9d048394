//! The embedding application's side: its handlers, and how a shard reaches them.

mod access;
mod call;
mod connected;
mod guard;
mod line;

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::HeaderName;
use mahavishnu_core::{
    auth::Verb,
    config::Hooks,
    hub::{
        Backlog, Command, ConnId, Handler, Introduction, Leave, Output, RequestError, RequestId,
        ShardId,
    },
    reason::Reason,
    spans::Spans,
};
use serde_json::Value;
use tracing::error;

pub(crate) use self::guard::guard;
pub use self::{
    access::{Access, AuthenticateResult, Handshake, Refusal},
    connected::Connected,
};
use self::{
    call::{Call, Load},
    connected::Shared,
    line::{Job, Lines},
};
use crate::{handle::Handle, mailbox::Mailbox, runtime::Runtime};

/// A client's request that the application answers.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub connected: Connected,
    /// The request's event, for example `get_pool_status`.
    pub event: Box<str>,
    /// The request's `data`, always an object.
    pub data: Value,
}

/// Something that the policy allows and that the application decides on.
#[derive(Clone, Debug)]
pub struct Authorize {
    /// Who wants it.
    pub connected: Connected,
    /// Subscribe or publish.
    pub verb: Verb,
    /// The channel.
    pub channel: Box<str>,
}

/// `data` of the answer, or the error that the client gets. `data` is a JSON object, as the protocol has it: for anything else
/// the client gets `SERVER_ERROR` "The request failed", and the log says once for each event whose handler it was.
pub type RequestResult = Result<Value, RequestError>;

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type OnRequest = Arc<dyn Fn(Request) -> BoxFuture<RequestResult> + Send + Sync>;
type OnAuthorize = Arc<dyn Fn(Authorize) -> BoxFuture<bool> + Send + Sync>;
type OnAuthenticate = Arc<dyn Fn(Handshake) -> BoxFuture<AuthenticateResult> + Send + Sync>;
type OnConnect = Arc<dyn Fn(Connected) + Send + Sync>;
type OnDisconnect = Arc<dyn Fn(Connected, Reason) + Send + Sync>;
type OnSubscribe = Arc<dyn Fn(Connected, &str) + Send + Sync>;
type OnUnsubscribe = Arc<dyn Fn(Connected, &str, Leave) + Send + Sync>;
type Render = Arc<dyn Fn() -> String + Send + Sync>;
type Statistics = Arc<dyn Fn() -> Option<String> + Send + Sync>;
type Record = Arc<dyn Fn(ShardId, &[u8]) + Send + Sync>;
type OnSpans = Arc<dyn Fn(ShardId, Spans) + Send + Sync>;

/// A handler of requests.
#[derive(Clone)]
pub(crate) struct Answering {
    handler: OnRequest,
    /// The log was told that it answers with something that is no object.
    was_no_object: Arc<AtomicBool>,
}

impl Answering {
    pub(crate) fn new(handler: OnRequest) -> Self {
        Self { handler, was_no_object: Arc::default() }
    }

    /// The developer has to know, and need not know each time.
    #[cold]
    fn complain(&self, event: &str, answer: &Value) {
        if self.was_no_object.swap(true, Ordering::Relaxed) {
            return;
        }
        let got = match answer {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        error!(
            event,
            got,
            "the application's handler has to answer with a JSON object: clients get SERVER_ERROR instead"
        );
    }
}

/// The application's handlers. Without one, what it would decide on is allowed and what it would hear is not told.
#[derive(Clone, Default)]
pub(crate) struct Handlers {
    pub(crate) requests: HashMap<Box<str>, Answering>,
    pub(crate) authenticate: Option<OnAuthenticate>,
    pub(crate) keep_headers: Vec<HeaderName>,
    pub(crate) subscribe: Option<OnAuthorize>,
    pub(crate) publish: Option<OnAuthorize>,
    pub(crate) connect: Option<OnConnect>,
    pub(crate) disconnect: Option<OnDisconnect>,
    pub(crate) subscribed: Option<OnSubscribe>,
    pub(crate) unsubscribed: Option<OnUnsubscribe>,
    pub(crate) render: Option<Render>,
    pub(crate) record: Option<Record>,
    pub(crate) statistics: Option<Statistics>,
    pub(crate) spans: Option<OnSpans>,
}

impl Handlers {
    /// What the core has to be told to ask.
    pub(crate) fn hooks(&self) -> Hooks {
        Hooks {
            requests: self.requests.keys().cloned().collect(),
            authorize_subscribe: self.subscribe.is_some(),
            authorize_publish: self.publish.is_some(),
            // Always told: the shard logs it.
            lifecycle: true,
            subscriptions: self.subscribed.is_some() || self.unsubscribed.is_some(),
            authenticate: self.authenticate.is_some(),
            introduce: self.meets(),
            keep_headers: self.keep_headers.clone(),
        }
    }

    /// Whether any of them is told of connections.
    fn meets(&self) -> bool {
        !self.requests.is_empty()
            || self.authenticate.is_some()
            || self.subscribe.is_some()
            || self.publish.is_some()
            || self.connect.is_some()
            || self.disconnect.is_some()
            || self.subscribed.is_some()
            || self.unsubscribed.is_some()
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").field("hooks", &self.hooks()).finish_non_exhaustive()
    }
}

/// The application as a shard sees it: handlers, and the runtime that they run on. Nothing but its own `record` and `spans`
/// is called on the shard's thread.
pub(crate) struct App<R: Runtime> {
    handlers: Option<Arc<Handlers>>,
    runtime: R,
    mailbox: Mailbox,
    lines: Lines,
    load: Arc<Load>,
    shared: Arc<Shared>,
    /// Those that are there, if any handler is told of connections.
    connected: HashMap<ConnId, Connected>,
    /// What the hub was told of it.
    backlog: Backlog,
    /// It has panicked: what comes after that would be no record.
    record_failed: bool,
    /// It has panicked: it is given no more.
    spans_failed: bool,
}

impl<R: Runtime> App<R> {
    /// `mailbox` is the shard's own: answers come back through it.
    pub(crate) fn new(
        handlers: Arc<Handlers>,
        runtime: R,
        mailbox: Mailbox,
        handle: Handle,
    ) -> Self {
        let spawner = runtime.clone();
        let spawn = Box::new(move |task: BoxFuture<()>| spawner.spawn(task));
        Self {
            handlers: Some(handlers),
            shared: Arc::new(Shared { handle, spawn }),
            connected: HashMap::new(),
            runtime,
            mailbox,
            lines: Lines::default(),
            load: Arc::default(),
            backlog: Backlog::None,
            record_failed: false,
            spans_failed: false,
        }
    }

    /// Puts an output to the application.
    pub(crate) fn ask(&mut self, output: Output) {
        let Some(handlers) = self.handlers.clone() else { return };
        match output {
            Output::Request { id, conn, user, event, data } => {
                let call = self.call(Handler::Request(id), event.len() + data.len());
                let connected = self.meet(conn, user, None);
                let request = Asked { id, connected, event, data };
                self.put(conn, Box::pin(request.answer(handlers, call)));
            }
            Output::Authenticate {
                id,
                conn,
                peer,
                identity,
                secure,
                request,
                upgrade,
                body_bytes,
            } => {
                let call = self.call(Handler::Authenticate(id), weight(&request) + body_bytes);
                let shared = self.shared.clone();
                let handshake =
                    Handshake { conn, request, peer, identity, secure, upgrade, shared };
                self.put(conn, Box::pin(authenticate(handlers, call, id, handshake)));
            }
            Output::Authorize { id, conn, user, verb, channel, introduction, .. } => {
                let handler = match verb {
                    Verb::Subscribe => Handler::Subscribe(id),
                    Verb::Publish => Handler::Publish(id),
                };
                let call = self.call(handler, channel.len());
                let connected = self.meet(conn, user, introduction);
                let wish = Authorize { connected, verb, channel };
                self.put(conn, Box::pin(decide(handlers, call, id, wish)));
            }
            Output::Metrics { conn } => {
                let call = self.call(Handler::Metrics(conn), 0);
                self.runtime.spawn(async move {
                    let render = || handlers.render.as_ref().map(|render| render());
                    if let Some(text) = call.make(render) {
                        let text = text.unwrap_or_default().into();
                        call.answer(Command::Exposition { conn, text }).await;
                    }
                });
            }
            Output::Statistics => {
                let call = self.call(Handler::Statistics, 0);
                self.runtime.spawn(async move {
                    let numbers = || handlers.statistics.as_ref().and_then(|numbers| numbers());
                    if let Some(numbers) = call.make(numbers) {
                        let numbers = numbers.unwrap_or_default().into();
                        call.answer(Command::Statistics(numbers)).await;
                    }
                });
            }
            Output::Connected { conn, user, introduction: Some(introduction), .. } => {
                let connected = Connected::new(conn, true, user, *introduction, &self.shared);
                self.connected.insert(conn, connected.clone());
                if handlers.connect.is_some() {
                    self.notice(Handler::Connect, conn, 0, move || {
                        handlers.connect.as_ref().map(|handler| handler(connected))
                    });
                }
            }
            Output::Refreshed { conn, claims } => {
                if let Some(connected) = self.connected.get_mut(&conn) {
                    *connected = connected.refreshed(*claims);
                }
            }
            Output::Disconnected { conn, reason } => {
                if let Some(connected) = self.connected.remove(&conn)
                    && handlers.disconnect.is_some()
                {
                    self.notice(Handler::Disconnect, conn, 0, move || {
                        handlers.disconnect.as_ref().map(|handler| handler(connected, reason))
                    });
                }
            }
            Output::Subscribed { conn, channel } if handlers.subscribed.is_some() => {
                let connected = self.meet(conn, None, None);
                self.notice(Handler::Subscribed, conn, channel.len(), move || {
                    handlers.subscribed.as_ref().map(|handler| handler(connected, &channel))
                });
            }
            Output::Unsubscribed { conn, channel, leave } if handlers.unsubscribed.is_some() => {
                let connected = self.meet(conn, None, None);
                self.notice(Handler::Unsubscribed, conn, channel.len(), move || {
                    let handler = handlers.unsubscribed.as_ref();
                    handler.map(|handler| handler(connected, &channel, leave))
                });
            }
            Output::Connected { .. }
            | Output::Subscribed { .. }
            | Output::Unsubscribed { .. }
            | Output::Handled { .. }
            | Output::Done { .. }
            | Output::Audit { .. }
            | Output::Shard { .. }
            | Output::ClockSet { .. }
            | Output::ManyChannels { .. }
            | Output::Looked { .. }
            | Output::Sessions { .. }
            | Output::Store(_)
            | Output::Bus(_)
            | Output::Drained => {}
        }
    }

    /// Whom something is about: a connection that the application has heard of, or somebody over HTTP.
    fn meet(
        &self,
        conn: ConnId,
        user: Option<Arc<str>>,
        introduction: Option<Box<Introduction>>,
    ) -> Connected {
        let known = self.connected.get(&conn).filter(|_| introduction.is_none());
        known.cloned().unwrap_or_else(|| {
            let introduction = introduction.map_or_else(Introduction::nobody, |known| *known);
            Connected::new(conn, false, user, introduction, &self.shared)
        })
    }

    /// Whether what goes into the hub is wanted.
    pub(crate) fn records(&self) -> bool {
        !self.record_failed && self.handlers.as_ref().is_some_and(|all| all.record.is_some())
    }

    /// Hands out what was noted. Whether the handler has failed.
    pub(crate) fn record(&mut self, shard: ShardId, noted: &[u8]) -> bool {
        let handlers = self.handlers.as_ref().filter(|_| !self.record_failed);
        let Some(record) = handlers.and_then(|all| all.record.as_ref()) else { return false };
        if self.runtime.within(|| guard(|| record(shard, noted))).is_err() {
            self.record_failed = true;
            error!(
                handler = Handler::Record.name(),
                shard = shard.0,
                "the application's handler panicked: nothing more of this shard is recorded"
            );
        }
        self.record_failed
    }

    /// Whether spans are wanted.
    pub(crate) fn traces(&self) -> bool {
        !self.spans_failed && self.handlers.as_ref().is_some_and(|all| all.spans.is_some())
    }

    /// Hands out a turn's spans.
    pub(crate) fn tell_spans(&mut self, shard: ShardId, spans: Spans) {
        let handlers = self.handlers.as_ref().filter(|_| spans != Spans::default());
        let Some(tell) = handlers.and_then(|all| all.spans.as_ref()) else { return };
        if self.runtime.within(|| guard(|| tell(shard, spans))).is_err() {
            self.spans_failed = true;
            error!(
                shard = shard.0,
                "the application's handler of spans panicked: it gets no more of this shard"
            );
        }
    }

    /// What the application has no room for, if that has changed. `bytes_max` is
    /// [`handlers_bytes_max`](mahavishnu_core::limits::Requests::handlers_bytes_max).
    pub(crate) fn new_backlog(&mut self, bytes_max: usize) -> Option<Backlog> {
        let backlog = match self.load.bytes() > bytes_max {
            false => Backlog::None,
            true if self.hears() => Backlog::All,
            true => Backlog::Questions,
        };
        let changed = backlog != self.backlog;
        self.backlog = backlog;
        changed.then_some(backlog)
    }

    /// From now on the shard is woken when there is nothing more to hear of.
    pub(crate) fn wait_for_notices(&self) {
        self.load.wait_for_notices();
    }

    /// Whether it has still to hear of connections that came or went.
    pub(crate) fn has_to_hear(&self) -> bool {
        self.load.notices() > 0
    }

    fn hears(&self) -> bool {
        self.handlers.as_ref().is_some_and(|all| {
            all.connect.is_some()
                || all.disconnect.is_some()
                || all.subscribed.is_some()
                || all.unsubscribed.is_some()
        })
    }

    fn call(&self, handler: Handler, data_bytes: usize) -> Call {
        Call::new(handler, data_bytes, &self.mailbox, &self.load)
    }

    fn put(&self, conn: ConnId, job: Job) {
        self.lines.put(&self.runtime, conn, job);
    }

    fn notice(
        &self,
        handler: Handler,
        conn: ConnId,
        data_bytes: usize,
        tell: impl FnOnce() -> Option<()> + Send + 'static,
    ) {
        let call = self.call(handler, data_bytes);
        let told = async move {
            if call.make(tell).is_some() {
                call.done();
            }
        };
        self.put(conn, Box::pin(told));
    }
}

impl<R: Runtime> Drop for App<R> {
    /// What handlers have captured is the application's, and so is what happens when it is dropped: not on this thread.
    fn drop(&mut self) {
        if let Some(handlers) = self.handlers.take().and_then(Arc::into_inner) {
            self.runtime.spawn(async move {
                if guard(|| drop(handlers)).is_err() {
                    error!("what the application's handlers hold panicked when it was dropped");
                }
            });
        }
    }
}

impl<R: Runtime> fmt::Debug for App<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("handlers", &self.handlers).finish_non_exhaustive()
    }
}

/// A request as it comes from the hub.
struct Asked {
    id: RequestId,
    connected: Connected,
    event: Box<str>,
    data: Bytes,
}

impl Asked {
    async fn answer(self, handlers: Arc<Handlers>, mut call: Call) {
        let Self { id, connected, event, data } = self;
        let Some(answering) = handlers.requests.get(&event) else { return };
        // JSON that has no value here: a number out of range, half of a surrogate pair.
        let Ok(data) = serde_json::from_slice(&data) else {
            let row = Reason::Decode.row();
            let code = row.code.unwrap_or_default();
            let error = RequestError { code: code.into(), message: row.text.into() };
            return call.answer(Command::Reply { id, result: Err(error) }).await;
        };
        let request = Request { connected, event: event.clone(), data };
        if let Some(result) = call.make_async(|| (answering.handler)(request)).await {
            if let Some(answer) = result.as_ref().ok().filter(|answer| !answer.is_object()) {
                answering.complain(&event, answer);
            }
            let result = result.map(|data| Bytes::from(data.to_string()));
            call.answer(Command::Reply { id, result }).await;
        }
    }
}

async fn decide(handlers: Arc<Handlers>, mut call: Call, id: RequestId, wish: Authorize) {
    let handler = match wish.verb {
        Verb::Subscribe => &handlers.subscribe,
        Verb::Publish => &handlers.publish,
    };
    let allow = match handler {
        Some(handler) => call.make_async(|| handler(wish)).await,
        None => Some(true),
    };
    if let Some(allow) = allow {
        call.answer(Command::Decide { id, allow }).await;
    }
}

async fn authenticate(
    handlers: Arc<Handlers>,
    mut call: Call,
    id: RequestId,
    handshake: Handshake,
) {
    let shared = handshake.shared.clone();
    let result = match &handlers.authenticate {
        Some(handler) => call.make_async(|| handler(handshake)).await,
        None => Some(Ok(Access::pass())),
    };
    let Some(result) = result else { return };
    let outcome = match result {
        Ok(access) => access.into_authentication(&shared),
        Err(refusal) => refusal.into_authentication(),
    };
    call.answer(Command::Authenticated { id, outcome }).await;
}

/// Bytes of a head, about.
fn weight(request: &http::Request<()>) -> usize {
    let fields = request.headers().iter();
    let fields: usize = fields.map(|(name, value)| name.as_str().len() + value.len()).sum();
    let target = request.uri();
    fields + target.path().len() + target.query().map_or(0, str::len)
}
