//! A WebSocket echo server: `mahavishnu_core::ws::Connection` on its own, without channels or messages.
//!
//! `cargo run -p mahavishnu-smol --example echo -- --port 9001`, then `wscat -c ws://127.0.0.1:9001`. Port 0 takes any
//! free one. The Autobahn suite runs against it: `scripts/autobahn server`.

mod drive;

use std::{
    error::Error,
    net::{Ipv4Addr, TcpListener},
    rc::Rc,
};

use mahavishnu_core::ws::Connection;
use smol::{Async, LocalExecutor, block_on};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let port = match arguments.as_slice() {
        [] => 9001,
        [flag, port] if flag == "--port" => port.parse()?,
        _ => return Err("usage: echo [--port PORT]".into()),
    };
    let tasks = LocalExecutor::new();
    block_on(tasks.run(serve(&tasks, port)))
}

async fn serve(tasks: &LocalExecutor<'_>, port: u16) -> Result<(), Box<dyn Error>> {
    let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, port))?;
    eprintln!("listening on ws://{}", listener.get_ref().local_addr()?);
    let limits = Rc::new(drive::limits());
    loop {
        let (stream, peer) = listener.accept().await?;
        let limits = limits.clone();
        let serve = async move {
            let ws = Connection::server(drive::now(), &limits);
            if let Err(error) = drive::echo(stream, ws, &limits).await {
                eprintln!("{peer}: {error}");
            }
        };
        tasks.spawn(serve).detach();
    }
}
