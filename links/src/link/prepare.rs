//! What is done first on a connection to Redis, and what it finds.

use std::{fmt::Display, sync::Arc, time::Duration};

use mahavishnu_core::time::Now;

use crate::{
    LinkConfig, RedisInfo, Secret, Servers,
    redis::{
        self, LAYOUT, VERSION_MIN,
        names::Names,
        replies::{self, Refusal},
        request::Sha,
        scripts::Script,
    },
    resp::{Arg, Frame, command},
    stats::{ErrorClass, Outage},
};

/// One of the things that are done first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The connection before this one may not know yet that it is over.
    Kill,
    /// Which connection this is, so that the next one can do that.
    Info,
    Select,
    Role,
    Layout,
    Load(Script),
    /// Redis does not close this connection when memory is short.
    NoEvict,
    /// What only tells or names something.
    Other,
    Eviction,
    OutputBuffer,
}

/// Why a connection is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Useless {
    pub(super) outage: Outage,
    pub(super) cause: Arc<str>,
}

impl Useless {
    pub(super) fn new(outage: Outage, cause: impl Into<Arc<str>>) -> Self {
        Self { outage, cause: cause.into() }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) redis: RedisInfo,
    /// Replies that are missing.
    missing: usize,
    is_primary: bool,
    /// The version of what lies there.
    layout: Option<Box<str>>,
    /// It was founded already, as far as Redis let us.
    founded: bool,
    /// It cannot be done yet, as Redis says.
    pub(super) wait: Option<Box<str>>,
    useless: Option<Useless>,
    /// Id and address of this connection.
    pub(super) client: Option<(u64, Arc<str>)>,
    shas: Vec<(Script, Sha)>,
}

/// What follows from what was found.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Not all replies have come.
    Open,
    /// What lies there is to be begun.
    Found,
    /// It cannot be done yet.
    Wait,
    Useless(Useless),
    /// Everything is there; the scripts have these names.
    Ready(Vec<(Script, Sha)>),
}

/// Writes `HELLO`.
pub(super) fn hello(out: &mut Vec<u8>, config: &LinkConfig, whose: impl Display, sentinel: bool) {
    let (username, password) = match &config.servers {
        Servers::Sentinel { username, password, .. } if sentinel => (username, password),
        Servers::Sentinel { .. } | Servers::Single { .. } => (&config.username, &config.password),
    };
    let node: String =
        config.node_name.chars().map(|c| if c.is_ascii_graphic() { c } else { '-' }).collect();
    let name = format!("mahavishnu:{node}:{whose}");
    let mut args: Vec<Arg<'_>> = vec!["HELLO".into(), "3".into()];
    if username.is_some() || password.is_some() {
        let username = username.as_deref().unwrap_or("default");
        let password = password.as_ref().map_or("", Secret::reveal);
        args.extend(["AUTH".into(), username.into(), Arg::from(password)]);
    }
    args.extend(["SETNAME".into(), Arg::from(&name)]);
    command(out, &args);
}

/// What Redis says of itself to a `HELLO`.
pub(super) fn greeted(frame: &Frame) -> Result<Findings, Useless> {
    let text = |name| replies::member(frame, name).and_then(replies::text).unwrap_or_default();
    let (server, version, mode) = (text("server"), text("version"), text("mode"));
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match (major, mode) {
        (None, _) => return Err(Useless::new(Outage::Broken, "it does not say which Redis it is")),
        (Some(major), _) if major < VERSION_MIN => {
            let cause = format!("Redis {version} is too old: {VERSION_MIN}.0 or later is needed");
            return Err(Useless::new(Outage::Refused, cause));
        }
        (_, "sentinel") => {
            return Err(Useless::new(Outage::Refused, "this is a Sentinel and not Redis itself"));
        }
        (_, "cluster") => {
            return Err(Useless::new(Outage::Refused, "Redis Cluster is not supported"));
        }
        _ => {}
    }
    let redis =
        RedisInfo { server: server.into(), version: version.into(), ..RedisInfo::default() };
    Ok(Findings { redis, is_primary: text("role") == "master", ..Findings::default() })
}

/// Writes all steps; `previous` is the connection before. Tells them in the order of their replies.
pub(super) fn steps(
    out: &mut Vec<u8>,
    names: &Names,
    db: u16,
    previous: Option<&(u64, Arc<str>)>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut step = |step, args: &[Arg<'_>]| {
        command(out, args);
        steps.push(step);
    };
    if let Some((id, address)) = previous {
        let id = (*id).into();
        step(
            Step::Kill,
            &["CLIENT".into(), "KILL".into(), "ID".into(), id, "ADDR".into(), (&**address).into()],
        );
    }
    step(Step::Info, &["CLIENT".into(), "INFO".into()]);
    step(Step::Select, &["SELECT".into(), u32::from(db).into()]);
    step(Step::Role, &["ROLE".into()]);
    step(Step::Layout, &["HGET".into(), (&names.layout()).into(), "version".into()]);
    for script in Script::ALL {
        step(Step::Load(script), &["SCRIPT".into(), "LOAD".into(), script.text().into()]);
    }
    step(Step::NoEvict, &["CLIENT".into(), "NO-EVICT".into(), "ON".into()]);
    for (name, value) in [("LIB-NAME", "mahavishnu"), ("LIB-VER", env!("CARGO_PKG_VERSION"))] {
        step(Step::Other, &["CLIENT".into(), "SETINFO".into(), name.into(), value.into()]);
    }
    let config = |name: &'static str| ["CONFIG".into(), "GET".into(), name.into()];
    step(Step::Eviction, &config("maxmemory-policy"));
    step(Step::OutputBuffer, &config("client-output-buffer-limit"));
    steps
}

