//! What a service of the Mahavishnu family is, as data: its name, ports, limits, rights, events, and what it answers.
//!
//! A [`Profile`] is read from one TOML text. Seven are [built in](Profile::builtin); a file makes another service. It is pure:
//! text in, text out.
//!
//! - **Facts** are fields of [`Profile`].
//! - **Events** ([`Profile::event`]) say what a broadcast tells and where: [`Event::broadcast`] makes one.
//! - **Folds** ([`Profile::fold`]) keep a channel's document up to date with the events that are published to it.
//! - **Requests** ([`Profile::question`], [`Profile::answer`]) are answered from these documents.

#![forbid(unsafe_code)]

mod builtin;
mod error;
mod event;
mod facts;
mod fold;
mod json;
mod parse;
mod request;
mod shed;
mod template;
mod time;
mod value;
mod written;

use std::sync::Arc;

pub use error::ProfileError;
pub use event::{Broadcast, BroadcastError, Event, Field, FieldKind};
pub use facts::{Access, AccessRule, Environment, Extra, Limits, Ports, Protocol, Tokens, Welcome};
pub use fold::Happened;
pub use request::{Question, Request};
pub use template::Template;
pub use time::written as written_time;

use json::{Json, Object};

/// One service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Profile {
    /// Name: lower-case letters, digits and `-`.
    pub name: Box<str>,
    /// Other names of the same service.
    pub aliases: Vec<Box<str>>,
    /// Name as people write it.
    pub title: Box<str>,
    /// Label `server` of its metrics.
    pub label: Box<str>,
    /// What is spoken.
    pub protocol: Protocol,
    /// Channels that it has from the beginning: those whose names do not depend on anything.
    pub channels: Vec<Box<str>>,
    /// The welcome.
    pub welcome: Welcome,
    /// Where it listens.
    pub ports: Ports,
    /// How many and how fast.
    pub limits: Limits,
    /// Its variables.
    pub environment: Environment,
    /// Its tokens.
    pub tokens: Tokens,
    /// Its rights. `None`: it has none of its own.
    pub access: Option<Access>,
    /// Members of a subscription's data that mean a channel: `component_id` means `component:{component_id}`.
    pub channel_keys: Vec<(Box<str>, Template)>,
    /// What it broadcasts.
    pub events: Vec<Event>,
    /// What it answers. Of several of one name the first that fits counts.
    pub requests: Vec<Request>,
    folds: Vec<fold::Rule>,
    /// Every channel that a fold or a copy is about, each once.
    folded: Vec<Template>,
    copies: Vec<Copied>,
    text: Box<str>,
}

/// Events of some channels that go to a channel of the server's own too.
#[derive(Clone, Debug)]
struct Copied {
    on: Vec<Box<str>>,
    from: Template,
    to: Box<str>,
}

impl Profile {
    /// Reads a profile's text, at most [`TEXT_BYTES_MAX`].
    ///
    /// # Errors
    ///
    /// It is no TOML, or something in it is missing, unknown or wrong: by line and key.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        parse::profile(text)
    }

    /// A service of the family, by its name or another name of it. `None`: there is none.
    #[must_use]
    pub fn builtin(name: &str) -> Option<Arc<Self>> {
        Self::builtins().iter().find(|profile| profile.is_called(name)).cloned()
    }

    /// The services of the family.
    #[must_use]
    pub fn builtins() -> &'static [Arc<Self>] {
        &builtin::ALL
    }

    /// The text that it was read from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the service has this name.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        std::iter::once(&self.name).chain(&self.aliases).any(|known| **known == *name)
    }

    /// A kind of broadcast, by its `event` or by what the Python code calls it.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<&Event> {
        self.events.iter().find(|event| *event.name == *name || *event.method == *name)
    }

    /// The channel that a member of a subscription's data means.
    #[must_use]
    pub fn channel_of(&self, member: &str, value: &str) -> Option<Box<str>> {
        let (_, channel) = self.channel_keys.iter().find(|(known, _)| **known == *member)?;
        Some(channel.fill(value))
    }

    /// Whether events of this channel may change a document or be copied. Cheap: nothing is read.
    #[must_use]
    pub fn folds(&self, channel: &str) -> bool {
        self.folded.iter().any(|known| known.fits(channel))
    }

    /// Channels of the server's own that get the same event.
    pub fn copies<'a>(&'a self, channel: &'a str, event: &'a str) -> impl Iterator<Item = &'a str> {
        let takes = move |copy: &&Copied| {
            copy.on.iter().any(|known| **known == *event) && copy.from.fits(channel)
        };
        self.copies.iter().filter(takes).map(|copy| &*copy.to)
    }

    /// The channel's document after an event. `None`: it stays as it is.
    ///
    /// It has at most `bytes_max` bytes: beyond that the oldest entries of its lists go, and the document's member `shed` says
    /// how many went. `before` may be any JSON object: what does not have the form that a rule wants is replaced.
    #[must_use]
    pub fn fold(
        &self,
        before: Option<&str>,
        happened: &Happened<'_>,
        bytes_max: usize,
    ) -> Option<String> {
        let takes = |rule: &&fold::Rule| rule.takes(happened.channel, happened.event);
        let mut rules = self.folds.iter().filter(takes).peekable();
        rules.peek()?;
        let data = Json::parse(happened.data).filter(Json::is_object)?;
        let known = before.and_then(Object::parse);
        let was = known.as_ref().map(|known| Json::Object(known.clone()).written());
        let mut document = known.unwrap_or_default();
        for rule in rules {
            rule.apply(&mut document, happened, &data);
        }
        let of_channel = self.folds.iter().filter(|rule| rule.fits(happened.channel));
        let lists: Vec<_> = of_channel.flat_map(fold::Rule::lists).collect();
        let fits = shed::fit(&mut document, &lists, bytes_max);
        let after = Json::Object(document).written();
        let is_new = was.map_or(after != "{}", |was| was != after);
        (fits && is_new).then_some(after)
    }

    /// What a request asks. `None`: it is none of this service.
    #[must_use]
    pub fn question(&self, event: &str, data: &str) -> Option<Question> {
        request::question(&self.requests, event, data)
    }

    /// The answer's data, from the documents of the [question](Self::question)'s channels in their order: a JSON object.
    /// `None` among them: the channel has none.
    #[must_use]
    pub fn answer(
        &self,
        event: &str,
        data: &str,
        documents: &[Option<&str>],
        unix_ms: u64,
    ) -> String {
        request::answer(&self.requests, event, data, documents, unix_ms)
    }
}

/// Bytes of a profile's text. A longer one is refused.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// Documents that one request is answered from. A profile with more is refused.
pub const DOCUMENTS_MAX: usize = 8;

/// Events, folds, copies, requests, and steps of a fold, each. A profile with more is refused.
pub const ROWS_MAX: usize = 256;

/// Entries of a list in a document if the profile does not say. Beyond, the oldest go.
pub const ENTRIES_DEFAULT: usize = 256;

/// Entries that a profile may allow a list.
pub const ENTRIES_MAX: usize = 4096;
