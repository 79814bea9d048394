//! What is announced, as it comes.

use bytes::Bytes;
use mahavishnu_core::{
    hub::{Live, PresenceEnd, PresenceMember, PresenceMove, PresenceNews},
    protocol::{Epoch, Position},
};

use super::{NUMBER_MAX, replies};

/// Reads what came on a channel.
pub(crate) fn live(message: &[u8]) -> Live {
    parse(message).unwrap_or(Live::Poison)
}

fn parse(message: &[u8]) -> Option<Live> {
    let (kind, mut rest) = message.split_first()?;
    match kind {
        b'A' | b'D' | b'N' => {
            let epoch = epoch(field(&mut rest)?)?;
            let first = number(field(&mut rest)?).filter(|first| *first > 0)?;
            let count = count(field(&mut rest)?)?;
            let state = if *kind == b'D' { Some(state(&mut rest)?) } else { None };
            let records = (*kind != b'N').then(|| Bytes::copy_from_slice(rest));
            Some(Live::Round { epoch, first, count, records, state })
        }
        b'X' => {
            let count = count(field(&mut rest)?)?;
            Some(Live::Announced { count, records: Bytes::copy_from_slice(rest) })
        }
        b'E' => {
            let epoch = epoch(field(&mut rest)?)?;
            Some(Live::Forked { position: Position { epoch, offset: number(rest)? } })
        }
        b'H' => {
            let epoch = epoch(field(&mut rest)?)?;
            let offset = number(field(&mut rest)?)?;
            let mark = number(field(&mut rest)?)?;
            let newest = if rest.is_empty() { None } else { Some(replies::uuid(rest)?) };
            Some(Live::Healed { position: Position { epoch, offset }, mark, newest })
        }
        b'M' => presence(rest).map(Live::Presence),
        _ => None,
    }
}

/// What has become of a channel's members.
fn presence(mut rest: &[u8]) -> Option<PresenceNews> {
    let epoch = epoch(field(&mut rest)?)?;
    let before = number(field(&mut rest)?)?;
    let offset = number(field(&mut rest)?).filter(|number| *number > before)?;
    let refused = match field(&mut rest)? {
        b"0" => false,
        b"1" => true,
        _ => return None,
    };
    let moves = if rest == b"!" { None } else { Some(moves(rest)?) };
    Some(PresenceNews { before, position: Position { epoch, offset }, refused, moves })
}

fn moves(mut rest: &[u8]) -> Option<Vec<PresenceMove>> {
    let mut moves = Vec::new();
    while let Some((kind, behind)) = rest.split_first() {
        let (id, behind) = behind.split_at_checked(36)?;
        let id = replies::uuid(id)?;
        rest = behind;
        moves.push(match kind {
            b'+' => {
                let (node, behind) = rest.split_at_checked(16)?;
                rest = behind;
                PresenceMove::Joined(PresenceMember {
                    id,
                    node: replies::node(node)?,
                    info: state(&mut rest)?,
                })
            }
            b'-' => {
                let (why, behind) = rest.split_first()?;
                rest = behind;
                let why = match why {
                    b'l' => PresenceEnd::Left,
                    b'o' => PresenceEnd::Lost,
                    b'n' => PresenceEnd::Node,
                    _ => return None,
                };
                PresenceMove::Left { member: id, why }
            }
            _ => return None,
        });
    }
    Some(moves)
}

/// What came on the channel for all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ForAll {
    /// Something that is kept, and what was kept last before.
    Command { before: EntryId, id: EntryId, command: Bytes },
    /// Something that is not.
    Told(Bytes),
}

/// Reads what came on the channel for all nodes.
pub(crate) fn for_all(message: &[u8]) -> Option<ForAll> {
    let (kind, mut rest) = message.split_first()?;
    match kind {
        b'C' => {
            let before = EntryId::parse(field(&mut rest)?)?;
            let id = EntryId::parse(field(&mut rest)?)?;
            Some(ForAll::Command { before, id, command: Bytes::copy_from_slice(rest) })
        }
        b'T' => Some(ForAll::Told(Bytes::copy_from_slice(rest))),
        _ => None,
    }
}

/// Reads a probe's token.
pub(crate) fn probe(message: &[u8]) -> Option<u64> {
    let token = std::str::from_utf8(message.strip_prefix(b"P")?).ok()?;
    u64::from_str_radix(token, 16).ok()
}

/// Names an entry of a stream; 0-0 is before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryId(pub(crate) u64, pub(crate) u64);

impl EntryId {
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (time, rest) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self(time.parse().ok()?, rest.parse().ok()?))
    }
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// What is before the next colon.
fn field<'m>(rest: &mut &'m [u8]) -> Option<&'m [u8]> {
    let at = rest.iter().take(FIELD_BYTES_MAX).position(|byte| *byte == b':')?;
    let (field, behind) = (rest.get(..at)?, rest.get(at + 1..)?);
    *rest = behind;
    Some(field)
}

fn state(rest: &mut &[u8]) -> Option<Bytes> {
    let length = usize::try_from(number(field(rest)?)?).ok()?;
    let (state, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(Bytes::copy_from_slice(state))
}

pub(crate) fn epoch(text: &[u8]) -> Option<Epoch> {
    Epoch::parse(std::str::from_utf8(text).ok()?)
}

fn count(text: &[u8]) -> Option<u32> {
    number(text).and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0)
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = (1..=15).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()?;
    (number <= NUMBER_MAX).then_some(number)
}

