//! Whose a connection is, what handlers are told of it, and what they keep with it.

use std::{
    fmt,
    sync::{Arc, LazyLock, Mutex, mpsc},
    thread,
    time::Duration,
};

use mahavishnu_driver::{
    Access, Connected, Refusal, Server,
    core::{
        auth::{TokenSpec, Verb, issue},
        config::Config,
        hub::Leave,
        reason::Reason,
    },
};
use serde_json::{Value, json};
use tracing::{Event, Metadata, Subscriber, field::Visit, span};
use tungstenite::{Message, client::IntoClientRequest};

use super::{
    handlers::{COUNTS, eventually, named},
    server::{Client, TIMEOUT, end, start},
};
use crate::Host;

/// What an application keeps with a connection. Says on which thread it is dropped, and panics then.
struct Session {
    tenant: &'static str,
    dropped: mpsc::Sender<Option<String>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.dropped.send(thread::current().name().map(str::to_owned));
        panic!("and it panics");
    }
}

fn not_on_a_shard(told: &mpsc::Receiver<Option<String>>) {
    let name = told.recv_timeout(TIMEOUT).unwrap();
    assert!(!name.unwrap_or_default().starts_with("shard-"));
}

fn card(connected: &Connected) -> Value {
    json!({
        "id": connected.id().to_string(),
        "user": connected.user(),
        "may": connected.has_permission("chat:read"),
        "path": connected.path(),
        "tenant": connected.header("x-tenant"),
        "cookie": connected.header("cookie"),
        "local": connected.peer().is_some_and(|peer| peer.ip().is_loopback()),
        "kept": connected.data::<Session>().map(|session| session.tenant),
        "other": connected.data::<u8>().is_some(),
        "websocket": connected.is_websocket(),
    })
}

pub(crate) fn every_handler_meets_the_same_connection<R: Host>() {
    let (drops, dropped) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let [came, wished, went] = [0; 3].map(|_| tell.clone());
    let builder = Server::<R>::builder()
        .shards(2)
        .keep_headers(["x-tenant"])
        .authenticate(move |handshake| {
            let drops = drops.clone();
            async move {
                let Some("s1") = handshake.cookie("session") else {
                    return Err(Refusal::unauthorized());
                };
                let access = Access::of("ada").permissions(["chat:read"]).subscribe(["chat"]);
                Ok(access.keep(Session { tenant: "acme", dropped: drops }))
            }
        })
        .on_connect(move |connected| came.send(card(&connected)).unwrap())
        .authorize_subscribe(move |wish| {
            assert_eq!(wish.verb, Verb::Subscribe);
            wished.send(card(&wish.connected)).unwrap();
            async { true }
        })
        .on_request("who", |request| async move { Ok(card(&request.connected)) })
        .on_disconnect(move |connected, _| went.send(card(&connected)).unwrap());
    let (server, address) = start(builder);
    let mut request = format!("ws://{address}/live?token=x").into_client_request().unwrap();
    request.headers_mut().insert("cookie", "a=b; session=s1".parse().unwrap());
    request.headers_mut().insert("x-tenant", "acme".parse().unwrap());
    let stream = std::net::TcpStream::connect(address).unwrap();
    let (mut socket, _) = tungstenite::client(request, stream).unwrap();
    let Message::Text(welcome) = socket.read().unwrap() else { panic!("no welcome") };
    let welcome: Value = serde_json::from_str(&welcome).unwrap();
    let mut client = Client::of(socket);
    let who = client.request("who", &json!({}))["data"].clone();
    let subscribed = client.request("subscribe", &json!({ "channel": "chat" }));
    assert_eq!(subscribed["data"]["status"], "subscribed", "{subscribed}");
    let expected = json!({
        "id": welcome["data"]["connection_id"],
        "user": "ada",
        "may": true,
        "path": "/live",
        "tenant": "acme",
        "cookie": null,
        "local": true,
        "kept": "acme",
        "other": false,
        "websocket": true,
    });
    assert_eq!(who, expected);
    drop(client);
    for _ in ["connect", "subscribe", "disconnect"] {
        assert_eq!(told.recv_timeout(TIMEOUT).unwrap(), expected);
    }
    not_on_a_shard(&dropped);
    // Nobody lets in who has no cookie.
    let stream = std::net::TcpStream::connect(address).unwrap();
    let refused = tungstenite::client(format!("ws://{address}/"), stream);
    assert!(refused.unwrap_err().to_string().contains("401"));
    end(server);
}

