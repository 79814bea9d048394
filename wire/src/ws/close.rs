//! Close frames, which codes may be sent, what a payload says (RFC 6455 §5.5.1, §7.4); and how a connection ends: by the
//! close handshake, by a refusal, or without another word.

use super::{
    connection::Connection,
    encode::Opcode,
    outbox::Outbox,
    state::{Ended, Finish, LAST, State},
};
use crate::{reason::Reason, time::Now};

/// What the peer's close frame said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerClose {
    /// The close code; `None` if the frame had no payload (seen by applications as 1005).
    pub code: Option<u16>,
    /// The close reason, possibly empty.
    pub text: String,
}

impl PeerClose {
    /// Reads a close frame's unmasked payload.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Reason> {
        let Some((code, text)) = payload.split_first_chunk::<2>() else {
            // §5.5.1: if there is a body, it begins with a two-byte code.
            return if payload.is_empty() { Ok(Self::default()) } else { Err(Reason::BadClose) };
        };
        let code = u16::from_be_bytes(*code);
        if !may_be_sent(code) {
            return Err(Reason::BadClose);
        }
        // §5.5.1: the reason is UTF-8; §8.1: anything else fails the connection with 1007.
        let text = std::str::from_utf8(text).map_err(|_| Reason::BadUtf8)?;
        Ok(Self { code: Some(code), text: text.to_owned() })
    }
}

/// Whether `code` may appear in a close frame: the codes that RFC 6455 §7.4.1 and the IANA registry define for the wire
/// (1000–1003, 1007–1014), and those of libraries and applications (3000–4999, §7.4.2).
#[must_use]
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// A close frame's payload. A reason that does not fit into a control frame is cut at a character's end.
pub(super) fn payload(code: u16, text: &str) -> Vec<u8> {
    let text = text.get(..text.floor_char_boundary(REASON_BYTES_MAX)).unwrap_or_default();
    let mut payload = Vec::with_capacity(2 + text.len());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(text.as_bytes());
    payload
}

/// 125 bytes of a control frame (RFC 6455 §5.5) less the code.
const REASON_BYTES_MAX: usize = 123;

/// When a close frame goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseWhen {
    /// Behind everything that is queued.
    AfterData,
    /// At the next frame boundary; what is queued is dropped.
    AtOnce,
}

impl Connection {
    /// Begins the close handshake with the reason's code and text; [`Event::Closed`](super::Event::Closed) follows when it is over. A request
    /// that is waiting for its answer is refused instead; a connection that has nothing to say any more just ends.
    pub fn close(&mut self, now: Now, reason: Reason, when: CloseWhen) {
        let row = reason.row();
        self.close_by(now, reason, row.close, reason.close_text(), when);
    }

    /// Like [`close`](Self::close) with another code and text than the reason's: where a protocol of its own has its own. A code
    /// that must not be sent is replaced by 1000; a text over 123 bytes is cut.
    pub fn close_as(&mut self, now: Now, reason: Reason, code: u16, text: &str, when: CloseWhen) {
        let code = if may_be_sent(code) { code } else { 1000 };
        self.close_by(now, reason, Some(code), text, when);
    }

    /// Like [`close`](Self::close) with a code and text of the application's. A code that must not be sent
    /// ([`may_be_sent`]) is replaced by 1000; a text over 123 bytes is cut. Reported as
    /// `Disconnected` by a server and `Finished` by a client.
    pub fn close_with(&mut self, now: Now, code: u16, text: &str, when: CloseWhen) {
        let reason = if self.peer_masks { Reason::Disconnected } else { Reason::Finished };
        let code = if may_be_sent(code) { code } else { 1000 };
        self.close_by(now, reason, Some(code), text, when);
    }

    /// Ends the connection without another word: [`flush`](Self::flush) answers [`Flush::Closed`](super::Flush::Closed)
    /// from now on, and what was queued is dropped at once: its memory need not wait for the socket. One that has ended
    /// already keeps its reason.
    pub fn give_up(&mut self, now: Now, reason: Reason) {
        match &mut self.state {
            State::Ended(ended) => ended.finish = Finish::Drop,
            State::Closing(own, _) => {
                let own = *own;
                self.end(now, own, Finish::Drop);
            }
            State::Head(_)
            | State::Body(_)
            | State::Exchange(_)
            | State::Shake(_)
            | State::Open(_) => self.end(now, reason, Finish::Drop),
        }
        let dropped = self.outbox.messages();
        self.outbox = Outbox::new();
        self.outbox.seal(true);
        if dropped > 0 {
            self.rare_mut().messages_dropped += dropped;
        }
    }