/// Writes what begins the layout, and reads it again: another node may have been faster. Tells the steps.
pub(super) fn founding(out: &mut Vec<u8>, names: &Names, now: Now) -> Vec<Step> {
    let layout = names.layout();
    for (name, value) in redis::founding(now.unix) {
        command(out, &["HSETNX".into(), (&layout).into(), name.into(), (&value).into()]);
    }
    command(out, &["HGET".into(), (&layout).into(), "version".into()]);
    vec![Step::Other, Step::Other, Step::Other, Step::Layout]
}

impl Findings {
    /// So many replies are to come.
    pub(super) fn expect(&mut self, count: usize) {
        self.missing += count;
    }

    /// Begins anew on the same connection.
    pub(super) fn again(&self) -> Self {
        let redis = RedisInfo {
            server: self.redis.server.clone(),
            version: self.redis.version.clone(),
            ..RedisInfo::default()
        };
        Self { redis, is_primary: self.is_primary, ..Self::default() }
    }

    /// A reply has come.
    pub(super) fn take(&mut self, step: Step, frame: &Frame) {
        self.missing = self.missing.saturating_sub(1);
        match Refusal::of(frame) {
            Some(refusal) => self.refused(step, refusal),
            None => self.learn(step, frame),
        }
    }

    fn learn(&mut self, step: Step, frame: &Frame) {
        match step {
            Step::Kill | Step::Select | Step::NoEvict | Step::Other => {}
            Step::Info => self.client = replies::text(frame).and_then(replies::client),
            Step::Role => {
                let role = frame.as_array().and_then(|items| items.first()).and_then(replies::text);
                self.is_primary = role == Some("master");
            }
            Step::Layout => self.layout = replies::text(frame).map(Into::into),
            Step::Load(script) => match replies::sha(frame) {
                Ok(sha) => self.shas.push((script, sha)),
                Err(_) => {
                    self.fail(Outage::Broken, "it does not name the scripts that it was given")
                }
            },
            Step::Eviction => {
                let policy = replies::member(frame, "maxmemory-policy").and_then(replies::text);
                self.redis.eviction = policy.map(Into::into);
            }
            Step::OutputBuffer => {
                let limit = replies::member(frame, "client-output-buffer-limit");
                let limit = limit.and_then(replies::text).and_then(replies::output_buffer);
                self.redis.output_buffer =
                    limit.map(|(hard, soft, time): (u64, u64, Duration)| (hard, soft, time));
            }
        }
    }

    fn refused(&mut self, step: Step, refusal: Refusal) {
        if refusal.class == ErrorClass::Wait {
            self.wait = Some(refusal.text);
            return;
        }
        match step {
            // What Redis does not know, or does not let us do, and what it can do without. It has told its role before.
            Step::Kill
            | Step::Info
            | Step::Role
            | Step::NoEvict
            | Step::Other
            | Step::Eviction
            | Step::OutputBuffer => {}
            Step::Select | Step::Layout | Step::Load(_) => {
                let outage = match refusal.class {
                    ErrorClass::Elsewhere => Outage::Elsewhere,
                    ErrorClass::Script
                    | ErrorClass::Wait
                    | ErrorClass::Full
                    | ErrorClass::Refused
                    | ErrorClass::Poison => Outage::Refused,
                };
                self.fail(outage, refusal.text);
            }
        }
    }

    /// The first of several reasons is the one that is told.
    fn fail(&mut self, outage: Outage, cause: impl Into<Arc<str>>) {
        if self.useless.is_none() {
            self.useless = Some(Useless::new(outage, cause));
        }
    }

    /// What follows, once all replies have come.
    pub(super) fn judge(&mut self) -> Verdict {
        if self.missing > 0 {
            return Verdict::Open;
        }
        if let Some(useless) = self.useless.take() {
            return Verdict::Useless(useless);
        }
        if self.wait.is_some() {
            return Verdict::Wait;
        }
        if !self.is_primary {
            return Verdict::Useless(Useless::new(Outage::Elsewhere, "it is a replica"));
        }
        match self.layout.as_deref() {
            Some(LAYOUT) => Verdict::Ready(std::mem::take(&mut self.shas)),
            None if self.founded => Verdict::Ready(std::mem::take(&mut self.shas)),
            None => {
                self.founded = true;
                Verdict::Found
            }
            Some(other) => {
                let cause =
                    format!("its data have layout {other}, and this program knows {LAYOUT}");
                Verdict::Useless(Useless::new(Outage::Refused, cause))
            }
        }
    }
}
