//! Streams.

use super::{NOT_AN_INTEGER, SYNTAX, integer, is, wrong_number};
use crate::{
    data::{Fields, Stream, StreamId, Trim},
    reply::Reply,
    store::{Answer, Store},
};

const INVALID_ID: &str = "ERR Invalid stream ID specified as stream command argument";
const NOT_HIGHER: &str =
    "ERR The ID specified in XADD is equal or smaller than the target stream top item";

/// How an entry is to be called.
#[derive(Clone, Copy, Debug)]
enum NewId {
    /// `*`
    ByTime,
    /// `ms-*`
    NextOf(u64),
    Given(StreamId),
}

pub(super) fn xadd(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let (key, mut at) = (&words[1], 2);
    let (mut make, mut trim) = (true, None);
    while is(&words[at], "nomkstream") || is(&words[at], "maxlen") || is(&words[at], "minid") {
        if is(&words[at], "nomkstream") {
            make = false;
            at += 1;
        } else if trim.is_some() {
            return Err(SYNTAX.into());
        } else {
            trim = Some(parse_trim(words, &mut at)?);
        }
        if at >= words.len() {
            return Err(wrong_number("xadd"));
        }
    }
    let id = new_id(&words[at])?;
    let fields: Fields = words[at + 1..].to_vec();
    if fields.is_empty() || !fields.len().is_multiple_of(2) {
        return Err(wrong_number("xadd"));
    }
    if matches!(id, NewId::Given(StreamId::ZERO)) {
        return Err("ERR The ID specified in XADD must be greater than 0-0".into());
    }
    let now = store.clock.unix_ms();
    if store.get::<Stream>(database, key)?.is_none() && !make {
        return Ok(Reply::Null);
    }
    let stream = store.get_or_new::<Stream>(database, key)?;
    if stream.last() == StreamId::MAX {
        return Err(
            "ERR The stream has exhausted the last possible ID, unable to add more items".into()
        );
    }
    let id = match id {
        NewId::Given(id) => Some(id),
        NewId::ByTime if now > stream.last().ms => Some(StreamId { ms: now, seq: 0 }),
        NewId::ByTime => stream.last().next(),
        NewId::NextOf(ms) if ms == stream.last().ms => {
            stream.last().seq.checked_add(1).map(|seq| StreamId { ms, seq })
        }
        NewId::NextOf(ms) => Some(StreamId { ms, seq: 0 }),
    };
    let id = id.filter(|id| *id > stream.last()).ok_or(NOT_HIGHER)?;
    stream.add(id, fields);
    if let Some(trim) = trim {
        stream.trim(trim);
    }
    let mut words = words.to_vec();
    words[at] = id.to_string().into_bytes();
    store.rewritten = Some(words);
    Ok(Reply::bulk(id.to_string()))
}

fn new_id(word: &[u8]) -> Result<NewId, String> {
    if word == b"*" {
        return Ok(NewId::ByTime);
    }
    if let Some(ms) = word.strip_suffix(b"-*") {
        return Ok(NewId::NextOf(StreamId::parse(ms, 0).ok_or(INVALID_ID)?.ms));
    }
    Ok(NewId::Given(StreamId::parse(word, 0).ok_or(INVALID_ID)?))
}

/// `MAXLEN 10`, `MINID = 5-0`: at `at`, which moves behind it.
fn parse_trim(words: &[Vec<u8>], at: &mut usize) -> Result<Trim, String> {
    let by_id = is(&words[*at], "minid");
    *at += 1;
    let how = words.get(*at).ok_or(SYNTAX)?;
    assert!(how != b"~", "the model trims exactly or not at all");
    *at += usize::from(how == b"=" && *at + 1 < words.len());
    let limit = words.get(*at).ok_or(SYNTAX)?;
    *at += 1;
    if by_id {
        return Ok(Trim::MinId(StreamId::parse(limit, 0).ok_or(INVALID_ID)?));
    }
    let length = integer(limit).map_err(|_| NOT_AN_INTEGER)?;
    let length = usize::try_from(length).map_err(|_| "ERR The MAXLEN argument must be >= 0.")?;
    Ok(Trim::MaxLen(length))
}

pub(super) fn xtrim(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let mut at = 2;
    if !is(&words[at], "maxlen") && !is(&words[at], "minid") {
        return Err(SYNTAX.into());
    }
    let trim = parse_trim(words, &mut at)?;
    if at != words.len() {
        return Err(SYNTAX.into());
    }
    let stream = store.get::<Stream>(database, &words[1])?;
    Ok(Reply::count(stream.map_or(0, |stream| stream.trim(trim))))
}

pub(super) fn xrange(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    range(store, database, words, false)
}

pub(super) fn xrevrange(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    range(store, database, words, true)
}

fn range(store: &mut Store, database: usize, words: &[Vec<u8>], reverse: bool) -> Answer {
    let (from, to) = if reverse { (&words[3], &words[2]) } else { (&words[2], &words[3]) };
    let from = bound(from, 0, "start", StreamId::next)?;
    let to = bound(to, u64::MAX, "end", StreamId::previous)?;
    let count = match &words[4..] {
        [] => usize::MAX,
        [name, count] if is(name, "count") => {
            let count = integer(count)?;
            usize::try_from(count).unwrap_or(0)
        }
        _ => return Err(SYNTAX.into()),
    };
    let Some(stream) = store.get::<Stream>(database, &words[1])? else {
        return Ok(Reply::Array(Vec::new()));
    };
    if count == 0 {
        return Ok(Reply::NullArray);
    }
    let entries = stream.range(from, to);
    let entries: Vec<Reply> = if reverse {
        entries.rev().take(count).map(entry).collect()
    } else {
        entries.take(count).map(entry).collect()
    };
    Ok(Reply::Array(entries))
}

fn entry((id, fields): (&StreamId, &Fields)) -> Reply {
    let fields = fields.iter().map(Reply::bulk).collect();
    Reply::Array(vec![Reply::bulk(id.to_string()), Reply::Array(fields)])
}

/// `-`, `+`, an id, or one behind a parenthesis, which is not included.
fn bound(
    word: &[u8],
    seq: u64,
    name: &str,
    inward: fn(StreamId) -> Option<StreamId>,
) -> Result<StreamId, String> {
    match word {
        b"-" => Ok(StreamId::ZERO),
        b"+" => Ok(StreamId::MAX),
        [b'(', id @ ..] => {
            let id = StreamId::parse(id, seq).ok_or(INVALID_ID)?;
            inward(id).ok_or_else(|| format!("ERR invalid {name} ID for the interval"))
        }
        id => Ok(StreamId::parse(id, seq).ok_or(INVALID_ID)?),
    }
}

pub(super) fn xlen(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let stream = store.get::<Stream>(database, &words[1])?;
    Ok(Reply::count(stream.map_or(0, |stream| stream.len())))
}

pub(super) fn xdel(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let ids: Option<Vec<StreamId>> = words[2..].iter().map(|id| StreamId::parse(id, 0)).collect();
    // Redis looks at the key first.
    let Some(stream) = store.get::<Stream>(database, &words[1])? else {
        return Ok(Reply::Integer(0));
    };
    let ids = ids.ok_or(INVALID_ID)?;
    Ok(Reply::count(ids.iter().filter(|id| stream.delete(**id)).count()))
}
