//! Close frames: which codes may be sent, and what a payload says (RFC 6455 §5.5.1, §7.4).

use crate::reason::Reason;

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
