//! A client that waits for its answers.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{Value, process::PATIENCE};

/// A connection that waits for its answers, and keeps what comes besides.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
    pushes: VecDeque<Vec<Value>>,
}

impl Client {
    /// Connects, and says nothing yet: RESP2, nobody.
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|| panic!("no connection to {address}"))
    }

    /// The same; `None` if nobody is there.
    pub fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self { stream, bytes: Vec::new(), pushes: VecDeque::new() })
    }

    /// One command and its answer, which may be an error.
    pub fn command<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Value {
        let answer = self.try_command(command);
        answer.unwrap_or_else(|| panic!("no answer to {}", readable(command)))
    }

    /// One command and its answer. Panics if that is an error.
    pub fn ask<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Value {
        let answer = self.command(command);
        assert!(!matches!(answer, Value::Error(_)), "{}: {answer:?}", readable(command));
        answer
    }

    /// One command and its answer; `None` if the connection ended.
    pub fn try_command<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Option<Value> {
        self.try_send(command)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.value(deadline)? {
                Value::Push(push) => self.pushes.push_back(push),
                answer => return Some(answer),
            }
        }
    }

    /// Sends a command and waits for nothing.
    pub fn send<A: AsRef<[u8]>>(&mut self, command: &[A]) {
        self.try_send(command).unwrap_or_else(|| panic!("{} was not sent", readable(command)));
    }

    /// Sends a command; `None` if the server has closed the connection.
    pub fn try_send<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Option<()> {
        self.stream.write_all(&encode(command)).ok()
    }

    /// Sends bytes as they are; `None` if the server has closed the connection.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).ok()
    }

    /// This side's address.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("an address")
    }

    /// What comes next, push or answer; `None` if nothing came for so long, or the connection ended.
    pub fn next(&mut self, wait: Duration) -> Option<Value> {
        if let Some(push) = self.pushes.pop_front() {
            return Some(Value::Push(push));
        }
        self.value(Instant::now() + wait)
    }

    /// The next push, which has to come. Answers before it are dropped.
    pub fn push(&mut self) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.pushes.pop_front().map(Value::Push).or_else(|| self.value(deadline)) {
                Some(Value::Push(push)) => return push,
                Some(_) => {}
                None => panic!("no push came"),
            }
        }
    }

    /// The server has closed the connection, after all that came before.
    pub fn is_closed(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.value(deadline).is_some() {}
        Instant::now() < deadline
    }

    fn value(&mut self, deadline: Instant) -> Option<Value> {
        loop {
            if let Some((value, length)) = Value::parse(&self.bytes) {
                self.bytes.drain(..length);
                return Some(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).ok()?;
            let mut chunk = [0; 16384];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(length) => self.bytes.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

/// A command as clients send it: an array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(command: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        let argument = argument.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn readable<A: AsRef<[u8]>>(command: &[A]) -> String {
    let words: Vec<String> =
        command.iter().map(|word| String::from_utf8_lossy(word.as_ref()).into_owned()).collect();
    words.join(" ")
}
