//! Sorted sets.

use super::{SYNTAX, integer, is};
use crate::{
    reply::Reply,
    store::{Answer, SortedSet, Store},
};

const NOT_A_FLOAT: &str = "ERR value is not a valid float";

pub(super) fn zadd(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let mut at = 2;
    let (mut only_new, mut only_old, mut changed) = (false, false, false);
    while let Some(word) = words.get(at) {
        if is(word, "nx") {
            only_new = true;
        } else if is(word, "xx") {
            only_old = true;
        } else if is(word, "ch") {
            changed = true;
        } else {
            let unknown = ["gt", "lt", "incr"].iter().any(|name| is(word, name));
            assert!(!unknown, "the model knows no such ZADD: {words:?}");
            break;
        }
        at += 1;
    }
    let pairs = &words[at..];
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(SYNTAX.into());
    }
    if only_new && only_old {
        return Err("ERR XX and NX options at the same time are not compatible".into());
    }
    let scores: Result<Vec<f64>, String> = pairs.chunks(2).map(|pair| score(&pair[0])).collect();
    let scores = scores?;
    if only_old && store.get::<SortedSet>(database, &words[1])?.is_none() {
        return Ok(Reply::Integer(0));
    }
    let set = store.get_or_new::<SortedSet>(database, &words[1])?;
    let mut count = 0;
    for (score, pair) in scores.into_iter().zip(pairs.chunks(2)) {
        let before = set.get(&pair[1]).copied();
        if before.is_some() && only_new || before.is_none() && only_old {
            continue;
        }
        set.insert(pair[1].clone(), score);
        count += usize::from(before.is_none() || changed && before != Some(score));
    }
    Ok(Reply::count(count))
}

pub(super) fn zscore(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let set = store.get::<SortedSet>(database, &words[1])?;
    let score = set.and_then(|set| set.get(&words[2]).copied());
    Ok(score.map_or(Reply::Null, |score| Reply::Double(store.numbers.write(score))))
}

pub(super) fn zrem(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let Some(set) = store.get::<SortedSet>(database, &words[1])? else {
        return Ok(Reply::Integer(0));
    };
    let gone = words[2..].iter().filter(|member| set.remove(*member).is_some()).count();
    store.drop_empty(database, &words[1]);
    Ok(Reply::count(gone))
}

pub(super) fn zcard(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let set = store.get::<SortedSet>(database, &words[1])?;
    Ok(Reply::count(set.map_or(0, |set| set.len())))
}

pub(super) fn zrangebyscore(store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
    let bounds = bound(&words[2]).zip(bound(&words[3]));
    let ((from, from_out), (to, to_out)) = bounds.ok_or("ERR min or max is not a float")?;
    let (mut with_scores, mut skip, mut most) = (false, 0, usize::MAX);
    let mut rest = words[4..].iter();
    while let Some(word) = rest.next() {
        if is(word, "withscores") {
            with_scores = true;
        } else if is(word, "limit") {
            let offset = integer(rest.next().ok_or(SYNTAX)?)?;
            let count = integer(rest.next().ok_or(SYNTAX)?)?;
            // A negative offset finds nothing, a negative count all.
            skip = usize::try_from(offset).unwrap_or(usize::MAX);
            most = usize::try_from(count).unwrap_or(usize::MAX);
        } else {
            return Err(SYNTAX.into());
        }
    }
    let numbers = store.numbers;
    let Some(set) = store.get::<SortedSet>(database, &words[1])? else {
        return Ok(Reply::Array(Vec::new()));
    };
    let inside = |score: f64| {
        (if from_out { score > from } else { score >= from })
            && (if to_out { score < to } else { score <= to })
    };
    let mut found: Vec<(f64, &Vec<u8>)> = set
        .iter()
        .filter(|(_, score)| inside(**score))
        .map(|(member, score)| (*score, member))
        .collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
    let found = found.into_iter().skip(skip).take(most);
    if with_scores {
        return Ok(Reply::Scored(
            found.map(|(score, member)| (member.clone(), numbers.write(score))).collect(),
        ));
    }
    Ok(Reply::Array(found.map(|(_, member)| Reply::bulk(member)).collect()))
}

fn score(word: &[u8]) -> Result<f64, String> {
    number(word).ok_or_else(|| NOT_A_FLOAT.into())
}

fn bound(word: &[u8]) -> Option<(f64, bool)> {
    match word {
        [b'(', number_ @ ..] => Some((number(number_)?, true)),
        word => Some((number(word)?, false)),
    }
}

fn number(word: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    // -0 is 0.
    (!number.is_nan()).then_some(number + 0.0)
}
