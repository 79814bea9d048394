//! A WebSocket echo server: `mahavishnu_core::ws::Connection` on its own, without channels or messages.
//!
//! `cargo run -p mahavishnu-tokio --example echo -- --port 9001`, then `wscat -c ws://127.0.0.1:9001`. Port 0 takes any
//! free one. With `--deflate` it takes up offers of permessage-deflate. The Autobahn suite runs against it:
//! `scripts/autobahn server`.

mod drive;

use std::{error::Error, net::Ipv4Addr, rc::Rc};

use mahavishnu_core::ws::Connection;
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions},
    task::spawn_local,
};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut port, mut deflate) = (9001, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--port" => port = arguments.next().ok_or("--port wants a number")?.parse()?,
            "--deflate" => deflate = true,
            _ => return Err("usage: echo [--port PORT] [--deflate]".into()),
        }
    }
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(serve(port, deflate))
}

async fn serve(port: u16, deflate: bool) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    eprintln!("listening on ws://{}", listener.local_addr()?);
    let limits = Rc::new(drive::limits());
    loop {
        let (stream, peer) = listener.accept().await?;
        let limits = limits.clone();
        spawn_local(async move {
            let ws = Connection::server(drive::now(), &limits);
            if let Err(error) = drive::echo(stream, ws, deflate, &limits).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}
