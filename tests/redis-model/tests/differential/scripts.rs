//! The scripts that are shipped, and a few that only try the interpreter.

use std::{collections::BTreeMap, path::Path, sync::OnceLock};

/// Texts of scripts by their names.
pub(crate) fn all() -> &'static BTreeMap<String, Vec<u8>> {
    static ALL: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = shipped();
        for (name, text) in OWN {
            all.insert((*name).to_owned(), text.as_bytes().to_vec());
        }
        all
    })
}

/// Those of the links.
pub(crate) fn shipped() -> BTreeMap<String, Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../links/src/redis/scripts");
    let entries =
        std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let files = entries.map(|entry| entry.expect("a folder that can be read").path());
    files
        .filter(|path| path.extension().is_some_and(|it| it == "lua"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("a script"))
        })
        .collect()
}

/// What the shipped ones do not do, or only with luck: errors in the middle, odd values.
const OWN: &[(&str, &str)] = &[
    // The second write fails; the first stays.
    (
        "own-halfway",
        "redis.call('SET', KEYS[1], ARGV[1])\nredis.call('HSET', KEYS[1], 'f', 'v')\nreturn 1",
    ),
    (
        "own-halfway-flags",
        "#!lua\nredis.call('SET', KEYS[1], ARGV[1])\nredis.call('HSET', KEYS[1], 'f', 'v')",
    ),
    ("own-write-in-reader", "#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], ARGV[1])"),
    ("own-allow-oom", "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], ARGV[1])"),
    ("own-allow-stale", "#!lua flags=allow-stale,no-writes\nreturn ARGV[1]"),
    (
        "own-pcall",
        "local r = redis.pcall('HGET', KEYS[1], 'f')\nif r and r.err then return r.err end\nreturn r or 'none'",
    ),
    ("own-error-reply", "return redis.error_reply(ARGV[1])"),
    ("own-status-reply", "return redis.status_reply(ARGV[1])"),
    (
        "own-numbers",
        "return {1.9, -1.9, true, false, '1.5', {1, {2, 'x'}}, 1e15, tonumber(ARGV[1]) or 'none', nil, 7}",
    ),
    (
        "own-number-arguments",
        "redis.call('SET', KEYS[1], tonumber(ARGV[1]) or 0)\nreturn redis.call('GET', KEYS[1])",
    ),
    (
        "own-text-of-numbers",
        "local n = tonumber(ARGV[1]) or 0\nreturn {n .. '', tostring(n / 3), string.format('%.0f|%d|%s', n, n, n)}",
    ),
    ("own-global", "x = 1\nreturn x"),
    ("own-unknown-global", "return x"),
    ("own-runtime-error", "local t\n\nreturn t.x"),
    ("own-raise", "error({err = 'MINE ' .. ARGV[1]})"),
    ("own-raise-text", "error(ARGV[1])"),
    ("own-unknown-command", "return redis.call('NOSUCH', 'x')"),
    ("own-forbidden-command", "return redis.call('SSUBSCRIBE', 'x')"),
    ("own-too-few", "return redis.call('GET')"),
    ("own-odd-argument", "return redis.call('GET', {})"),
    ("own-nothing", "return redis.call()"),
    (
        "own-types",
        "redis.call('ZADD', KEYS[1], 1.5, 'a', 2, 'b')\nreturn {redis.call('ZSCORE', KEYS[1], 'a'), redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'WITHSCORES'), redis.call('TYPE', KEYS[1]), redis.call('GET', 'none'), redis.call('HGETALL', 'none'), redis.call('XRANGE', 'none', '-', '+'), redis.call('PING')}",
    ),
    (
        "own-publishes",
        "redis.call('SPUBLISH', ARGV[1], 'one')\nlocal n = redis.call('SPUBLISH', ARGV[1], 'two')\nreturn n",
    ),
    (
        "own-publishes-and-fails",
        "redis.call('SPUBLISH', ARGV[1], 'one')\nreturn redis.call('HSET', KEYS[1])",
    ),
    ("own-sha", "return redis.sha1hex(ARGV[1])"),
    (
        "own-strings",
        "return {string.match(ARGV[1], '^(%w+):(%d+)'), #ARGV[1], string.find(ARGV[1], ':', 1, true), string.rep('x', 3), string.byte(ARGV[1]) or -1, string.sub(ARGV[1], -2), string.gsub(ARGV[1], '%d', '#')}",
    ),
];
