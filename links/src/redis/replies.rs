//! What Redis answers.

use std::{slice, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use mahavishnu_core::{
    hub::{
        AppendError, Appended, BusError, BusPage as Page, IngressEntry, Moved, Node, NodeId,
        PageEntry, PresenceChanged, PresenceMember, PresenceMembers, SessionAnswer, SessionClaimed,
        SessionRenewed, SessionWish, Standing, Taken, Visit, VisitName, Visited, Visits, Writer,
    },
    protocol::{Epoch, Position},
    record,
};
use uuid::Uuid;

use super::{
    NUMBER_MAX,
    live::{self, EntryId},
    request::Sha,
};
use crate::{resp::Frame, stats::ErrorClass};

/// An answer of another shape than was to be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Odd;

/// An error, as Redis puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) class: ErrorClass,
    /// The whole text.
    pub(crate) text: Box<str>,
}

impl Refusal {
    /// `None`: it is no error.
    pub(crate) fn of(frame: &Frame) -> Option<Self> {
        if !frame.is_error() {
            return None;
        }
        let text =
            String::from_utf8_lossy(frame.as_bytes().map_or(&[][..], |bytes| bytes)).into_owned();
        Some(Self { class: class(&text), text: text.into() })
    }

    /// Its first word, if that is one of those that Redis has for want of room.
    pub(crate) fn full(&self) -> Option<&'static str> {
        FULL.into_iter().find(|code| code_of(&self.text) == *code)
    }
}

fn code_of(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

fn class(text: &str) -> ErrorClass {
    match code_of(text) {
        "NOSCRIPT" => ErrorClass::Script,
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" => ErrorClass::Wait,
        "READONLY" | "UNBLOCKED" | "MOVED" | "ASK" => ErrorClass::Elsewhere,
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" | "NOPROTO" => ErrorClass::Refused,
        code if FULL.contains(&code) => ErrorClass::Full,
        _ if REFUSED.iter().any(|part| text.contains(part)) => ErrorClass::Refused,
        _ => ErrorClass::Poison,
    }
}

/// Reasons for which nothing is written.
const FULL: [&str; 3] = ["OOM", "MISCONF", "NOREPLICAS"];

/// What is said under the code `ERR` though it does not pass by itself.
const REFUSED: [&str; 6] = [
    "max number of clients",
    "invalid DB",
    "DB index",
    "SELECT is not allowed",
    // A right that is missing within a script.
    "The user executing the script",
    "Client sent AUTH, but no password is set",
];

/// Takes an array apart.
struct Items<'f>(slice::Iter<'f, Frame>);

impl<'f> Items<'f> {
    fn of(frame: &'f Frame) -> Result<Self, Odd> {
        frame.as_array().map(|items| Self(items.iter())).ok_or(Odd)
    }

    fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    fn next(&mut self) -> Result<&'f Frame, Odd> {
        self.0.next().ok_or(Odd)
    }

    fn bytes(&mut self) -> Result<&'f [u8], Odd> {
        bytes(self.next()?)
    }

    fn number(&mut self) -> Result<u64, Odd> {
        number(self.next()?)
    }

    fn epoch(&mut self) -> Result<Epoch, Odd> {
        live::epoch(self.bytes()?).ok_or(Odd)
    }

    fn position(&mut self) -> Result<Position, Odd> {
        Ok(Position { epoch: self.epoch()?, offset: self.number()? })
    }

    /// A position that is the rest, if there is a rest.
    fn rest(mut self) -> Result<Option<Position>, Odd> {
        if self.is_empty() {
            return Ok(None);
        }
        let position = self.position()?;
        if self.is_empty() { Ok(Some(position)) } else { Err(Odd) }
    }
}

pub(crate) fn bytes(frame: &Frame) -> Result<&[u8], Odd> {
    frame.as_bytes().filter(|_| !frame.is_error()).map(|bytes| &**bytes).ok_or(Odd)
}

fn number(frame: &Frame) -> Result<u64, Odd> {
    let number = frame.as_integer().and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number <= NUMBER_MAX).ok_or(Odd)
}

fn small(frame: &Frame) -> Result<u32, Odd> {
    u32::try_from(number(frame)?).map_err(|_| Odd)
}

