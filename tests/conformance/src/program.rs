//! The program as a driver: the binary as a child process, told by its settings what a body's configuration says.
//!
//! The program has no application and a fixed clock, and not every limit has a setting. A body that needs what it cannot
//! have ends where that shows, by [`NotApplicable`]: `tests/not_applicable.rs` has the list of those that may.

use std::{io, panic, path::PathBuf, sync::Mutex, time::Duration};

use mahavishnu_core::{
    config::{self, Config, Dialect, Keep, PlainOnTls, Publishing, SlowPolicy},
    hub::{ConnId, DrainPlan, Listener, Published, Roll},
    reason::Reason,
};
use mahavishnu_tests::{Server, http, stream};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Raw,
    backend::{App, Did, Driven, Moved, Setup, Way, Wish},
    post,
    rig::base,
    secure,
    stream::{Stream, unix},
    token,
};

/// How a body ends that the program cannot be set up for, and why it cannot.
#[derive(Debug)]
pub struct NotApplicable(pub String);

fn not_applicable(why: impl Into<String>) -> ! {
    panic::resume_unwind(Box::new(NotApplicable(why.into())))
}

/// The program, running.
pub(crate) struct Running {
    server: Mutex<Server>,
    /// [`Setup::settings`].
    given: Vec<(&'static str, &'static str)>,
    secure: bool,
    authenticated: bool,
    /// Where its certificate is.
    dir: TempDir,
}

