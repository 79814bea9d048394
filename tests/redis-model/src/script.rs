//! Scripts, in the Lua that Redis has within it.

use std::{cell::RefCell, collections::BTreeMap};

use mlua::{Function, Lua, LuaOptions, LuaString, MultiValue, StdLib, Table, Value};

use crate::{
    command::{self, Flag},
    number::Style,
    reply::Reply,
    store::{Answer, Store},
    window::{READONLY, Window},
};

/// The scripts that a server has been told, and the interpreter.
#[derive(Debug)]
pub(crate) struct Scripts {
    lua: Lua,
    /// `redis`, `invoke` and `run`, see `prelude.lua`.
    host: Table,
    loaded: BTreeMap<String, Script>,
}

/// A script.
#[derive(Clone, Debug)]
struct Script {
    body: Function,
    flags: Flags,
}

/// What its first line says of it.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    /// There is none: every command is looked at by itself.
    none: bool,
    no_writes: bool,
    allow_oom: bool,
    allow_stale: bool,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::default()).expect("an interpreter");
        let host = lua.load(include_str!("prelude.lua")).set_name("@prelude").eval();
        let host: Table = host.expect("a prelude that runs");
        let sha = |_: &Lua, text: LuaString| Ok(sha1(&text.as_bytes()));
        let redis: Table = host.get("redis").expect("the prelude makes it");
        redis.set("sha1hex", lua.create_function(sha).expect("a function")).expect("a table");
        Self { lua, host, loaded: BTreeMap::new() }
    }

    /// `SCRIPT LOAD`: the name by which it is called from now on.
    pub(crate) fn load(&mut self, text: &[u8]) -> Result<String, String> {
        let name = sha1(text);
        let (flags, body) = first_line(text)?;
        let body = self.lua.load(body).set_name("@user_script").into_function();
        let body =
            body.map_err(|error| format!("ERR Error compiling script (new function): {error}"))?;
        self.loaded.insert(name.clone(), Script { body, flags });
        Ok(name)
    }

    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.loaded.contains_key(&lower(name))
    }

    /// `SCRIPT FLUSH`
    pub(crate) fn flush(&mut self) {
        self.loaded.clear();
    }

    /// What a script of this name is for those who judge commands. One that is not there, or has no first line, is
    /// nothing.
    pub(crate) fn is(&self, name: &[u8], flag: Flag) -> bool {
        let Some(Script { flags, .. }) = self.loaded.get(&lower(name)) else {
            return flag == Flag::Stale;
        };
        match flag {
            Flag::Write => !flags.none && !flags.no_writes,
            Flag::DenyOom => !flags.none && !flags.no_writes && !flags.allow_oom,
            Flag::Stale => flags.allow_stale,
            Flag::Loading => false,
        }
    }

    /// `EVALSHA`: name, number of keys, keys, arguments.
    pub(crate) fn run(&self, store: &mut Store, database: usize, words: &[Vec<u8>]) -> Answer {
        let count = command::integer(&words[1])?;
        let count = usize::try_from(count).map_err(|_| "ERR Number of keys can't be negative")?;
        if count > words.len() - 2 {
            return Err("ERR Number of keys can't be greater than number of args".into());
        }
        let name = lower(&words[0]);
        let Some(script) = self.loaded.get(&name) else {
            return Err("NOSCRIPT No matching script. Please use EVAL.".into());
        };
        let (keys, arguments) = words[2..].split_at(count);
        let ran = self.call(store, database, script, keys, arguments);
        match ran.expect("the interpreter works") {
            Ok(value) => Ok(reply(&value)),
            Err(text) => Err(format!("{text} script: {name}, on @user_script:1.")),
        }
    }

    /// What a script returns, or the error that it ended with.
    fn call(
        &self,
        store: &mut Store,
        database: usize,
        script: &Script,
        keys: &[Vec<u8>],
        arguments: &[Vec<u8>],
    ) -> mlua::Result<Result<Value, String>> {
        let globals = self.lua.globals();
        globals.raw_set("KEYS", self.strings(keys)?)?;
        globals.raw_set("ARGV", self.strings(arguments)?)?;
        let caller = RefCell::new(Caller { store, database, flags: script.flags });
        let run: Function = self.host.get("run")?;
        let (fine, value) = self.lua.scope(|scope| {
            let invoke = scope.create_function(|lua, words: MultiValue| {
                let reply = match caller.borrow_mut().invoke(words) {
                    Ok(reply) => reply,
                    Err(text) => Reply::Error(text),
                };
                let failed = matches!(reply, Reply::Error(_));
                Ok((failed, from_reply(lua, &reply)?))
            })?;
            self.host.set("invoke", invoke)?;
            run.call::<(bool, Value)>(script.body.clone())
        })?;
        if fine {
            return Ok(Ok(value));
        }
        Ok(Err(match &value {
            Value::Table(table) => table.get::<String>("err").unwrap_or_else(|_| "ERR".into()),
            Value::String(text) => format!("ERR {}", text.to_string_lossy()),
            other => format!("ERR {other:?}"),
        }))
    }

    fn strings(&self, words: &[Vec<u8>]) -> mlua::Result<Table> {
        let strings: mlua::Result<Vec<LuaString>> =
            words.iter().map(|word| self.lua.create_string(word)).collect();
        self.lua.create_sequence_from(strings?)
    }
}

