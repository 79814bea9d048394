//! Strings.

use super::{SYNTAX, integer, is};
use crate::{
    data::{Entry, Value},
    reply::Reply,
    store::{Answer, Store},
};

pub(super) fn get(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let value = store.get::<Vec<u8>>(database, &words[1])?;
    Ok(value.map_or(Reply::Null, Reply::bulk))
}

/// How long a string is to live.
enum Life {
    /// Until it is deleted.
    Endless,
    /// As long as what was there.
    Kept,
    /// Until then, in Unix milliseconds.
    Until(u64),
}

pub(super) fn set(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let (key, value) = (&words[1], &words[2]);
    let (mut life, mut wanted) = (Life::Endless, None);
    let mut rest = words[3..].iter();
    while let Some(word) = rest.next() {
        if is(word, "nx") && wanted.is_none() {
            wanted = Some(false);
        } else if is(word, "xx") && wanted.is_none() {
            wanted = Some(true);
        } else if is(word, "keepttl") && matches!(life, Life::Endless) {
            life = Life::Kept;
        } else if ["px", "ex", "pxat", "exat"].iter().any(|name| is(word, name))
            && matches!(life, Life::Endless)
        {
            let number = integer(rest.next().ok_or(SYNTAX)?)?;
            life = Life::Until(until(store, word, number)?);
        } else {
            return Err(SYNTAX.into());
        }
    }
    if wanted.is_some_and(|there| store.has(database, key) != there) {
        return Ok(Reply::Null);
    }
    let expires = match life {
        Life::Endless => None,
        Life::Until(at) => Some(at),
        Life::Kept => store.entry(database, key).and_then(|entry| entry.expires),
    };
    if let Some(at) = expires {
        let until = at.to_string().into_bytes();
        let words = vec![b"SET".to_vec(), key.clone(), value.clone(), b"PXAT".to_vec(), until];
        store.rewritten = Some(words);
    }
    let entry = Entry { value: Value::String(value.clone()), expires };
    store.database(database).insert(key.clone(), entry);
    Ok(Reply::ok())
}

fn until(store: &Store, unit: &[u8], number: i64) -> Result<u64, String> {
    let invalid = || "ERR invalid expire time in 'set' command".to_owned();
    let number = u64::try_from(number).ok().filter(|number| *number > 0).ok_or_else(invalid)?;
    let seconds = is(unit, "ex") || is(unit, "exat");
    let ms = if seconds { number.checked_mul(1000) } else { Some(number) };
    let from = if is(unit, "px") || is(unit, "ex") { store.clock.unix_ms() } else { 0 };
    ms.and_then(|ms| ms.checked_add(from))
        .filter(|at| i64::try_from(*at).is_ok())
        .ok_or_else(invalid)
}

pub(super) fn incr(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let before = match store.get::<Vec<u8>>(database, &words[1])? {
        Some(text) => integer(text)?,
        None => 0,
    };
    let Some(after) = before.checked_add(1) else {
        return Err("ERR increment or decrement would overflow".into());
    };
    *store.get_or_new::<Vec<u8>>(database, &words[1])? = after.to_string().into_bytes();
    Ok(Reply::Integer(after))
}
