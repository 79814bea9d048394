//! A conversation with Redis, question by question: for tools, which are no nodes.

use std::sync::Arc;

use bytes::Bytes;
use mahavishnu_core::time::Now;

use super::{
    pipe::{Fault, Pipe},
    prepare,
};
use crate::{
    LinkConfig,
    redis::replies::Refusal,
    resp::{Arg, Broken, Frame, command},
    stats::ErrorClass,
    tls,
};

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Redis itself.
    Redis,
    /// A Sentinel, with its own user and password.
    Sentinel,
}

/// One connection on which questions are asked one after the other, and nothing is subscribed to.
///
/// As pure as a [`Link`](crate::Link): somebody else connects, keeps deadlines, writes [`transmit`](Self::transmit) and
/// hands what comes to [`receive`](Self::receive). It begins by logging in, so the first [`reply`](Self::reply) is that to
/// `HELLO`. [`LinkLimits`](crate::LinkLimits) bound replies.
#[derive(Debug)]
pub struct Inquiry {
    pipe: Pipe,
    config: Arc<LinkConfig>,
}

/// What is answered. Names and values of a map are in turn the elements of a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// There is nothing.
    Nothing,
    /// A text or bytes.
    Text(Bytes),
    /// A number.
    Number(i64),
    /// Several.
    List(Vec<Self>),
    /// An error, as Redis puts it, but for one that has a password in it.
    Error(ErrorClass, Box<str>),
}

impl Inquiry {
    /// A conversation over a connection that was just made with `host`.
    ///
    /// # Errors
    ///
    /// Why TLS cannot begin.
    pub fn new(
        config: &Arc<LinkConfig>,
        asked: Asked,
        host: &str,
        now: Now,
    ) -> Result<Self, Arc<str>> {
        let tls = config.tls.as_ref().map(|client| tls::Session::new(client, host, now));
        let mut pipe = Pipe::new(&config.limits, tls.transpose()?);
        pipe.write(|out| prepare::hello(out, config, "tool", asked == Asked::Sentinel));
        pipe.encrypt();
        Ok(Self { pipe, config: config.clone() })
    }

    /// Asks something.
    pub fn ask(&mut self, words: &[&[u8]]) {
        let args: Vec<_> = words.iter().map(|word| Arg::Bytes(word)).collect();
        self.pipe.write(|out| command(out, &args));
        self.pipe.encrypt();
    }

    /// What is to be written to the socket.
    #[must_use]
    pub fn transmit(&self) -> &[u8] {
        self.pipe.transmit()
    }

    /// The socket has taken so many bytes of it.
    pub fn transmitted(&mut self, count: usize) {
        self.pipe.transmitted(count);
    }

    /// Takes bytes of the socket in.
    ///
    /// # Errors
    ///
    /// Why nothing more can come.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), Arc<str>> {
        self.pipe.receive(bytes).map_err(cause)
    }

    /// The next reply, if it has come.
    ///
    /// # Errors
    ///
    /// This is not Redis.
    pub fn reply(&mut self) -> Result<Option<Reply>, Arc<str>> {
        loop {
            let Some(frame) = self.pipe.next().map_err(cause)? else { return Ok(None) };
            self.pipe.scrub();
            // Nobody has asked for it.
            if matches!(frame, Frame::Push(_)) {
                continue;
            }
            return Ok(Some(self.read(&frame)));
        }
    }

    fn read(&self, frame: &Frame) -> Reply {
        if let Some(Refusal { class, text }) = Refusal::of(frame) {
            let quotes = self.config.secrets().into_iter().flatten();
            let quotes = quotes.into_iter().any(|secret| secret.is_quoted_in(&text));
            let text = if quotes { QUOTES.into() } else { text };
            return Reply::Error(class, text);
        }
        if let Some(number) = frame.as_integer() {
            return Reply::Number(number);
        }
        if let Some(bytes) = frame.as_bytes() {
            return Reply::Text(Bytes::copy_from_slice(bytes));
        }
        if let Some(pairs) = frame.as_map() {
            let both = |(name, value): &(Frame, Frame)| [self.read(name), self.read(value)];
            return Reply::List(pairs.iter().flat_map(both).collect());
        }
        match frame.as_array() {
            Some(items) => Reply::List(items.iter().map(|item| self.read(item)).collect()),
            None => Reply::Nothing,
        }
    }
}

