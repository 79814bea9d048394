//! For servers on [hyper](https://hyper.rs): a request of theirs becomes a connection of this server. hyper runs on smol by
//! [smol-hyper](https://docs.rs/smol-hyper); `examples/jobs.rs` is a service of that kind.

use std::{
    io,
    net::{self, SocketAddr},
    os::{fd::OwnedFd, unix},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::{
    rt::{Read, ReadBuf, Write},
    upgrade::Upgraded,
};
use mahavishnu_driver::{
    Adoption, Handle,
    bytes::Bytes,
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use smol::{
    Async,
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use smol_hyper::rt::FuturesIo;

use crate::adopt::bridge;

/// Makes a request of a server on hyper a connection of this one, and returns what has to be answered: 101, or this
/// server's refusal. Returned, the rest happens by itself in a task on smol's global executor. `peer` is the client's
/// address, if it is known; without one no limit by address holds.
///
/// Over `smol::Async` of std's TCP and Unix sockets and over smol's `TcpStream`, without TLS, the server gets the socket
/// itself, and nothing stays with hyper. Anything else is [bridged](bridge).
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
        smol::spawn(async move {
            // Otherwise the client has gone before it was answered.
            if let Ok(upgraded) = upgrade.await {
                attach(adoption, upgraded).await;
            }
        })
        .detach();
    }
    response
}

async fn attach(adoption: Adoption, upgraded: Upgraded) {
    // One that cannot be attached has ended, which the server counts.
    match socket_of(upgraded) {
        Ok(Ok((socket, early))) => drop(adoption.attach(socket, early).await),
        Ok(Err(_)) => drop(adoption),
        Err(upgraded) => drop(bridge(adoption, Stream(upgraded), Bytes::new()).await),
    }
}

/// The socket under a connection of hyper, and what was read from it, if there is nothing else between.
fn socket_of(upgraded: Upgraded) -> Result<io::Result<(OwnedFd, Bytes)>, Upgraded> {
    let upgraded = match parts::<Async<net::TcpStream>>(upgraded) {
        Ok((stream, early)) => return Ok(stream.into_inner().map(|stream| (stream.into(), early))),
        Err(upgraded) => upgraded,
    };
    let upgraded = match parts::<Async<unix::net::UnixStream>>(upgraded) {
        Ok((stream, early)) => return Ok(stream.into_inner().map(|stream| (stream.into(), early))),
        Err(upgraded) => upgraded,
    };
    let (stream, early) = parts::<TcpStream>(upgraded)?;
    let stream = Arc::into_inner(Arc::<Async<net::TcpStream>>::from(stream));
    // Somebody has cloned it, and reads or writes what would be the server's.
    let shared = || io::Error::from(io::ErrorKind::ResourceBusy);
    let socket = stream.ok_or_else(shared).and_then(Async::into_inner);
    Ok(socket.map(|stream| (stream.into(), early)))
}

/// What hyper holds, if that is a `T`.
fn parts<T>(upgraded: Upgraded) -> Result<(T, Bytes), Upgraded>
where
    FuturesIo<T>: Read + Write + Unpin + 'static,
{
    let parts = upgraded.downcast::<FuturesIo<T>>()?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// A connection of hyper, as smol reads and writes.
struct Stream(Upgraded);

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(context, buffer.unfilled()))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

fn unavailable(text: String) -> Response<Bytes> {
    let mut response = Response::new(text.into());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
