//! Keys, whatever they hold.

use super::{SYNTAX, integer, is};
use crate::{
    data::Data,
    reply::Reply,
    store::{Answer, Store},
};

pub(super) fn del(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    Ok(Reply::count(words[1..].iter().filter(|key| store.remove(database, key)).count()))
}

pub(super) fn exists(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    Ok(Reply::count(words[1..].iter().filter(|key| store.has(database, key)).count()))
}

pub(super) fn kind(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let kind = store.entry(database, &words[1]).map_or("none", |entry| entry.value.kind());
    Ok(Reply::Simple(kind.into()))
}

pub(super) fn pexpire(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let now = i64::try_from(store.clock.unix_ms()).expect("a time");
    expire(store, database, words, now)
}

pub(super) fn pexpireat(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    expire(store, database, words, 0)
}

fn expire(store: &mut Store, database: usize, words: &[Vec<u8>], from: i64) -> Answer {
    assert!(words.len() == 3, "the model knows no conditions of {words:?}");
    let key = &words[1];
    let number = integer(&words[2])?;
    let Some(at) = number.checked_add(from) else {
        let name = String::from_utf8_lossy(&words[0]).to_lowercase();
        return Err(format!("ERR invalid expire time in '{name}' command"));
    };
    if !store.has(database, key) {
        return Ok(Reply::Integer(0));
    }
    let now = store.clock.unix_ms();
    match u64::try_from(at).ok().filter(|at| *at > now || store.applying) {
        Some(at) => {
            let until = at.to_string().into_bytes();
            store.rewritten = Some(vec![b"PEXPIREAT".to_vec(), key.clone(), until]);
            store.entry(database, key).expect("it is there").expires = Some(at);
        }
        None => {
            store.rewritten = Some(vec![b"DEL".to_vec(), key.clone()]);
            store.remove(database, key);
        }
    }
    Ok(Reply::Integer(1))
}

pub(super) fn persist(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let entry = store.entry(database, &words[1]);
    let had = entry.is_some_and(|entry| entry.expires.take().is_some());
    Ok(Reply::Integer(had.into()))
}

pub(super) fn pttl(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let now = store.clock.unix_ms();
    Ok(match store.entry(database, &words[1]) {
        None => Reply::Integer(-2),
        Some(entry) => match entry.expires {
            None => Reply::Integer(-1),
            Some(at) => Reply::Integer(i64::try_from(at.saturating_sub(now)).expect("a time")),
        },
    })
}

pub(super) fn dbsize(store: &mut Store, database: usize, _: &[Vec<u8>]) -> Answer {
    Ok(Reply::count(store.database(database).len()))
}

/// All in one page, which Redis might do too.
pub(super) fn scan(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let mut pattern: &[u8] = b"*";
    if !words[1].iter().all(u8::is_ascii_digit) {
        return Err("ERR invalid cursor".into());
    }
    for pair in words[2..].chunks(2) {
        match pair {
            [name, value] if is(name, "match") => pattern = value,
            [name, value] if is(name, "count") => {
                if integer(value)? < 1 {
                    return Err(SYNTAX.into());
                }
            }
            _ => return Err(SYNTAX.into()),
        }
    }
    let keys: Vec<Vec<u8>> = store.database(database).keys().cloned().collect();
    let found = keys.iter().filter(|key| matches(pattern, key) && store.has(database, key));
    Ok(Reply::Array(vec![Reply::bulk("0"), Reply::Array(found.map(Reply::bulk).collect())]))
}

/// Patterns of stars, question marks and escapes; Redis knows classes of characters too.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        ([b'?', rest @ ..], [_, text @ ..]) => matches(rest, text),
        ([b'[', ..], _) => panic!("the model knows no classes of characters"),
        ([b'\\', wanted, rest @ ..] | [wanted, rest @ ..], [byte, text @ ..]) => {
            wanted == byte && matches(rest, text)
        }
        _ => false,
    }
}

pub(super) fn flushall(store: &mut Store, _: usize, words: &[Vec<u8>]) -> Answer {
    match words {
        [_] => {}
        [_, how] if is(how, "sync") || is(how, "async") => {}
        _ => return Err(SYNTAX.into()),
    }
    store.data = Data::default();
    Ok(Reply::ok())
}