impl Running {
    pub(crate) fn start(setup: Setup) -> Self {
        let Setup { config, shards, app, settings, unix, .. } = setup;
        let App { requests, subscribe, publish, authenticate } = app;
        if !requests.is_empty()
            || subscribe.is_some()
            || publish.is_some()
            || authenticate.is_some()
        {
            not_applicable("the program has no application to ask");
        }
        let dir = tempfile::tempdir().expect("a directory");
        // Where plain health checks get no answer nobody could tell when it is ready: that comes with a reload.
        let mut ready = Config { proxy_protocol: false, ..config.clone() };
        if ready.plain_on_tls == PlainOnTls::Nothing {
            ready.plain_on_tls = PlainOnTls::Health;
        }
        let (first, wanted) = (file(&ready, &settings, &dir), file(&config, &settings, &dir));
        // The environment, which wins over the file, has every name allowed for tests.
        let hosts = settings.iter().find(|(name, _)| *name == "ALLOWED_HOSTS");
        let hosts = hosts.map_or("*", |(_, names)| *names);
        let shards = shards.to_string();
        let socket = socket_in(&dir);
        let listens = unix.then_some(("LISTEN_UNIX", socket.to_str().expect("a path")));
        let given = [("SHARDS", &*shards), ("ALLOWED_HOSTS", hosts)];
        let given: Vec<_> = given.into_iter().chain(listens).collect();
        let server = Server::with_file(&given, &first);
        if first != wanted {
            server.reload(&wanted);
        }
        Self {
            server: Mutex::new(server),
            given: settings,
            secure: config.tls.is_some(),
            authenticated: config.auth.required,
            dir,
        }
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Server> {
        self.server.lock().expect("no body panics with it")
    }
}

/// Where it listens, if it is to.
fn socket_in(dir: &TempDir) -> PathBuf {
    dir.path().join("socket")
}

/// The settings file that says what a configuration does.
fn file(config: &Config, given: &[(&'static str, &'static str)], dir: &TempDir) -> String {
    let said = said(config, given, dir).unwrap_or_else(|why| not_applicable(why));
    said.iter().map(|(name, value)| format!("MAHAVISHNU_{name}={value}\n")).collect()
}

/// The settings that say what a configuration does, or what no setting says. Every setting that is looked at is taken out
/// of a copy of the configuration; what then still differs from [`base`] cannot be said.
fn said(
    config: &Config,
    given: &[(&'static str, &'static str)],
    dir: &TempDir,
) -> Result<Vec<(&'static str, String)>, String> {
    let (base, mut rest) = (base(), config.clone());
    let mut said: Vec<(&'static str, String)> =
        given.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    macro_rules! say {
        ($($name:literal: $($field:ident).+, $show:expr;)*) => {$(
            said.push(($name, $show(&rest.$($field).+)));
            rest.$($field).+ = base.$($field).+.clone();
        )*};
    }
    say! {
        "AUTH_ENABLED": auth.required, bool::to_string;
        "PUBLISHING": publishing, |whose: &_| match whose {
            Publishing::Clients => "clients".to_owned(),
            Publishing::ApplicationOnly => "application".to_owned(),
        };
        "JWT_END_REMOVED_KEYS": auth.end_removed_keys, bool::to_string;
        "JWT_LEEWAY": auth.rules.leeway, seconds;
        "TOKEN_IN_QUERY": auth.query_parameter, |name: &Option<_>| name.is_some().to_string();
        "TOKEN_IN_SUBPROTOCOL": auth.subprotocol, bool::to_string;
        "AUTH_TIMEOUT": limits.auth.auth_timeout, seconds;
        "TOKEN_WARNING": limits.auth.token_warning, seconds;
        "TOKEN_GRACE": limits.auth.token_grace, seconds;
        "REVOCATION_KEEP": limits.revocations.revocation_keep, seconds;
        "RATE_LIMIT": limits.connections.connects_per_minute, or_off;
        "RATE_LIMIT_LOOPBACK": limits.connections.connects_limit_loopback, bool::to_string;
        "MAX_CONNECTIONS_PER_ADDRESS": limits.connections.connections_per_address_max, or_off;
        "MAX_CONNECTIONS_PER_USER": limits.connections.connections_per_user_max, or_off;
        "MAX_CONNECTIONS": limits.connections.connections_max, usize::to_string;
        "MESSAGE_RATE_LIMIT": limits.connections.messages_per_second, or_off;
        "MESSAGE_BURST": limits.connections.messages_burst, u32::to_string;
        "MAX_MESSAGE_BYTES": limits.wire.message_bytes_max, usize::to_string;
        "OUTBOX_BYTES": limits.delivery.outbox_bytes_max, usize::to_string;
        "PING_INTERVAL": limits.wire.ping_interval, seconds_or_off;
        "PONG_TIMEOUT": limits.wire.pong_timeout, seconds;
        "CONNECTION_TIMEOUT": limits.wire.connection_timeout, seconds_or_off;
        "SLOW_READER": slow_readers.default, |policy: &_| slow_reader(*policy).to_owned();
        "SLOW_READER_RULES": slow_readers.rules, |rules: &Vec<_>| {
            let rule = |(pattern, policy): &_| format!("{pattern}={}", slow_reader(*policy));
            rules.iter().map(rule).collect::<Vec<_>>().join(",")
        };
        "HISTORY_CHANNEL_BYTES": limits.history.history_channel_bytes_max, usize::to_string;
        "HISTORY_BYTES": limits.history.history_bytes_max, usize::to_string;
        "RECOVER_MAX": limits.history.recover_messages_max, u32::to_string;
        "REWIND_RULES": history.rewind, |rules: &Vec<_>| {
            let rule = |(pattern, count): &_| format!("{pattern}={count}");
            rules.iter().map(rule).collect::<Vec<_>>().join(",")
        };
        "DRAIN_RETURN": drain_return, seconds;
        "STATUS_REQUESTS": status_requests, |requests: &Vec<_>| {
            requests.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        "BACKEND_CHANNEL": backend, |backend: &Option<config::Backend>| {
            backend.as_ref().map_or_else(String::new, |backend| backend.channel.to_string())
        };
        "DIALECT_PATHS": dialects.paths, |paths: &Vec<_>| {
            let pair = |(path, dialect): &(Box<str>, Dialect)| format!("{path}={}", dialect.as_str());
            paths.iter().map(pair).collect::<Vec<_>>().join(",")
        };
        "SESSION_SECONDS": limits.sessions.session_window, seconds;
        "SESSIONS_MAX": limits.sessions.sessions_max, usize::to_string;
        "STATE_BYTES": limits.history.state_bytes_max, usize::to_string;
        "PRESENCE_MEMBERS_MAX": limits.presence.presence_members_max, u32::to_string;
        "PRESENCE_BYTES": limits.presence.presence_bytes_max, usize::to_string;
        "PRESENCE_INFO_BYTES": limits.presence.presence_info_bytes_max, usize::to_string;
        "PRESENCE_CHANGES_MAX": limits.presence.presence_changes_max, u32::to_string;
        "PRESENCE_RULES": presence, |rules: &Vec<_>| {
            let switch = |on: bool| if on { "on" } else { "off" };
            let rule = |(pattern, on): &(_, bool)| format!("{pattern}={}", switch(*on));
            rules.iter().map(rule).collect::<Vec<_>>().join(",")
        };
        "DEFLATE": deflate.enabled, bool::to_string;
        "TRUSTED_PROXIES": trusted_proxies, |networks: &Vec<_>| {
            networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        "PROXY_PROTOCOL": proxy_protocol, bool::to_string;
        "TLS_PLAIN": plain_on_tls, |plain: &_| plain_on_tls(*plain).to_owned();
    }
    if let Some(history) = keep(config.history.default) {
        said.push(("HISTORY", history));
        rest.history.default = base.history.default;
    }
    let rule = |(pattern, kept): &(_, Keep)| Some(format!("{pattern}={}", keep(*kept)?));
    if let Some(rules) = config.history.rules.iter().map(rule).collect::<Option<Vec<_>>>() {
        said.push(("HISTORY_RULES", rules.join(",")));
        rest.history.rules = Vec::new();
    }
    said.push(("DRAIN_TIMEOUT", seconds(&DrainPlan::default().deadline)));
    if !config.auth.keys.is_empty() {
        said.push(("JWT_SECRET", String::from_utf8_lossy(token::SECRET).into_owned()));
        rest.auth.keys = base.auth.keys.clone();
    }
    if config.tls.is_some() {
        let (certificate, key) = secure::write(dir.path());
        said.extend([
            ("TLS_ENABLED", "true".into()),
            ("CERT_FILE", certificate),
            ("KEY_FILE", key),
        ]);
        rest.tls = None;
    }
    // Of these the text is not kept: the body says it again.
    if given.iter().any(|(name, _)| *name == "ALLOWED_ORIGINS") {
        rest.origins = base.origins.clone();
    }
    if given.iter().any(|(name, _)| *name == "ALLOWED_HOSTS") {
        rest.hosts = base.hosts.clone();
    }
    rest.service = base.service.clone();
    let (rest, base) = (format!("{rest:#?}"), format!("{base:#?}"));
    match rest.lines().zip(base.lines()).find(|(rest, base)| rest != base) {
        None => Ok(said),
        Some((line, _)) => {
            let name = line.trim().split(':').next().unwrap_or_default();
            Err(format!("no setting says `{name}`"))
        }
    }
}

/// `None`: no setting says it.
fn keep(keep: Keep) -> Option<String> {
    let Keep { messages, time } = keep;
    match time.subsec_nanos() {
        _ if keep.is_off() => Some("off".to_owned()),
        0 => Some(format!("{messages}/{}", time.as_secs())),
        _ => None,
    }
}

fn seconds(time: &Duration) -> String {
    time.as_secs_f64().to_string()
}

fn seconds_or_off(time: &Option<Duration>) -> String {
    time.as_ref().map_or_else(|| "0".to_owned(), seconds)
}

fn or_off(number: &Option<u32>) -> String {
    number.unwrap_or_default().to_string()
}

fn slow_reader(policy: SlowPolicy) -> &'static str {
    match policy {
        SlowPolicy::Disconnect => "disconnect",
        SlowPolicy::Gap => "gap",
        SlowPolicy::Latest => "latest",
    }
}

fn plain_on_tls(plain: PlainOnTls) -> &'static str {
    match plain {
        PlainOnTls::Nothing => "nothing",
        PlainOnTls::Health => "health",
        PlainOnTls::Loopback => "loopback",
    }
}

/// Why.
const NO_APPLICATION: &str = "only an application speaks to connections";

impl Driven for Running {
    fn connect(&self, listener: Listener, room: Option<usize>) -> io::Result<Stream> {
        let address = match listener {
            Listener::Main => self.server().address(),
            Listener::Metrics => self.server().metrics_address(),
            Listener::Adopted => return Err(io::ErrorKind::Unsupported.into()),
        };
        stream::connect(None, address, room).map(Stream::Tcp)
    }

    fn connect_by(&self, way: Way) -> io::Result<Stream> {
        match way {
            Way::Unix => unix(&socket_in(&self.dir)),
            Way::HandedOver => not_applicable("only an application hands sockets over"),
        }
    }

    /// As another program on this machine does it: by HTTP.
    fn broadcast(&self, channel: &str, event: &str, data: &Value) -> Result<Published, Reason> {
        let bearer = format!("Bearer {}", token::good(self.unix(), "root", &["admin"]));
        let fields = [("Connection", "close"), ("Authorization", &bearer)];
        let fields = if self.authenticated { &fields[..] } else { &fields[..1] };
        let stream = self.connect(Listener::Main, None).expect("a listening server");
        let mut raw = Raw::new(if self.secure { stream.secure() } else { stream });
        let body = json!({ "channel": channel, "event": event, "data": data });
        let answer = raw.exchange(&post(fields, &body)).json();
        raw.read_to_end();
        let subscribers = answer["subscribers"].as_u64().unwrap_or_else(|| panic!("{answer}"));
        // Numbers of messages are not told by HTTP.
        let subscribers = u32::try_from(subscribers).expect("a few");
        Ok(Published { subscribers, offset: 0, epoch: None })
    }

    fn drain(&self, plan: DrainPlan) {
        let DrainPlan { notice, window, deadline } = plan;
        let Some(timeout) = deadline.checked_sub(window) else {
            not_applicable("the program ends no drain within its window");
        };
        let server = self.server();
        if plan != DrainPlan::default() {
            let file =
                std::fs::read_to_string(server.state_dir().join(".env")).expect("it is ours");
            // The last of two lines counts.
            let line = |(name, time): (_, Duration)| {
                format!("MAHAVISHNU_DRAIN_{name}={}\n", seconds(&time))
            };
            let said = [("NOTICE", notice), ("WINDOW", window), ("TIMEOUT", timeout)].map(line);
            server.reload(&(file + &said.concat()));
        }
        server.signal(Signal::TERM);
    }

    fn is_drained(&self) -> bool {
        !self.server().is_running()
    }

    fn sessions_of(&self, _: &str) -> Vec<(String, bool)> {
        not_applicable("the program has no application to ask");
    }

    fn end_sessions_of(&self, _: &str) -> u64 {
        not_applicable("the program has no application to ask");
    }

    fn wish(&self, _: Wish<'_>) -> Did {
        not_applicable(NO_APPLICATION)
    }

    fn roll(&self, _: &Roll) -> (u64, Vec<String>) {
        not_applicable(NO_APPLICATION)
    }

    fn moved(&self) -> Vec<Moved> {
        not_applicable(NO_APPLICATION)
    }

    fn disconnect(&self, _: ConnId) {
        not_applicable("only an application ends one connection");
    }

    fn reload(&self, config: &Config) {
        if !config.auth.keys.is_empty() {
            not_applicable("a configuration does not tell its keys");
        }
        self.server().reload(&file(config, &self.given, &self.dir));
    }

    fn sockets(&self) -> usize {
        self.server().sockets()
    }

    fn connected(&self) -> Vec<ConnId> {
        not_applicable("the program has no application to tell of connections");
    }

    fn ended(&self) -> Vec<(ConnId, Reason)> {
        not_applicable("the program has no application to tell of connections");
    }

    fn count(&self, family: &str, labels: &[(&str, &str)]) -> u64 {
        // A server that has ended tells nothing more.
        let answer = http::try_get(self.server().metrics_address(), "/metrics");
        let Ok(answer) = answer else { return 0 };
        // Its own name is that of every other one.
        let labels: Vec<_> = labels.iter().copied().filter(|(name, _)| *name != "server").collect();
        mahavishnu_tests::Metrics::parse(&answer.text()).count(family, &labels)
    }
}
