//! A client over a blocking socket, with TLS or without: subscribes to a channel and prints what comes.
//!
//! Run it: `cargo run -p mahavishnu-wire --example watch -- wss://localhost:8686 workflow:42 ca.pem`, or
//! `… -- ws://localhost:8686 workflow:42`. The variable `TOKEN` has the token, if the server wants one.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "it is a program: it has a socket, a clock and an output; and a test includes it"
)]

use std::{
    env,
    error::Error,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, header::AUTHORIZATION};
use mahavishnu_wire::{
    Limits,
    entropy::{Entropy, Seed},
    protocol::{Kind, Message, Request},
    time::Now,
    ws::{ClientRequest, Connection, Event, Flush},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [url, channel, rest @ ..] = args.as_slice() else {
        eprintln!("watch ws://HOST[:PORT][/PATH] CHANNEL, or watch wss://… CHANNEL CA-FILE");
        return ExitCode::FAILURE;
    };
    let token = env::var("TOKEN").ok();
    let told = |event: &str, data: &str| {
        println!("{event} {data}");
        true
    };
    match watch(url, channel, rest.first().map(String::as_str), token.as_deref(), told) {
        Ok(why) => {
            println!("{why}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the channel's events, name and data, until `told` has heard enough or the connection ends. Why that was.
pub(crate) fn watch(
    url: &str,
    channel: &str,
    ca_file: Option<&str>,
    token: Option<&str>,
    told: impl FnMut(&str, &str) -> bool,
) -> Result<String, Box<dyn Error>> {
    let (secure, rest) = match url.split_once("://") {
        Some(("ws", rest)) => (false, rest),
        Some(("wss", rest)) => (true, rest),
        _ => return Err("a URL begins with ws:// or wss://".into()),
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let port = match (host.len() > name.len(), secure) {
        (true, _) => "",
        (false, true) => ":443",
        (false, false) => ":80",
    };
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
    }
    let request = ClientRequest {
        host: host.to_owned(),
        path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        headers,
        subprotocols: Vec::new(),
        deflate: false,
    };
    // Masks have to be unforeseeable (RFC 6455 §5.3).
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let ws = Connection::client(now(), request, Entropy::new(Seed(seed)));
    let tcp = TcpStream::connect(format!("{host}{port}"))?;
    tcp.set_nodelay(true)?;
    if !secure {
        let socket = tcp.try_clone()?;
        return run(ws, tcp, &socket, channel, told);
    }
    let ca_file = ca_file.ok_or("wss:// wants the file of whoever signed the certificate")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file)? {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())?;
    let socket = tcp.try_clone()?;
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, tcp);
    // Once it is in the connection's hands, an error of the stream is only told as `Reason::Io`.
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    run(ws, tls, &socket, channel, told)
}

/// The whole loop: write what there is, wait for bytes or for the next deadline, take in what came.
fn run(
    mut ws: Connection,
    mut stream: impl Read + Write,
    socket: &TcpStream,
    channel: &str,
    mut told: impl FnMut(&str, &str) -> bool,
) -> Result<String, Box<dyn Error>> {
    let limits = Limits::default();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if matches!(ws.flush(now(), &mut stream), Flush::Fin | Flush::Closed) {
            return Ok(ws.reason().map_or("closed", |reason| reason.name()).to_owned());
        }
        stream.flush()?;
        // A read that waits for longer would sleep through a ping, or through a server that is silent.
        let wait = ws.poll_timeout(&limits).map(|at| at.saturating_duration_since(Instant::now()));
        socket.set_read_timeout(wait.map(|wait| wait.max(Duration::from_millis(1))))?;
        let count = match stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                ws.handle_timeout(now(), &limits);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            ws.handle_eof(now(), &limits);
        }
        let mut wire = buffer.get_mut(..count).unwrap_or_default();
        while let Some(event) = ws.receive(now(), &limits, &mut wire) {
            match event {
                Event::Accepted(_) => {
                    ws.send_text(&Request::Subscribe { channel }.to_text(Some("1")))
                }
                Event::Text(text) => {
                    let message = Message::read(&text)?;
                    match (message.kind, message.room.as_deref()) {
                        (Kind::Error, _) => {
                            let text = message.error_message.unwrap_or_default().into_owned();
                            return Err(text.into());
                        }
                        (Kind::Event, Some(room)) if room == channel => {
                            let event = message.event.as_deref().unwrap_or_default();
                            if !told(event, message.data.unwrap_or("{}")) {
                                return Ok("enough".to_owned());
                            }
                        }
                        _ => {}
                    }
                }
                Event::Closed(reason) => {
                    return Ok(format!("{}: {:?}", reason.name(), ws.peer_close()));
                }
                Event::Upgrade(_)
                | Event::Http(_)
                | Event::Binary(_)
                | Event::Compressed(_)
                | Event::Pong { .. } => {}
            }
        }
    }
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { mono: Instant::now(), unix }
}
