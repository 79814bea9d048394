//! Sessions that outlive their connection: what `keep_session` and `resume_session` ask for, and what a session that was
//! resumed consists of.

use std::{borrow::Cow, fmt};

use uuid::Uuid;

use super::{
    answers::{Stamp, Start},
    decode::{DecodeError, fits},
    envelope::{
        Data, Envelope, write_bool, write_number, write_position, write_recovered, write_uuid,
    },
    json::write_string,
    names::event,
    options::{Recover, members, number, read_recover},
    position::Position,
    scan::{Scanner, Value},
};

/// What `keep_session` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepSession {
    /// `ttl`: how many seconds the session is to wait for its client after the end of a connection, at least one. `None`:
    /// as long as the server lets it.
    pub ttl: Option<u64>,
}

/// What `resume_session` asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeSession<'a> {
    /// `session`: the name that `keep_session` was answered with. Whoever knows it may resume the session.
    pub session: Cow<'a, str>,
    /// `positions`: where the client left off, by channel. Of a channel that is there twice the last one counts.
    pub positions: Vec<(Cow<'a, str>, Recover<'a>)>,
}

/// What a session that was resumed consists of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResumedSession<'a> {
    /// The name by which others know the connection from then on: that of the connection that began the session.
    pub connection_id: Uuid,
    /// Its channels.
    pub subscriptions: &'a [ResumedChannel<'a>],
}

/// A channel of a session that was resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumedChannel<'a> {
    /// Its name.
    pub channel: &'a str,
    /// Where it goes on, for who asked for positions; or the error code that says why it does not.
    pub result: Result<Option<Start<'a>>, &'a str>,
}

impl<'a> Envelope<'a> {
    /// Answers `keep_session`. `ttl` is in seconds.
    #[must_use]
    pub fn kept(
        stamp: Stamp<'a>,
        session: &'a str,
        ttl: u64,
        correlation_id: Option<&'a str>,
    ) -> Self {
        let data = Data::Session { session, ttl };
        Self { data, ..Self::response(stamp, event::KEEP_SESSION, "{}", correlation_id) }
    }

    /// Answers `resume_session`.
    #[must_use]
    pub fn resumed(
        stamp: Stamp<'a>,
        resumed: ResumedSession<'a>,
        correlation_id: Option<&'a str>,
    ) -> Self {
        Self {
            status: Some("resumed"),
            data: Data::Resumed(resumed),
            ..Self::response(stamp, event::RESUME_SESSION, "{}", correlation_id)
        }
    }
}

impl ResumedSession<'_> {
    pub(super) fn size_hint(&self) -> usize {
        let channels = self.subscriptions.iter().map(|entry| entry.channel.len() + 96);
        128 + channels.sum::<usize>()
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"status\":\"resumed\",\"connection_id\":");
        write_uuid(out, self.connection_id);
        out.extend_from_slice(b",\"subscriptions\":[");
        for (index, entry) in self.subscriptions.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            entry.write(out);
        }
        out.extend_from_slice(b"]}");
    }
}

impl ResumedChannel<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"channel\":");
        write_string(out, self.channel);
        match self.result {
            Ok(None) => out.extend_from_slice(b",\"recovered\":false"),
            Ok(Some(start)) => {
                write_position(out, start.position);
                out.extend_from_slice(b",\"recoverable\":");
                write_bool(out, start.recoverable);
                match start.recovered {
                    None => out.extend_from_slice(b",\"recovered\":false"),
                    Some(outcome) => write_recovered(out, outcome),
                }
            }
            Err(code) => {
                out.extend_from_slice(b",\"error\":");
                write_string(out, code);
            }
        }
        out.push(b'}');
    }
}

impl KeepSession {
    /// Reads the `data` of a request.
    pub fn parse(data: &str) -> Result<Self, DecodeError> {
        let [ttl] = members(data, &["ttl"])?;
        let ttl = fits(ttl.map(number).transpose(), TTL_RULE)?;
        if ttl == Some(0) {
            return Err(DecodeError::Member(TTL_RULE));
        }
        Ok(Self { ttl })
    }
}