    /// The peer broke a rule or fell silent: a close frame says so, and nothing is taken in any more (RFC 6455 §7.1.7).
    pub(super) fn fail(&mut self, now: Now, reason: Reason) {
        match &self.state {
            State::Open(_) => {
                if let Some(code) = reason.row().close {
                    // What came before the violation was sound and gets its answer; a peer that fell silent takes none.
                    let silent = matches!(reason, Reason::PongTimeout | Reason::IdleTimeout);
                    let when = if silent { CloseWhen::AtOnce } else { CloseWhen::AfterData };
                    self.queue_close(code, reason.close_text(), when);
                }
                self.end(now, reason, Finish::Drain);
            }
            // Our close frame is queued already, and there is only one.
            State::Closing(own, _) => self.end(now, *own, Finish::Drain),
            State::Head(_) | State::Body(_) => self.answer_refusal(now, reason, LAST),
            State::Exchange(_) => self.refuse(now, reason),
            State::Shake(_) => self.end(now, Reason::BadHandshake, Finish::Drain),
            State::Ended(_) => {}
        }
    }

    /// No more input. What is queued is delivered or not, as `finish` says.
    pub(super) fn end(&mut self, now: Now, reason: Reason, finish: Finish) {
        self.outbox.seal(true);
        let http = self.is_http() || matches!(self.state, State::Ended(Ended { http: true, .. }));
        self.state = State::Ended(Ended { reason, finish, is_reported: false, http });
        self.since = now.mono;
        if let Some(rare) = &mut self.rare {
            rare.kept = None;
        }
        self.tidy();
    }

    /// Drops what a close frame takes the place of.
    fn drop_data(&mut self) {
        let dropped = self.outbox.clear_data();
        if dropped > 0 {
            self.rare_mut().messages_dropped += dropped;
        }
    }

    fn close_by(
        &mut self,
        now: Now,
        reason: Reason,
        code: Option<u16>,
        text: &str,
        when: CloseWhen,
    ) {
        match &mut self.state {
            State::Open(assembly) => {
                let Some(code) = code else { return self.end(now, reason, Finish::Drop) };
                let mut assembly = assembly.take();
                if let Some(assembly) = &mut assembly {
                    assembly.discard();
                }
                self.state = State::Closing(reason, assembly);
                self.since = now.mono;
                self.queue_close(code, text, when);
                self.outbox.seal(true);
            }
            State::Closing(..) if when == CloseWhen::AtOnce => {
                self.drop_data();
            }
            State::Head(Some(_)) | State::Body(_) => self.answer_refusal(now, reason, LAST),
            State::Exchange(_) => self.refuse(now, reason),
            State::Head(None) => self.end(now, reason, Finish::Drain),
            State::Shake(_) => self.end(now, reason, Finish::Drop),
            State::Closing(..) | State::Ended(_) => {}
        }
    }

    fn queue_close(&mut self, code: u16, text: &str, when: CloseWhen) {
        let frame = self.control_frame(Opcode::Close, &payload(code, text));
        match when {
            CloseWhen::AfterData => self.outbox.raw(frame),
            CloseWhen::AtOnce => {
                self.drop_data();
                self.outbox.urgent(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_rfc_and_the_registry_may_be_sent() {
        let allowed: Vec<u16> = (0..=u16::MAX).filter(|code| may_be_sent(*code)).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(allowed, expected);
    }

    #[test]
    fn payloads_are_read() {
        assert_eq!(PeerClose::parse(b""), Ok(PeerClose::default()));
        assert_eq!(
            PeerClose::parse(b"\x03\xe8bye"),
            Ok(PeerClose { code: Some(1000), text: "bye".to_owned() })
        );
        assert_eq!(PeerClose::parse(b"\x03"), Err(Reason::BadClose));
        assert_eq!(PeerClose::parse(b"\x03\xed"), Err(Reason::BadClose), "1005 is never sent");
        assert_eq!(PeerClose::parse(b"\x03\xe8\xff"), Err(Reason::BadUtf8));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let payload = payload(1000, &"ü".repeat(100));
        assert_eq!(payload.len(), 2 + 122);
        assert!(PeerClose::parse(&payload).is_ok());
    }
}
