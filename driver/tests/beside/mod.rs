//! What a client sees of a service that lives beside its application's HTTP server: for the adapters' examples.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use mahavishnu_driver::Handle;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// Long enough that only what never comes takes so long.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A client subscribes to a job, begins it at the same port over HTTP, and sees it through.
pub(crate) fn watches_a_job(address: SocketAddr, handle: &Handle) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let (mut client, _) = tungstenite::client(format!("ws://{address}/live"), stream).unwrap();
    assert_eq!(next(&mut client)["event"], "session.created");
    let data = json!({ "channel": "job:42" });
    let request = json!({ "type": "request", "event": "subscribe", "id": "1", "data": data });
    client.send(Message::text(request.to_string())).unwrap();
    assert_eq!(next(&mut client)["data"]["status"], "subscribed");

    assert!(answer(address, "POST /jobs/42 HTTP/1.1").starts_with("HTTP/1.1 202 "));

    for percent in [0, 25, 50, 75, 100] {
        let progress = next(&mut client);
        assert_eq!(progress["event"], "job.progress");
        assert_eq!(progress["data"], json!({ "job": 42, "percent": percent }));
    }
    client.close(None).unwrap();
    drop(client);
    let started = Instant::now();
    while handle.sockets() > 0 {
        assert!(started.elapsed() < TIMEOUT, "a socket stays");
        thread::sleep(Duration::from_millis(1));
    }
    // What is no handshake is refused by the server and answered by the router, which goes on.
    assert!(answer(address, "GET /live HTTP/1.1").starts_with("HTTP/1.1 426 "));
    assert!(answer(address, "GET /nothing HTTP/1.1").starts_with("HTTP/1.1 404 "));
}

fn next(client: &mut WebSocket<TcpStream>) -> Value {
    loop {
        if let Message::Text(text) = client.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

fn answer(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(stream, "{request}\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
