//! A server that sends to each of its users in turn, and broadcasts to all of them at once: what `handle.send` costs beside
//! a channel. `scripts/bench-direct` runs it with `chatload direct`.

use std::time::Instant;

use mahavishnu_bench_peers::{Options, Result};
use mahavishnu_tokio::{
    Access, Handle, Refusal, Request, RequestResult, Server, TryError,
    core::{
        config::Config,
        hub::{ConnId, RequestError},
    },
};
use serde_json::{Value, json};

const CHANNEL: &str = "chat:0";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut config = Config::default();
    config.limits.connections.connections_max = 20_000;
    config.limits.connections.sockets_max = 20_000;
    let server = Server::builder()
        .listen(format!("127.0.0.1:{}", options.port))
        .config(config)
        .authenticate(|handshake| async move {
            let name = handshake.query().and_then(|query| query.strip_prefix("name="));
            name.map(Access::of).ok_or_else(Refusal::unauthorized)
        })
        .on_request("join", |request| async move {
            let connected = &request.connected;
            let done = connected.handle().subscribe(connected.conn(), CHANNEL).await;
            done.map(|_| json!({ "name": connected.user() })).map_err(|error| refused(&error))
        })
        .on_request("who", |request| async move {
            let there = request.connected.handle().subscribers(CHANNEL, 0, None).await;
            Ok(json!({ "total": there.map_err(|error| refused(&error))?.total }))
        })
        .on_request("go", go)
        .start()
        .await?;
    server.run_until(std::future::pending::<()>()).await?;
    Ok(())
}

/// Begins what is asked for and answers when it begins.
async fn go(request: Request) -> RequestResult {
    let text = |key| request.data.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let rounds = request.data.get("rounds").and_then(Value::as_u64).unwrap_or(1);
    let first = request.data.get("first").and_then(Value::as_u64).unwrap_or(0);
    let (how, filler) = (text("how"), text("filler"));
    let handle = request.connected.handle().clone();
    let all = everybody(&handle).await.map_err(|error| refused(&*error))?;
    tokio::spawn(async move {
        let begun = Instant::now();
        for round in first..first + rounds {
            // Numbered as the generator numbers its texts.
            let data = json!({ "name": "server", "text": format!("#{round:012} {filler}") });
            if let Err(error) = send(&handle, &how, &all, &data).await {
                eprintln!("{how}: {error}");
            }
        }
        eprintln!("{how}: handed over in {:?}", begun.elapsed());
    });
    Ok(json!({}))
}

/// All connections and their users, in the order of the list.
async fn everybody(handle: &Handle) -> Result<Vec<(ConnId, String)>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let part = handle.connections(1_000, after).await?;
        all.extend(part.items.into_iter().map(|one| {
            let user = one.user.map(|user| user.to_string());
            (one.conn, user.unwrap_or_default())
        }));
        after = part.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

async fn send(handle: &Handle, how: &str, all: &[(ConnId, String)], data: &Value) -> Result<()> {
    match how {
        "broadcast" => drop(handle.broadcast(CHANNEL, "said", data).await?),
        "send_to_user" => {
            for (_, user) in all {
                handle.send_to_user(user, "said", data).await?;
            }
        }
        "send" => {
            for (conn, _) in all {
                handle.send(*conn, "said", data).await?;
            }
        }
        "try_send" => {
            for (conn, _) in all {
                while let Err(TryError::Full) = handle.try_send(*conn, "said", data) {
                    tokio::task::yield_now().await;
                }
            }
        }
        other => return Err(format!("no way to send: {other}").into()),
    }
    Ok(())
}

fn refused(error: &(impl std::fmt::Display + ?Sized)) -> RequestError {
    RequestError { code: "BENCH".into(), message: error.to_string().into() }
}
