//! The simulator as a server for blocking clients.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use bytes::Bytes;
use mahavishnu_core::{
    auth::{Claims, Grants, Pattern, Verb},
    config::Config,
    hub::{
        Authentication, Command, CommandId, ConnId, DirectMessage, DrainPlan, Handled, Listener,
        Publication, Published, Recipient, Refusal, Roll, Sent, Whose,
    },
    reason::Reason,
};
use mahavishnu_sim::{Hand, Handlers};
use serde_json::Value;

use crate::{
    backend::{App, Did, Driven, Moved, Said, Setup, Way, Wish},
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

impl Running {
    fn open(&self, listener: Listener, has_address: bool, room: usize) -> io::Result<Stream> {
        let line = self.0.borrow_mut().connect(listener, has_address, room);
        let line = line.ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(Stream::Pipe(Pipe::new(self.0.clone(), line)))
    }
}

fn handlers(app: App) -> Handlers {
    let App { requests, subscribe, publish, authenticate } = app;
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
        authenticate: Box::new(move |request| {
            let Some(says) = authenticate else {
                return Some((Duration::ZERO, Some(Authentication::Pass)));
            };
            let (delay, said) = says(request)?;
            Some((delay, outcome(said)))
        }),
    }
}

/// `None`: it panics.
fn outcome(said: Said) -> Option<Authentication> {
    Some(match said {
        Said::Pass => Authentication::Pass,
        Said::Is(user, channels) => {
            let channels = vec![Pattern::parse(channels).expect("a pattern")];
            let grants = Grants { subscribe: channels.clone(), publish: channels };
            let claims = Claims { user: Some(user.into()), grants, ..Claims::default() };
            Authentication::Access { claims: Box::new(claims), data: None }
        }
        Said::No(denial, by) => Authentication::Refuse(Refusal { denial, by }),
        Said::Panics => return None,
    })
}

impl Driven for Running {
    fn connect(&self, listener: Listener, room: Option<usize>) -> io::Result<Stream> {
        self.open(listener, true, room.unwrap_or(ROOM))
    }

    fn connect_by(&self, way: Way) -> io::Result<Stream> {
        match way {
            Way::Unix => self.open(Listener::Main, false, ROOM),
            Way::HandedOver => self.open(Listener::Adopted, true, ROOM),
        }
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

    fn wish(&self, wish: Wish<'_>) -> Did {
        let mut hand = self.0.borrow_mut();
        let message = |event: &str, data: &Value| DirectMessage::new(event, &data.to_string());
        match wish {
            Wish::Send(conn, event, data) => {
                let (to, message) = (Recipient::Connection(conn), message(event, data));
                about(&mut hand, conn, |id| Command::Send { id: Some(id), to, message })
            }
            Wish::SendToUser(user, event, data) => {
                let to = Recipient::User(user.into());
                let mut reached = 0;
                for hub in 0..hand.hubs() {
                    let (to, message) = (to.clone(), message(event, data));
                    let send = |id| Command::Send { id: Some(id), to, message };
                    match hand.ask(hub, send) {
                        Ok(Handled::Sent(sent)) => reached += sent.reached,
                        other => return said(other),
                    }
                }
                Did::Done(reached)
            }
            Wish::TryBroadcast(channel, event, data) => {
                let publication = Publication::new(channel, event, Bytes::from(data.to_string()));
                let _ = hand.broadcast(publication);
                Did::Done(0)
            }
            Wish::Subscribe(conn, channel) | Wish::SubscribeIfPermitted(conn, channel) => {
                let (granted, channel) = (matches!(wish, Wish::Subscribe(..)), channel.into());
                about(&mut hand, conn, |id| Command::Subscribe {
                    id: Some(id),
                    conn,
                    channel,
                    granted,
                })
            }
            Wish::Unsubscribe(conn, channel) => {
                let channel = channel.into();
                about(&mut hand, conn, |id| Command::Unsubscribe { id: Some(id), conn, channel })
            }
            Wish::Disconnect(conn, how) => {
                hand.dismiss(Recipient::Connection(conn), how).map_or_else(Did::Refused, Did::Done)
            }
            Wish::DisconnectUser(user, how) => {
                let whom = Recipient::User(user.into());
                hand.dismiss(whom, how).map_or_else(Did::Refused, Did::Done)
            }
        }
    }

    fn roll(&self, of: &Roll) -> (u64, Vec<String>) {
        let mut hand = self.0.borrow_mut();
        let (mut total, mut names) = (0, Vec::new());
        for hub in 0..hand.hubs() {
            let mut after = None;
            loop {
                let of = of.clone();
                let listed = hand.ask(hub, |id| Command::List { id, of, limit: 2, after });
                let Ok(Handled::Listed(page)) = listed else { panic!("{listed:?}") };
                let ids = page.connections.iter().map(|one| one.connection_id.to_string());
                names.extend(ids);
                let channels = page.channels.iter();
                names.extend(channels.map(|one| format!("{}={}", one.channel, one.subscribers)));
                after = page.next;
                if after.is_none() {
                    total += page.total;
                    break;
                }
            }
        }
        (total, names)
    }

    fn moved(&self) -> Vec<Moved> {
        self.0.borrow().heard()
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

/// Asks the hub of a connection.
fn about(hand: &mut Hand, conn: ConnId, command: impl FnOnce(CommandId) -> Command) -> Did {
    said(hand.ask(usize::from(conn.shard().0), command))
}

fn said(result: Result<Handled, Reason>) -> Did {
    match result {
        Ok(Handled::Sent(Sent { reached: 0, .. })) => Did::Slow,
        Ok(Handled::Sent(sent)) => Did::Done(sent.reached),
        Ok(Handled::Changed(changed)) => Did::Done(u32::from(changed)),
        Ok(Handled::Gone) => Did::Gone,
        Ok(Handled::Listed(_)) => panic!("nobody has asked for a list"),
        Err(reason) => Did::Refused(reason),
    }
}

/// Unread bytes that a socket holds, unless told otherwise.
const ROOM: usize = 256 * 1024;