/// Those who hear of subscriptions meet the connection too, also where no other handler is told of any.
pub(crate) fn who_hears_of_subscriptions_meets_the_connection<R: Host>() {
    let (tell, told) = mpsc::channel();
    let left = tell.clone();
    let secret = b"q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu";
    let mut config = Config::default();
    config.auth.keys.add_secret(None, secret).unwrap();
    let builder = Server::<R>::builder()
        .config(config)
        .shards(2)
        .keep_headers(["x-tenant"])
        .on_subscribe(move |connected, channel| {
            connected.set_data(1_u8);
            tell.send((card(&connected), channel.to_owned(), None)).unwrap();
        })
        .on_unsubscribe(move |connected, channel, why| {
            left.send((card(&connected), channel.to_owned(), Some(why))).unwrap();
        });
    let (server, address) = start(builder);
    let mut request = format!("ws://{address}/live").into_client_request().unwrap();
    request.headers_mut().insert("x-tenant", "acme".parse().unwrap());
    let stream = std::net::TcpStream::connect(address).unwrap();
    let (mut socket, _) = tungstenite::client(request, stream).unwrap();
    let Message::Text(welcome) = socket.read().unwrap() else { panic!("no welcome") };
    let welcome: Value = serde_json::from_str(&welcome).unwrap();
    let mut client = Client::of(socket);
    client.request("subscribe", &json!({ "channel": "a" }));
    // It says only now who it is.
    let spec = TokenSpec { user: Some("ada"), permissions: &["admin"], ..TokenSpec::default() };
    let token = issue(secret, &spec).unwrap();
    let said = client.request("auth", &json!({ "token": token }));
    assert_eq!(said["data"]["status"], "authenticated", "{said}");
    client.request("subscribe", &json!({ "channel": "b" }));
    client.request("unsubscribe", &json!({ "channel": "a" }));
    drop(client);

    let expected = |user: Option<&str>| {
        json!({
            "id": welcome["data"]["connection_id"],
            "user": user,
            "may": false,
            "path": "/live",
            "tenant": "acme",
            "cookie": null,
            "local": true,
            "kept": null,
            "other": true,
            "websocket": true,
        })
    };
    let (nobody, ada) = (expected(None), expected(Some("ada")));
    let gone = Leave::Ended(Reason::Eof);
    for (who, channel, why) in [
        (&nobody, "a", None),
        (&ada, "b", None),
        (&ada, "a", Some(Leave::Client)),
        (&ada, "b", Some(gone)),
    ] {
        let (met, heard, left) = told.recv_timeout(TIMEOUT).unwrap();
        assert_eq!((&met, &*heard, left), (who, channel, why));
    }
    end(server);
}

