//! An application that knows its users itself: by an API key in the handshake, one channel for each tenant, and nobody else
//! publishes.
//!
//! Run it, then: `wscat -c ws://127.0.0.1:8686 -H 'X-Api-Key: k-ada'` and type
//! `{"type":"request","event":"say","id":"1","data":{"text":"hello"}}`

use std::{collections::HashMap, sync::Arc, time::Duration};

use mahavishnu_tokio::{
    Access, AuthenticateResult, Builder, Handshake, Refusal, Request, RequestResult, Server,
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
    let server = service(Server::builder()).listen("127.0.0.1:8686").start().await?;
    server.run_until(tokio::signal::ctrl_c()).await?;
    Ok(())
}

fn service(builder: Builder) -> Builder {
    let accounts = Arc::new(Accounts::from([
        ("k-ada", Account { user: "ada", tenant: "acme" }),
        ("k-eve", Account { user: "eve", tenant: "umbrella" }),
    ]));
    let config = Config { publishing: Publishing::ApplicationOnly, ..Config::default() };
    builder
        .config(config)
        .authenticate(move |handshake| who(handshake, accounts.clone()))
        .on_connect(|connected| eprintln!("{} is here", connected.user().unwrap_or("nobody")))
        .on_request("say", say)
        .on_disconnect(|connected, reason| {
            eprintln!("{} has left: {}", connected.user().unwrap_or("nobody"), reason.name());
        })
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

#[cfg(test)]
#[path = "../../driver/tests/beside/client.rs"]
#[expect(dead_code, reason = "who has no key does not come in")]
mod client;

#[cfg(test)]
mod tests {
    use super::{client::Client, *};

    #[test]
    fn who_has_a_key_speaks_to_its_tenant_and_nobody_else_comes_in() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let builder = service(Server::builder()).listen("127.0.0.1:0");
        let server = runtime.block_on(builder.start()).unwrap();
        let address = server.local_addr().unwrap();
        let connect = |key| Client::connect_with(address, "/", &[("x-api-key", key)]);
        assert_eq!(connect("k-mallory").err(), Some(401));
        let (mut ada, mut eve) = (connect("k-ada").unwrap(), connect("k-eve").unwrap());
        let acme = json!({ "channel": "tenant:acme" });
        assert_eq!(ada.request("subscribe", &acme)["data"]["status"], "subscribed");
        assert_eq!(eve.request("subscribe", &acme)["error_code"], "FORBIDDEN");

        let heard = eve.request("say", &json!({ "text": "hello" }));
        assert_eq!(heard["data"]["heard_by"], 0);
        let heard = ada.request("say", &json!({ "text": "hello" }));
        assert_eq!(heard["data"]["heard_by"], 1);
        let said = json!({ "user": "ada", "text": "hello" });
        assert_eq!(ada.event(), ("said".to_owned(), said));
        drop((ada, eve));
        runtime.block_on(server.stop()).unwrap();
    }
}
