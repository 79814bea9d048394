//! A WebSocket echo server: `mahavishnu_core::ws::Connection` on its own, without channels or messages.
//!
//! `cargo run -p mahavishnu-driver --example echo -- --port 9001`, then `wscat -c ws://127.0.0.1:9001`. Port 0 takes any
//! free one. `--runtime` is tokio (the default), smol or own, the one of the example `own_runtime`. With `--deflate` it takes
//! up offers of permessage-deflate, with `--tls CERTIFICATE KEY` it speaks TLS. The Autobahn suite runs against it:
//! `scripts/autobahn server`.

mod drive;
#[path = "own_runtime/own.rs"]
mod own;

use std::{error::Error, net::Ipv4Addr};

use drive::Echo;
use mahavishnu_core::tls::{Certified, Chain, ClientAuth, PrivateKey, Server};
use mahavishnu_driver::{Runtime, Waiter, poller::TcpListener};
use mahavishnu_smol::Smol;
use mahavishnu_tokio::Tokio;
use own::Own;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    match &*options.runtime {
        "tokio" => Tokio::run(serve::<<Tokio as Runtime>::Waiter>(options))?,
        "smol" => Smol::run(serve::<<Smol as Runtime>::Waiter>(options))?,
        "own" => Own::run(serve::<<Own as Runtime>::Waiter>(options))?,
        _ => Err(USAGE.into()),
    }
}

async fn serve<W: Waiter>(options: Options) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port).into())?;
    let scheme = if options.tls.is_some() { "wss" } else { "ws" };
    eprintln!("listening on {scheme}://{}", listener.local_addr()?);
    let mut echo = Echo::<W>::new(options.deflate, Some((listener, options.tls)))?;
    Ok(echo.run().await?)
}

/// What the command line asks for.
struct Options {
    runtime: String,
    port: u16,
    deflate: bool,
    tls: Option<Server>,
}

impl Options {
    /// `--runtime RUNTIME`, `--port PORT`, `--deflate`, `--tls CERTIFICATE KEY` (PEM files).
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut this = Self { runtime: "tokio".into(), port: 9001, deflate: false, tls: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--runtime" => this.runtime = value()?,
                "--port" => this.port = value()?.parse()?,
                "--deflate" => this.deflate = true,
                "--tls" => {
                    let chain = Chain::from_pem(&std::fs::read(value()?)?)?;
                    let key = PrivateKey::from_pem(&std::fs::read(value()?)?)?;
                    let server = Server::new(vec![Certified::new(chain, &key)?], &ClientAuth::Off)?;
                    server.set_time(drive::now().unix);
                    this.tls = Some(server);
                }
                _ => return Err(USAGE.into()),
            }
        }
        Ok(this)
    }
}

const USAGE: &str =
    "usage: echo [--runtime tokio|smol|own] [--port PORT] [--deflate] [--tls CERTIFICATE KEY]";