impl<'a> ResumeSession<'a> {
    /// Reads the `data` of a request with at most so many positions.
    pub fn parse(data: &'a str, positions_max: usize) -> Result<Self, DecodeError> {
        let [session, positions] = members(data, &["session", "positions"])?;
        let session = session.and_then(Value::string);
        let session = session.ok_or(DecodeError::Member("session must be a string"))?;
        let positions = match positions {
            Some(positions) => fits(read_positions(positions, positions_max), POSITIONS_RULE)?,
            None => Vec::new(),
        };
        Ok(Self { session, positions })
    }
}

const TTL_RULE: &str = "ttl must be a whole number of seconds, at least 1";
const POSITIONS_RULE: &str = "positions must be an object with an epoch and an offset for each channel, no more than one may subscribe to";

/// How many there are: the rest is not for logs.
impl fmt::Debug for ResumeSession<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeSession")
            .field("positions", &self.positions.len())
            .finish_non_exhaustive()
    }
}

fn read_positions<'a>(
    value: Value<'a>,
    max: usize,
) -> Result<Vec<(Cow<'a, str>, Recover<'a>)>, DecodeError> {
    if !value.is_object() {
        return Err(DecodeError::Data);
    }
    let mut found = Vec::new();
    let readable = Scanner::new(value.get()).entries(|scanner, name| {
        let value = scanner.value()?;
        // One more than allowed says that there are too many; the rest costs no memory.
        if found.len() <= max {
            found.push((name, value));
        }
        Ok(())
    })?;
    if !readable || found.len() > max {
        return Err(DecodeError::Data);
    }
    found.into_iter().map(|(name, value)| Ok((name, read_recover(value)?))).collect()
}

