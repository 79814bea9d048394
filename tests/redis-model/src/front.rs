//! Commands about the connection and the server, which scripts cannot give.

use crate::{
    command::{self, Flag, SYNTAX, is},
    connection::ConnId,
    data::DATABASES,
    reply::{Protocol, Reply},
    script::sha1,
    server::Redis,
    store::Answer,
};

/// `None`: there is no answer, but pushes.
type Spoken = Result<Option<Reply>, String>;

struct Front {
    /// In a container, both words of it.
    name: &'static str,
    arity: i32,
    flags: &'static [Flag],
    /// Before a password was given.
    no_auth: bool,
    run: fn(&mut Redis, ConnId, &[Vec<u8>]) -> Spoken,
}

const ANY_TIME: &[Flag] = &[Flag::Loading, Flag::Stale];

const FRONT: &[Front] = &[
    Front { no_auth: true, ..front("hello", -1, ANY_TIME, hello) },
    Front { no_auth: true, ..front("auth", -2, ANY_TIME, auth) },
    Front { no_auth: true, ..front("quit", -1, ANY_TIME, quit) },
    front("select", 2, ANY_TIME, select),
    front("client|id", 2, ANY_TIME, |it, id, _| {
        let number = it.connection(id).number;
        Ok(Some(Reply::Integer(i64::try_from(number).expect("a count"))))
    }),
    front("client|info", 2, ANY_TIME, |it, id, _| {
        Ok(Some(Reply::Verbatim(it.connection(id).info())))
    }),
    front("client|getname", 2, ANY_TIME, |it, id, _| {
        let name = &it.connection(id).name;
        Ok(Some(if name.is_empty() { Reply::Null } else { Reply::bulk(name) }))
    }),
    front("client|setname", 3, ANY_TIME, |it, id, words| {
        it.set_name(id, &words[2])?;
        Ok(Some(Reply::ok()))
    }),
    front("client|setinfo", 4, ANY_TIME, client_setinfo),
    front("client|no-evict", 3, ANY_TIME, client_switch),
    front("client|no-touch", 3, ANY_TIME, client_no_touch),
    front("client|kill", -3, ANY_TIME, client_kill),
    front("role", 1, ANY_TIME, |it, _, _| Ok(Some(it.role()))),
    front("info", -1, ANY_TIME, |it, _, _| Ok(Some(Reply::Verbatim(it.info())))),
    front("config|get", -3, ANY_TIME, |it, _, words| Ok(Some(it.config(&words[2..])))),
    front("sentinel|get-master-addr-by-name", 3, ANY_TIME, |it, _, words| {
        Ok(Some(it.primary_of(&words[2])))
    }),
    front("script|load", 3, &[Flag::Stale], |it, _, words| {
        Ok(Some(Reply::bulk(it.scripts.load(&words[2])?)))
    }),
    front("script|exists", -3, &[], |it, _, words| {
        let known = words[2..].iter().map(|name| Reply::Integer(it.scripts.has(name).into()));
        Ok(Some(Reply::Array(known.collect())))
    }),
    front("script|flush", -2, &[], |it, _, _| {
        it.scripts.flush();
        Ok(Some(Reply::ok()))
    }),
    front("evalsha", -3, &[], evalsha),
    front("eval", -3, &[], eval),
    front("ssubscribe", -2, ANY_TIME, ssubscribe),
    front("sunsubscribe", -1, ANY_TIME, sunsubscribe),
];

/// What a Sentinel knows.
const OF_SENTINELS: &[&str] =
    &["hello", "auth", "quit", "ping", "client", "role", "info", "sentinel"];

/// What Valkey 9 answers while a script runs for too long, too.
const WHILE_BUSY: &[&str] = &[
    "select",
    "client|id",
    "client|getname",
    "client|setname",
    "client|setinfo",
    "client|no-evict",
    "client|no-touch",
];

const fn front(
    name: &'static str,
    arity: i32,
    flags: &'static [Flag],
    run: fn(&mut Redis, ConnId, &[Vec<u8>]) -> Spoken,
) -> Front {
    Front { name, arity, flags, no_auth: false, run }
}

/// There is a command of this name here.
pub(crate) fn is_command(name: &[u8]) -> bool {
    FRONT.iter().any(|it| {
        name.eq_ignore_ascii_case(it.name.split('|').next().unwrap_or_default().as_bytes())
    })
}

