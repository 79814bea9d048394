//! Lists.

use std::ops::Range;

use super::integer;
use crate::{
    reply::Reply,
    store::{Answer, List, Store},
};

pub(super) fn lpush(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let list = store.get_or_new::<List>(database, &words[1])?;
    words[2..].iter().for_each(|element| list.push_front(element.clone()));
    Ok(Reply::count(list.len()))
}

pub(super) fn rpush(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let list = store.get_or_new::<List>(database, &words[1])?;
    list.extend(words[2..].iter().cloned());
    Ok(Reply::count(list.len()))
}

pub(super) fn llen(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let list = store.get::<List>(database, &words[1])?;
    Ok(Reply::count(list.map_or(0, |list| list.len())))
}

pub(super) fn lrange(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let (from, to) = (integer(&words[2])?, integer(&words[3])?);
    let list = store.get::<List>(database, &words[1])?;
    let elements = list.map(|list| {
        let range = range(list.len(), from, to);
        list.range(range).map(Reply::bulk).collect()
    });
    Ok(Reply::Array(elements.unwrap_or_default()))
}

pub(super) fn ltrim(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let (from, to) = (integer(&words[2])?, integer(&words[3])?);
    if let Some(list) = store.get::<List>(database, &words[1])? {
        let Range { start, end } = range(list.len(), from, to);
        list.truncate(end);
        list.drain(..start);
        store.drop_empty(database, &words[1]);
    }
    Ok(Reply::ok())
}

/// What is meant by two places, the last included; negative ones count from the end.
fn range(len: usize, from: i64, to: i64) -> Range<usize> {
    let len = i64::try_from(len).expect("a list that fits into memory");
    let place = |at: i64| if at < 0 { len.saturating_add(at).max(-1) } else { at };
    let (from, to) = (place(from).max(0), place(to).min(len - 1));
    if from > to {
        return 0..0;
    }
    let index = |at: i64| usize::try_from(at).expect("it is none below 0");
    index(from)..index(to) + 1
}
