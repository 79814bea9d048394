//! A server over real sockets, with tungstenite as its clients.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use mahavishnu_driver::{
    BroadcastError, Builder, Disconnect, Handle, HistoryRange, LookError, Publish, RequestResult,
    RevokeError, SendError, Server, TryError,
    core::{
        auth::{Pattern, Revocation, TokenSpec, issue},
        config::Config,
        hub::{DrainPlan, Published},
        protocol::Position,
        reason::Reason,
        trace::{Writer, replay},
    },
};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, protocol::frame::coding::CloseCode};

use crate::Host;

/// Long enough that only what never comes takes so long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn start<R: Host>(builder: Builder<R>) -> (Server<R>, SocketAddr) {
    let server = R::block_on(builder.listen("127.0.0.1:0").start()).unwrap();
    let address = server.local_addr().unwrap();
    (server, address)
}

/// Stops without waiting for clients that do not say goodbye.
pub(crate) fn end<R: Host>(server: Server<R>) {
    assert_eq!(R::block_on(server.stop_with(AT_ONCE)), Ok(()));
}

pub(crate) const AT_ONCE: DrainPlan =
    DrainPlan { notice: Duration::ZERO, window: Duration::ZERO, deadline: Duration::ZERO };

pub(crate) struct Client(WebSocket<TcpStream>);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut client = Self::open(address);
        assert_eq!(client.next()["event"], "session.created");
        client
    }

    /// One that was welcomed.
    pub(crate) fn of(socket: WebSocket<TcpStream>) -> Self {
        Self(socket)
    }

    /// Whether a connection is let in.
    pub(crate) fn is_let_in(address: SocketAddr) -> bool {
        matches!(Self::open(address).0.read(), Ok(Message::Text(_)))
    }

    /// The code that one who is not let in is closed with.
    pub(crate) fn attempt(address: SocketAddr) -> CloseCode {
        Self::open(address).closed()
    }

    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{address}/"), stream).unwrap();
        Self(socket)
    }

    /// A client that hears of `channel`.
    pub(crate) fn subscribed(address: SocketAddr, channel: &str) -> Self {
        let mut client = Self::connect(address);
        let answer = client.request("subscribe", &json!({ "channel": channel }));
        assert_eq!(answer["data"], json!({ "status": "subscribed", "channel": channel }));
        client
    }

    pub(crate) fn next(&mut self) -> Value {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("not a text: {other:?}"),
            }
        }
    }

    pub(crate) fn request(&mut self, event: &str, data: &Value) -> Value {
        self.send(event, data);
        self.next()
    }

    /// Whether the server answers, application or not.
    pub(crate) fn ping(&mut self) {
        self.send_text(r#"{"type":"ping"}"#.to_owned());
        assert_eq!(self.next()["type"], "pong");
    }

    /// Sends a request and does not wait for its answer.
    pub(crate) fn send(&mut self, event: &str, data: &Value) {
        let request = json!({ "type": "request", "event": event, "id": "1", "data": data });
        self.send_text(request.to_string());
    }

    pub(crate) fn send_text(&mut self, text: String) {
        self.0.send(Message::text(text)).unwrap();
    }

    /// The code that the server closes with; `None` if the connection ends without one.
    pub(crate) fn end(mut self) -> Option<CloseCode> {
        loop {
            match self.0.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// The code that the server closes with. The handshake of closing is completed.
    pub(crate) fn closed(mut self) -> CloseCode {
        loop {
            match self.0.read().unwrap() {
                Message::Close(frame) => {
                    let error = self.0.read().unwrap_err();
                    assert!(matches!(error, tungstenite::Error::ConnectionClosed), "{error:?}");
                    return frame.expect("a close frame with a code").code;
                }
                Message::Text(_) | Message::Ping(_) => {}
                other => panic!("neither text nor close: {other:?}"),
            }
        }
    }
}

pub(crate) fn documents_are_published_compared_and_read<R: Host>() {
    let (server, address) = start(Server::<R>::builder().shards(2));
    let handle = server.handle();
    let publish = |n: u64| {
        let data = json!({ "n": n });
        Publish::new("a", "e", &data).unwrap().state(&data).unwrap()
    };
    let made = |publish: Publish| R::block_on(handle.publish(publish));
    let nothing = R::block_on(handle.state("a")).unwrap();
    assert_eq!((nothing.offset, nothing.state), (0, None));
    let mut client = Client::subscribed(address, "a");

    let first = made(publish(1).if_offset(0).idempotency_key("k")).unwrap();
    assert_eq!((first.subscribers, first.offset), (1, 1));
    assert_eq!(made(publish(1).if_offset(0).idempotency_key("k")), Ok(first), "carried out once");
    let conflict = Err(BroadcastError::Refused(Reason::StateConflict));
    assert_eq!(made(publish(2).if_offset(0)), conflict);
    let second = made(publish(3).if_at(first.position().unwrap())).unwrap();
    assert_eq!(made(publish(4).if_at(first.position().unwrap())), conflict);

    let state = R::block_on(handle.state("a")).unwrap();
    assert_eq!(state.state, Some(json!({ "n": 3 })));
    assert_eq!(state.position(), second.position());
    assert_eq!([client.next(), client.next()].map(|event| event["data"]["n"].clone()), [1, 3]);
    let history = |range| R::block_on(handle.history("a", range, 10));
    let newest = history(HistoryRange::Newest).unwrap();
    let numbers: Vec<_> = newest.events.iter().map(|event| event.data["n"].clone()).collect();
    assert_eq!((numbers, newest.offset, newest.more), (vec![json!(1), json!(3)], 2, false));
    let after = history(HistoryRange::After(first.position().unwrap())).unwrap();
    assert_eq!(after.events.iter().map(|event| event.offset).collect::<Vec<_>>(), [2]);
    assert_eq!(after.events, newest.events[1..]);
    let elsewhere = Position { offset: 9, ..first.position().unwrap() };
    let refused = history(HistoryRange::After(elsewhere));
    assert_eq!(refused, Err(LookError::Refused(Reason::NotRecovered)));
    let invalid = R::block_on(handle.state(""));
    assert_eq!(invalid, Err(LookError::Refused(Reason::InvalidChannel)));
    assert_eq!(Publish::new("a", "e", "text").unwrap_err(), BroadcastError::NotAnObject);
    let handle = handle.clone();
    end(server);
    assert_eq!(R::block_on(handle.state("a")), Err(LookError::Stopped));
}

pub(crate) fn who_is_in_a_channel_is_told_whole<R: Host>() {
    let mut config = Config::default();
    config.presence.push((Pattern::parse("room:*").unwrap(), true));
    // A part of the list holds only a few of them.
    config.limits.delivery.outbox_bytes_max = 4_000;
    let (server, address) = start(Server::<R>::builder().config(config).shards(2));
    let handle = server.handle();
    let clients: Vec<_> = (0..20)
        .map(|n| {
            let mut client = Client::connect(address);
            let data = json!({ "channel": "room:1", "presence": { "info": { "n": n } } });
            assert_eq!(client.request("subscribe", &data)["data"]["status"], "subscribed");
            client
        })
        .collect();

    let presence = R::block_on(handle.presence("room:1")).unwrap();

    assert_eq!((presence.count, presence.members.len()), (20, 20));
    let mut told: Vec<_> =
        presence.members.iter().map(|one| one.info.as_ref().unwrap()["n"].as_u64()).collect();
    told.sort_unstable();
    assert_eq!(told, (0..20).map(Some).collect::<Vec<_>>());
    assert_eq!(R::block_on(handle.presence_count("room:1")), Ok(20));
    drop(clients);
    end(server);
}

pub(crate) fn broadcasts_reach_the_subscribers_in_order<R: Host>() {
    let (server, address) = start(Server::<R>::builder().shards(2));
    let mut clients: Vec<_> = (0..8).map(|_| Client::subscribed(address, "a")).collect();
    let mut other = Client::subscribed(address, "b");
    for n in 0..100 {
        let done = R::block_on(server.handle().broadcast("a", "e", &json!({ "n": n })));
        assert!(matches!(done, Ok(Published { .. })), "{done:?}");
    }
    for client in &mut clients {
        for n in 0..100 {
            let message = client.next();
            assert_eq!((&message["room"], &message["data"]["n"]), (&json!("a"), &json!(n)));
        }
    }
    assert_eq!(server.handle().sockets(), 9);
    let pong = other.request("ping", &json!({}));
    assert_ne!(pong["room"], "a", "{pong}");
    end(server);
}

pub(crate) fn the_application_answers_and_decides<R: Host>() {
    let builder = Server::<R>::builder()
        .on_request("double", |request| async move {
            let n = request.data["n"].as_u64().unwrap_or_default();
            RequestResult::Ok(json!({ "n": 2 * n }))
        })
        .authorize_subscribe(|wish| async move { &*wish.channel == "open" });
    let (server, address) = start(builder);
    let mut client = Client::connect(address);
    assert_eq!(client.request("double", &json!({ "n": 21 }))["data"], json!({ "n": 42 }));
    let refused = client.request("subscribe", &json!({ "channel": "secret" }));
    assert_eq!(refused["error_code"], "FORBIDDEN");
    let allowed = client.request("subscribe", &json!({ "channel": "open" }));
    assert_eq!(allowed["data"]["status"], "subscribed");
    end(server);
}

pub(crate) fn the_application_hears_of_clients_and_ends_them<R: Host>() {
    let (tell, told) = mpsc::channel();
    let (tell_end, told_end) = mpsc::channel();
    let builder = Server::<R>::builder()
        .on_connect(move |connected| tell.send(connected.conn()).unwrap())
        .on_disconnect(move |connected, reason| tell_end.send((connected.conn(), reason)).unwrap());
    let (server, address) = start(builder);
    let first = Client::connect(address);
    let conn = told.recv_timeout(TIMEOUT).unwrap();
    let ended = R::block_on(server.handle().disconnect(conn, Disconnect::default()));
    assert_eq!(ended, Ok(true));
    assert_eq!(first.closed(), CloseCode::Policy);
    assert_eq!(told_end.recv_timeout(TIMEOUT).unwrap().0, conn);
    let mut second = Client::connect(address);
    second.0.close(None).unwrap();
    let conn = told.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(told_end.recv_timeout(TIMEOUT).unwrap(), (conn, Reason::PeerClosed));
    end(server);
}

pub(crate) fn a_plain_handler_speaks_without_waiting<R: Host>() {
    let handle = Arc::<OnceLock<Handle>>::default();
    let known = handle.clone();
    let builder = Server::<R>::builder().shards(2).on_connect(move |connected| {
        let conn = connected.conn();
        let handle = known.get().expect("nobody connects before");
        handle.try_subscribe(conn, "lobby").expect("room for one");
        handle.try_send(conn, "hello", &json!({ "n": 1 })).expect("room for one");
        let list = handle.try_send(conn, "hello", &json!([1]));
        assert_eq!(list, Err(TryError::NotAnObject));
    });
    let (server, address) = start(builder);
    handle.set(server.handle()).expect("once");
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        let events: Vec<_> = (0..2).map(|_| client.next()["event"].clone()).collect();
        assert!(events.contains(&json!("hello")), "{events:?}");
        assert!(events.contains(&json!("channel.subscribed")), "{events:?}");
    }
    let listed = R::block_on(server.handle().subscribers("lobby", 3, None)).unwrap();
    assert_eq!((listed.total, listed.items.len(), listed.next.is_some()), (4, 3, true));
    let counted = R::block_on(server.handle().connections(0, None)).unwrap();
    assert_eq!((counted.total, counted.items.len(), counted.next), (4, 0, None));
    server.handle().try_broadcast("lobby", "tick", &json!({ "n": 2 })).unwrap();
    for client in &mut clients {
        assert_eq!(client.next()["data"], json!({ "n": 2 }));
    }
    let handle = server.handle();
    end(server);
    assert_eq!(handle.try_broadcast("lobby", "tick", &json!({})), Err(TryError::Stopped));
    let stopped = R::block_on(handle.send_to_user("ada", "e", &json!({})));
    assert_eq!(stopped, Err(SendError::Stopped));
}

pub(crate) fn a_revocation_ends_its_connections_on_all_shards<R: Host>() {
    let secret = b"q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu";
    let mut config = Config::default();
    config.auth.keys.add_secret(None, secret).unwrap();
    let (server, address) = start(Server::<R>::builder().config(config).shards(2));
    let token = issue(secret, &TokenSpec { user: Some("ada"), ..TokenSpec::default() }).unwrap();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = Client::connect(address);
            let answer = client.request("auth", &json!({ "token": token }));
            assert_eq!(answer["data"]["status"], "authenticated", "{answer}");
            client
        })
        .collect();
    let revoke = |json| R::block_on(server.handle().revoke(Revocation::parse(json).unwrap()));
    assert_eq!(revoke(r#"{"user":"eve"}"#), Ok(0));
    assert_eq!(revoke(r#"{"user":"ada"}"#), Ok(4));
    for client in clients {
        assert_eq!(client.closed(), CloseCode::Policy);
    }
    let nothing = Revocation { id: None, user: None, issued_before: None, until: None };
    let refused = R::block_on(server.handle().revoke(nothing));
    assert_eq!(refused, Err(RevokeError::Refused(Reason::BadRevocation)));
    end(server);
}

pub(crate) fn a_full_socket_is_written_to_when_it_has_room<R: Host>() {
    let mut config = Config::default();
    config.limits.delivery.outbox_bytes_max = 64 << 20;
    let (server, address) = start(Server::<R>::builder().config(config));
    let mut client = Client::subscribed(address, "a");
    let filler = "x".repeat(512 << 10);
    // More than loopback buffers hold while nobody reads.
    for n in 0..64 {
        let data = json!({ "n": n, "filler": filler });
        R::block_on(server.handle().broadcast("a", "e", &data)).unwrap();
    }
    for n in 0..64 {
        assert_eq!(client.next()["data"]["n"], json!(n));
    }
    end(server);
}

pub(crate) fn messages_longer_than_the_scratch_arrive<R: Host>() {
    let (server, address) =
        start(Server::<R>::builder().on_request("count", |request| async move {
            let length = request.data["text"].as_str().map_or(0, str::len);
            RequestResult::Ok(json!({ "length": length }))
        }));
    let mut client = Client::connect(address);
    let answer = client.request("count", &json!({ "text": "x".repeat(900_000) }));
    assert_eq!(answer["data"], json!({ "length": 900_000 }));
    end(server);
}

pub(crate) fn stopping_closes_every_socket<R: Host>() {
    let (server, address) = start(Server::<R>::builder().shards(2));
    let clients: Vec<_> = (0..8).map(|_| Client::subscribed(address, "a")).collect();
    let handle = server.handle();
    let clients: Vec<_> =
        clients.into_iter().map(|client| std::thread::spawn(move || client.closed())).collect();
    assert_eq!(R::block_on(server.stop()), Ok(()));
    for client in clients {
        assert_eq!(client.join().unwrap(), CloseCode::Away);
    }
    assert_eq!(handle.sockets(), 0);
    assert!(TcpStream::connect(address).is_err(), "still listening");
    let late = R::block_on(handle.broadcast("a", "e", &json!({})));
    assert_eq!(late, Err(BroadcastError::Stopped));
}

/// Runs a shard one turn at a time: it waits at the end of each until it may go on.
pub(crate) struct Steps {
    on: Arc<AtomicBool>,
    turns: Arc<AtomicUsize>,
    ended: mpsc::Receiver<()>,
    go: mpsc::Sender<()>,
}

impl Steps {
    /// A builder of a server with one shard that can be stopped between turns.
    pub(crate) fn builder<R: Host>(config: Config) -> (Builder<R>, Self) {
        let (end, ended) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        let gone = Mutex::new(gone);
        let this = Self { on: Arc::default(), turns: Arc::default(), ended, go };
        let (on, turns) = (this.on.clone(), this.turns.clone());
        let builder = Server::<R>::builder().config(config).shards(1).record(move |_, _| {
            turns.fetch_add(1, Ordering::SeqCst);
            if on.load(Ordering::SeqCst) {
                // The test may be over, and with it both ends.
                let _ = end.send(());
                let _ = gone.lock().unwrap().recv();
            }
        });
        (builder, this)
    }

    fn turns(&self) -> usize {
        self.turns.load(Ordering::SeqCst)
    }

    /// The shard stands still from the end of its next turn on, which `poke` brings about.
    pub(crate) fn stop(&self, poke: impl FnOnce()) {
        self.on.store(true, Ordering::SeqCst);
        poke();
        self.ended.recv_timeout(TIMEOUT).expect("a turn");
    }

    /// Lets it run one turn more.
    pub(crate) fn step(&self) {
        self.go.send(()).unwrap();
        self.ended.recv_timeout(TIMEOUT).expect("a turn");
    }

    pub(crate) fn run(&self) {
        self.on.store(false, Ordering::SeqCst);
        self.go.send(()).unwrap();
    }
}

fn unlimited() -> Config {
    let mut config = Config::default();
    config.limits.connections.messages_per_second = None;
    config
}

pub(crate) fn a_message_is_written_in_the_turn_in_which_it_came<R: Host>() {
    let (builder, steps) = Steps::builder::<R>(unlimited());
    let (server, address) = start(builder);
    let mut subscriber = Client::subscribed(address, "a");
    let mut publisher = Client::connect(address);
    let before = steps.turns();
    for n in 0..100 {
        let message = json!({ "channel": "a", "event": "e", "data": { "n": n } });
        publisher.request("publish", &message);
        assert_eq!(subscriber.next()["data"]["n"], n);
    }
    // One for each message, and some for timers.
    let turns = steps.turns() - before;
    assert!((95..=110).contains(&turns), "{turns} turns for 100 messages");
    end(server);
}

pub(crate) fn a_flood_does_not_keep_others_from_being_served<R: Host>() {
    let (builder, steps) = Steps::builder::<R>(unlimited());
    let (server, address) = start(builder);
    let (mut flood, mut quiet) = (Client::connect(address), Client::connect(address));
    steps.stop(|| flood.0.send(Message::text(r#"{"type":"ping"}"#)).unwrap());
    // While the shard stands still: as much as the sockets take, and one request behind it.
    let message = json!({
        "type": "request", "event": "publish", "id": "1",
        "data": { "channel": "none", "event": "e", "data": { "text": "x".repeat(60_000) } },
    });
    flood.0.get_mut().set_nonblocking(true).unwrap();
    let text = Message::text(message.to_string());
    let sent = (0..10_000).take_while(|_| flood.0.send(text.clone()).is_ok()).count();
    assert!(sent >= 8, "only {sent} messages fit: less than a few reads");
    let request = json!({ "type": "request", "event": "ping", "id": "1", "data": {} });
    quiet.0.send(Message::text(request.to_string())).unwrap();

    quiet.0.get_mut().set_nonblocking(true).unwrap();
    let answered = (1..=10).find(|_| {
        steps.step();
        quiet.0.read().is_ok()
    });

    assert!(answered.is_some_and(|turns| turns <= TURNS_FOR_OTHERS), "{answered:?} turns");
    steps.run();
    end(server);
}

/// A busy connection is read once for each of the others' reads. One turn more, because a turn may have been asked for
/// before anybody was read.
const TURNS_FOR_OTHERS: usize = 3;

pub(crate) fn a_recorded_server_can_be_replayed<R: Host>() {
    let writer = Arc::new(Mutex::new(Writer::new(Vec::new()).unwrap()));
    let config = Config::default();
    let notes = writer.clone();
    let builder = Server::<R>::builder()
        .config(config.clone())
        .shards(2)
        .on_request("double", |request| async move {
            let n = request.data["n"].as_i64().unwrap_or_default();
            Ok(json!({ "n": 2 * n }))
        })
        .record(move |shard, noted| notes.lock().unwrap().add(shard, noted).unwrap());
    let (server, address) = start(builder);
    let mut clients: Vec<_> = (0..4).map(|_| Client::subscribed(address, "room")).collect();
    for n in 0..20 {
        R::block_on(server.handle().broadcast("room", "tick", &json!({ "n": n }))).unwrap();
    }
    for client in &mut clients {
        while client.next()["data"]["n"] != 19 {}
    }
    assert_eq!(clients[0].request("double", &json!({ "n": 21 }))["data"]["n"], 42);
    drop(clients);
    end(server);

    let writer = Arc::into_inner(writer).expect("the server is gone").into_inner().unwrap();
    let report = replay(&writer.into_inner(), &[Arc::new(config)], Instant::now()).unwrap();

    assert_eq!((report.shards, report.connections), (2, 4));
    assert!(report.sent_bytes > 80 * 100, "{report:?}");
}
