//! A WebSocket echo server: `mahavishnu_core::ws::Connection` on its own, without channels or messages.
//!
//! `cargo run -p mahavishnu-tokio --example echo -- --port 9001`, then `wscat -c ws://127.0.0.1:9001`. Port 0 takes any
//! free one. With `--deflate` it takes up offers of permessage-deflate, with `--tls CERTIFICATE KEY` it speaks TLS. The Autobahn suite runs against it:
//! `scripts/autobahn server`.

mod drive;

use std::{error::Error, net::Ipv4Addr, rc::Rc};

use mahavishnu_core::{tls::Session, ws::Connection};
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions},
    task::spawn_local,
};

fn main() -> Result<(), Box<dyn Error>> {
    let options = drive::Options::parse()?;
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(serve(options))
}

async fn serve(options: drive::Options) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    let scheme = if options.tls.is_some() { "wss" } else { "ws" };
    eprintln!("listening on {scheme}://{}", listener.local_addr()?);
    let (limits, options) = (Rc::new(drive::limits()), Rc::new(options));
    loop {
        let (stream, peer) = listener.accept().await?;
        let (limits, options) = (limits.clone(), options.clone());
        spawn_local(async move {
            let ws = Connection::server(drive::now(), &limits);
            let tls = options.tls.as_ref().and_then(Session::new);
            if let Err(error) = drive::echo(stream, ws, tls, options.deflate, &limits).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}
