//! What `docs/embedding.md` shows, each piece between its marks, and that it does what is said there.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what is shown prints, and helpers fail a test as tests do"
)]

#[path = "../../driver/tests/beside/client.rs"]
mod client;

use std::{error::Error, net::SocketAddr, time::Duration};

use client::Client;
use mahavishnu_tokio::{
    Builder, Handle, Server,
    core::{
        auth::{TokenSpec, issue},
        hub::ConnId,
    },
};
use serde_json::json;

type Done = Result<(), Box<dyn Error>>;

fn requests() -> Builder {
    // [request]
    use mahavishnu_tokio::core::hub::RequestError;

    let builder = Server::builder().on_request("get_pool_status", |request| async move {
        let Some(pool_id) = request.data.get("pool_id").and_then(|id| id.as_str()) else {
            let message = "pool_id is missing".into();
            return Err(RequestError { code: "INVALID_REQUEST".into(), message });
        };
        Ok(json!({ "pool_id": pool_id, "status": "idle" }))
    });
    // [end]
    builder
}

/// The application's own store of sessions.
#[derive(Clone)]
struct Sessions;

struct Session {
    user: String,
}

impl Sessions {
    #[expect(clippy::unused_async, reason = "a real one waits for its database")]
    async fn find(&self, id: &str) -> Result<Option<Session>, ()> {
        match id {
            "down" => Err(()),
            _ => Ok(id.strip_prefix("s-").map(|user| Session { user: user.to_owned() })),
        }
    }
}

fn cookies(sessions: Sessions) -> Builder {
    // [cookie]
    use mahavishnu_tokio::{Access, Refusal};

    let builder = Server::builder().authenticate(move |handshake| {
        let sessions = sessions.clone();
        async move {
            let Some(id) = handshake.cookie("session") else {
                return Err(Refusal::unauthorized());
            };
            match sessions.find(id).await {
                Ok(Some(session)) => Ok(Access::of(&*session.user)
                    .permissions(["workflow:read"])
                    .subscribe(["chat:*"])
                    .publish(["chat:*"])
                    .expires_in(Duration::from_secs(3600))
                    .keep(session)),
                Ok(None) => Err(Refusal::unauthorized()),
                Err(_) => Err(Refusal::later()),
            }
        }
    });
    // [end]
    builder.on_request("who", |request| async move {
        let session = request.connected.data::<Session>();
        Ok(json!({ "user": session.map(|session| session.user.clone()) }))
    })
}

fn tenants() -> Builder {
    // [own-data]
    use mahavishnu_tokio::core::hub::RequestError;

    struct Tenant(String);

    let builder = Server::builder()
        .keep_headers(["x-tenant"])
        .on_connect(|connected| {
            let tenant = connected.header("x-tenant").unwrap_or("nobody's").to_owned();
            connected.set_data(Tenant(tenant));
        })
        .on_request("say", |request| async move {
            let tenant = request.connected.data::<Tenant>();
            let tenant = tenant.as_ref().map_or("nobody's", |tenant| &tenant.0);
            let handle = request.connected.handle();
            let done = handle.broadcast(&format!("tenant:{tenant}"), "said", &request.data).await;
            let done = done.map_err(|error| RequestError {
                code: "SERVER_ERROR".into(),
                message: error.to_string().into(),
            })?;
            Ok(json!({ "heard_by": done.subscribers }))
        });
    // [end]
    builder
}

fn authorized() -> Builder {
    // [authorize]
    let builder = Server::builder()
        .authorize_subscribe(|wish| async move { !wish.channel.starts_with("secret:") })
        .authorize_publish(|wish| async move { wish.connected.user().is_some() });
    // [end]
    builder
}

fn nobody_publishes() -> Builder {
    // [only-application]
    use mahavishnu_tokio::core::config::{Config, Publishing};

    let config = Config { publishing: Publishing::ApplicationOnly, ..Config::default() };
    let builder = Server::builder().config(config);
    // [end]
    builder
}

fn comings() -> Builder {
    // [comings]
    let builder = Server::builder()
        .on_subscribe(|connected, channel| {
            let data = json!({ "user": connected.user(), "channel": channel });
            if let Err(error) = connected.handle().try_broadcast("hall", "came", &data) {
                eprintln!("not told: {error}");
            }
        })
        .on_unsubscribe(|connected, channel, why| {
            println!("{:?} has left {channel}: {why:?}", connected.user());
        });
    // [end]
    builder
}

