//! The client role against Autobahn's fuzzing server: every case is a connection on which each message is echoed.
//!
//! `scripts/autobahn client` runs it with `AUTOBAHN_URL` (`ws://HOST:PORT`), `AUTOBAHN_AGENT` (the name in the report),
//! `AUTOBAHN_COUNT` (the number of cases) and `AUTOBAHN_RUNTIME` (tokio, smol or own). With `AUTOBAHN_DEFLATE=1` it offers
//! permessage-deflate.

mod drive;
#[path = "own_runtime/own.rs"]
mod own;

use std::{env, error::Error, net::TcpStream};

use drive::Echo;
use mahavishnu_core::{
    entropy::{Entropy, Seed},
    ws::{ClientRequest, Connection},
};
use mahavishnu_driver::{Runtime, Waiter, poller};
use mahavishnu_smol::Smol;
use mahavishnu_tokio::Tokio;
use own::Own;

fn main() -> Result<(), Box<dyn Error>> {
    match &*env::var("AUTOBAHN_RUNTIME")? {
        "tokio" => Tokio::run(run::<<Tokio as Runtime>::Waiter>())?,
        "smol" => Smol::run(run::<<Smol as Runtime>::Waiter>())?,
        "own" => Own::run(run::<<Own as Runtime>::Waiter>())?,
        _ => Err("AUTOBAHN_RUNTIME must be tokio, smol or own".into()),
    }
}

async fn run<W: Waiter>() -> Result<(), Box<dyn Error>> {
    let url = env::var("AUTOBAHN_URL")?;
    let host = url.strip_prefix("ws://").ok_or("AUTOBAHN_URL must begin with ws://")?;
    let host = host.trim_end_matches('/');
    let agent = env::var("AUTOBAHN_AGENT")?;
    let deflate = env::var("AUTOBAHN_DEFLATE").is_ok_and(|value| value == "1");
    let count: u32 = env::var("AUTOBAHN_COUNT")?.parse()?;

    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let mut entropy = Entropy::new(Seed(seed));
    let mut echo = Echo::<W>::new(deflate, None)?;
    for case in 1..=count {
        let request = ClientRequest {
            host: host.to_owned(),
            path: format!("/runCase?case={case}&agent={agent}"),
            headers: Default::default(),
            subprotocols: Vec::new(),
            deflate,
        };
        // The one thing that is waited for in the old way: nothing else goes on meanwhile.
        let stream = TcpStream::connect(host)?;
        stream.set_nonblocking(true)?;
        let ws = Connection::client(drive::now(), request, entropy.fork());
        echo.add(poller::TcpStream::from_std(stream), ws, None)?;
        echo.run().await?;
    }
    Ok(())
}
