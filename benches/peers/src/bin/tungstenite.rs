//! tokio-tungstenite: a task for each connection and one `tokio::sync::broadcast` channel.
//!
//! Plain, it is what tutorials show: every message is sent, that is written and flushed, on its own, and buffers have
//! the library's default sizes. With `--drained` a connection writes all that waits for it and flushes once, and reads
//! into 4 KiB: the library zeroes its read buffer, of 128 KiB by default, at every attempt to read.

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use mahavishnu_bench_peers::{BACKLOG_MESSAGES, MESSAGE_BYTES_MAX, Options, Result, Role, serve};
use tokio::{net::TcpStream, sync::broadcast};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        self, Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::WebSocketConfig,
    },
};

fn main() -> Result<()> {
    let (room, _) = broadcast::channel(BACKLOG_MESSAGES);
    serve(move |stream, options| connection(stream, options, room.clone()))
}

async fn connection(
    stream: TcpStream,
    options: Options,
    room: broadcast::Sender<Message>,
) -> Result<()> {
    let mut role = Role::Idle;
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let on_request =
        |request: &Request, response: Response| -> std::result::Result<Response, ErrorResponse> {
            role = Role::of(request.uri().path(), options);
            Ok(response)
        };
    let ws = accept_hdr_async_with_config(stream, on_request, Some(config(options))).await?;
    match role {
        Role::Publisher => publish(ws, &room).await,
        Role::Subscriber => subscribe(ws, room.subscribe(), options.drained).await,
        Role::Echo => echo(ws, options.drained).await,
        Role::Idle => idle(ws).await,
    }
}

fn config(options: Options) -> WebSocketConfig {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    if options.drained { config.read_buffer_size(SMALL_BUFFER_BYTES) } else { config }
}

async fn publish(
    mut ws: WebSocketStream<TcpStream>,
    room: &broadcast::Sender<Message>,
) -> Result<()> {
    while let Some(message) = ws.next().await {
        let message = message?;
        if is_data(&message) {
            // An error only says that nobody has subscribed.
            drop(room.send(message));
        }
    }
    Ok(())
}

async fn subscribe(
    ws: WebSocketStream<TcpStream>,
    mut inbox: broadcast::Receiver<Message>,
    drained: bool,
) -> Result<()> {
    let (mut sink, mut source) = ws.split();
    loop {
        tokio::select! {
            message = inbox.recv() => {
                if drained {
                    sink.feed(message?).await?;
                    while let Ok(message) = inbox.try_recv() {
                        sink.feed(message).await?;
                    }
                    sink.flush().await?;
                } else {
                    sink.send(message?).await?;
                }
            }
            message = source.next() => match message {
                Some(message) => drop(message?),
                None => return Ok(()),
            },
        }
    }
}

async fn echo<S>(mut ws: S, drained: bool) -> Result<()>
where
    S: Stream<Item = tungstenite::Result<Message>>
        + Sink<Message, Error = tungstenite::Error>
        + Unpin,
{
    while let Some(message) = ws.next().await {
        let message = message?;
        if !is_data(&message) {
            continue;
        }
        if !drained {
            ws.send(message).await?;
            continue;
        }
        ws.feed(message).await?;
        while let Some(Some(message)) = ws.next().now_or_never() {
            let message = message?;
            if is_data(&message) {
                ws.feed(message).await?;
            }
        }
        ws.flush().await?;
    }
    Ok(())
}

async fn idle(mut ws: WebSocketStream<TcpStream>) -> Result<()> {
    while let Some(message) = ws.next().await {
        drop(message?);
    }
    Ok(())
}

fn is_data(message: &Message) -> bool {
    message.is_binary() || message.is_text()
}

const SMALL_BUFFER_BYTES: usize = 4096;
