//! Profiles: texts that somebody wrote, and services to which anything is published.
//!
//! A first byte that is even: what follows is a profile's text. Odd: it is a script of events for one of the services that
//! are built in, with questions between.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use mahavishnu_profiles::{DOCUMENTS_MAX, Happened, Profile, Question};

/// Input: see above.
pub fn run(input: &[u8]) {
    match input.split_first() {
        Some((how, rest)) if how % 2 == 0 => {
            if let Ok(text) = std::str::from_utf8(rest) {
                read(text);
            }
        }
        Some((_, rest)) => {
            let Ok(script) = Script::arbitrary(&mut Unstructured::new(rest)) else { return };
            let all = Profile::builtins();
            let service = &all[usize::from(script.service) % all.len()];
            tell(service, &script.steps, 64 + usize::from(script.bytes_max));
        }
        None => {}
    }
}

#[derive(Debug, Arbitrary)]
struct Script {
    service: u8,
    bytes_max: u16,
    steps: Vec<Step>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    /// One of the service's events, in one of its rooms, with any data.
    Tell {
        event: u8,
        room: u8,
        key: u8,
        data: Data,
        id: u8,
        unix_ms: u64,
    },
    /// The channel's document is somebody's own from now on.
    Set {
        room: u8,
        key: u8,
        document: String,
    },
    Ask {
        request: u8,
        key: u8,
        data: Data,
    },
}

#[derive(Debug, Arbitrary)]
enum Data {
    /// Any text.
    Any(String),
    /// An object whose members are those of one of the service's events.
    Fields { event: u8, values: Vec<Member> },
}

#[derive(Debug, Arbitrary)]
enum Member {
    Text(String),
    Number(i64),
    Truth(bool),
    Null,
    Inner(Vec<u8>),
}

/// A text is a profile, which takes what its own events say, or is refused at a line that it has.
fn read(text: &str) {
    match Profile::parse(text) {
        Ok(profile) => {
            assert_eq!(profile.text(), text);
            let rooms = profile.events.iter().map(|event| event.rooms.len()).sum::<usize>().min(32);
            let fields = |event| Data::Fields {
                event,
                values: vec![Member::Text("a".into()), Member::Number(1)],
            };
            let steps: Vec<_> = (0..rooms as u8)
                .flat_map(|n| {
                    let tell = Step::Tell {
                        event: n,
                        room: n,
                        key: 1,
                        data: fields(n),
                        id: n,
                        unix_ms: 1,
                    };
                    [tell, Step::Ask { request: n, key: 1, data: fields(n) }]
                })
                .collect();
            tell(&profile, &steps, 4096);
        }
        Err(error) => {
            assert!(
                error.line() >= 1 && error.line() <= text.lines().count().max(1) + 1,
                "{error}"
            );
            assert!(!error.message().contains('\n'), "{error}");
        }
    }
}

fn tell(profile: &Profile, steps: &[Step], bytes_max: usize) {
    let mut documents: BTreeMap<Box<str>, String> = BTreeMap::new();
    let rooms: Vec<_> = profile.events.iter().flat_map(|event| &event.rooms).collect();
    for step in steps {
        match step {
            Step::Tell { event, room, key, data, id, unix_ms } if !rooms.is_empty() => {
                let event = &profile.events[usize::from(*event) % profile.events.len()];
                let channel = rooms[usize::from(*room) % rooms.len()].fill(&key.to_string());
                let (data, id) = (data.written(profile), id.to_string());
                let copies = profile.copies(&channel, &event.name).map(Box::from);
                for channel in
                    std::iter::once(channel.clone()).chain(copies).collect::<Vec<Box<str>>>()
                {
                    let happened = Happened {
                        channel: &channel,
                        event: &event.name,
                        data: &data,
                        id: &id,
                        unix_ms: *unix_ms,
                    };
                    let before = documents.get(&channel).cloned();
                    if let Some(after) = fold(profile, before.as_deref(), &happened, bytes_max) {
                        documents.insert(channel, after);
                    }
                }
                if let Ok(broadcast) = event.broadcast(&data, *unix_ms) {
                    assert!(!broadcast.channels.is_empty());
                    object(&broadcast.data);
                }
            }
            Step::Set { room, key, document } if !rooms.is_empty() => {
                let channel = rooms[usize::from(*room) % rooms.len()].fill(&key.to_string());
                documents.insert(channel, document.clone());
            }
            Step::Ask { request, key, data } if !profile.requests.is_empty() => {
                let request = &profile.requests[usize::from(*request) % profile.requests.len()];
                ask(
                    profile,
                    request,
                    &data.with(profile, request.key.as_deref(), *key),
                    &documents,
                );
            }
            Step::Tell { .. } | Step::Set { .. } | Step::Ask { .. } => {}
        }
    }
}

/// One fold: an object within its bound, in a channel that the quick look knows.
fn fold(
    profile: &Profile,
    before: Option<&str>,
    happened: &Happened<'_>,
    bytes_max: usize,
) -> Option<String> {
    let after = profile.fold(before, happened, bytes_max)?;
    assert!(after.len() <= bytes_max, "{} bytes of {bytes_max}", after.len());
    assert!(profile.folds(happened.channel));
    object(&after);
    Some(after)
}

fn ask(
    profile: &Profile,
    request: &mahavishnu_profiles::Request,
    data: &str,
    documents: &BTreeMap<Box<str>, String>,
) {
    let mut known = Vec::new();
    if let Some(Question::Documents { channels, .. }) = profile.question(&request.event, data) {
        assert!(!channels.is_empty() && channels.len() <= DOCUMENTS_MAX);
        known.extend(channels.iter().map(|channel| documents.get(channel).map(String::as_str)));
    }
    object(&profile.answer(&request.event, data, &known, 1));
}

fn object(text: &str) {
    let value: &serde_json::value::RawValue =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(value.get().starts_with('{'), "{text}");
}

impl Data {
    fn written(&self, profile: &Profile) -> String {
        self.with(profile, None, 0)
    }

    fn with(&self, profile: &Profile, key: Option<&str>, value: u8) -> String {
        let (event, values) = match self {
            Self::Any(text) => return text.clone(),
            Self::Fields { event, values } => (event, values),
        };
        let mut members = serde_json::Map::new();
        if !profile.events.is_empty() {
            let event = &profile.events[usize::from(*event) % profile.events.len()];
            for (field, value) in event.fields.iter().zip(values) {
                members.insert(field.name.to_string(), value.json());
            }
        }
        if let Some(key) = key {
            members.insert(key.to_owned(), value.to_string().into());
        }
        serde_json::Value::Object(members).to_string()
    }
}

impl Member {
    fn json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Number(number) => (*number).into(),
            Self::Truth(truth) => (*truth).into(),
            Self::Null => serde_json::Value::Null,
            Self::Inner(bytes) => {
                bytes.iter().map(|byte| serde_json::json!({ "status": byte })).collect()
            }
        }
    }
}
