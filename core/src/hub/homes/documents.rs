//! Channels' documents: what a channel is about, as its last message that carried one left it.

use bytes::Bytes;

use super::{Broadcast, Broadcasted, Homes, history::begin_answer};
use crate::{
    hub::{env::Env, store::StoredState, types::PublicationOptions},
    protocol::{Condition, Stamp},
};

/// A channel's document.
#[derive(Debug)]
pub(super) struct Document {
    /// Number of the message that it came with.
    offset: u64,
    /// A JSON object, as text.
    json: Bytes,
}

/// How many documents there are, and what they count for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Documents {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

impl Document {
    pub(super) fn new(offset: u64, json: Bytes) -> Self {
        Self { offset, json }
    }

    pub(super) fn json(&self) -> &Bytes {
        &self.json
    }

    /// Number of the message that it came with.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// What it counts for.
    pub(super) fn weight(&self) -> usize {
        DOCUMENT_BYTES + self.json.len()
    }
}

impl Homes {
    /// Whether the channel's document is the one that a publish asks for.
    pub(in crate::hub) fn holds(&self, channel: &str, condition: &Condition) -> bool {
        let index = self.names.get(channel);
        let home = index.and_then(|index| self.slots.get(*index));
        let document = home.and_then(|home| home.document.as_ref());
        let epoch = home.map(|home| home.log.epoch);
        document.map_or(0, |document| document.offset) == condition.offset
            && condition.epoch.is_none_or(|wanted| Some(wanted) == epoch)
    }

    /// Adds a broadcast to its channel's round, and keeps the document that it carries.
    #[cold]
    pub(in crate::hub) fn broadcast_with(
        &mut self,
        env: &mut Env,
        broadcast: Broadcast<'_>,
        options: &PublicationOptions,
        stamp: Option<Stamp<'_>>,
    ) -> Broadcasted {
        let channel = broadcast.channel;
        if options.state.is_some() && !self.names.contains_key(channel) {
            // A document is kept whether messages are or not.
            self.found(env, &channel.into());
        }
        let done = self.broadcast_at(env, broadcast, stamp);
        if let Some(parent) = options.traceparent
            && done.published.subscribers > 0
            && let Some(&index) = self.names.get(channel)
            && let Some(home) = self.slots.get_mut(index)
        {
            home.note_trace(parent);
        }
        if let Some(json) = &options.state {
            let document = Document { offset: done.published.offset, json: json.clone() };
            self.set_document(env, channel, document);
        }
        done
    }

    /// The document that an earlier run has kept.
    pub(super) fn restore_document(&mut self, env: &mut Env, channel: &str, state: StoredState) {
        let StoredState { offset, document: json } = state;
        self.set_document(env, channel, Document { offset, json });
    }

    pub(super) fn set_document(&mut self, env: &mut Env, channel: &str, document: Document) {
        let Some(&index) = self.names.get(channel) else { return };
        self.drop_document(index);
        let Some(home) = self.slots.get_mut(index) else { return };
        let weight = document.weight();
        self.kept_bytes += weight;
        self.documents.count += 1;
        self.documents.bytes += weight;
        home.document = Some(Box::new(document));
        if home.subscribers() > 0 {
            self.review(env, index);
        }
        self.make_room(env);
    }

    /// The channel has no document from now on.
    pub(super) fn drop_document(&mut self, index: u32) {
        let Some(home) = self.slots.get_mut(index) else { return };
        if let Some(document) = home.document.take() {
            let weight = document.weight();
            self.kept_bytes -= weight;
            self.documents.count -= 1;
            self.documents.bytes -= weight;
        }
    }

    /// The end of a turn: metrics learn by how much there are more documents.
    pub(super) fn tell_documents(&mut self, env: &mut Env) {
        let told = std::mem::replace(&mut self.documents_told, self.documents);
        if told != self.documents {
            let change = |now: usize, before: usize| now as i64 - before as i64;
            env.tally.documents += change(self.documents.count, told.count);
            env.tally.document_bytes += change(self.documents.bytes, told.bytes);
        }
    }

    /// The answer to `get_state`. Who asks is told a position, so that a channel of which something is kept is founded by that.
    pub(in crate::hub) fn state(&mut self, env: &mut Env, channel: &str) -> Box<str> {
        let index = match self.names.get(channel) {
            Some(&index) => Some(index),
            None => self.found_unheard(env, channel),
        };
        if let Some(home) = index.and_then(|index| self.slots.get_mut(index)) {
            home.told = true;
        }
        if let Some(index) = index {
            self.review(env, index);
        }
        let home = index.and_then(|index| self.slots.get(index));
        let document = home.and_then(|home| home.document.as_ref());
        let mut json = Vec::with_capacity(128 + document.map_or(0, |found| found.json.len()));
        let offset = document.map_or(0, |document| document.offset);
        begin_answer(&mut json, channel, home, offset);
        json.extend_from_slice(b",\"state\":");
        json.extend_from_slice(document.map_or(b"null", |document| &document.json));
        json.push(b'}');
        self.make_room(env);
        String::from_utf8(json).unwrap_or_default().into()
    }
}

/// Memory of a document besides its text, with what the allocator adds.
const DOCUMENT_BYTES: usize = 128;