/// Appends positions by channel, as the member `positions` of a request.
pub(super) fn write_positions(out: &mut Vec<u8>, positions: &[(&str, Position)]) {
    out.push(b'{');
    for (index, (channel, Position { epoch, offset })) in positions.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(out, channel);
        out.extend_from_slice(b":{\"epoch\":\"");
        out.extend_from_slice(epoch.as_str().as_bytes());
        out.extend_from_slice(b"\",\"offset\":");
        write_number(out, *offset);
        out.push(b'}');
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::time::Duration;

    use super::*;
    use crate::protocol::{Epoch, Timestamp};

    #[test]
    fn answers_are_as_in_the_documents() {
        let timestamp = Timestamp::from_unix(Duration::ZERO);
        let stamp = Stamp { id: Uuid::nil(), timestamp: &timestamp };
        let text = |envelope: Envelope<'_>| {
            let mut out = Vec::new();
            envelope.write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let kept = text(Envelope::kept(stamp, "s", 60, Some("1")));
        assert!(kept.contains(
            r#""correlation_id":"1","type":"response","event":"keep_session","data":{"session":"s","ttl":60},"#
        ));
        let position = Position { epoch: Epoch::from_random(0), offset: 5 };
        let start =
            |recovered| Ok(Some(Start { position, recoverable: true, recovered, rewound: None }));
        let entry = |channel, result| ResumedChannel { channel, result };
        let resumed = ResumedSession {
            connection_id: Uuid::nil(),
            subscriptions: &[
                entry("a", start(Some(Ok(3)))),
                entry("b", start(Some(Err("trimmed")))),
                entry("c", start(None)),
                entry("d", Ok(None)),
                entry("e", Err("FORBIDDEN")),
            ],
        };
        let resumed = text(Envelope::resumed(stamp, resumed, None));
        let at = r#""epoch":"0000000000","offset":5,"recoverable":true"#;
        let data = [
            r#"{"status":"resumed","connection_id":"00000000-0000-0000-0000-000000000000","subscriptions":["#,
            &format!(r#"{{"channel":"a",{at},"recovered":true,"missed":3}},"#),
            &format!(r#"{{"channel":"b",{at},"recovered":false,"reason":"trimmed"}},"#),
            &format!(r#"{{"channel":"c",{at},"recovered":false}},"#),
            r#"{"channel":"d","recovered":false},"#,
            r#"{"channel":"e","error":"FORBIDDEN"}]}"#,
        ];
        let data = format!(r#""event":"resume_session","data":{},"#, data.concat());
        assert!(resumed.contains(&data), "{resumed}");
        assert!(resumed.ends_with(r#""status":"resumed"}"#));
    }

    #[test]
    fn a_time_is_a_whole_number_of_seconds() {
        let ttl = |data| KeepSession::parse(data).map(|keep| keep.ttl);
        assert_eq!(ttl(r#"{"ttl":60}"#), Ok(Some(60)));
        for data in ["{}", r#"{"ttl":null}"#, r#"{"x":1}"#] {
            assert_eq!(ttl(data), Ok(None), "{data}");
        }
        for data in [r#"{"ttl":0}"#, r#"{"ttl":-1}"#, r#"{"ttl":1.5}"#, r#"{"ttl":"60"}"#] {
            assert_eq!(ttl(data), Err(DecodeError::Member(TTL_RULE)), "{data}");
        }
    }

    #[test]
    fn positions_are_found_by_channel() {
        let (epoch, other) = (Epoch::from_random(7), Epoch::from_random(8));
        let data = format!(
            r#"{{"session":"s","positions":{{"a\"b":{{"epoch":"{epoch}","offset":5}},
                "c":{{"epoch":"{other}","offset":0,"id":"x"}},"d":{{"epoch":"?","offset":1}}}}}}"#
        );

        let read = ResumeSession::parse(&data, 3).unwrap();

        let since = |epoch, offset, id: Option<&'static str>| Recover {
            epoch,
            offset,
            id: id.map(Cow::Borrowed),
        };
        assert_eq!(read.session, "s");
        let expected: Vec<(Cow<'_, str>, _)> = vec![
            ("a\"b".into(), since(Some(epoch), 5, None)),
            ("c".into(), since(Some(other), 0, Some("x"))),
            ("d".into(), since(None, 1, None)),
        ];
        assert_eq!(read.positions, expected);
        let many = ResumeSession::parse(&data, 2);
        assert_eq!(many, Err(DecodeError::Member(POSITIONS_RULE)), "too many");
    }

    #[test]
    fn without_positions_there_are_none() {
        for data in [r#"{"session":"s"}"#, r#"{"session":"s","positions":null}"#] {
            assert_eq!(ResumeSession::parse(data, 1).unwrap().positions, []);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for data in [
            "{}",
            r#"{"session":5}"#,
            r#"{"session":null}"#,
            r#"{"session":"\ud800"}"#,
            r#"{"session":"s","positions":[]}"#,
            r#"{"session":"s","positions":{"c":5}}"#,
            r#"{"session":"s","positions":{"c":{}}}"#,
            r#"{"session":"s","positions":{"c":{"epoch":"0123456789"}}}"#,
            r#"{"session":"s","positions":{"\ud800":{"epoch":"0123456789","offset":1}}}"#,
        ] {
            let rule = if data.contains("positions") {
                POSITIONS_RULE
            } else {
                "session must be a string"
            };
            assert_eq!(ResumeSession::parse(data, 9), Err(DecodeError::Member(rule)), "{data}");
        }
    }

    #[test]
    fn debug_does_not_tell_the_session() {
        let read = ResumeSession::parse(r#"{"session":"hush"}"#, 1).unwrap();
        assert!(!format!("{read:?}").contains("hush"));
    }

    proptest! {
        #[test]
        fn many_positions_cost_no_memory(count in 0_usize..200, max in 0_usize..20) {
            let epoch = Epoch::from_random(1);
            let list: Vec<String> = (0..count)
                .map(|n| format!(r#""c{n}":{{"epoch":"{epoch}","offset":{n}}}"#)).collect();
            let data = format!(r#"{{"session":"s","positions":{{{}}}}}"#, list.join(","));
            let read = ResumeSession::parse(&data, max);
            prop_assert_eq!(read.map(|read| read.positions.len()).ok(), Some(count).filter(|count| *count <= max));
        }

        #[test]
        fn a_server_reads_the_positions_of_a_client(
            channels in prop::collection::vec((any::<String>(), any::<u64>(), any::<u64>()), 0..5),
        ) {
            let position = |bits: u64, offset| Position { epoch: Epoch::from_random(bits), offset };
            let sent: Vec<_> = channels.iter().map(|(name, bits, offset)| (name.as_str(), position(*bits, *offset))).collect();
            let mut out = br#"{"session":"s","positions":"#.to_vec();
            write_positions(&mut out, &sent);
            out.push(b'}');
            let text = String::from_utf8(out).unwrap();
            let read = ResumeSession::parse(&text, 5).unwrap();
            let positions: Vec<_> = read.positions.iter()
                .map(|(name, since)| (&**name, Position { epoch: since.epoch.unwrap(), offset: since.offset })).collect();
            prop_assert_eq!(positions, sent);
        }
    }
}