/// A script that calls commands.
struct Caller<'a> {
    store: &'a mut Store,
    database: usize,
    flags: Flags,
}

impl Caller<'_> {
    /// `redis.call`
    fn invoke(&mut self, words: MultiValue) -> Answer {
        if words.is_empty() {
            return Err("ERR Please specify at least one argument for this redis lib call".into());
        }
        let words: Option<Vec<Vec<u8>>> =
            words.iter().map(|value| word(value, self.store.numbers)).collect();
        let words =
            words.ok_or("ERR Lua redis lib command arguments must be strings or integers")?;
        let Some(command) = command::find(&words[0]) else {
            let known = crate::front::is_command(&words[0]);
            return Err(if known {
                "ERR This Redis command is not allowed from script".into()
            } else {
                "ERR Unknown Redis command called from script".into()
            });
        };
        if !command.takes(words.len()) {
            return Err("ERR Wrong number of args calling Redis command from script".into());
        }
        if self.store.forbidden.iter().any(|name| name == command.name) {
            let name = command.name;
            return Err(format!(
                "ERR ACL failure in script: User default has no permissions to run '{name}'"
            ));
        }
        let write = command.is(Flag::Write);
        if write && self.flags.no_writes {
            return Err("ERR Write commands are not allowed from read-only scripts.".into());
        }
        let open = |window: Window| self.store.windows.has(window);
        if write && self.store.replica && !self.store.applying {
            return Err(READONLY.into());
        }
        for window in [Window::DiskError, Window::NoReplicas] {
            if write && open(window) {
                return Err(window.error().into());
            }
        }
        if command.is(Flag::DenyOom) && open(Window::Full) && !self.flags.allow_oom {
            return Err(Window::Full.error().into());
        }
        command.run(self.store, self.database, &words)
    }
}

fn word(value: &Value, numbers: Style) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Integer(number) => Some(number.to_string().into_bytes()),
        Value::Number(number) => Some(numbers.write(*number).into_bytes()),
        _ => None,
    }
}

