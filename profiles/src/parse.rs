//! A profile's text: TOML, and what in it goes beyond TOML.

use std::{collections::BTreeMap, ops::Range};

use serde::Deserialize;
use toml::Spanned;

use crate::{
    Copied, DOCUMENTS_MAX, ENTRIES_DEFAULT, ENTRIES_MAX, Profile, ROWS_MAX, TEXT_BYTES_MAX,
    error::{Fault, ProfileError},
    event::{Event, Field},
    facts::{Access, Environment, Limits, Ports, Protocol, Tokens, Welcome},
    fold::{Change, Condition, Path, Put, Rule, Step},
    request::Request,
    template::Template,
    value::{self, Value},
    written::Written,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<String>,
    #[serde(default)]
    aliases: Vec<Spanned<String>>,
    title: Box<str>,
    label: Box<str>,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default)]
    channels: Vec<Box<str>>,
    welcome: Welcome,
    ports: Ports,
    limits: Limits,
    environment: Environment,
    #[serde(default)]
    tokens: Tokens,
    access: Option<Spanned<Access>>,
    #[serde(default)]
    channel_keys: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    event: Vec<Spanned<EventText>>,
    #[serde(default)]
    fold: Vec<Spanned<FoldText>>,
    #[serde(default)]
    copy: Vec<Spanned<CopyText>>,
    #[serde(default)]
    request: Vec<Spanned<RequestText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventText {
    name: Box<str>,
    method: Box<str>,
    rooms: Vec<Spanned<String>>,
    #[serde(default)]
    fields: Vec<Spanned<String>>,
    #[serde(default)]
    arguments: Vec<Box<str>>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FoldText {
    channels: Vec<Spanned<String>>,
    on: Vec<Spanned<String>>,
    #[serde(default)]
    once: bool,
    steps: Vec<Spanned<StepText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepText {
    set: Option<String>,
    merge: Option<String>,
    put: Option<String>,
    count: Option<String>,
    remove: Option<String>,
    drop: Option<String>,
    to: Option<Written>,
    from: Option<Written>,
    value: Option<Written>,
    key: Option<Written>,
    by: Option<Box<str>>,
    of: Option<String>,
    counts: Option<String>,
    newest: Option<Box<str>>,
    max: Option<usize>,
    #[serde(default)]
    fresh: bool,
    #[serde(default)]
    except: Vec<Box<str>>,
    unless: Option<Written>,
    only: Option<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CopyText {
    on: Vec<Spanned<String>>,
    from: Spanned<String>,
    to: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestText {
    event: Box<str>,
    key: Option<Box<str>>,
    #[serde(default)]
    except: Vec<Box<str>>,
    #[serde(default)]
    unless: Vec<Box<str>>,
    documents: Spanned<Written>,
    right: Option<Spanned<String>>,
    #[serde(default)]
    answered_by: AnsweredBy,
    #[serde(default)]
    found_if: Vec<Spanned<Written>>,
    found: Spanned<Written>,
    unknown: Option<Spanned<Written>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AnsweredBy {
    #[default]
    Documents,
    Backend,
}

pub(crate) fn profile(text: &str) -> Result<Profile, ProfileError> {
    if text.len() > TEXT_BYTES_MAX {
        let text = format!("the text has {} bytes, more than {TEXT_BYTES_MAX}", text.len());
        return Err(ProfileError::at("", None, text));
    }
    let file: File = toml::from_str(text)
        .map_err(|error| ProfileError::at(text, error.span(), error.message()))?;
    build(file, text).map_err(|fault| ProfileError::at(text, Some(fault.span), fault.message))
}

fn build(file: File, text: &str) -> Result<Profile, Fault> {
    for name in std::iter::once(&file.name).chain(&file.aliases) {
        service_name(name)?;
    }
    if let Some(access) = &file.access {
        check_access(access)?;
    }
    let events =
        rows(file.event, "events")?.into_iter().map(event).collect::<Result<Vec<_>, _>>()?;
    let mut folds = Vec::new();
    for fold in rows(file.fold, "folds")? {
        folds.push(rule(fold.into_inner(), &events)?);
    }
    let mut copies = Vec::new();
    for copy in rows(file.copy, "copies")? {
        copies.push(copied(copy.into_inner(), &events)?);
    }
    let requests =
        rows(file.request, "requests")?.into_iter().map(request).collect::<Result<Vec<_>, _>>()?;
    let mut channel_keys = Vec::new();
    for (name, channel) in file.channel_keys {
        let template = template(&channel)?;
        if template.member() != Some(name.as_ref().as_str()) {
            return Err(Fault::new(
                channel.span(),
                format!("the channel has no {{{}}}", name.as_ref()),
            ));
        }
        channel_keys.push((name.into_inner().into(), template));
    }
    Ok(Profile {
        name: file.name.into_inner().into(),
        aliases: file.aliases.into_iter().map(|name| name.into_inner().into()).collect(),
        title: file.title,
        label: file.label,
        protocol: file.protocol,
        channels: file.channels,
        welcome: file.welcome,
        ports: file.ports,
        limits: file.limits,
        environment: file.environment,
        tokens: file.tokens,
        access: file.access.map(Spanned::into_inner),
        channel_keys,
        events,
        requests,
        folded: folded(&folds, &copies),
        folds,
        copies,
        text: text.into(),
    })
}

/// Bounds how many of a kind there are.
fn rows<T>(rows: Vec<Spanned<T>>, what: &str) -> Result<Vec<Spanned<T>>, Fault> {
    match rows.get(ROWS_MAX) {
        Some(one) => Err(Fault::new(one.span(), format!("more than {ROWS_MAX} {what}"))),
        None => Ok(rows),
    }
}

fn service_name(name: &Spanned<String>) -> Result<(), Fault> {
    let part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let text = name.as_ref();
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(part) {
        Ok(())
    } else {
        Err(Fault::new(
            name.span(),
            "a service's name is at most 64 lower-case letters, digits and -",
        ))
    }
}

fn check_access(access: &Spanned<Access>) -> Result<(), Fault> {
    let rules = &access.get_ref().rules;
    let wrong = |rule: &&crate::AccessRule| {
        let name = rule.pattern.strip_suffix('*').unwrap_or(&rule.pattern);
        name.contains('*') || rule.pattern.is_empty()
    };
    if rules.len() > RULES_MAX {
        Err(Fault::new(access.span(), format!("more than {RULES_MAX} rules")))
    } else if let Some(rule) = rules.iter().find(wrong) {
        let text = format!(
            "{:?}: a pattern is a channel's name, or the beginning of one followed by *",
            rule.pattern
        );
        Err(Fault::new(access.span(), text))
    } else {
        Ok(())
    }
}

fn knows(events: &[Event], name: &str) -> bool {
    events.iter().any(|event| *event.name == *name)
}

fn template(text: &Spanned<String>) -> Result<Template, Fault> {
    Template::parse(text.as_ref()).ok_or_else(|| {
        Fault::new(
            text.span(),
            format!("{:?}: a channel's name, with one {{name}} in it at most", text.as_ref()),
        )
    })
}

fn event(event: Spanned<EventText>) -> Result<Event, Fault> {
    let event = event.into_inner();
    let rooms = event.rooms.iter().map(template).collect::<Result<Vec<_>, _>>()?;
    let field = |text: &Spanned<String>| {
        Field::parse(text.as_ref()).map_err(|message| Fault::new(text.span(), message))
    };
    let fields = event.fields.iter().map(field).collect::<Result<Vec<_>, _>>()?;
    let is_named = |member: &str| {
        event.more
            || fields.iter().any(|field| *field.name == *member)
            || event.arguments.iter().any(|it| **it == *member)
    };
    for (room, text) in rooms.iter().zip(&event.rooms) {
        if let Some(member) = room.member().filter(|member| !is_named(member)) {
            return Err(Fault::new(
                text.span(),
                format!("{member} is neither a field nor an argument of the event"),
            ));
        }
    }
    Ok(Event {
        name: event.name,
        method: event.method,
        rooms,
        fields,
        arguments: event.arguments,
        more: event.more,
    })
}

/// Names of events that the profile has.
fn known(names: &[Spanned<String>], events: &[Event]) -> Result<Vec<Box<str>>, Fault> {
    match names.iter().find(|name| !knows(events, name.as_ref())) {
        Some(name) => {
            Err(Fault::new(name.span(), format!("no event {:?} in this profile", name.as_ref())))
        }
        None => Ok(names.iter().map(|name| Box::from(name.as_ref().as_str())).collect()),
    }
}

fn copied(copy: CopyText, events: &[Event]) -> Result<Copied, Fault> {
    let on = known(&copy.on, events)?;
    if !copy.to.as_ref().starts_with(INDEX_PREFIX) || copy.to.as_ref().contains(['{', '}']) {
        let text = format!("a copy goes to a channel {INDEX_PREFIX}…, without braces");
        return Err(Fault::new(copy.to.span(), text));
    }
    Ok(Copied { on, from: template(&copy.from)?, to: copy.to.into_inner().into() })
}

/// Every channel that a fold or a copy is about, each once.
fn folded(folds: &[Rule], copies: &[Copied]) -> Vec<Template> {
    let all = folds.iter().flat_map(|rule| &rule.channels);
    let mut found: Vec<Template> = Vec::new();
    for channel in all.chain(copies.iter().map(|copy| &copy.from)) {
        if !found.contains(channel) {
            found.push(channel.clone());
        }
    }
    found
}

fn rule(fold: FoldText, events: &[Event]) -> Result<Rule, Fault> {
    let on = known(&fold.on, events)?;
    let channels = fold.channels.iter().map(template).collect::<Result<_, _>>()?;
    let mut steps = Vec::new();
    for text in rows(fold.steps, "steps")? {
        let span = text.span();
        steps.push(step(text.into_inner()).map_err(|message| Fault::new(span, message))?);
    }
    Ok(Rule { channels, on, once: fold.once, steps })
}

fn step(text: StepText) -> Result<Step, String> {
    let unless = conditions(text.unless.as_ref())?;
    let only = conditions(text.only.as_ref())?;
    let verbs = [&text.set, &text.merge, &text.put, &text.count, &text.remove, &text.drop];
    if verbs.iter().filter(|verb| verb.is_some()).count() != 1 {
        return Err("a step has one of set, merge, put, count, remove, drop".into());
    }
    let value = |value: &Option<Written>, name: &str| {
        let value = Value::parse(value.as_ref().ok_or_else(|| format!("{name} is missing"))?)?;
        let mut documents = Vec::new();
        value.documents(&mut documents);
        match documents.iter().find(|name| ***name != *"document") {
            Some(other) => Err(format!("a fold has one document, \"=document\", and no {other:?}")),
            None => Ok(value),
        }
    };
    let by = || text.by.clone().ok_or_else(|| "by is missing: the entries' key".to_owned());
    let change = if let Some(at) = &text.set {
        Change::Set { at: value::path(at)?, to: value(&text.to, "to")? }
    } else if let Some(at) = &text.merge {
        let at = if at.is_empty() { Path::new() } else { value::path(at)? };
        Change::Merge { at, from: value(&text.from, "from")?, except: text.except.clone() }
    } else if let Some(list) = &text.put {
        let max = text.max.unwrap_or(ENTRIES_DEFAULT);
        if max == 0 || max > ENTRIES_MAX {
            return Err(format!("max is from 1 to {ENTRIES_MAX}"));
        }
        Change::Put(Put {
            list: value::path(list)?,
            by: by()?,
            value: value(&text.value, "value")?,
            max,
            counts: text.counts.as_deref().map(value::path).transpose()?,
            newest: text.newest.clone(),
            fresh: text.fresh,
        })
    } else if let Some(at) = &text.count {
        let of = text.of.as_deref().ok_or("of is missing: the list")?;
        Change::Count { at: value::path(at)?, of: value::path(of)? }
    } else if let Some(list) = &text.remove {
        Change::Remove { list: value::path(list)?, by: by()?, key: value(&text.key, "key")? }
    } else {
        Change::Drop { at: value::path(text.drop.as_deref().unwrap_or_default())? }
    };
    Ok(Step { change, unless, only })
}

fn conditions(table: Option<&Written>) -> Result<Vec<Condition>, String> {
    let Some(table) = table else { return Ok(Vec::new()) };
    let Written::Table(rows) = table else {
        return Err("unless and only are tables: { status = [\"done\"] }".into());
    };
    let condition = |(at, values): &(Box<str>, Written)| {
        let is = match values.list() {
            Some(list) => list.iter().map(Value::parse).collect::<Result<_, _>>()?,
            None => vec![Value::parse(values)?],
        };
        Ok(Condition { at: value::path(at)?, is })
    };
    rows.iter().map(condition).collect()
}

fn request(text: Spanned<RequestText>) -> Result<Request, Fault> {
    let text = text.into_inner();
    let key = text.key.as_deref();
    let fits = |span: Range<usize>, channel: &Template| match channel.member() {
        Some(member) if Some(member) != key => {
            Err(Fault::new(span, format!("{{{member}}} is not the request's key")))
        }
        _ => Ok(()),
    };
    let span = text.documents.span();
    let Written::Table(rows) = text.documents.get_ref() else {
        return Err(Fault::new(span, "documents is a table: { run = \"test:{run_id}\" }"));
    };
    if rows.is_empty() || rows.len() > DOCUMENTS_MAX {
        return Err(Fault::new(span, format!("a request has from 1 to {DOCUMENTS_MAX} documents")));
    }
    let mut documents = Vec::new();
    for (name, channel) in rows {
        let channel = channel.text().and_then(Template::parse).ok_or_else(|| {
            Fault::new(
                span.clone(),
                format!("{name}: a channel's name, with one {{name}} in it at most"),
            )
        })?;
        fits(span.clone(), &channel)?;
        documents.push((name.clone(), channel));
    }
    let right = match &text.right {
        Some(channel) => {
            let found = template(channel)?;
            fits(channel.span(), &found)?;
            Some(found)
        }
        None => None,
    };
    let form = |form: &Spanned<Written>| answer_value(form, &documents);
    let table = |written: &Spanned<Written>| {
        let value = form(written)?;
        if matches!(value, Value::Object(_) | Value::Merge(_)) {
            Ok(value)
        } else {
            Err(Fault::new(written.span(), "an answer is a table"))
        }
    };
    let found = table(&text.found)?;
    let unknown = text.unknown.as_ref().map(table).transpose()?;
    Ok(Request {
        found_if: text.found_if.iter().map(form).collect::<Result<_, _>>()?,
        event: text.event,
        key: text.key,
        except: text.except,
        unless: text.unless,
        documents,
        right,
        by_backend: text.answered_by == AnsweredBy::Backend,
        found,
        unknown,
    })
}

/// A value of an answer, which may look into the request's documents.
fn answer_value(
    written: &Spanned<Written>,
    documents: &[(Box<str>, Template)],
) -> Result<Value, Fault> {
    let wrong = |message: String| Fault::new(written.span(), message);
    let value = Value::parse(written.get_ref()).map_err(wrong)?;
    let mut named = Vec::new();
    value.documents(&mut named);
    match named.iter().find(|name| !documents.iter().any(|(known, _)| known == *name)) {
        Some(name) => Err(wrong(format!("the request has no document {name:?}"))),
        None => Ok(value),
    }
}

/// Channels that the server keeps for itself begin with this.
const INDEX_PREFIX: &str = "system:service:";

/// Rules of a policy: one bit of a mask each.
const RULES_MAX: usize = 64;
