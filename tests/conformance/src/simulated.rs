//! The simulator as a server for blocking clients.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use bytes::Bytes;
use mahavishnu_core::{
    auth::Verb,
    config::Config,
    hub::{ConnId, DrainPlan, Listener, Publication, Published, Whose},
    reason::Reason,
};
use mahavishnu_sim::{Hand, Handlers};
use serde_json::Value;

use crate::{
    backend::{App, Driven, Setup},
    stream::{Pipe, Stream},
};

/// A server in the simulator.
pub(crate) struct Running(Rc<RefCell<Hand>>);

impl Running {
    pub(crate) fn start(setup: Setup) -> Self {
        let Setup { config, shards, seed, app, .. } = setup;
        let setup = mahavishnu_sim::Setup { config, seed, shards, handlers: handlers(app) };
        Self(Rc::new(RefCell::new(Hand::new(setup))))
    }
}

fn handlers(app: App) -> Handlers {
    let App { requests, subscribe, publish } = app;
    Handlers {
        request: Box::new(move |event, data| {
            let (_, handler) = requests.iter().find(|(known, _)| *known == event)?;
            let data = serde_json::from_slice(data).unwrap_or_default();
            let (delay, result) = handler(&data)?;
            Some((delay, result.map(|data| Bytes::from(data.to_string()))))
        }),
        authorize: Box::new(move |verb, channel| {
            let decide = match verb {
                Verb::Subscribe => subscribe,
                Verb::Publish => publish,
            };
            decide.map_or(Some((Duration::ZERO, true)), |decide| decide(channel))
        }),
    }
}

impl Driven for Running {
    fn connect(&self, listener: Listener, room: Option<usize>) -> io::Result<Stream> {
        let line = self.0.borrow_mut().connect(listener, room.unwrap_or(ROOM));
        let line = line.ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(Stream::Pipe(Pipe::new(self.0.clone(), line)))
    }

    fn broadcast(&self, channel: &str, event: &str, data: &Value) -> Result<Published, Reason> {
        let data = Bytes::from(data.to_string());
        let publication = Publication::new(channel, event, data);
        self.0.borrow_mut().broadcast(publication)
    }

    fn drain(&self, plan: DrainPlan) {
        self.0.borrow_mut().drain(plan);
    }

    fn is_drained(&self) -> bool {
        self.0.borrow().is_drained()
    }

    fn disconnect(&self, conn: ConnId) {
        self.0.borrow_mut().disconnect(conn);
    }

    fn reload(&self, config: &Config) {
        self.0.borrow_mut().reload(config);
    }

    fn sockets(&self) -> usize {
        self.0.borrow().sockets()
    }

    fn sessions_of(&self, user: &str) -> Vec<(String, bool)> {
        let sessions = self.0.borrow_mut().sessions(&Whose::User(user.into()));
        let known =
            sessions.into_iter().map(|one| (one.connection_id.to_string(), one.waits.is_some()));
        known.collect()
    }

    fn end_sessions_of(&self, user: &str) -> u64 {
        self.0.borrow_mut().end_sessions(&Whose::User(user.into()))
    }

    fn connected(&self) -> Vec<ConnId> {
        self.0.borrow().connected()
    }

    fn ended(&self) -> Vec<(ConnId, Reason)> {
        self.0.borrow().ended()
    }

    fn pass(&self, time: Duration) {
        self.0.borrow_mut().pass(time);
    }

    fn unix(&self) -> Duration {
        self.0.borrow().unix()
    }

    fn steps(&self) -> u64 {
        self.0.borrow().steps()
    }

    fn count(&self, family: &str, labels: &[(&str, &str)]) -> u64 {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let hand = self.0.borrow();
        // A family is one or the other.
        hand.counter(family, &labels) + hand.gauge(family, &labels) as u64
    }
}

/// Unread bytes that a socket holds, unless told otherwise.
const ROOM: usize = 256 * 1024;