pub(crate) fn what_is_kept_with_a_connection_is_not_dropped_on_a_shard<R: Host>() {
    let (drops, dropped) = mpsc::channel();
    let (answer, asked) = mpsc::channel::<()>();
    let asked = Arc::new(Mutex::new(asked));
    let again = drops.clone();
    let mut config = Config::default();
    config.limits.requests.authenticate_timeout = Duration::from_millis(20);
    let builder = Server::<R>::builder()
        .config(config)
        .authenticate(move |handshake| {
            let session = Session { tenant: "late", dropped: drops.clone() };
            let asked = asked.clone();
            let late = handshake.path() == "/late";
            async move {
                if late {
                    // Longer than anybody waits for it. On runtimes of one thread nothing else is to run meanwhile.
                    let _ = asked.lock().unwrap().recv_timeout(TIMEOUT);
                }
                Ok(Access::anonymous().keep(session))
            }
        })
        .on_connect(move |connected| {
            connected.set_data(Session { tenant: "new", dropped: again.clone() });
            assert_eq!(connected.data::<Session>().unwrap().tenant, "new");
        });
    let (server, address) = start(builder);
    let client = Client::connect(address);
    // Replaced.
    not_on_a_shard(&dropped);
    drop(client);
    not_on_a_shard(&dropped);
    // Nobody is there any more for whom it was meant.
    let stream = std::net::TcpStream::connect(address).unwrap();
    let (mut late, _) = tungstenite::client(format!("ws://{address}/late"), stream).unwrap();
    let Message::Close(Some(close)) = late.read().unwrap() else { panic!("no close") };
    assert_eq!(close.reason.as_str(), Reason::Undecided.row().text);
    answer.send(()).unwrap();
    not_on_a_shard(&dropped);
    end(server);
}

pub(crate) fn handlers_broadcast_to_the_shards_that_wait_for_them<R: Host>() {
    let builder = Server::<R>::builder().shards(2).on_request("shout", |request| async move {
        let mut reached = 0;
        for n in 0..50 {
            let handle = request.connected.handle();
            let (channel, data) = (format!("c{}", n % 5), json!({ "n": n }));
            let done = handle.broadcast(&channel, "shout", &data).await;
            reached += done.expect("nobody is busy").subscribers;
        }
        Ok(json!({ "reached": reached }))
    });
    let (server, address) = start(builder);
    let mut reader = Client::subscribed(address, "c0");
    let clients: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                client.request("shout", &json!({}))["data"]["reached"].as_u64()
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), Some(10));
    }
    for _ in 0..80 {
        assert_eq!(reader.next()["event"], "shout");
    }
    end(server);
}

pub(crate) fn what_cannot_be_kept_is_said_at_the_start<R: Host>() {
    let builder = Server::<R>::builder().keep_headers(["x-tenant", "no name"]);
    let error = R::block_on(builder.start()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no name"), "{error}");
}

/// Forcing the recorder is what installs it, unless another test of this process has.
pub(crate) fn a_recorder_may_be_installed_after_the_start<R: Host>() {
    let (config, name) = named::<R>("late recorder");
    let builder = Server::<R>::builder().config(config).on_request("fail", |request| async move {
        assert!(request.data.is_null(), "it is an object");
        Ok(json!({}))
    });
    let (server, address) = start(builder);
    let mut client = Client::connect(address);
    for _ in 0..3 {
        assert_eq!(client.request("fail", &json!({}))["error_code"], "SERVER_ERROR");
    }
    let counts = *COUNTS;
    client.ping();
    counts.expect(&name, "on_request", 3);
    end(server);
}

pub(crate) fn an_answer_that_is_no_object_is_told_to_the_developer<R: Host>() {
    let event = format!("wrong on {}", std::any::type_name::<R>());
    LazyLock::force(&LOG);
    let builder =
        Server::<R>::builder().on_request(&event, |_| async { Ok(json!(["no", "object"])) });
    let (server, address) = start(builder);
    let mut client = Client::connect(address);
    for _ in 0..3 {
        assert_eq!(client.request(&event, &json!({}))["error_message"], "The request failed");
    }
    let told = || {
        let lines = LOG.lock().unwrap();
        lines.iter().filter(|line| line.contains(&event) && line.contains("an array")).count()
    };
    eventually(|| told() >= 1);
    assert_eq!(told(), 1, "once is enough");
    end(server);
}

/// What was logged in this process as an error.
static LOG: LazyLock<&'static Mutex<Vec<String>>> = LazyLock::new(|| {
    let lines: &'static Mutex<Vec<String>> = Box::leak(Box::default());
    tracing::subscriber::set_global_default(Log(lines)).expect("no other log in these tests");
    lines
});

struct Log(&'static Mutex<Vec<String>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}
