//! Commands on data, as clients and scripts give them.

mod hashes;
mod keys;
mod lists;
mod sorted_sets;
mod streams;
mod strings;

use crate::{
    reply::Reply,
    store::{Answer, Effect, Store},
    window::{READONLY, Window},
};

/// What a command is, in Redis' own words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// Words of it, its name included; at least so many if negative.
    arity: i32,
    flags: &'static [Flag],
    run: Run,
}

/// Words of a command, its name first; a database; what it does.
type Run = fn(&mut Store, usize, &[Vec<u8>]) -> Answer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// May change data.
    Write,
    /// Refused when memory is used up.
    DenyOom,
    /// Allowed while data are loaded.
    Loading,
    /// Allowed on a replica that has lost its primary.
    Stale,
}

use Flag::{DenyOom, Loading, Stale, Write};

const COMMANDS: &[Command] = &[
    command("get", 2, &[], strings::get),
    command("set", -3, &[Write, DenyOom], strings::set),
    command("incr", 2, &[Write, DenyOom], strings::incr),
    command("del", -2, &[Write], keys::del),
    command("unlink", -2, &[Write], keys::del),
    command("exists", -2, &[], keys::exists),
    command("type", 2, &[], keys::kind),
    command("pexpire", -3, &[Write], keys::pexpire),
    command("pexpireat", -3, &[Write], keys::pexpireat),
    command("persist", 2, &[Write], keys::persist),
    command("pttl", 2, &[], keys::pttl),
    command("dbsize", 1, &[], keys::dbsize),
    command("scan", -2, &[], keys::scan),
    command("flushall", -1, &[Write], keys::flushall),
    command("hset", -4, &[Write, DenyOom], hashes::hset),
    command("hsetnx", 4, &[Write, DenyOom], hashes::hsetnx),
    command("hget", 3, &[], hashes::hget),
    command("hmget", -3, &[], hashes::hmget),
    command("hgetall", 2, &[], hashes::hgetall),
    command("hdel", -3, &[Write], hashes::hdel),
    command("hlen", 2, &[], hashes::hlen),
    command("hexists", 3, &[], hashes::hexists),
    command("lpush", -3, &[Write, DenyOom], lists::lpush),
    command("rpush", -3, &[Write, DenyOom], lists::rpush),
    command("llen", 2, &[], lists::llen),
    command("lrange", 4, &[], lists::lrange),
    command("ltrim", 4, &[Write], lists::ltrim),
    command("xadd", -5, &[Write, DenyOom], streams::xadd),
    command("xrange", -4, &[], streams::xrange),
    command("xrevrange", -4, &[], streams::xrevrange),
    command("xlen", 2, &[], streams::xlen),
    command("xdel", -3, &[Write], streams::xdel),
    command("xtrim", -4, &[Write], streams::xtrim),
    command("zadd", -4, &[Write, DenyOom], sorted_sets::zadd),
    command("zscore", 3, &[], sorted_sets::zscore),
    command("zrem", -3, &[Write], sorted_sets::zrem),
    command("zcard", 2, &[], sorted_sets::zcard),
    command("zrangebyscore", -4, &[], sorted_sets::zrangebyscore),
    command("time", 1, &[Loading, Stale], time),
    command("ping", -1, &[], ping),
    command("echo", 2, &[Loading, Stale], |_, _, words| Ok(Reply::bulk(&words[1]))),
    command("spublish", 3, &[Loading, Stale], spublish),
];

pub(crate) use keys::matches as keys_match;

const fn command(name: &'static str, arity: i32, flags: &'static [Flag], run: Run) -> Command {
    Command { name, arity, flags, run }
}

/// The command of this name.
pub(crate) fn find(name: &[u8]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
}

/// Names of all of them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|command| command.name)
}

impl Command {
    pub(crate) fn is(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    pub(crate) fn takes(&self, words: usize) -> bool {
        let words = i32::try_from(words).unwrap_or(i32::MAX);
        if self.arity < 0 { words >= -self.arity } else { words == self.arity }
    }

    /// What it does, and what replicas hear of it.
    pub(crate) fn run(&self, store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
        store.rewritten = None;
        let answer = (self.run)(store, database, words);
        let told = self.is(Write) || self.name == "spublish";
        if told && answer.is_ok() && !store.applying {
            let words = store.rewritten.take().unwrap_or_else(|| words.to_vec());
            store.effects.push(Effect { database, words });
        }
        answer
    }
}

/// Why a command with these flags is refused at present. The order is that of Redis.
pub(crate) fn refusal(
    store: &Store,
    name: &str,
    flags: impl Fn(Flag) -> bool,
) -> Option<&'static str> {
    let open = |window: Window| store.windows.has(window).then(|| window.error());
    let write = flags(Write);
    if let Some(error) = open(Window::Full)
        && flags(DenyOom)
    {
        return Some(error);
    }
    if let Some(error) = open(Window::DiskError)
        && (write || name == "ping")
    {
        return Some(error);
    }
    if write {
        if let Some(error) = open(Window::NoReplicas) {
            return Some(error);
        }
        if store.replica {
            return Some(READONLY);
        }
    }
    if store.replica
        && !flags(Stale)
        && let Some(error) = open(Window::Stale)
    {
        return Some(error);
    }
    if !flags(Loading)
        && let Some(error) = open(Window::Loading)
    {
        return Some(error);
    }
    None
}

fn time(store: &mut Store, _: usize, _: &[Vec<u8>]) -> Answer {
    let now = store.clock.unix_micros();
    let parts = [now / 1_000_000, now % 1_000_000];
    Ok(Reply::Array(parts.iter().map(|part| Reply::bulk(part.to_string())).collect()))
}

fn ping(_: &mut Store, _: usize, words: &[Vec<u8>]) -> Answer {
    match words {
        [_] => Ok(Reply::Simple("PONG".into())),
        [_, text] => Ok(Reply::bulk(text)),
        _ => Err("ERR wrong number of arguments for 'ping' command".into()),
    }
}

fn spublish(store: &mut Store, _: usize, words: &[Vec<u8>]) -> Answer {
    Ok(Reply::count(store.publish(&words[1], &words[2])))
}

pub(crate) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub(crate) const SYNTAX: &str = "ERR syntax error";

/// An integer as Redis reads one: no sign but a minus, no leading zeros.
pub(crate) fn integer(word: &[u8]) -> Result<i64, String> {
    let text = std::str::from_utf8(word).map_err(|_| NOT_AN_INTEGER)?;
    let number: i64 = text.parse().map_err(|_| NOT_AN_INTEGER)?;
    if number.to_string() == text { Ok(number) } else { Err(NOT_AN_INTEGER.into()) }
}

/// A word of a command's syntax.
pub(crate) fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

fn wrong_number(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}