/// Executes a command of a connection.
pub(crate) fn execute(it: &mut Redis, id: ConnId, words: &[Vec<u8>]) -> Spoken {
    let name = String::from_utf8_lossy(&words[0]).to_lowercase();
    let known = it.sentinel.is_none() || OF_SENTINELS.contains(&name.as_str());
    if let Some(data) = command::find(&words[0]).filter(|_| known) {
        if !data.takes(words.len()) {
            return Err(wrong_number(data.name));
        }
        it.permit(id, data.name, false)?;
        refuse(it, data.name, |flag| data.is(flag))?;
        let database = it.connection(id).database;
        return data.run(&mut it.store, database, words).map(Some);
    }
    let Some(front) = (if known { find(it, &name, words)? } else { None }) else {
        let shown: String =
            words[1..].iter().map(|word| format!("'{}' ", String::from_utf8_lossy(word))).collect();
        let given = String::from_utf8_lossy(&words[0]);
        return Err(format!("ERR unknown command '{given}', with args beginning with: {shown}"));
    };
    if !takes(front.arity, words.len()) {
        return Err(wrong_number(front.name));
    }
    it.permit(id, front.name, front.no_auth)?;
    let script = (front.name == "evalsha").then(|| &words[1]);
    let text = (front.name == "eval").then(|| sha1(&words[1]).into_bytes());
    match script.or(text.as_ref()).cloned() {
        Some(name) => {
            if text.is_some() && !it.scripts.has(&name) {
                it.scripts.load(&words[1])?;
            }
            let is = |flag| it.scripts.is(&name, flag);
            refuse(it, front.name, is)?;
        }
        None => refuse(it, front.name, |flag| front.flags.contains(&flag))?,
    }
    (front.run)(it, id, words)
}

fn find(it: &Redis, name: &str, words: &[Vec<u8>]) -> Result<Option<&'static Front>, String> {
    if name == "sentinel" && it.sentinel.is_none() {
        return Ok(None);
    }
    let container = format!("{name}|");
    if !FRONT.iter().any(|front| front.name.starts_with(&container)) {
        return Ok(FRONT.iter().find(|front| front.name == name));
    }
    let Some(second) = words.get(1) else { return Err(wrong_number(name)) };
    let given = String::from_utf8_lossy(second);
    let whole = format!("{container}{}", given.to_lowercase());
    let new = ["client|setinfo", "client|no-touch"].contains(&whole.as_str());
    let found = FRONT.iter().find(|front| front.name == whole);
    match found.filter(|_| !new || it.version().has_client_info()) {
        Some(front) => Ok(Some(front)),
        None => Err(format!("ERR unknown subcommand '{given}'. Try {} HELP.", name.to_uppercase())),
    }
}

fn refuse(it: &Redis, name: &str, is: impl Fn(Flag) -> bool) -> Result<(), String> {
    let busy = crate::Window::Busy;
    if it.store.windows.has(busy) {
        let always = ["hello", "auth", "quit"].contains(&name);
        let allowed = always || it.version().is_valkey_9() && WHILE_BUSY.contains(&name);
        if !allowed {
            return Err(busy.error().into());
        }
    }
    command::refusal(&it.store, name, is).map_or(Ok(()), |error| Err(error.into()))
}

fn takes(arity: i32, words: usize) -> bool {
    let words = i32::try_from(words).unwrap_or(i32::MAX);
    if arity < 0 { words >= -arity } else { words == arity }
}

fn wrong_number(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

fn hello(it: &mut Redis, id: ConnId, words: &[Vec<u8>]) -> Spoken {
    let mut protocol = it.connection(id).protocol;
    if let Some(word) = words.get(1) {
        protocol = match command::integer(word) {
            Ok(2) => Protocol::Resp2,
            Ok(3) => Protocol::Resp3,
            Ok(_) => return Err("NOPROTO unsupported protocol version".into()),
            Err(_) => return Err("ERR Protocol version is not an integer or out of range".into()),
        };
    }
    let mut rest = words.get(2..).unwrap_or_default();
    let mut name = None;
    while let [option, more @ ..] = rest {
        rest = match more {
            [user, password, more @ ..] if is(option, "auth") => {
                it.log_in(id, user, password)?;
                more
            }
            [given, more @ ..] if is(option, "setname") => {
                name = Some(given);
                more
            }
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(format!("ERR Syntax error in HELLO option '{option}'"));
            }
        };
    }
    if it.connection(id).user.is_none() {
        return Err(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
                .into(),
        );
    }
    if let Some(name) = name {
        it.set_name(id, name)?;
    }
    it.connection_mut(id).protocol = protocol;
    Ok(Some(it.greeting(id)))
}

fn auth(it: &mut Redis, id: ConnId, words: &[Vec<u8>]) -> Spoken {
    match &words[1..] {
        [password] => {
            if !it.has_password() {
                return Err(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                     configuration is correct?"
                        .into(),
                );
            }
            it.log_in(id, b"default", password)?;
        }
        [user, password] => it.log_in(id, user, password)?,
        _ => return Err(SYNTAX.into()),
    }
    Ok(Some(Reply::ok()))
}

