//! Chat rooms: who is there, who comes and goes, and what they say. A room is a channel, its members are the channel's
//! subscribers.
//!
//! Run it, then in two terminals: `wscat -c 'ws://127.0.0.1:8686/?name=ada'`, and type
//! `{"type":"request","event":"subscribe","id":"1","data":{"channel":"room:tea"}}` and
//! `{"type":"request","event":"say","id":"2","data":{"room":"room:tea","text":"hello"}}`

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use mahavishnu_tokio::{
    Access, Builder, Connected, Refusal, Request, RequestResult, Server,
    core::{
        config::{Config, Publishing},
        hub::RequestError,
    },
};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = service(Server::builder()).listen("127.0.0.1:8686").start().await?;
    server.run_until(tokio::signal::ctrl_c()).await?;
    Ok(())
}

fn service(builder: Builder) -> Builder {
    let rooms = Arc::new(Rooms::default());
    let (came, left, says) = (rooms.clone(), rooms.clone(), rooms);
    builder
        // Clients say something by a request, so that nobody speaks in another's name.
        .config(Config { publishing: Publishing::ApplicationOnly, ..Config::default() })
        // Whoever says a name has it here; the example `api_keys` asks for more.
        .authenticate(|handshake| async move {
            let name = handshake.query().and_then(|query| query.strip_prefix("name="));
            let name = name.ok_or(Refusal::unauthorized())?;
            Ok(Access::of(name).subscribe(["room:*"]))
        })
        .on_subscribe(move |connected, room| came.enter(&connected, room))
        .on_unsubscribe(move |connected, room, _why| left.leave(&connected, room))
        .on_request("who", who)
        .on_request("say", move |request| say(request, says.clone()))
}

/// Connections of each room and user: somebody with two windows comes once and leaves once.
#[derive(Default)]
struct Rooms(Mutex<HashMap<(String, String), u32>>);

impl Rooms {
    fn enter(&self, connected: &Connected, room: &str) {
        let key = key(connected, room);
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let windows = rooms.entry(key).or_default();
        *windows += 1;
        if *windows == 1 {
            tell(connected, room, "room.joined");
        }
    }

    fn leave(&self, connected: &Connected, room: &str) {
        let key = key(connected, room);
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(windows) = rooms.get_mut(&key) else { return };
        *windows -= 1;
        if *windows == 0 {
            rooms.remove(&key);
            tell(connected, room, "room.left");
        }
    }

    fn has(&self, connected: &Connected, room: &str) -> bool {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.contains_key(&key(connected, room))
    }
}

fn key(connected: &Connected, room: &str) -> (String, String) {
    (room.to_owned(), connected.user().unwrap_or_default().to_owned())
}

/// Called under the lock, so that joins and leaves are told in the order in which they are counted: `try_broadcast` never waits.
fn tell(connected: &Connected, room: &str, event: &str) {
    let data = json!({ "room": room, "user": connected.user() });
    if let Err(error) = connected.handle().try_broadcast(room, event, &data) {
        // Clients can still ask who is there.
        eprintln!("{event} was not told: {error}");
    }
}

/// Who is in a room, as the server knows it: of a long list it tells a part at a time.
async fn who(request: Request) -> RequestResult {
    let room = room(&request)?;
    let (mut users, mut after) = (BTreeSet::new(), None);
    loop {
        let part = request.connected.handle().subscribers(room, 1000, after).await;
        let part = part.map_err(|refused| error("INVALID_REQUEST", &refused.to_string()))?;
        users.extend(part.items.iter().filter_map(|one| one.user.as_deref().map(str::to_owned)));
        after = part.next;
        if after.is_none() {
            return Ok(json!({ "room": room, "users": users }));
        }
    }
}

async fn say(request: Request, rooms: Arc<Rooms>) -> RequestResult {
    let room = room(&request)?;
    if !rooms.has(&request.connected, room) {
        return Err(error("FORBIDDEN", "You are not in that room"));
    }
    let said = json!({ "user": request.connected.user(), "text": request.data.get("text") });
    let done = request.connected.handle().broadcast(room, "room.said", &said).await;
    let done = done.map_err(|refused| error("SERVER_ERROR", &refused.to_string()))?;
    Ok(json!({ "heard_by": done.subscribers }))
}

fn room(request: &Request) -> Result<&str, RequestError> {
    let room = request.data.get("room").and_then(|room| room.as_str());
    room.ok_or_else(|| error("INVALID_REQUEST", "room is missing"))
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
    fn members_hear_who_comes_what_is_said_and_who_leaves() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let builder = service(Server::builder()).listen("127.0.0.1:0");
        let server = runtime.block_on(builder.start()).unwrap();
        let address = server.local_addr().unwrap();
        let (tea, told) =
            (json!({ "channel": "room:tea" }), |user| json!({ "room": "room:tea", "user": user }));
        let mut ada = Client::connect(address, "/?name=ada");
        ada.request("subscribe", &tea);
        assert_eq!(ada.event(), ("room.joined".to_owned(), told("ada")));

        let mut eves: Vec<_> = (0..2).map(|_| Client::connect(address, "/?name=eve")).collect();
        for eve in &mut eves {
            eve.request("subscribe", &tea);
        }
        assert_eq!(ada.event(), ("room.joined".to_owned(), told("eve")));
        let here = ada.request("who", &json!({ "room": "room:tea" }));
        assert_eq!(here["data"]["users"], json!(["ada", "eve"]), "{here}");

        let hello = json!({ "room": "room:tea", "text": "hello" });
        assert_eq!(eves[0].request("say", &hello)["data"]["heard_by"], 3);
        let said = json!({ "user": "eve", "text": "hello" });
        assert_eq!(ada.event(), ("room.said".to_owned(), said));
        // By the last of two windows only.
        drop(eves);
        assert_eq!(ada.event(), ("room.left".to_owned(), told("eve")));
        ada.request("unsubscribe", &tea);
        assert_eq!(ada.request("say", &hello)["error_code"], "FORBIDDEN");
        drop(ada);
        runtime.block_on(server.stop()).unwrap();
    }
}
