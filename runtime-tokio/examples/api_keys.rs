//! An application that knows its users itself: by an API key in the handshake, one channel for each tenant, and nobody else
//! publishes.
//!
//! Run it, then: `wscat -c ws://127.0.0.1:8686 -H 'X-Api-Key: k-ada'` and type
//! `{"type":"request","event":"say","id":"1","data":{"text":"hello"}}`

use std::{collections::HashMap, sync::Arc, time::Duration};

use mahavishnu_tokio::{
    Access, AuthenticateResult, Handshake, Refusal, Request, RequestResult, Server,
    core::{
        config::{Config, Publishing},
        hub::RequestError,
    },
};
use serde_json::json;

type Accounts = HashMap<&'static str, Account>;

/// What is known of who has a key.
#[derive(Clone, Copy)]
struct Account {
    user: &'static str,
    tenant: &'static str,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let accounts = Arc::new(Accounts::from([
        ("k-ada", Account { user: "ada", tenant: "acme" }),
        ("k-eve", Account { user: "eve", tenant: "umbrella" }),
    ]));
    let config = Config { publishing: Publishing::ApplicationOnly, ..Config::default() };
    let server = Server::builder()
        .config(config)
        .listen("127.0.0.1:8686")
        .authenticate(move |handshake| who(handshake, accounts.clone()))
        .on_connect(|connected| eprintln!("{} is here", connected.user().unwrap_or("nobody")))
        .on_request("say", say)
        .on_disconnect(|connected, reason| {
            eprintln!("{} has left: {}", connected.user().unwrap_or("nobody"), reason.name());
        })
        .start()
        .await?;
    server.run_until(tokio::signal::ctrl_c()).await?;
    Ok(())
}

/// Whose key it is, and what they may do for an hour.
#[expect(clippy::unused_async, reason = "a real one waits for its database")]
async fn who(handshake: Handshake, accounts: Arc<Accounts>) -> AuthenticateResult {
    let key = handshake.header("x-api-key").ok_or(Refusal::unauthorized())?;
    // A database would be asked here, for 5 s at most.
    let account = *accounts.get(key).ok_or(Refusal::unauthorized())?;
    Ok(Access::of(account.user)
        .subscribe([&*channel(account.tenant)])
        .expires_in(Duration::from_secs(3600))
        .keep(account))
}

/// Tells the tenant's channel what one of its users says.
async fn say(request: Request) -> RequestResult {
    let error =
        |code: &str, message: &str| RequestError { code: code.into(), message: message.into() };
    let account = request.connected.data::<Account>();
    let account = account.ok_or_else(|| error("FORBIDDEN", "Who is this?"))?;
    let said = json!({ "user": account.user, "text": request.data.get("text") });
    let handle = request.connected.handle();
    let done = handle.broadcast(&channel(account.tenant), "said", &said).await;
    let done = done.map_err(|refused| error("SERVER_ERROR", &refused.to_string()))?;
    Ok(json!({ "heard_by": done.subscribers }))
}

fn channel(tenant: &str) -> String {
    format!("tenant:{tenant}")
}
