//! Hashes.

use super::wrong_number;
use crate::{
    reply::Reply,
    store::{Answer, Hash, Store},
};

pub(super) fn hset(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let pairs = &words[2..];
    if !pairs.len().is_multiple_of(2) {
        return Err(wrong_number("hset"));
    }
    let hash = store.get_or_new::<Hash>(database, &words[1])?;
    let mut new = 0;
    for pair in pairs.chunks(2) {
        new += usize::from(hash.insert(pair[0].clone(), pair[1].clone()).is_none());
    }
    Ok(Reply::count(new))
}

pub(super) fn hsetnx(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let hash = store.get_or_new::<Hash>(database, &words[1])?;
    let new = !hash.contains_key(&words[2]);
    if new {
        hash.insert(words[2].clone(), words[3].clone());
    }
    Ok(Reply::Integer(new.into()))
}

pub(super) fn hget(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let hash = store.get::<Hash>(database, &words[1])?;
    Ok(Reply::bulk_or_null(hash.and_then(|hash| hash.get(&words[2]))))
}

pub(super) fn hmget(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let hash = store.get::<Hash>(database, &words[1])?;
    let values = words[2..]
        .iter()
        .map(|field| Reply::bulk_or_null(hash.as_ref().and_then(|hash| hash.get(field))));
    Ok(Reply::Array(values.collect()))
}

pub(super) fn hgetall(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let hash = store.get::<Hash>(database, &words[1])?;
    let pairs = hash.into_iter().flat_map(|hash| hash.iter());
    Ok(Reply::Map(pairs.map(|(field, value)| (Reply::bulk(field), Reply::bulk(value))).collect()))
}

pub(super) fn hdel(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let Some(hash) = store.get::<Hash>(database, &words[1])? else {
        return Ok(Reply::Integer(0));
    };
    let gone = words[2..].iter().filter(|field| hash.remove(*field).is_some()).count();
    store.drop_empty(database, &words[1]);
    Ok(Reply::count(gone))
}

pub(super) fn hlen(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let hash = store.get::<Hash>(database, &words[1])?;
    Ok(Reply::count(hash.map_or(0, |hash| hash.len())))
}

pub(super) fn hexists(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let hash = store.get::<Hash>(database, &words[1])?;
    Ok(Reply::Integer(hash.is_some_and(|hash| hash.contains_key(&words[2])).into()))
}
