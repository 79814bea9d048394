//! The client role against Autobahn's fuzzing server: every case is a connection on which each message is echoed.
//!
//! `scripts/autobahn client` runs it with `AUTOBAHN_URL` (`ws://HOST:PORT`), `AUTOBAHN_AGENT` (the name in the report)
//! and `AUTOBAHN_COUNT` (the number of cases). With `AUTOBAHN_DEFLATE=1` it offers permessage-deflate.

mod drive;

use std::{env, error::Error, net::TcpStream};

use drive::Echo;
use mahavishnu_core::{
    entropy::{Entropy, Seed},
    ws::{ClientRequest, Connection},
};
use tokio::runtime::Builder;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let url = env::var("AUTOBAHN_URL")?;
    let host = url.strip_prefix("ws://").ok_or("AUTOBAHN_URL must begin with ws://")?;
    let host = host.trim_end_matches('/');
    let agent = env::var("AUTOBAHN_AGENT")?;
    let deflate = env::var("AUTOBAHN_DEFLATE").is_ok_and(|value| value == "1");
    let count: u32 = env::var("AUTOBAHN_COUNT")?.parse()?;

    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let mut entropy = Entropy::new(Seed(seed));
    let limits = drive::limits();
    let mut echo = Echo::new(deflate, None)?;
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
        let ws = Connection::client(drive::now(), &limits, request, entropy.fork());
        echo.add(mahavishnu_tokio::poller::TcpStream::from_std(stream), ws, None)?;
        echo.run().await?;
    }
    Ok(())
}
