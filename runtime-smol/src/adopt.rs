//! Connections of an application's own HTTP server, handed over to this one.
//!
//! [`Handle::adopt`](crate::Handle::adopt) takes the handshake and [`Adoption::attach`] the socket. What is here is for
//! streams that are no sockets; `hyper`, a feature of this crate, does all of it in one call for whoever has
//! a server on hyper.

use std::{io, os::unix::net::UnixStream, pin::pin, time::Duration};

use mahavishnu_driver::{Adoption, bytes::Bytes};
use smol::{
    Async, Timer,
    future::or,
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split},
};

/// How long a client may still send after the server has ended its side.
const LINGER: Duration = Duration::from_secs(10);

/// Serves an adopted connection over a stream that is no socket, TLS for example, until it is over: a pair of Unix sockets
/// lies between, and this future copies. `early` is what was read behind the handshake. Run it in a task of its own.
///
/// It costs two file descriptors more, two buffers of 8 KiB, and for each message another two system calls and a wake-up.
/// The server takes a client for slow only when the pair is full too, some 200 KiB later.
///
/// # Errors
///
/// The pair cannot be made, or the server has stopped. An end of the stream is none, however it comes.
pub async fn bridge(
    adoption: Adoption,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    early: Bytes,
) -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    adoption.attach(theirs, early).await.map_err(io::Error::other)?;
    let (client, mut to_client) = split(stream);
    let (server, mut to_server) = split(Async::new(ours)?);
    let mut up = pin!(async {
        // Whoever fails has ended.
        let _ = copy(client, &mut to_server).await;
        let _ = to_server.close().await;
    });
    let mut down = pin!(async {
        let _ = copy(server, &mut to_client).await;
        let _ = to_client.close().await;
    });
    let first_down = async {
        down.as_mut().await;
        false
    };
    let first_up = async {
        up.as_mut().await;
        true
    };
    let is_up = or(first_down, first_up).await;
    if is_up {
        // The server ends a connection whose client has ended.
        down.await;
    } else {
        let lingered = async {
            Timer::after(LINGER).await;
        };
        or(up, lingered).await;
    }
    Ok(())
}
