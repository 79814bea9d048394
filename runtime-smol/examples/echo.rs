//! A WebSocket echo server: `mahavishnu_core::ws::Connection` on its own, without channels or messages.
//!
//! `cargo run -p mahavishnu-smol --example echo -- --port 9001`, then `wscat -c ws://127.0.0.1:9001`. Port 0 takes any
//! free one. With `--deflate` it takes up offers of permessage-deflate. The Autobahn suite runs against it:
//! `scripts/autobahn server`.

mod drive;

use std::{
    error::Error,
    net::{Ipv4Addr, TcpListener},
    rc::Rc,
};

use mahavishnu_core::ws::Connection;
use smol::{Async, LocalExecutor, block_on};

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
    let tasks = LocalExecutor::new();
    block_on(tasks.run(serve(&tasks, port, deflate)))
}

async fn serve(tasks: &LocalExecutor<'_>, port: u16, deflate: bool) -> Result<(), Box<dyn Error>> {
    let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, port))?;
    eprintln!("listening on ws://{}", listener.get_ref().local_addr()?);
    let limits = Rc::new(drive::limits());
    loop {
        let (stream, peer) = listener.accept().await?;
        let limits = limits.clone();
        let serve = async move {
            let ws = Connection::server(drive::now(), &limits);
            if let Err(error) = drive::echo(stream, ws, deflate, &limits).await {
                eprintln!("{peer}: {error}");
            }
        };
        tasks.spawn(serve).detach();
    }
}
