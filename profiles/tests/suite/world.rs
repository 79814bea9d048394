//! Documents by channel, as a server keeps them.

use std::{collections::BTreeMap, sync::Arc};

use mahavishnu_profiles::{Happened, Profile, Question};
use serde_json::Value;

/// A service, and what its events have made.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) profile: Arc<Profile>,
    pub(crate) documents: BTreeMap<Box<str>, String>,
    bytes_max: usize,
    published: u64,
}

impl World {
    pub(crate) fn new(service: &str) -> Self {
        Self::of(Profile::builtin(service).unwrap())
    }

    pub(crate) fn of(profile: Arc<Profile>) -> Self {
        Self { profile, documents: BTreeMap::new(), bytes_max: 65_536, published: 0 }
    }

    pub(crate) fn with_bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// Publishes a broadcast as the service's back-end would, and returns its channels.
    pub(crate) fn tell(&mut self, event: &str, arguments: Value) -> Vec<Box<str>> {
        let profile = Arc::clone(&self.profile);
        let event = profile.event(event).unwrap_or_else(|| panic!("no event {event}"));
        let broadcast = event
            .broadcast(&arguments.to_string(), TIME + self.published)
            .unwrap_or_else(|error| panic!("{}: {error}", event.name));
        self.published += 1;
        let id = format!("m{}", self.published);
        for channel in &broadcast.channels {
            self.publish(channel, &event.name, &broadcast.data, &id);
        }
        broadcast.channels
    }

    /// Publishes any message to a channel, and to those that get it too.
    pub(crate) fn publish(&mut self, channel: &str, event: &str, data: &str, id: &str) {
        let profile = Arc::clone(&self.profile);
        let unix_ms = TIME + self.published;
        for channel in std::iter::once(channel).chain(profile.copies(channel, event)) {
            let before = self.documents.get(channel).map(String::as_str);
            let happened = Happened { channel, event, data, id, unix_ms };
            if let Some(after) = profile.fold(before, &happened, self.bytes_max) {
                assert!(profile.folds(channel), "{channel}: the quick look said no");
                self.documents.insert(channel.into(), after);
            }
        }
    }

    /// The answer to a request, as text.
    pub(crate) fn asked(&self, event: &str, data: &Value) -> String {
        let data = data.to_string();
        let question = self.profile.question(event, &data);
        let Some(Question::Documents { channels, .. }) = question else {
            panic!("{event}: {question:?}")
        };
        let document = |channel: &str| self.documents.get(channel).map(String::as_str);
        let documents: Vec<_> = channels.iter().map(|channel| document(channel)).collect();
        self.profile.answer(event, &data, &documents, TIME)
    }

    pub(crate) fn ask(&self, event: &str, data: Value) -> Value {
        serde_json::from_str(&self.asked(event, &data)).unwrap()
    }

    pub(crate) fn document(&self, channel: &str) -> Value {
        self.documents.get(channel).map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
    }
}

/// 2026-11-30T12:00:00Z.
pub(crate) const TIME: u64 = 1_796_040_000_000;