fn slow() -> Result<Builder, Box<dyn Error>> {
    // [slow]
    use mahavishnu_tokio::core::{
        auth::Pattern,
        config::{Config, SlowPolicy, SlowReaders},
    };

    let rules = vec![
        (Pattern::parse("price:*")?, SlowPolicy::Latest),
        (Pattern::parse("log:*")?, SlowPolicy::Gap),
    ];
    let config = Config {
        slow_readers: SlowReaders { default: SlowPolicy::Disconnect, rules },
        ..Config::default()
    };
    // [end]
    Ok(Server::builder().config(config))
}

fn configured(secret: &str) -> Result<Builder, Box<dyn Error>> {
    // [config]
    use mahavishnu_tokio::core::{
        auth::KeySet,
        config::{Auth, Config},
    };

    let mut keys = KeySet::new();
    keys.add_secret(None, secret.as_bytes())?;
    let mut config =
        Config { auth: Auth { required: true, keys, ..Auth::default() }, ..Config::default() };
    config.limits.wire.message_bytes_max = 64 * 1024;
    // [end]
    Ok(Server::builder().config(config))
}

#[expect(dead_code, reason = "the driver's own tests have certificates")]
fn with_tls() -> Result<Builder, Box<dyn Error>> {
    // [tls]
    use mahavishnu_tokio::core::{
        config::Config,
        tls::{self, Certified, Chain, ClientAuth, PrivateKey},
    };

    let chain = Chain::from_pem(&std::fs::read("server.pem")?)?;
    let key = PrivateKey::from_pem(&std::fs::read("server-key.pem")?)?;
    let tls = tls::Server::new(vec![Certified::new(chain, &key)?], &ClientAuth::Off)?;
    let config = Config { tls: Some(tls), ..Config::default() };
    // [end]
    Ok(Server::builder().config(config))
}

#[expect(dead_code, reason = "its example is tested")]
mod router {
    // [axum]
    use std::net::SocketAddr;

    use axum::{
        body::Body,
        extract::{ConnectInfo, Request, State},
        response::Response,
    };
    use mahavishnu_tokio::{Handle, hyper::upgrade};

    async fn live(
        State(handle): State<Handle>,
        peer: ConnectInfo<SocketAddr>,
        request: Request,
    ) -> Response {
        upgrade(&handle, request, Some(peer.0)).await.map(Body::from)
    }
    // [end]
}

fn recorded(path: &std::path::Path) -> std::io::Result<Builder> {
    // [record]
    use std::{fs::File, sync::Mutex};

    use mahavishnu_tokio::core::trace::Writer;

    let trace = Mutex::new(Writer::new(File::create(path)?)?);
    let builder = Server::builder().record(move |shard, noted| {
        let _ = trace.lock().unwrap().add(shard, noted);
    });
    // [end]
    Ok(builder)
}

async fn broadcasts(handle: &Handle) -> Done {
    // [broadcast]
    let data = json!({ "workflow_id": "42" });
    let published = handle.broadcast("workflow:42", "workflow.started", &data).await?;
    println!("{} subscribers", published.subscribers);
    // [end]
    assert_eq!(published.subscribers, 1);
    Ok(())
}

async fn documents(handle: &Handle) -> Done {
    // [state]
    use mahavishnu_tokio::{BroadcastError, HistoryRange, Publish, core::reason::Reason};

    let seen = handle.state("workflow:42").await?;
    let step = Publish::new("workflow:42", "workflow.step", &json!({ "step": 3 }))?
        .state(&json!({ "status": "running", "step": 3 }))?
        .if_offset(seen.offset)
        .idempotency_key("workflow:42/step/3");
    match handle.publish(step).await {
        Ok(published) => println!("now at {:?}", published.position()),
        Err(BroadcastError::Refused(Reason::StateConflict)) => {
            println!("somebody was faster: read the document again");
        }
        Err(error) => return Err(error.into()),
    }
    let last = handle.history("workflow:42", HistoryRange::Newest, 100).await?;
    // [end]
    assert_eq!(last.events.last().unwrap().event, "workflow.step");
    Ok(())
}

