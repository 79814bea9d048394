//! The chat on this library, on tokio: rooms are its channels, which `say` reaches through the application.

use mahavishnu_bench_peers::{Options, Result};
use mahavishnu_tokio::{
    Access, Refusal, Request, RequestResult, Server,
    core::{config::Config, hub::RequestError},
};
use serde_json::json;

struct Room(String);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut config = Config::default();
    // The others have no limit.
    config.limits.connections.messages_per_second = None;
    let server = Server::builder()
        .listen(format!("127.0.0.1:{}", options.port))
        .config(config)
        .authenticate(|handshake| async move {
            let name = handshake.query().and_then(|query| query.strip_prefix("name="));
            name.map(Access::of).ok_or_else(Refusal::unauthorized)
        })
        .on_request("join", join)
        .on_request("say", say)
        .on_request("who", who)
        .on_disconnect(|connected, _| {
            if let Some(room) = connected.data::<Room>() {
                let left = json!({ "name": connected.user() });
                let _ = connected.handle().try_broadcast(&room.0, "left", &left);
            }
        })
        .start()
        .await?;
    server.run_until(std::future::pending::<()>()).await?;
    Ok(())
}

async fn join(request: Request) -> RequestResult {
    let (connected, handle) = (&request.connected, request.connected.handle());
    let room = request.data.get("room").and_then(|room| room.as_str()).ok_or_else(refused)?;
    handle.subscribe(connected.conn(), room).await.map_err(|_| refused())?;
    connected.set_data(Room(room.to_owned()));
    let joined = json!({ "name": connected.user() });
    handle.broadcast(room, "joined", &joined).await.map_err(|_| refused())?;
    Ok(json!({}))
}

async fn say(request: Request) -> RequestResult {
    let connected = &request.connected;
    let room = connected.data::<Room>().ok_or_else(refused)?;
    let said = json!({ "name": connected.user(), "text": request.data.get("text") });
    connected.handle().broadcast(&room.0, "said", &said).await.map_err(|_| refused())?;
    Ok(json!({}))
}

async fn who(request: Request) -> RequestResult {
    let room = request.connected.data::<Room>().ok_or_else(refused)?;
    let there = request.connected.handle().subscribers(&room.0, 1_000, None).await;
    let names: Vec<_> =
        there.map_err(|_| refused())?.items.into_iter().filter_map(|one| one.user).collect();
    Ok(json!({ "members": names.iter().map(|name| &**name).collect::<Vec<_>>() }))
}

fn refused() -> RequestError {
    RequestError { code: "CHAT".into(), message: "Not in this room".into() }
}
