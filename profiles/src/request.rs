//! Requests that are answered from documents.

use crate::{
    fold::ONCE,
    json::{Json, Object},
    shed::SHED,
    template::Template,
    value::{Documents, Scope, Value},
};

/// What a request asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// These channels' documents, in this order: at most [`DOCUMENTS_MAX`](crate::DOCUMENTS_MAX).
    Documents {
        /// Channels.
        channels: Vec<Box<str>>,
        /// Who may subscribe to this channel may ask.
        right: Box<str>,
        /// Whether a back-end is to be asked first.
        by_backend: bool,
    },
    /// Nothing: this member of the data is missing.
    Missing(Box<str>),
}

/// A request of the service, in one of the forms in which it may come.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// `event` of the message.
    pub event: Box<str>,
    /// The member of its data that names what it is about.
    pub key: Option<Box<str>>,
    /// Values of the key that another form is for.
    pub except: Vec<Box<str>>,
    /// Members of the data with which it is the server's own request of that name.
    pub unless: Vec<Box<str>>,
    /// The documents that it is answered from, by the names that the answer has for them.
    pub documents: Vec<(Box<str>, Template)>,
    /// The channel that whoever asks has to be allowed to subscribe to. Default: that of the first document.
    pub right: Option<Template>,
    /// Whether a back-end is to be asked first.
    pub by_backend: bool,
    pub(crate) found_if: Vec<Value>,
    pub(crate) found: Value,
    /// Where nothing is known. Default: the same form.
    pub(crate) unknown: Option<Value>,
}

impl Request {
    /// What names the thing that a request is about. `None`: another form is meant, or the key is missing.
    fn thing(&self, data: &Json) -> Option<Box<str>> {
        let Some(key) = &self.key else { return Some("".into()) };
        let thing = data.member(key)?.name()?;
        (!self.except.contains(&thing)).then_some(thing)
    }

    fn is_own_of_server(&self, data: &Json) -> bool {
        self.unless.iter().any(|member| data.member(member).is_some())
    }

    /// The channels of its documents, for a thing.
    fn channels(&self, thing: &str) -> Vec<Box<str>> {
        self.documents.iter().map(|(_, channel)| channel.fill(thing)).collect()
    }

    fn right(&self, thing: &str) -> Box<str> {
        let first = self.documents.first().map(|(_, channel)| channel);
        self.right.as_ref().or(first).map_or_else(|| "".into(), |channel| channel.fill(thing))
    }

    fn answer(&self, data: &Json, thing: &str, documents: &[Option<&str>], unix_ms: u64) -> String {
        let names = self.documents.iter().map(|(name, _)| &**name);
        let texts = documents.iter().copied().chain(std::iter::repeat(None));
        let known = names
            .zip(texts)
            .map(|(name, text)| (name, text.and_then(Object::parse).map(Json::Object)));
        let known = Known(known.collect());
        let scope = Scope {
            data,
            documents: &known,
            key: thing,
            id: "",
            event: &self.event,
            channel: "",
            unix_ms,
            absent_is_null: true,
        };
        let is_found = if self.found_if.is_empty() {
            known.0.iter().any(|(_, document)| document.is_some())
        } else {
            self.found_if.iter().any(|value| value.of(scope).is_some())
        };
        let form = self.unknown.as_ref().filter(|_| !is_found).unwrap_or(&self.found);
        let mut answer = form.of(scope).and_then(Json::object).unwrap_or_default();
        let shed =
            known.0.iter().filter_map(|(_, document)| document.as_ref()?.member(SHED)?.whole());
        let shed = shed.fold(0, u64::saturating_add);
        if shed > 0 && answer.get(SHED).is_none() {
            answer.set(SHED, Json::number(shed));
        }
        let mut text = String::new();
        answer.write(&mut text);
        text
    }
}

/// The form of a request that is meant, and the thing that it is about.
fn meant<'r>(requests: &'r [Request], event: &str, data: &Json) -> Option<(&'r Request, Box<str>)> {
    let forms = requests
        .iter()
        .filter(|request| *request.event == *event && !request.is_own_of_server(data));
    forms.filter_map(|request| Some((request, request.thing(data)?))).next()
}

pub(crate) fn question(requests: &[Request], event: &str, data: &str) -> Option<Question> {
    let first = requests.iter().find(|request| *request.event == *event)?;
    let data = Json::parse(data).unwrap_or_else(Json::null);
    match meant(requests, event, &data) {
        Some((request, thing)) => Some(Question::Documents {
            channels: request.channels(&thing),
            right: request.right(&thing),
            by_backend: request.by_backend,
        }),
        // The server has a request of this name itself, which says what it misses.
        None if !first.unless.is_empty() => None,
        None => Some(Question::Missing(first.key.clone().unwrap_or_default())),
    }
}

pub(crate) fn answer(
    requests: &[Request],
    event: &str,
    data: &str,
    documents: &[Option<&str>],
    unix_ms: u64,
) -> String {
    let data = Json::parse(data).unwrap_or_else(Json::null);
    match meant(requests, event, &data) {
        Some((request, thing)) => request.answer(&data, &thing, documents, unix_ms),
        None => "{}".into(),
    }
}

/// The documents of one answer, by name.
struct Known<'r>(Vec<(&'r str, Option<Json>)>);

impl Documents for Known<'_> {
    fn at(&self, name: &str, path: &[Box<str>]) -> Option<Json> {
        let document = self.0.iter().find(|(known, _)| *known == name)?.1.as_ref()?;
        if !path.is_empty() {
            return document.at(path);
        }
        // Which events it has seen is nobody's business who asks what it says.
        let mut whole = document.clone().object()?;
        whole.remove(ONCE);
        Some(Json::Object(whole))
    }
}
