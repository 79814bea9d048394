//! The chat on socketioxide: rooms are its own, what is known of a member is an extension of its socket.

use axum::{Router, serve::ListenerExt};
use mahavishnu_bench_peers::{BACKLOG_MESSAGES, Options, Result};
use serde::{Deserialize, Serialize};
use socketioxide::{
    SocketIo,
    extract::{Data, Extension, SocketRef},
};
use tokio::net::TcpListener;

#[derive(Clone, Deserialize)]
struct Member {
    room: String,
    name: String,
}

#[derive(Serialize)]
struct Said {
    name: String,
    text: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let (layer, io) = SocketIo::builder().max_buffer_size(BACKLOG_MESSAGES).build_layer();
    io.ns("/", async |socket: SocketRef| {
        socket.on("join", join);
        socket.on("say", say);
        socket.on("who", who);
        socket.on_disconnect(left);
    });
    let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
    let app = Router::new().layer(layer);
    axum::serve(listener.tap_io(|io| drop(io.set_nodelay(true))), app).await?;
    Ok(())
}

async fn join(socket: SocketRef, Data(member): Data<Member>) {
    socket.extensions.insert(member.clone());
    socket.join(member.room.clone());
    drop(socket.within(member.room).emit("joined", &member.name).await);
}

async fn say(socket: SocketRef, Extension(member): Extension<Member>, Data(text): Data<String>) {
    let said = Said { name: member.name, text };
    drop(socket.within(member.room).emit("said", &said).await);
}

async fn who(socket: SocketRef, Extension(member): Extension<Member>) {
    let there = socket.within(member.room).sockets();
    let names = there.iter().filter_map(|one| one.extensions.get::<Member>());
    let names: Vec<_> = names.map(|member| member.name).collect();
    // An array would be taken for the arguments.
    drop(socket.emit("members", &(names,)));
}

async fn left(socket: SocketRef, Extension(member): Extension<Member>) {
    drop(socket.within(member.room).emit("left", &member.name).await);
}