/// What became of an append.
pub(crate) fn appended(frame: &Frame) -> Result<Result<Appended, AppendError>, Odd> {
    let mut items = Items::of(frame)?;
    let kind = items.bytes()?;
    if kind == b"behind" {
        return Ok(Err(AppendError::Behind(items.rest()?)));
    }
    if kind == b"other" && !items.is_empty() {
        let (position, document) = (items.position()?, items.bytes()?);
        let document = Bytes::copy_from_slice(document);
        let result = Err(AppendError::OtherBasis(Some((position, document))));
        return if items.is_empty() { Ok(result) } else { Err(Odd) };
    }
    let result = match kind {
        b"ok" => {
            Ok(Appended { first: items.position()?, nodes: small(items.next()?)?, repeated: false })
        }
        b"seen" => Ok(Appended { first: items.position()?, nodes: 0, repeated: true }),
        b"healed" => Err(AppendError::Healed),
        b"state" => Err(AppendError::StateConflict),
        b"other" => Err(AppendError::OtherBasis(None)),
        b"key" => Err(AppendError::KeyConflict),
        b"owner" => Err(AppendError::NotOwner),
        b"gone" => Err(AppendError::Gone),
        _ => return Err(Odd),
    };
    if items.is_empty() { Ok(result) } else { Err(Odd) }
}

/// How many got something.
pub(crate) fn listeners(frame: &Frame) -> Result<u32, Odd> {
    small(frame)
}

/// What became of a command to all nodes.
pub(crate) fn controlled(frame: &Frame) -> Result<Result<u32, BusError>, Odd> {
    let mut items = Items::of(frame)?;
    match items.bytes()? {
        b"ok" => {
            EntryId::parse(items.bytes()?).ok_or(Odd)?;
            Ok(Ok(small(items.next()?)?))
        }
        b"full" => Ok(Err(BusError::Full)),
        _ => Err(Odd),
    }
}

pub(crate) fn page(frame: &Frame) -> Result<Page, Odd> {
    let mut items = Items::of(frame)?;
    let nothing = Page { standing: None, entries: Vec::new(), more: false, document: None };
    if items.is_empty() {
        return Ok(nothing);
    }
    let standing =
        Standing { position: items.position()?, document: items.number()?, mark: items.number()? };
    let document = Some(items.bytes()?).filter(|document| !document.is_empty());
    let document = document.map(Bytes::copy_from_slice);
    let more = match items.bytes()? {
        b"1" => true,
        b"0" => false,
        _ => return Err(Odd),
    };
    let mut entries = Vec::new();
    while !items.is_empty() {
        let (last, count) = (items.number()?, small(items.next()?)?);
        let records = Bytes::copy_from_slice(items.bytes()?);
        if count == 0 || last < u64::from(count) {
            return Err(Odd);
        }
        entries.push(PageEntry { first: last - u64::from(count) + 1, count, records });
    }
    Ok(Page { standing: Some(standing), entries, more, document })
}

/// Where a channel stands, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// There; and the id of its last message, if that was asked for and told.
    At(Standing, Option<Uuid>),
    /// Nothing is known of it.
    Nowhere,
    /// It is not of this version.
    Broken,
}

/// Where channels stand, so many of them. `newest`: with their last messages.
pub(crate) fn standings(frame: &Frame, count: usize, newest: bool) -> Result<Vec<Stand>, Odd> {
    let mut items = Items::of(frame)?;
    let mut stands = Vec::with_capacity(count);
    for _ in 0..count {
        let (epoch, offset) = (items.bytes()?, items.number()?);
        let (document, mark) = (items.number()?, items.number()?);
        let id = if newest { newest_of(items.bytes()?) } else { None };
        stands.push(match epoch {
            b"" => Stand::Nowhere,
            _ => match live::epoch(epoch) {
                Some(epoch) => {
                    let position = Position { epoch, offset };
                    Stand::At(Standing { position, document, mark }, id)
                }
                None => Stand::Broken,
            },
        });
    }
    if items.is_empty() { Ok(stands) } else { Err(Odd) }
}

/// The id of a record's last message. What is none is not told: whoever reads it will see.
fn newest_of(records: &[u8]) -> Option<Uuid> {
    let messages: Result<Vec<_>, _> = record::decode(records).ok()?.collect();
    Some(messages.ok()?.last()?.id)
}

pub(crate) fn moved(frame: &Frame) -> Result<Moved, Odd> {
    let mut items = Items::of(frame)?;
    match items.bytes()? {
        b"ok" if items.is_empty() => Ok(Moved::Done),
        b"moved" => Ok(Moved::Elsewhere(items.rest()?)),
        _ => Err(Odd),
    }
}

/// Which nodes there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nodes {
    pub(crate) there: Vec<Node>,
    pub(crate) gone: Vec<NodeId>,
}