async fn sends(handle: &Handle, conn: ConnId) -> Done {
    // [send]
    let sent = handle.send_to_user("ada", "mail.arrived", &json!({ "unread": 3 })).await?;
    println!("{} connections of ada's", sent.reached);

    handle.send(conn, "export.ready", &json!({ "url": "/exports/7" })).await?;
    // [end]
    assert_eq!((sent.reached, sent.slow), (1, 0));
    Ok(())
}

fn never_waits(handle: &Handle, skipped: &mut u32) {
    // [try]
    use mahavishnu_tokio::TryError;

    let data = json!({ "cents": 99 });
    if let Err(TryError::Full) = handle.try_broadcast("prices", "price.changed", &data) {
        *skipped += 1; // The next price will do.
    }
    // [end]
}

async fn channels(handle: &Handle, conn: ConnId) -> Done {
    // [subscribe]
    let is_new = handle.subscribe(conn, "tenant:7").await?;
    let was_there = handle.unsubscribe(conn, "tenant:7").await?;
    // [end]
    assert!(is_new && was_there);
    Ok(())
}

async fn lists(handle: &Handle) -> Done {
    // [who]
    let mut after = None;
    loop {
        let part = handle.subscribers("workflow:42", 100, after).await?;
        for one in &part.items {
            println!("{} {:?} {} of {}", one.connection_id, one.user, one.peer, part.total);
        }
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    // [end]
    Ok(())
}

async fn sessions(handle: &Handle) -> Done {
    // [sessions]
    for session in handle.sessions_of("ada").await? {
        let name = session.connection_id;
        println!("{name} has {} channels, {:?}", session.channels, session.waits);
    }
    let ended = handle.end_sessions_of("ada").await?;
    // [end]
    assert_eq!(ended, 0);
    Ok(())
}

async fn disconnects(handle: &Handle, conn: ConnId) -> Done {
    // [disconnect]
    use mahavishnu_tokio::Disconnect;

    let how = Disconnect::new(4001, "logged in elsewhere").retry_never();
    let was_there = handle.disconnect(conn, how).await?;

    let how = Disconnect::new(1013, "moving").retry_after(Duration::from_secs(5));
    let ended = handle.disconnect_user("ada", how).await?;
    // [end]
    assert_eq!((was_there, ended), (true, 0));
    Ok(())
}

/// Runs a server, and what is done with it.
fn with<F: Future<Output = Done>>(builder: Builder, act: impl FnOnce(SocketAddr, Handle) -> F) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(builder.listen("127.0.0.1:0").start()).unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    runtime.block_on(act(address, handle)).unwrap();
    runtime.block_on(server.stop()).unwrap();
}

#[test]
fn a_request_is_answered_or_refused() {
    with(requests(), |address, _| async move {
        let mut client = Client::connect(address, "/");
        let answer = client.request("get_pool_status", &json!({ "pool_id": "p1" }));
        assert_eq!(answer["data"], json!({ "pool_id": "p1", "status": "idle" }));
        let refused = client.request("get_pool_status", &json!({}));
        assert_eq!(refused["error_code"], "INVALID_REQUEST");
        assert_eq!(refused["error_message"], "pool_id is missing");
        Ok(())
    });
}

#[test]
fn a_cookie_says_who_it_is() {
    with(cookies(Sessions), |address, handle| async move {
        let mut ada = Client::connect_with(address, "/", &[("cookie", "session=s-ada")]).unwrap();
        assert_eq!(ada.request("who", &json!({}))["data"], json!({ "user": "ada" }));
        let chat = ada.request("subscribe", &json!({ "channel": "chat:1" }));
        assert_eq!(chat["data"]["status"], "subscribed", "{chat}");
        let other = ada.request("subscribe", &json!({ "channel": "pool:1" }));
        assert_eq!(other["error_code"], "FORBIDDEN", "{other}");
        let stranger = Client::connect_with(address, "/", &[("cookie", "session=x")]);
        assert_eq!(stranger.err(), Some(401));
        let nobody = Client::connect_with(address, "/", &[]);
        assert_eq!(nobody.err(), Some(401));
        sends(&handle, handle.connections(1, None).await?.items.first().unwrap().conn).await?;
        assert_eq!(ada.event(), ("mail.arrived".to_owned(), json!({ "unread": 3 })));
        assert_eq!(ada.event(), ("export.ready".to_owned(), json!({ "url": "/exports/7" })));
        Ok(())
    });
}