fn quit(it: &mut Redis, id: ConnId, _: &[Vec<u8>]) -> Spoken {
    it.connection_mut(id).closing = true;
    Ok(Some(Reply::ok()))
}

fn select(it: &mut Redis, id: ConnId, words: &[Vec<u8>]) -> Spoken {
    let number = command::integer(&words[1])?;
    let number = usize::try_from(number).ok().filter(|number| *number < DATABASES);
    it.connection_mut(id).database = number.ok_or("ERR DB index is out of range")?;
    Ok(Some(Reply::ok()))
}

fn client_setinfo(_: &mut Redis, _: ConnId, words: &[Vec<u8>]) -> Spoken {
    if !is(&words[2], "lib-name") && !is(&words[2], "lib-ver") {
        let option = String::from_utf8_lossy(&words[2]);
        return Err(format!("ERR Unrecognized option '{option}'"));
    }
    Ok(Some(Reply::ok()))
}

fn client_switch(_: &mut Redis, _: ConnId, words: &[Vec<u8>]) -> Spoken {
    if is(&words[2], "on") || is(&words[2], "off") {
        Ok(Some(Reply::ok()))
    } else {
        Err(SYNTAX.into())
    }
}

fn client_no_touch(it: &mut Redis, id: ConnId, words: &[Vec<u8>]) -> Spoken {
    client_switch(it, id, words)
}

fn client_kill(it: &mut Redis, id: ConnId, words: &[Vec<u8>]) -> Spoken {
    if let [address] = &words[2..] {
        let killed = it.kill_where(id, false, |one| one.peer.to_string().as_bytes() == address);
        return if killed == 0 { Err("ERR No such client".into()) } else { Ok(Some(Reply::ok())) };
    }
    let (mut number, mut address, mut user, mut spare) = (None, None, None, true);
    for pair in words[2..].chunks(2) {
        match pair {
            [name, value] if is(name, "id") => {
                let wanted = command::integer(value).ok().and_then(|it| u64::try_from(it).ok());
                number = Some(
                    wanted.filter(|it| *it > 0).ok_or("ERR client-id should be greater than 0")?,
                );
            }
            [name, value] if is(name, "addr") => address = Some(value.clone()),
            [name, value] if is(name, "user") => {
                user = Some(String::from_utf8_lossy(value).into_owned());
            }
            [name, value] if is(name, "skipme") && is(value, "yes") => spare = true,
            [name, value] if is(name, "skipme") && is(value, "no") => spare = false,
            _ => return Err(SYNTAX.into()),
        }
    }
    let killed = it.kill_where(id, spare, |one| {
        number.is_none_or(|number| one.number == number)
            && address.as_ref().is_none_or(|it| one.peer.to_string().as_bytes() == it)
            && user.as_ref().is_none_or(|it| one.user.as_ref() == Some(it))
    });
    Ok(Some(Reply::count(killed)))
}

fn evalsha(it: &mut Redis, id: ConnId, words: &[Vec<u8>]) -> Spoken {
    let database = it.connection(id).database;
    let answer: Answer = it.scripts.run(&mut it.store, database, &words[1..]);
    answer.map(Some)
}

fn eval(it: &mut Redis, id: ConnId, words: &[Vec<u8>]) -> Spoken {
    let mut words = words.to_vec();
    words[1] = sha1(&words[1]).into_bytes();
    evalsha(it, id, &words)
}

fn ssubscribe(it: &mut Redis, id: ConnId, words: &[Vec<u8>]) -> Spoken {
    for channel in &words[1..] {
        it.store.listeners.entry(channel.clone()).or_default().insert(id);
        let connection = it.connection_mut(id);
        connection.channels.insert(channel.clone());
        let count = connection.channels.len();
        it.confirm(id, "ssubscribe", Reply::bulk(channel), count);
    }
    Ok(None)
}

fn sunsubscribe(it: &mut Redis, id: ConnId, words: &[Vec<u8>]) -> Spoken {
    let all: Vec<Vec<u8>> = it.connection(id).channels.iter().cloned().collect();
    let channels = if words.len() == 1 { all } else { words[1..].to_vec() };
    if channels.is_empty() {
        it.confirm(id, "sunsubscribe", Reply::Null, 0);
    }
    for channel in channels {
        it.unlisten(id, &channel);
        let count = it.connection(id).channels.len();
        it.confirm(id, "sunsubscribe", Reply::bulk(channel), count);
    }
    Ok(None)
}

/// For those who test which are refused when.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FRONT.iter().map(|front| front.name)
}