/// What a command answers, as scripts see it: as RESP2 would have it.
fn from_reply(lua: &Lua, reply: &Reply) -> mlua::Result<Value> {
    let string = |bytes: &[u8]| lua.create_string(bytes).map(Value::String);
    let field = |name: &str, text: &str| {
        let table = lua.create_table()?;
        table.raw_set(name, text)?;
        Ok(Value::Table(table))
    };
    let list = |items: Vec<Value>| lua.create_sequence_from(items).map(Value::Table);
    match reply {
        Reply::Simple(text) => field("ok", text),
        Reply::Error(text) => field("err", text),
        Reply::Integer(number) => Ok(Value::Integer(*number)),
        Reply::Bulk(bytes) => string(bytes),
        Reply::Verbatim(text) => string(text.as_bytes()),
        Reply::Double(number) => string(number.as_bytes()),
        Reply::Null | Reply::NullArray => Ok(Value::Boolean(false)),
        Reply::Array(items) | Reply::Push(items) => {
            let items: mlua::Result<Vec<Value>> =
                items.iter().map(|item| from_reply(lua, item)).collect();
            list(items?)
        }
        Reply::Map(pairs) => {
            let mut items = Vec::new();
            for (key, value) in pairs {
                items.push(from_reply(lua, key)?);
                items.push(from_reply(lua, value)?);
            }
            list(items)
        }
        Reply::Scored(pairs) => {
            let mut items = Vec::new();
            for (member, score) in pairs {
                items.push(string(member)?);
                items.push(string(score.as_bytes())?);
            }
            list(items)
        }
    }
}

/// What a script returns, as it is answered.
fn reply(value: &Value) -> Reply {
    match value {
        Value::String(text) => Reply::bulk(text.as_bytes()),
        Value::Integer(number) => Reply::Integer(*number),
        // What is beyond these numbers is what x86 makes of it.
        Value::Number(number) if number.abs() >= 9.2e18 => Reply::Integer(i64::MIN),
        #[expect(clippy::cast_possible_truncation, reason = "that is what Redis does")]
        Value::Number(number) => Reply::Integer(*number as i64),
        Value::Boolean(true) => Reply::Integer(1),
        Value::Table(table) => of_table(table),
        _ => Reply::Null,
    }
}

fn of_table(table: &Table) -> Reply {
    if let Ok(text) = table.raw_get::<LuaString>("err") {
        return Reply::Error(text.to_string_lossy());
    }
    if let Ok(text) = table.raw_get::<LuaString>("ok") {
        return Reply::Simple(text.to_string_lossy());
    }
    let items = (1..).map(|at| table.raw_get::<Value>(at).expect("any value"));
    Reply::Array(items.take_while(|item| !item.is_nil()).map(|item| reply(&item)).collect())
}

/// `#!lua name=x flags=no-writes,allow-oom`, which does not belong to the script but counts as its first line.
fn first_line(text: &[u8]) -> Result<(Flags, &[u8]), String> {
    if !text.starts_with(b"#!") {
        return Ok((Flags { none: true, ..Flags::default() }, text));
    }
    let end = text.iter().position(|byte| *byte == b'\n').ok_or("ERR Invalid script shebang")?;
    let line = String::from_utf8_lossy(&text[2..end]);
    let mut words = line.split_whitespace();
    let engine = words.next().unwrap_or_default();
    if engine != "lua" {
        return Err(format!("ERR Unexpected engine in script shebang: {engine}"));
    }
    let mut flags = Flags::default();
    for word in words {
        let Some(names) = word.strip_prefix("flags=") else {
            return Err(format!("ERR Unknown lua shebang option: {word}"));
        };
        for name in names.split(',').filter(|name| !name.is_empty()) {
            match name {
                "no-writes" => flags.no_writes = true,
                "allow-oom" => flags.allow_oom = true,
                "allow-stale" => flags.allow_stale = true,
                "no-cluster" | "allow-cross-slot-keys" => {}
                _ => return Err(format!("ERR Unexpected flag in script shebang: {name}")),
            }
        }
    }
    Ok((flags, &text[end..]))
}

/// By which name `EVALSHA` calls this script.
pub fn sha1(text: &[u8]) -> String {
    sha1_smol::Sha1::from(text).digest().to_string()
}

fn lower(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_lowercase()
}
