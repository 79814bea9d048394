//! A client of the adapters' examples: tungstenite over a real socket.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use tungstenite::{Error, HandshakeError, Message, WebSocket, client::IntoClientRequest};

/// Long enough that only what never comes takes so long.
const TIMEOUT: Duration = Duration::from_secs(20);

/// One that was welcomed.
pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
    /// Events that came while an answer was waited for.
    events: VecDeque<Value>,
}

impl Client {
    /// Connects with this path and query.
    pub(crate) fn connect(address: SocketAddr, path: &str) -> Self {
        Self::connect_with(address, path, &[]).expect("a handshake")
    }

    /// The same with header fields; or the status by which it is refused.
    pub(crate) fn connect_with(
        address: SocketAddr,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in fields {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => {
                let mut client = Self { socket, events: VecDeque::new() };
                assert_eq!(client.event().0, "session.created");
                Ok(client)
            }
            Err(HandshakeError::Failure(Error::Http(refused))) => Err(refused.status().as_u16()),
            Err(error) => panic!("no handshake: {error}"),
        }
    }

    /// The answer to a request.
    pub(crate) fn request(&mut self, event: &str, data: &Value) -> Value {
        let request = json!({ "type": "request", "event": event, "id": "1", "data": data });
        self.socket.send(Message::text(request.to_string())).unwrap();
        loop {
            let message = self.read();
            if message["correlation_id"] == "1" {
                return message;
            }
            self.events.push_back(message);
        }
    }

    /// The next event: its name and its data.
    pub(crate) fn event(&mut self) -> (String, Value) {
        let mut event = self.events.pop_front().unwrap_or_else(|| self.read());
        let name = event["event"].as_str().expect("an event has a name").to_owned();
        (name, event["data"].take())
    }

    fn read(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}
