//! fastwebsockets on hyper's upgrade: a task for each connection and one `tokio::sync::broadcast` channel, as in the
//! library's examples. Every message is written on its own.

use std::convert::Infallible;

use bytes::Bytes;
use fastwebsockets::{
    FragmentCollector, Frame, OpCode, Payload, WebSocket, WebSocketError,
    upgrade::{UpgradeFut, is_upgrade_request, upgrade},
};
use http_body_util::Empty;
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use mahavishnu_bench_peers::{BACKLOG_MESSAGES, MESSAGE_BYTES_MAX, Options, Result, Role, serve};
use tokio::{net::TcpStream, sync::broadcast};

fn main() -> Result<()> {
    let (room, _) = broadcast::channel(BACKLOG_MESSAGES);
    serve(move |stream, options| connection(stream, options, room.clone()))
}

async fn connection(
    stream: TcpStream,
    options: Options,
    room: broadcast::Sender<Bytes>,
) -> Result<()> {
    let service = service_fn(|request| {
        let response = answer(request, options, &room);
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await?;
    Ok(())
}

/// Accepts the upgrade; what comes after it has a task of its own.
fn answer(
    mut request: Request<Incoming>,
    options: Options,
    room: &broadcast::Sender<Bytes>,
) -> Response<Empty<Bytes>> {
    let role = Role::of(request.uri().path(), options);
    if is_upgrade_request(&request)
        && let Ok((response, upgraded)) = upgrade(&mut request)
    {
        // Before the answer is out, so that nothing published after it is missed.
        let inbox = room.subscribe();
        let room = room.clone();
        tokio::spawn(async move {
            drop(upgraded_connection(upgraded, role, room, inbox).await);
        });
        return response;
    }
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

async fn upgraded_connection(
    upgraded: UpgradeFut,
    role: Role,
    room: broadcast::Sender<Bytes>,
    inbox: broadcast::Receiver<Bytes>,
) -> Result<()> {
    let mut ws = upgraded.await?;
    ws.set_max_message_size(MESSAGE_BYTES_MAX);
    ws.set_auto_close(true);
    ws.set_auto_pong(true);
    if role == Role::Subscriber {
        return subscribe(ws, inbox).await;
    }
    drop(inbox);
    let mut ws = FragmentCollector::new(ws);
    loop {
        let frame = ws.read_frame().await?;
        match (frame.opcode, role) {
            (OpCode::Close, _) => return Ok(()),
            (OpCode::Text | OpCode::Binary, Role::Echo) => ws.write_frame(frame).await?,
            (OpCode::Text | OpCode::Binary, Role::Publisher) => {
                // An error only says that nobody has subscribed.
                drop(room.send(Bytes::copy_from_slice(&frame.payload)));
            }
            _ => {}
        }
    }
}

/// Reads and writes at the same time; whichever ends first ends the connection.
async fn subscribe(
    ws: WebSocket<TokioIo<Upgraded>>,
    mut inbox: broadcast::Receiver<Bytes>,
) -> Result<()> {
    let (mut reader, mut writer) = ws.split(tokio::io::split);
    let reading = async {
        // Pongs would be handed to the writer here; these clients send no pings.
        let mut obliged = |_: Frame<'_>| async { Ok::<(), WebSocketError>(()) };
        while reader.read_frame(&mut obliged).await?.opcode != OpCode::Close {}
        Ok(())
    };
    let writing = async {
        loop {
            let message = inbox.recv().await?;
            writer.write_frame(Frame::binary(Payload::Borrowed(&message))).await?;
        }
    };
    tokio::select! {
        done = reading => done,
        done = writing => done,
    }
}
