//! The chat on axum: a `tokio::sync::broadcast` channel and a roll for each room, a task for each connection. With `--drained`
//! it does what helps most: small buffers for reading, and one flush for all that waits.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    response::Response,
    routing::any,
    serve::ListenerExt,
};
use futures_util::{SinkExt, StreamExt};
use mahavishnu_bench_peers::{BACKLOG_MESSAGES, Options, Result};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::broadcast::{self, Sender, error::RecvError},
};

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wish {
    Join { room: String, name: String },
    Say(String),
    Who {},
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum News<'a> {
    Joined(&'a str),
    Said { name: &'a str, text: &'a str },
    Left(&'a str),
    Members(&'a BTreeSet<String>),
}

struct Room {
    told: Sender<Utf8Bytes>,
    names: BTreeSet<String>,
}

type Rooms = Arc<Mutex<HashMap<String, Room>>>;

fn lock(rooms: &Rooms) -> MutexGuard<'_, HashMap<String, Room>> {
    rooms.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody in a room, until it is dropped.
struct Member {
    rooms: Rooms,
    room: String,
    name: String,
    told: Sender<Utf8Bytes>,
}

impl Member {
    fn join(rooms: Rooms, room: String, name: String) -> Self {
        let told = {
            let mut all = lock(&rooms);
            let there = all.entry(room.clone()).or_insert_with(|| Room {
                told: broadcast::channel(BACKLOG_MESSAGES).0,
                names: BTreeSet::new(),
            });
            there.names.insert(name.clone());
            there.told.clone()
        };
        Self { rooms, room, name, told }
    }

    fn tell(&self, news: &News<'_>) -> Result<()> {
        drop(self.told.send(serde_json::to_string(news)?.into()));
        Ok(())
    }

    fn members(&self) -> Result<String> {
        let names = lock(&self.rooms).get(&self.room).map(|room| room.names.clone());
        Ok(serde_json::to_string(&News::Members(&names.unwrap_or_default()))?)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut rooms = lock(&self.rooms);
        if let Some(room) = rooms.get_mut(&self.room) {
            room.names.remove(&self.name);
            if room.names.is_empty() {
                rooms.remove(&self.room);
            }
        }
        drop(rooms);
        drop(self.tell(&News::Left(&self.name)));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let app = Router::new().route("/", any(upgrade)).with_state((Rooms::default(), options));
    let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
    axum::serve(listener.tap_io(|io| drop(io.set_nodelay(true))), app).await?;
    Ok(())
}

async fn upgrade(
    ws: WebSocketUpgrade,
    State((rooms, options)): State<(Rooms, Options)>,
) -> Response {
    let ws = if options.drained { ws.read_buffer_size(4096).write_buffer_size(4096) } else { ws };
    ws.on_upgrade(
        move |socket| async move { drop(connection(socket, rooms, options.drained).await) },
    )
}

async fn connection(mut socket: WebSocket, rooms: Rooms, drained: bool) -> Result<()> {
    let Some(Wish::Join { room, name }) = next(&mut socket).await? else { return Ok(()) };
    let member = Member::join(rooms, room, name);
    let mut told = member.told.subscribe();
    member.tell(&News::Joined(&member.name))?;
    let (mut sink, mut source) = socket.split();
    loop {
        tokio::select! {
            news = told.recv() => match news {
                Ok(news) if drained => {
                    sink.feed(Message::Text(news)).await?;
                    while let Ok(news) = told.try_recv() {
                        sink.feed(Message::Text(news)).await?;
                    }
                    sink.flush().await?;
                }
                Ok(news) => sink.send(Message::Text(news)).await?,
                // What a slow reader has missed is gone.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
            wish = next(&mut source) => match wish? {
                Some(Wish::Say(text)) => member.tell(&News::Said { name: &member.name, text: &text })?,
                Some(Wish::Who {}) => sink.send(Message::Text(member.members()?.into())).await?,
                Some(Wish::Join { .. }) => {}
                None => return Ok(()),
            },
        }
    }
}

async fn next<S>(source: &mut S) -> Result<Option<Wish>>
where
    S: StreamExt<Item = std::result::Result<Message, axum::Error>> + Unpin,
{
    while let Some(message) = source.next().await {
        if let Message::Text(text) = message? {
            return Ok(Some(serde_json::from_str(&text)?));
        }
    }
    Ok(None)
}