/// `None`: the lease is lost.
pub(crate) fn beat(frame: &Frame) -> Result<Option<Nodes>, Odd> {
    let mut items = Items::of(frame)?;
    match items.bytes()? {
        b"ok" => {}
        b"lost" => return Ok(None),
        _ => return Err(Odd),
    }
    let mut nodes = Nodes::default();
    let mut there = Items::of(items.next()?)?;
    while !there.is_empty() {
        let (id, info) = (there.bytes()?, there.bytes()?);
        // A name of another version is none of ours.
        if let Some(id) = node(id) {
            nodes.there.push(Node { id, info: Bytes::copy_from_slice(info) });
        }
    }
    let mut gone = Items::of(items.next()?)?;
    while !gone.is_empty() {
        nodes.gone.extend(node(gone.bytes()?));
    }
    Ok(Some(nodes))
}

pub(crate) fn node(text: &[u8]) -> Option<NodeId> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 16)?;
    u64::from_str_radix(text, 16).ok().map(NodeId)
}

pub(crate) fn visited(frame: &Frame) -> Result<Visited, Odd> {
    let mut items = Items::of(frame)?;
    let entered = items.number()? == 1;
    Ok(Visited { entered, connections: small(items.next()?)? })
}

pub(crate) fn visits(frame: &Frame) -> Result<Visits, Odd> {
    let mut items = Items::of(frame)?;
    let connections = small(items.next()?)?;
    let mut visits = Vec::new();
    while !items.is_empty() {
        let (name, info) = (items.bytes()?, items.bytes()?);
        if let Some(name) = visit_name(name) {
            visits.push(Visit { name, info: Bytes::copy_from_slice(info) });
        }
    }
    Ok(Visits { connections, visits })
}

/// What came of taking entries out of a queue.
pub(crate) fn taken(frame: &Frame) -> Result<Taken, Odd> {
    let mut items = Items::of(frame)?;
    match items.bytes()? {
        b"other" => return Ok(Taken::Elsewhere { left: Duration::from_millis(items.number()?) }),
        b"ok" => {}
        _ => return Err(Odd),
    }
    let (waiting, lag) = (items.number()?, Duration::from_millis(items.number()?));
    let mut entries = Vec::new();
    while !items.is_empty() {
        entries.push(ingress_entry(items.next()?)?);
    }
    Ok(Taken::Owned { waiting, lag, entries })
}

fn ingress_entry(frame: &Frame) -> Result<IngressEntry, Odd> {
    let mut items = Items::of(frame)?;
    let name = items.bytes()?;
    EntryId::parse(name).ok_or(Odd)?;
    let name = std::str::from_utf8(name).map_err(|_| Odd)?.into();
    if items.is_empty() {
        return Ok(IngressEntry { name, fields: None });
    }
    let (mut fields, mut words) = (Vec::new(), Items::of(items.next()?)?);
    while !words.is_empty() {
        let (field, value) = (words.bytes()?, words.bytes()?);
        fields.push((Bytes::copy_from_slice(field), Bytes::copy_from_slice(value)));
    }
    Ok(IngressEntry { name, fields: Some(fields) })
}

fn visit_name(text: &[u8]) -> Option<VisitName> {
    let (node_id, connection) = std::str::from_utf8(text).ok()?.split_once('.')?;
    Some(VisitName { node: node(node_id.as_bytes())?, connection: connection.parse().ok()? })
}

/// What became of a change of a channel's members.
pub(crate) fn attended(frame: &Frame) -> Result<PresenceChanged, Odd> {
    let mut items = Items::of(frame)?;
    let (position, members) = (items.position()?, small(items.next()?)?);
    let mut refused = Vec::new();
    while !items.is_empty() {
        refused.push(uuid(items.bytes()?).ok_or(Odd)?);
    }
    Ok(PresenceChanged { position, members, refused })
}

/// A channel's members.
pub(crate) fn members(frame: &Frame) -> Result<PresenceMembers, Odd> {
    let mut items = Items::of(frame)?;
    let nothing = Some(Vec::new());
    let mut all = PresenceMembers {
        position: None,
        refused: false,
        stale: false,
        members: nothing,
        more: false,
    };
    if items.is_empty() {
        return Ok(all);
    }
    all.position = Some(items.position()?);
    all.refused = items.bytes()? == b"1";
    if items.is_empty() {
        all.members = None;
        return Ok(all);
    }
    all.stale = items.bytes()? == b"1";
    all.more = items.bytes()? == b"1";
    let mut members = Vec::new();
    while !items.is_empty() {
        let (id, node_id, info) = (items.bytes()?, items.bytes()?, items.bytes()?);
        // A name of another version is none of ours.
        if let Some((id, node)) = uuid(id).zip(node(node_id)) {
            members.push(PresenceMember { id, node, info: Bytes::copy_from_slice(info) });
        }
    }
    all.members = Some(members);
    Ok(all)
}

