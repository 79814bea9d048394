//! A WebSocket echo server: `mahavishnu_core::ws::Connection` on its own, without channels or messages.
//!
//! `cargo run -p mahavishnu-tokio --example echo -- --port 9001`, then `wscat -c ws://127.0.0.1:9001`. Port 0 takes any
//! free one. With `--deflate` it takes up offers of permessage-deflate, with `--tls CERTIFICATE KEY` it speaks TLS. The
//! Autobahn suite runs against it: `scripts/autobahn server`.

mod drive;

use std::{error::Error, net::Ipv4Addr};

use drive::Echo;
use mahavishnu_core::tls::{Certified, Chain, ClientAuth, PrivateKey, Server};
use mahavishnu_tokio::poller::TcpListener;
use tokio::runtime::Builder;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options))
}

async fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port).into())?;
    let scheme = if options.tls.is_some() { "wss" } else { "ws" };
    eprintln!("listening on {scheme}://{}", listener.local_addr()?);
    let mut echo = Echo::new(options.deflate, Some((listener, options.tls)))?;
    Ok(echo.run().await?)
}

/// What the command line asks for.
#[derive(Default)]
struct Options {
    port: u16,
    deflate: bool,
    tls: Option<Server>,
}

impl Options {
    /// `--port PORT`, `--deflate`, `--tls CERTIFICATE KEY` (PEM files).
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut this = Self { port: 9001, ..Self::default() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
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

const USAGE: &str = "usage: echo [--port PORT] [--deflate] [--tls CERTIFICATE KEY]";
