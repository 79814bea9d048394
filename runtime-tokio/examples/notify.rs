//! Notifications to one user, at whatever windows it has open; what it has not seen waits until it comes back.
//!
//! Run it, then in two terminals: `wscat -c 'ws://127.0.0.1:8686/?name=ada'` and the same as `eve`. As ada type
//! `{"type":"request","event":"share","id":"1","data":{"with":"eve","what":"budget.ods"}}`, and as eve, who is told now or when
//! she comes, `{"type":"request","event":"seen","id":"2","data":{"number":1}}`

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use mahavishnu_tokio::{
    Access, Builder, Connected, Refusal, Request, RequestResult, Server, core::hub::RequestError,
};
use serde_json::{Value, json};

/// So many wait for each user; the oldest goes first.
const WAITING_MAX: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = service(Server::builder()).listen("127.0.0.1:8686").start().await?;
    server.run_until(tokio::signal::ctrl_c()).await?;
    Ok(())
}

fn service(builder: Builder) -> Builder {
    let inboxes = Arc::new(Inboxes::default());
    let (comes, sees) = (inboxes.clone(), inboxes.clone());
    builder
        // Whoever says a name has it here; the example `api_keys` asks for more.
        .authenticate(|handshake| async move {
            let name = handshake.query().and_then(|query| query.strip_prefix("name="));
            Ok(Access::of(name.ok_or(Refusal::unauthorized())?))
        })
        .on_connect(move |connected| comes.catch_up(&connected))
        .on_request("share", move |request| share(request, inboxes.clone()))
        .on_request("seen", move |request| seen(request, sees.clone()))
}

/// What users have not seen yet. A database in earnest: this is gone with the process.
#[derive(Default)]
struct Inboxes(Mutex<HashMap<String, Inbox>>);

#[derive(Default)]
struct Inbox {
    last: u64,
    waiting: VecDeque<Value>,
}

impl Inboxes {
    /// Keeps a notification under the user's next number.
    fn keep(&self, user: &str, what: &str, by: Option<&str>) -> Value {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let inbox = all.entry(user.to_owned()).or_default();
        inbox.last += 1;
        let note = json!({ "number": inbox.last, "what": what, "by": by });
        if inbox.waiting.len() == WAITING_MAX {
            inbox.waiting.pop_front();
        }
        inbox.waiting.push_back(note.clone());
        note
    }

    /// Sends what waits to a connection that has just come. It never waits, as `on_connect` is no place for that.
    fn catch_up(&self, connected: &Connected) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let inbox = connected.user().and_then(|user| all.get(user));
        for note in inbox.into_iter().flat_map(|inbox| &inbox.waiting) {
            if connected.handle().try_send(connected.conn(), "shared", note).is_err() {
                return; // It stays in the inbox, for the next time.
            }
        }
    }
}

/// Kept first and sent then: who comes in between is sent it twice and knows it by its number, but nobody misses it.
async fn share(request: Request, inboxes: Arc<Inboxes>) -> RequestResult {
    let text = |name| request.data.get(name).and_then(Value::as_str);
    let (Some(with), Some(what)) = (text("with"), text("what")) else {
        return Err(error("INVALID_REQUEST", "with or what is missing"));
    };
    let note = inboxes.keep(with, what, request.connected.user());
    let sent = request.connected.handle().send_to_user(with, "shared", &note).await;
    let sent = sent.map_err(|refused| error("SERVER_ERROR", &refused.to_string()))?;
    // Nobody reached: the moment for an e-mail.
    Ok(json!({ "windows": sent.reached, "slow": sent.slow }))
}

/// That it is in a connection's outbox is no word of anybody's having read it: only its client can say that.
#[expect(clippy::unused_async, reason = "a real one waits for its database")]
async fn seen(request: Request, inboxes: Arc<Inboxes>) -> RequestResult {
    let number = request.data.get("number").and_then(Value::as_u64);
    let number = number.ok_or_else(|| error("INVALID_REQUEST", "number is missing"))?;
    let mut all = inboxes.0.lock().unwrap_or_else(PoisonError::into_inner);
    let inbox = all.entry(request.connected.user().unwrap_or_default().to_owned()).or_default();
    inbox.waiting.retain(|note| note.get("number").and_then(Value::as_u64) > Some(number));
    Ok(json!({ "waiting": inbox.waiting.len() }))
}

fn error(code: &str, message: &str) -> RequestError {
    RequestError { code: code.into(), message: message.into() }
}

#[cfg(test)]
#[path = "../../driver/tests/beside/client.rs"]
mod client;

#[cfg(test)]
mod tests {
    use super::{client::Client, *};

    #[test]
    fn a_user_is_told_in_every_window_or_when_it_comes() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let builder = service(Server::builder()).listen("127.0.0.1:0");
        let server = runtime.block_on(builder.start()).unwrap();
        let address = server.local_addr().unwrap();
        let mut ada = Client::connect(address, "/?name=ada");
        let mut shares = |what| {
            ada.request("share", &json!({ "with": "eve", "what": what }))["data"]["windows"].clone()
        };
        let note = |what, number| {
            ("shared".to_owned(), json!({ "what": what, "by": "ada", "number": number }))
        };
        assert_eq!(shares("budget"), 0, "she is not there");

        let mut eves: Vec<_> = (0..2).map(|_| Client::connect(address, "/?name=eve")).collect();
        assert_eq!(eves[0].event(), note("budget", 1));
        assert_eq!(shares("plan"), 2);
        assert_eq!(eves[1].event(), note("budget", 1));
        assert_eq!(eves[1].event(), note("plan", 2));
        assert_eq!(eves[0].event(), note("plan", 2));

        // What was seen in one window is not told in the next.
        assert_eq!(eves[0].request("seen", &json!({ "number": 1 }))["data"]["waiting"], 1);
        assert_eq!(Client::connect(address, "/?name=eve").event(), note("plan", 2));
        drop((ada, eves));
        runtime.block_on(server.stop()).unwrap();
    }
}
