//! The embedding application's side: its handlers, and how a shard reaches them.

use std::{collections::HashMap, fmt, net::SocketAddr, pin::Pin, sync::Arc};

use bytes::Bytes;
use mahavishnu_core::{
    auth::Verb,
    config::Hooks,
    hub::{Command, ConnId, Output, RequestError, ShardId},
    reason::Reason,
    tls::Identity,
};
use serde_json::Value;

use crate::{mailbox::Mailbox, runtime::Runtime};

/// A client's request that the application answers.
#[derive(Clone, Debug)]
pub struct Request {
    /// The connection.
    pub conn: ConnId,
    /// The user, if the connection is authenticated.
    pub user: Option<Arc<str>>,
    /// The request's event, for example `get_pool_status`.
    pub event: Box<str>,
    /// The request's `data`, always an object.
    pub data: Value,
}

/// Something that the policy allows and that the application decides on.
#[derive(Clone, Debug)]
pub struct Authorize {
    /// The connection.
    pub conn: ConnId,
    /// The user, if the connection is authenticated.
    pub user: Option<Arc<str>>,
    /// Subscribe or publish.
    pub verb: Verb,
    /// The channel.
    pub channel: Box<str>,
    /// Who it is by its certificate, if clients must have one.
    pub identity: Option<Arc<Identity>>,
}

/// `data` of the answer, an object, or the error that the client gets.
pub type RequestResult = Result<Value, RequestError>;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type OnRequest = Arc<dyn Fn(Request) -> BoxFuture<RequestResult> + Send + Sync>;
type OnAuthorize = Arc<dyn Fn(Authorize) -> BoxFuture<bool> + Send + Sync>;
type OnConnect = Arc<dyn Fn(ConnId, SocketAddr, Option<Arc<str>>) + Send + Sync>;
type OnDisconnect = Arc<dyn Fn(ConnId, Reason) + Send + Sync>;
type Render = Arc<dyn Fn() -> String + Send + Sync>;
type Record = Arc<dyn Fn(ShardId, &[u8]) + Send + Sync>;

/// The application's handlers. Without one, what it would decide on is allowed and what it would hear is not told.
#[derive(Clone, Default)]
pub(crate) struct Handlers {
    pub(crate) requests: HashMap<Box<str>, OnRequest>,
    pub(crate) subscribe: Option<OnAuthorize>,
    pub(crate) publish: Option<OnAuthorize>,
    pub(crate) connect: Option<OnConnect>,
    pub(crate) disconnect: Option<OnDisconnect>,
    pub(crate) render: Option<Render>,
    pub(crate) record: Option<Record>,
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
        }
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").field("hooks", &self.hooks()).finish_non_exhaustive()
    }
}

/// The application as a shard sees it: handlers, and the runtime that they run on.
#[derive(Clone, Debug)]
pub(crate) struct App<R> {
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) runtime: R,
}

impl<R: Runtime> App<R> {
    /// Puts an output to the application. Its answer comes back through `mailbox`.
    pub(crate) fn ask(&self, output: Output, mailbox: &Mailbox) {
        match output {
            Output::Request { id, conn, user, event, data } => {
                let Some(handler) = self.handlers.requests.get(&event) else { return };
                let data = serde_json::from_slice(&data).unwrap_or_default();
                let answer = handler(Request { conn, user, event, data });
                self.spawn(mailbox, async move {
                    let result = answer.await.map(|data| Bytes::from(data.to_string()));
                    Command::Reply { id, result }
                });
            }
            Output::Authorize { id, conn, user, verb, channel, identity } => {
                let handler = match verb {
                    Verb::Subscribe => &self.handlers.subscribe,
                    Verb::Publish => &self.handlers.publish,
                };
                let wish = Authorize { conn, user, verb, channel, identity };
                let decision = handler.as_ref().map(|handler| handler(wish));
                self.spawn(mailbox, async move {
                    let allow = match decision {
                        Some(decision) => decision.await,
                        None => true,
                    };
                    Command::Decide { id, allow }
                });
            }
            Output::Metrics { conn } => {
                let render = self.handlers.render.clone();
                self.spawn(mailbox, async move {
                    let text = render.map(|render| render()).unwrap_or_default();
                    Command::Exposition { conn, text: text.into() }
                });
            }
            Output::Connected { conn, peer, user, .. } => {
                if let Some(handler) = &self.handlers.connect {
                    handler(conn, peer, user);
                }
            }
            Output::Disconnected { conn, reason } => {
                if let Some(handler) = &self.handlers.disconnect {
                    handler(conn, reason);
                }
            }
            Output::Done { .. }
            | Output::Audit { .. }
            | Output::Shard { .. }
            | Output::ClockSet { .. }
            | Output::Drained => {}
        }
    }

    fn spawn(&self, mailbox: &Mailbox, answer: impl Future<Output = Command> + Send + 'static) {
        let mailbox = mailbox.clone();
        self.runtime.spawn(async move {
            let command = answer.await;
            mailbox.command(command).await;
        });
    }
}