/// Longer than any of the fields.
const FIELD_BYTES_MAX: usize = 42;

#[cfg(test)]
mod tests {
    use mahavishnu_core::hub::NodeId;
    use proptest::prelude::*;

    use super::*;

    const EPOCH: &str = "kq3v7m2xwd";

    fn round(
        first: u64,
        count: u32,
        records: Option<&'static str>,
        state: Option<&'static str>,
    ) -> Live {
        let epoch = Epoch::parse(EPOCH).unwrap();
        Live::Round {
            epoch,
            first,
            count,
            records: records.map(Bytes::from),
            state: state.map(Bytes::from),
        }
    }

    #[test]
    fn messages_are_read() {
        assert_eq!(live(b"Akq3v7m2xwd:105:2:a:b"), round(105, 2, Some("a:b"), None));
        assert_eq!(
            live(b"Dkq3v7m2xwd:1:1:9:{\"a\":\":\"}rr"),
            round(1, 1, Some("rr"), Some("{\"a\":\":\"}"))
        );
        assert_eq!(
            live(b"Nkq3v7m2xwd:99999999999999:1:"),
            round(99_999_999_999_999, 1, None, None)
        );
        assert_eq!(live(b"X3:r"), Live::Announced { count: 3, records: Bytes::from_static(b"r") });
        let position = Position { epoch: Epoch::parse(EPOCH).unwrap(), offset: 0 };
        assert_eq!(live(b"Ekq3v7m2xwd:0"), Live::Forked { position });
        let name = "6e9cbbfd-acb9-4655-b580-0892cd8cb8da";
        let id = name.parse().unwrap();
        let healed = |newest| Live::Healed { position, mark: 9, newest };
        assert_eq!(live(b"Hkq3v7m2xwd:0:9:"), healed(None));
        assert_eq!(live(format!("Hkq3v7m2xwd:0:9:{name}").as_bytes()), healed(Some(id)));
        let text = format!("Mkq3v7m2xwd:6:7:1:+{name}00000000000000ff2:{{}}-{name}o");
        let joined = PresenceMember { id, node: NodeId(255), info: Bytes::from_static(b"{}") };
        let left = PresenceMove::Left { member: id, why: PresenceEnd::Lost };
        let moves = Some(vec![PresenceMove::Joined(joined), left]);
        let position = Position { epoch: position.epoch, offset: 7 };
        let news = PresenceNews { before: 6, position, refused: true, moves };
        assert_eq!(live(text.as_bytes()), Live::Presence(news.clone()));
        let news = PresenceNews { refused: false, moves: None, ..news };
        assert_eq!(live(b"Mkq3v7m2xwd:6:7:0:!"), Live::Presence(news));
        let (before, id) = (EntryId(0, 0), EntryId(1_700, 3));
        let command = Bytes::from_static(b"{:}");
        assert_eq!(for_all(b"C0-0:1700-3:{:}"), Some(ForAll::Command { before, id, command }));
        assert_eq!(for_all(b"T{}"), Some(ForAll::Told(Bytes::from_static(b"{}"))));
        assert_eq!(probe(b"Pffffffffffffffff"), Some(u64::MAX));
        assert_eq!(EntryId::parse(id.to_string().as_bytes()), Some(id));
    }

    #[test]
    fn what_nobody_would_write_is_poison() {
        for message in [
            "",
            "A",
            "Z",
            "Akq3v7m2xwd:1:1",
            "Akq3v7m2xwd:0:1:",
            "Akq3v7m2xwd:1:0:",
            "Akq3v7m2xwd:1:4294967296:",
            "Akq3v7m2xw:1:1:",
            "Akq3v7m2xwd:100000000000000:1:",
            "Akq3v7m2xwd:+1:1:",
            "Dkq3v7m2xwd:1:1:9:{}",
            "X:r",
            "Xr",
            "Ekq3v7m2xwd:",
            "Ekq3v7m2xwd:1:",
            "Hkq3v7m2xwd:1",
            "Hkq3v7m2xwd:1:",
            "Hkq3v7m2xwd::1:",
            "Hkq3v7m2xwd:1:1:6e9cbbfd",
            "Mkq3v7m2xwd:0:0:0:",
            "Mkq3v7m2xwd:1:1:0:",
            "Mkq3v7m2xwd:1:0:",
            "Mkq3v7m2xwd:0:1:2:",
            "Mkq3v7m2xwd:0:1:0:+",
            "Mkq3v7m2xwd:0:1:0:-6e9cbbfd-acb9-4655-b580-0892cd8cb8dax",
            "Mkq3v7m2xwd:0:1:0:+6e9cbbfd-acb9-4655-b580-0892cd8cb8da00000000000000ff9:{}",
        ] {
            assert_eq!(live(message.as_bytes()), Live::Poison, "{message}");
        }
        for message in ["", "C", "C0-0:", "C0-0:1:x", "Cx:1-1:x", "P1"] {
            assert_eq!(for_all(message.as_bytes()), None, "{message}");
        }
        assert_eq!(probe(b"Px"), None);
        assert_eq!(probe(b"A1"), None);
    }

    proptest! {
        #[test]
        fn anything_is_read_or_poison(kind in prop::sample::select(&b"ADNXEHCTPM"[..]), mut message: Vec<u8>, text in "[0-9:k-]{0,40}") {
            message.splice(0..0, text.into_bytes());
            message.insert(0, kind);
            live(&message);
            for_all(&message);
            probe(&message);
        }
    }
}
