//! What a service is called and how it is found: facts without rules.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What is spoken on the service's port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// The family's messages: docs/protocol.md.
    #[default]
    Family,
    /// Session-Buddy's own.
    SessionBuddy,
}

/// The welcome that a connection gets first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Welcome {
    /// `server` of its data.
    pub server: Box<str>,
    /// `message` of its data.
    pub message: Box<str>,
    /// What else its data has, in this order. Default: nothing.
    #[serde(default)]
    pub extras: Vec<Extra>,
}

/// A member of a welcome's data besides `connection_id`, `server`, `message` and `authenticated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extra {
    /// `secure`: whether the connection is encrypted.
    Secure,
    /// `rate_limit`: messages per second and connection.
    RateLimit,
    /// `tls_mode`: `WSS` if the connection is encrypted, else `WS`.
    TlsMode,
}

/// Where the service listens if no setting says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Ports {
    /// WebSocket, health and publishing.
    pub websocket: u16,
    /// Metrics.
    pub metrics: u16,
    /// WebSocket where all services run in one process. Default: `websocket`.
    pub fleet_websocket: Option<u16>,
    /// Metrics where all services run in one process. Default: `metrics`.
    pub fleet_metrics: Option<u16>,
    /// Other WebSocket ports that the service's own documents or versions name. Default: none.
    #[serde(default)]
    pub also_websocket: Vec<u16>,
    /// Other ports for metrics that the service's own documents or versions name. Default: none.
    #[serde(default)]
    pub also_metrics: Vec<u16>,
}

impl Ports {
    /// WebSocket port among all services of one process.
    #[must_use]
    pub fn websocket_in_fleet(&self) -> u16 {
        self.fleet_websocket.unwrap_or(self.websocket)
    }

    /// Metrics port among all services of one process.
    #[must_use]
    pub fn metrics_in_fleet(&self) -> u16 {
        self.fleet_metrics.unwrap_or(self.metrics)
    }
}

/// How many and how fast, if no setting says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Open WebSocket connections.
    pub connections_max: u32,
    /// Messages per second and connection.
    pub messages_per_second: u32,
    /// Messages that a connection which was silent may send at once. Default: one and a half times `messages_per_second`.
    pub burst: Option<u32>,
}

/// How the service's variables are called and written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Environment {
    /// What names of variables begin with, without the `_` behind it: `CRACKERJACK`.
    pub prefix: Box<str>,
    /// Other beginnings, for variables that `prefix` has not. Default: none.
    #[serde(default)]
    pub also_prefixes: Vec<Box<str>>,
    /// Whole names of variables by the setting that they stand for, as `PORT = ["WEBSOCKET_PORT"]`: for settings that no
    /// prefix has. Default: none.
    #[serde(default)]
    pub spellings: BTreeMap<Box<str>, Vec<Box<str>>>,
    /// Words, in lower case, that mean yes. Without `no_words` every other word means no. Default: `true`.
    #[serde(default = "yes_words")]
    pub yes_words: Vec<Box<str>>,
    /// Words, in lower case, that mean no. If there are any, every other word means yes. Default: none.
    #[serde(default)]
    pub no_words: Vec<Box<str>>,
}

impl Environment {
    /// All beginnings of names, the one that counts first in front.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.prefix).chain(self.also_prefixes.iter().map(|prefix| &**prefix))
    }

    /// Whether a word means yes to the service's own code.
    #[must_use]
    pub fn is_yes(&self, word: &str) -> bool {
        let word = word.trim().to_ascii_lowercase();
        let has = |words: &[Box<str>]| words.iter().any(|known| **known == *word);
        if self.no_words.is_empty() { has(&self.yes_words) } else { !has(&self.no_words) }
    }
}

/// How the service's tokens look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Tokens {
    /// Secrets that stand in published code and so protect nothing. Default: none.
    #[serde(default)]
    pub refused_secrets: Vec<Box<str>>,
    /// Variables, by whole name, that have the secret if the service's own has none. Default: none.
    #[serde(default)]
    pub also_secrets: Vec<Box<str>>,
    /// Permissions of a token that is made without naming any. Default: none.
    #[serde(default)]
    pub permissions: Vec<Box<str>>,
    /// `iss` that its tokens have. Default: none.
    pub issuer: Option<Box<str>>,
    /// `aud` that its tokens have. Default: none.
    pub audience: Option<Box<str>>,
    /// Whether the service's own code wants tokens if no variable says otherwise. Default: false.
    #[serde(default)]
    pub auth_enabled: bool,
}

/// Who may subscribe and publish where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Access {
    /// Permissions that open everything.
    #[serde(default)]
    pub full_access: Vec<Box<str>>,
    /// Permissions to publish to any channel.
    #[serde(default)]
    pub publish_anywhere: Vec<Box<str>>,
    /// Whether permissions of tokens count in lower case and without spaces. Default: false.
    #[serde(default)]
    pub lower_case: bool,
    /// The first one that fits a channel decides. At most 64.
    #[serde(default, rename = "rule")]
    pub rules: Vec<AccessRule>,
}

/// Who may subscribe and publish to some channels.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AccessRule {
    /// A channel's name, or the beginning of one followed by `*`.
    pub pattern: Box<str>,
    /// Permissions to subscribe. None: nobody but full access.
    #[serde(default)]
    pub subscribe: Vec<Box<str>>,
    /// Permissions to publish. None: nobody but full access and who may publish anywhere.
    #[serde(default)]
    pub publish: Vec<Box<str>>,
}

fn yes_words() -> Vec<Box<str>> {
    vec!["true".into()]
}
