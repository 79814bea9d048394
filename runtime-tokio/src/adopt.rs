//! Connections of an application's own HTTP server, handed over to this one.
//!
//! [`Handle::adopt`](crate::Handle::adopt) takes the handshake and [`Adoption::attach`] the socket. What is here is for
//! streams that are no sockets; `hyper`, a feature of this crate, does all of it in one call for whoever has
//! a router on hyper, such as axum's.

use std::{io, time::Duration};

use mahavishnu_driver::{Adoption, bytes::Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split},
    net::UnixStream,
    time::timeout,
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
    stream: impl AsyncRead + AsyncWrite,
    early: Bytes,
) -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    adoption.attach(theirs.into_std()?, early).await.map_err(io::Error::other)?;
    let ((mut client, mut to_client), (mut server, mut to_server)) =
        (split(stream), ours.into_split());
    let up = async {
        // Whoever fails has ended.
        let _ = copy(&mut client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    let down = async {
        let _ = copy(&mut server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    tokio::select! {
        () = &mut down => drop(timeout(LINGER, up).await),
        // The server ends a connection whose client has ended.
        () = &mut up => down.await,
    }
    Ok(())
}
