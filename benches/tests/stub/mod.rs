//! A small server of the JSON protocol that commits a fault on purpose.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use mahavishnu_benches::{
    Error,
    frame::{self, FrameReader, OP_CLOSE, OP_TEXT},
    handshake::{self, Target},
};
use serde_json::{Value, json};

/// What goes wrong, for the first subscriber and at the message in the middle unless the variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Lose,
    /// The last of so many messages.
    LoseLast(u64),
    Repeat,
    Swap,
    Cut,
    /// A publish is answered with an error.
    Refuse,
    /// A publish is not answered.
    NoAnswer,
    /// The subscriber is closed.
    Close,
}

/// The server; its threads end with the connections of the run.
pub(crate) struct Stub {
    pub(crate) target: Target,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// Expects so many subscribers and then the publisher.
    pub(crate) fn start(subscribers: usize, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::parse(&format!("ws://{}", listener.local_addr().unwrap())).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        thread::spawn(move || {
            let room =
                Arc::new(Mutex::new(Room { fault, members: Vec::new(), published: 0, held: None }));
            for _ in 0..=subscribers {
                let (stream, _) = listener.accept().unwrap();
                let (room, log) = (Arc::clone(&room), Arc::clone(&log));
                thread::spawn(move || serve(stream, &room, &log));
            }
        });
        Self { target, requests }
    }

    /// Every request so far, in order of arrival.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

struct Room {
    fault: Fault,
    /// Channels and connections.
    members: Vec<(String, TcpStream)>,
    published: u64,
    /// The frame that a swap keeps back.
    held: Option<Vec<u8>>,
}

/// Ends when the client does; what it was writing then is of no interest.
fn serve(mut stream: TcpStream, room: &Mutex<Room>, log: &Mutex<Vec<String>>) {
    let mut buffer = [0; 4096];
    let mut head = Vec::new();
    let upgrade = loop {
        let bytes = stream.read(&mut buffer).unwrap();
        head.extend_from_slice(&buffer[..bytes]);
        if let Some(upgrade) = handshake::accept_request(&head).unwrap() {
            break upgrade;
        }
    };
    stream.write_all(&upgrade.response).unwrap();
    send(&mut stream, &json!({"type": "event", "event": "session.created", "data": {}}));
    let mut reader = FrameReader::new(1 << 20);
    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
        let _ = reader.feed(&buffer[..bytes], |frame| {
            let mut payload = frame.payload.to_vec();
            frame::apply_mask(frame.mask.unwrap(), &mut payload);
            let text = String::from_utf8(payload)?;
            log.lock().unwrap().push(text.clone());
            handle(&mut stream, &text, &mut room.lock().unwrap());
            Ok::<(), Error>(())
        });
    }
}

fn handle(stream: &mut TcpStream, text: &str, room: &mut Room) {
    let request: Value = serde_json::from_str(text).unwrap();
    let mut answer =
        json!({"type": "response", "event": request["event"], "correlation_id": request["id"]});
    let mut answered = true;
    match request["event"].as_str().unwrap() {
        "subscribe" => {
            let channel = request["data"]["channel"].as_str().unwrap().to_owned();
            room.members.push((channel, stream.try_clone().unwrap()));
        }
        "publish" => {
            if room.published == MIDDLE && room.fault == Fault::Refuse {
                answer = json!({"type": "error", "error_code": "RATE_LIMIT_EXCEEDED", "error_message": "slow down"});
            }
            answered = !(room.published == MIDDLE && room.fault == Fault::NoAnswer);
            // The data as it was written: parsing would sort its fields.
            let (_, data) = text.split_once(r#""event":"bench.tick","data":"#).unwrap();
            let (data, _) = data.split_once(r#"},"id""#).unwrap();
            let channel = request["data"]["channel"].as_str().unwrap();
            let event = format!(
                r#"{{"id":"00000000-0000-4000-8000-000000000000","correlation_id":null,"type":"event","event":"bench.tick","data":{data},"room":"{channel}"}}"#
            );
            room.broadcast(channel, &event);
        }
        _ => {}
    }
    if answered {
        send(stream, &answer);
    }
}

impl Room {
    fn broadcast(&mut self, channel: &str, event: &str) {
        let number = self.published;
        self.published += 1;
        let fault = self.fault;
        for (member, (of, stream)) in self.members.iter_mut().enumerate() {
            if of != channel {
                continue;
            }
            let mut wire = Vec::new();
            frame::encode_server(&mut wire, OP_TEXT, event.as_bytes());
            let at_middle = member == 0 && number == MIDDLE;
            match fault {
                Fault::LoseLast(count) if member == 0 && number + 1 == count => continue,
                Fault::Lose if at_middle => continue,
                Fault::Swap if at_middle => {
                    self.held = Some(wire);
                    continue;
                }
                Fault::Swap if member == 0 && number == MIDDLE + 1 => {
                    wire.extend(self.held.take().unwrap())
                }
                Fault::Repeat if at_middle => wire.extend(wire.clone()),
                Fault::Cut if at_middle => {
                    wire.clear();
                    frame::encode_server(
                        &mut wire,
                        OP_TEXT,
                        event.replacen("klmnop", "", 1).as_bytes(),
                    );
                }
                Fault::Close if at_middle => {
                    wire.clear();
                    frame::encode_server(&mut wire, OP_CLOSE, b"\x03\xf5full");
                }
                Fault::None
                | Fault::Lose
                | Fault::LoseLast(_)
                | Fault::Repeat
                | Fault::Swap
                | Fault::Cut
                | Fault::Refuse
                | Fault::NoAnswer
                | Fault::Close => {}
            }
            // A client that has given up is gone.
            let _ = stream.write_all(&wire);
        }
    }
}

fn send(stream: &mut TcpStream, message: &Value) {
    let mut wire = Vec::new();
    frame::encode_server(&mut wire, OP_TEXT, message.to_string().as_bytes());
    let _ = stream.write_all(&wire);
}

/// The message at which things go wrong.
const MIDDLE: u64 = 50;
