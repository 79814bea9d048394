//! For routers on [hyper](https://hyper.rs), such as axum's: a request of theirs becomes a connection of this server.
//!
//! ```no_run
//! use axum::{Router, body::Body, extract::{ConnectInfo, Request, State}, response::Response, routing::get};
//! use mahavishnu_tokio::{Handle, Server, hyper::upgrade};
//! use std::net::SocketAddr;
//!
//! async fn live(State(handle): State<Handle>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request) -> Response {
//!     upgrade(&handle, request, Some(peer)).await.map(Body::from)
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // It listens nowhere itself.
//! let server = Server::builder().start().await?;
//! let router = Router::new().route("/live", get(live)).with_state(server.handle());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await?;
//! # Ok(())
//! # }
//! ```

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use hyper::upgrade::Upgraded;
use hyper_util::{rt::TokioIo, server::conn::auto};
use mahavishnu_driver::{
    Adoption, Handle,
    bytes::Bytes,
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use tokio::net::{TcpStream, UnixStream};

use crate::adopt::bridge;

/// Makes a request of a router a connection of the server, and returns what the router has to answer: 101, or the server's
/// refusal. Returned, the rest happens by itself in a task on the runtime that this is called on. `peer` is the client's
/// address, if the router knows it; without one no limit by address holds.
///
/// Over TCP and Unix sockets without TLS the server gets the socket itself, and nothing stays with the router. Anything
/// else is [bridged](bridge).
///
/// A server that takes nobody now, or has stopped, is answered for with 503.
pub async fn upgrade<B>(
    handle: &Handle,
    mut request: Request<B>,
    peer: Option<SocketAddr>,
) -> Response<Bytes> {
    let upgrade = hyper::upgrade::on(&mut request);
    let adoption = match handle.adopt(&request, peer).await {
        Ok(adoption) => adoption,
        Err(error) => return unavailable(error.to_string()),
    };
    let response = adoption.response().clone();
    if adoption.is_accepted() {
        tokio::spawn(async move {
            // Otherwise the client has gone before it was answered.
            if let Ok(upgraded) = upgrade.await {
                attach(adoption, upgraded).await;
            }
        });
    }
    response
}

async fn attach(adoption: Adoption, upgraded: Upgraded) {
    // One that cannot be attached has ended, which the server counts.
    match socket_of(upgraded) {
        Ok(Ok((socket, early))) => drop(adoption.attach(socket, early).await),
        Ok(Err(_)) => drop(adoption),
        Err(upgraded) => drop(bridge(adoption, TokioIo::new(upgraded), Bytes::new()).await),
    }
}

/// The socket under a connection of hyper, and what was read from it, if there is nothing else between.
fn socket_of(upgraded: Upgraded) -> Result<io::Result<(OwnedFd, Bytes)>, Upgraded> {
    let upgraded = match parts::<TcpStream>(upgraded) {
        Ok((stream, early)) => return Ok(stream.into_std().map(|stream| (stream.into(), early))),
        Err(upgraded) => upgraded,
    };
    let (stream, early) = parts::<UnixStream>(upgraded)?;
    Ok(stream.into_std().map(|stream| (stream.into(), early)))
}

/// What hyper holds, if that is a `T`: as its own server, or as hyper-util's for both versions of HTTP, which is axum's.
fn parts<T>(upgraded: Upgraded) -> Result<(T, Bytes), Upgraded>
where
    TokioIo<T>: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    match auto::upgrade::downcast::<TokioIo<T>>(upgraded) {
        Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<T>>()?;
            Ok((parts.io.into_inner(), parts.read_buf))
        }
    }
}

fn unavailable(text: String) -> Response<Bytes> {
    let mut response = Response::new(text.into());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