/// A member's name, which is as long as all of them.
pub(crate) fn uuid<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok().filter(|text| text.len() == 36)?.parse().ok()
}

/// What became of sessions.
pub(crate) fn session(wish: &SessionWish, frame: &Frame) -> Result<SessionAnswer, Odd> {
    match wish {
        SessionWish::Keep(_) | SessionWish::End(..) => {
            let mut items = Items::of(frame)?;
            match items.bytes()? {
                b"ok" => Ok(SessionAnswer::Done(true)),
                b"lost" => Ok(SessionAnswer::Done(false)),
                _ => Err(Odd),
            }
        }
        SessionWish::Claim { .. } => claimed(frame),
        SessionWish::Renew(sessions) => {
            let replies = frame.as_array().filter(|all| all.len() == sessions.len()).ok_or(Odd)?;
            let renewed = replies.iter().map(|reply| match reply.as_integer() {
                Some(1) => Ok(SessionRenewed::Done),
                Some(0) => Ok(SessionRenewed::Lost),
                Some(-1) => Ok(SessionRenewed::Unknown),
                _ => Err(Odd),
            });
            renewed.collect::<Result<_, _>>().map(SessionAnswer::Renewed)
        }
    }
}

fn claimed(frame: &Frame) -> Result<SessionAnswer, Odd> {
    let mut items = Items::of(frame)?;
    match items.bytes()? {
        b"unknown" => return Ok(SessionAnswer::Claimed(None)),
        b"other" => return Ok(SessionAnswer::OtherUser),
        b"ok" => {}
        _ => return Err(Odd),
    }
    let claim = items.number()?;
    // A name of another version is nobody that could be told anything.
    let before = std::str::from_utf8(items.bytes()?).ok().and_then(Writer::parse);
    let begun = Duration::from_millis(items.number()?);
    let record = Bytes::copy_from_slice(items.bytes()?);
    let claimed = SessionClaimed { claim, before, begun, record };
    Ok(SessionAnswer::Claimed(Some(Box::new(claimed))))
}

/// What was told to all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commands {
    /// The newest there is.
    pub(crate) newest: EntryId,
    /// There are further ones than these.
    pub(crate) more: bool,
    pub(crate) entries: Vec<(EntryId, Bytes)>,
}

pub(crate) fn commands(frame: &Frame) -> Result<Commands, Odd> {
    let mut items = Items::of(frame)?;
    let newest = EntryId::parse(items.bytes()?).ok_or(Odd)?;
    let more = items.bytes()? == b"1";
    let mut entries = Vec::new();
    while !items.is_empty() {
        let id = EntryId::parse(items.bytes()?).ok_or(Odd)?;
        entries.push((id, Bytes::copy_from_slice(items.bytes()?)));
    }
    Ok(Commands { newest, more, entries })
}

/// The name of a script that was loaded.
pub(crate) fn sha(frame: &Frame) -> Result<Sha, Odd> {
    let sha: Sha = bytes(frame)?.try_into().map_err(|_| Odd)?;
    if sha.iter().all(u8::is_ascii_hexdigit) { Ok(sha) } else { Err(Odd) }
}

/// The value beside a name in a map, or in an array of pairs.
pub(crate) fn member<'f>(frame: &'f Frame, name: &str) -> Option<&'f Frame> {
    let is_it = |key: &Frame| bytes(key) == Ok(name.as_bytes());
    match frame.as_map() {
        Some(pairs) => pairs.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value),
        None => {
            let (pairs, _) = frame.as_array()?.as_chunks::<2>();
            pairs.iter().find(|[key, _]| is_it(key)).map(|[_, value]| value)
        }
    }
}

pub(crate) fn text(frame: &Frame) -> Option<&str> {
    std::str::from_utf8(bytes(frame).ok()?).ok()
}

/// Bytes at once, bytes for some time, that time: of what is owed in pub/sub, from
/// `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`.
pub(crate) fn output_buffer(text: &str) -> Option<(u64, u64, Duration)> {
    let mut words = text.split(' ').skip_while(|word| *word != "pubsub").skip(1);
    let mut number = || words.next()?.parse::<u64>().ok();
    Some((number()?, number()?, Duration::from_secs(number()?)))
}

/// Id and address of the own connection as Redis sees it, from the line of `CLIENT INFO`.
pub(crate) fn client(text: &str) -> Option<(u64, Arc<str>)> {
    let field = |name: &str| text.split(' ').find_map(|word| word.strip_prefix(name));
    let id = field("id=")?.parse().ok()?;
    Some((id, field("addr=")?.into()))
}