impl Reply {
    /// The text, if it is one that can be read.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Nothing | Self::Number(_) | Self::List(_) | Self::Error(..) => None,
        }
    }

    /// The number.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Nothing | Self::Text(_) | Self::List(_) | Self::Error(..) => None,
        }
    }

    /// The elements of a list; of anything else none.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Nothing | Self::Text(_) | Self::Number(_) | Self::Error(..) => &[],
        }
    }

    /// The text beside this name, in a map or a list of pairs.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&str> {
        let (pairs, _) = self.items().as_chunks::<2>();
        pairs.iter().find(|[key, _]| key.text() == Some(name)).and_then(|[_, value]| value.text())
    }
}

fn cause(fault: Fault) -> Arc<str> {
    match fault {
        Fault::Tls(cause) => cause,
        Fault::Closed => "it has closed the connection".into(),
        Fault::Resp(Broken::Format) => "it does not speak RESP3".into(),
        Fault::Resp(Broken::Long) => "a reply is too long".into(),
        Fault::Resp(Broken::Deep) => "a reply is too deep".into(),
    }
}

/// What is told instead of an error that quotes a password.
pub(super) const QUOTES: &str = "an error that quotes a password";

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use std::time::Duration;

    use mahavishnu_core::time::Instant;

    use super::*;
    use crate::Secret;

    fn inquiry() -> Inquiry {
        let config = LinkConfig { password: Some(Secret::new("hunter2")), ..LinkConfig::default() };
        let now = Now { mono: Instant::now(), unix: Duration::ZERO };
        Inquiry::new(&Arc::new(config), Asked::Redis, "r", now).unwrap()
    }

    #[test]
    fn it_logs_in_and_asks() {
        let mut inquiry = inquiry();
        inquiry.ask(&[b"GET", b"a"]);
        let sent = String::from_utf8(inquiry.transmit().to_vec()).unwrap();
        let words: Vec<_> =
            sent.split("\r\n").filter(|word| !word.starts_with(['*', '$'])).collect();
        let hello = ["HELLO", "3", "AUTH", "default", "hunter2", "SETNAME", "mahavishnu:node:tool"];
        assert_eq!(words, [&hello[..], &["GET", "a", ""]].concat());
        let length = sent.len();
        inquiry.transmitted(length);
        assert_eq!(inquiry.transmit(), b"");
    }

    #[test]
    fn replies_are_values() {
        let mut inquiry = inquiry();
        inquiry
            .receive(b"%1\r\n+a\r\n:1\r\n>1\r\n+p\r\n*2\r\n$1\r\nk\r\n$1\r\nv\r\n_\r\n-ERR no\r\n")
            .unwrap();
        let text = |text: &'static str| Reply::Text(Bytes::from_static(text.as_bytes()));
        let mut next = || inquiry.reply().unwrap();
        assert_eq!(next(), Some(Reply::List(vec![text("a"), Reply::Number(1)])));
        let pair = next().unwrap();
        assert_eq!((pair.member("k"), pair.member("v")), (Some("v"), None));
        assert_eq!(next(), Some(Reply::Nothing));
        assert_eq!(next(), Some(Reply::Error(ErrorClass::Poison, "ERR no".into())));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_password_is_not_passed_on() {
        let mut inquiry = inquiry();
        inquiry.receive(b"-ERR unknown command HELLO 3 AUTH default hunter2\r\n").unwrap();
        let Some(Reply::Error(_, text)) = inquiry.reply().unwrap() else { panic!("no error") };
        assert_eq!(&*text, QUOTES);
        assert!(!format!("{inquiry:?}").contains("hunter2"));
    }

    #[test]
    fn somebody_else_is_told() {
        let mut inquiry = inquiry();
        inquiry.receive(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
        assert_eq!(inquiry.reply(), Err("it does not speak RESP3".into()));
    }
}
