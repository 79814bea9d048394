//! A WebSocket echo server: `mahavishnu_core::ws::Connection` on its own, without channels or messages.
//!
//! `cargo run -p mahavishnu-tokio --example echo -- --port 9001`, then `wscat -c ws://127.0.0.1:9001`. Port 0 takes any
//! free one. The Autobahn suite runs against it: `scripts/autobahn server`.

mod drive;

use std::{error::Error, net::Ipv4Addr, rc::Rc};

use mahavishnu_core::ws::Connection;
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions},
    task::spawn_local,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let port = match arguments.as_slice() {
        [] => 9001,
        [flag, port] if flag == "--port" => port.parse()?,
        _ => return Err("usage: echo [--port PORT]".into()),
    };
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(serve(port))
}

async fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    eprintln!("listening on ws://{}", listener.local_addr()?);
    let limits = Rc::new(drive::limits());
    loop {
        let (stream, peer) = listener.accept().await?;
        let limits = limits.clone();
        spawn_local(async move {
            let ws = Connection::server(drive::now(), &limits);
            if let Err(error) = drive::echo(stream, ws, &limits).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}