#[test]
fn what_is_kept_with_a_connection_is_found_again() {
    with(tenants(), |address, _| async move {
        let mut acme = Client::connect_with(address, "/", &[("x-tenant", "acme")]).unwrap();
        acme.request("subscribe", &json!({ "channel": "tenant:acme" }));
        let said = acme.request("say", &json!({ "text": "hello" }));
        assert_eq!(said["data"], json!({ "heard_by": 1 }));
        assert_eq!(acme.event(), ("said".to_owned(), json!({ "text": "hello" })));
        Ok(())
    });
}

#[test]
fn the_application_decides_who_may() {
    with(authorized(), |address, _| async move {
        let mut client = Client::connect(address, "/");
        for (channel, code) in [("secret:1", json!("FORBIDDEN")), ("open:1", json!(null))] {
            let answer = client.request("subscribe", &json!({ "channel": channel }));
            assert_eq!(answer["error_code"], code, "{answer}");
        }
        let data = json!({ "channel": "open:1", "event": "e", "data": {} });
        assert_eq!(client.request("publish", &data)["error_code"], "FORBIDDEN");
        Ok(())
    });
    with(nobody_publishes(), |address, handle| async move {
        let mut client = Client::connect(address, "/");
        client.request("subscribe", &json!({ "channel": "workflow:42" }));
        let data = json!({ "channel": "workflow:42", "event": "e", "data": {} });
        assert_eq!(client.request("publish", &data)["error_code"], "FORBIDDEN");
        broadcasts(&handle).await?;
        assert_eq!(client.event().0, "workflow.started");
        Ok(())
    });
    let secret = "0123456789abcdef".repeat(2);
    let spec = TokenSpec { user: Some("ada"), permissions: &["admin"], ..TokenSpec::default() };
    let bearer = format!("Bearer {}", issue(secret.as_bytes(), &spec).unwrap());
    with(configured(&secret).unwrap(), |address, handle| async move {
        let fields = [("authorization", &*bearer)];
        let mut ada = Client::connect_with(address, "/", &fields).unwrap();
        assert_eq!(ada.request("x", &json!({}))["error_code"], "UNKNOWN_REQUEST");
        assert_eq!(handle.connections_of("ada", 0, None).await?.total, 1);
        Ok(())
    });
}

#[test]
fn comings_are_heard() {
    with(comings(), |address, handle| async move {
        let mut hall = Client::connect(address, "/");
        hall.request("subscribe", &json!({ "channel": "hall" }));
        assert_eq!(hall.event().1, json!({ "user": null, "channel": "hall" }));
        let conn = handle.connections(1, None).await?.items.first().unwrap().conn;
        channels(&handle, conn).await?;
        let told = (0..3).map(|_| hall.event().0).collect::<Vec<_>>();
        assert!(told.iter().any(|event| event == "came"), "{told:?}");
        assert!(told.iter().any(|event| event == "channel.subscribed"), "{told:?}");
        assert!(told.iter().any(|event| event == "channel.withdrawn"), "{told:?}");
        lists(&handle).await?;
        sessions(&handle).await?;
        disconnects(&handle, conn).await?;
        let told = hall.event();
        assert_eq!((&*told.0, &told.1["retry"]), ("session.closing", &json!("never")));
        Ok(())
    });
}

#[test]
fn a_document_is_published_and_a_trace_is_written() {
    let path = std::env::temp_dir().join(format!("mahavishnu-embedding-{}", std::process::id()));
    with(recorded(&path).unwrap(), |_, handle| async move { documents(&handle).await });
    assert!(std::fs::metadata(&path).unwrap().len() > 0);
    std::fs::remove_file(path).unwrap();
    with(slow().unwrap(), |address, handle| async move {
        let mut client = Client::connect(address, "/");
        client.request("subscribe", &json!({ "channel": "prices" }));
        let mut skipped = 0;
        never_waits(&handle, &mut skipped);
        assert_eq!((client.event().1, skipped), (json!({ "cents": 99 }), 0));
        Ok(())
    });
}
