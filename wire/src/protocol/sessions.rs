//! Sessions that outlive their connection: what `keep_session` and `resume_session` ask for, and what a session that was
//! resumed consists of.

use std::{borrow::Cow, fmt};

use super::{
    decode::DecodeError,
    json::write_string,
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

impl KeepSession {
    /// Reads the `data` of a request.
    pub fn parse(data: &str) -> Result<Self, DecodeError> {
        let [ttl] = members(data, &["ttl"])?;
        let ttl = ttl.map(number).transpose()?;
        if ttl == Some(0) {
            return Err(DecodeError::Data);
        }
        Ok(Self { ttl })
    }
}

impl<'a> ResumeSession<'a> {
    /// Reads the `data` of a request with at most so many positions.
    pub fn parse(data: &'a str, positions_max: usize) -> Result<Self, DecodeError> {
        let [session, positions] = members(data, &["session", "positions"])?;
        let session = session.and_then(Value::string).ok_or(DecodeError::Data)?;
        let positions = match positions {
            Some(positions) => read_positions(positions, positions_max)?,
            None => Vec::new(),
        };
        Ok(Self { session, positions })
    }
}

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
        out.extend_from_slice(itoa::Buffer::new().format(*offset).as_bytes());
        out.push(b'}');
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::Epoch;

    #[test]
    fn a_time_is_a_whole_number_of_seconds() {
        let ttl = |data| KeepSession::parse(data).map(|keep| keep.ttl);
        assert_eq!(ttl(r#"{"ttl":60}"#), Ok(Some(60)));
        for data in ["{}", r#"{"ttl":null}"#, r#"{"x":1}"#] {
            assert_eq!(ttl(data), Ok(None), "{data}");
        }
        for data in [r#"{"ttl":0}"#, r#"{"ttl":-1}"#, r#"{"ttl":1.5}"#, r#"{"ttl":"60"}"#] {
            assert_eq!(ttl(data), Err(DecodeError::Data), "{data}");
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
        assert_eq!(ResumeSession::parse(&data, 2), Err(DecodeError::Data), "too many");
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
            assert_eq!(ResumeSession::parse(data, 9), Err(DecodeError::Data), "{data}");
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
