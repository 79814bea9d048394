//! Documents that follow from events: in the end the document of each channel is what its messages make of it, on every node, and
//! no message is in it twice or not at all (`fold`).

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use mahavishnu_core::hub::{Command, CommandId, Look};
use mahavishnu_profiles::Profile;
use serde_json::Value;

use super::world::World;
use crate::{clock::SECOND, swarm::channel_name};

/// A document tells how many messages it was made of, and which the last ones were. All channels are gathered in one of the
/// server's own, so that all nodes race for its document.
pub(super) static PROFILE: LazyLock<Arc<Profile>> = LazyLock::new(|| {
    let mut text = String::from(HEAD);
    for (beginning, copied) in [("open:{id}", true), ("secret:{id}", true), (GATHERED, false)] {
        text += &format!(
            r#"
[[fold]]
channels = ["{beginning}"]
on = ["e"]
steps = [{{ put = "last", by = "k", value = {{ k = {{ _first = ["=document.total", 0] }}, n = "$n" }}, max = 32, counts = "total" }}]
"#
        );
        if copied {
            text +=
                &format!("[[copy]]\non = [\"e\"]\nfrom = \"{beginning}\"\nto = \"{GATHERED}\"\n");
        }
    }
    Arc::new(Profile::parse(&text).expect("a profile"))
});

const HEAD: &str = r#"
name = "sim"
title = "Simulated"
label = "sim"
[welcome]
server = "sim"
message = "Connected to a simulation"
[ports]
websocket = 8686
metrics = 9091
[limits]
connections_max = 1000
messages_per_second = 1000
[environment]
prefix = "SIM"
[[event]]
name = "e"
method = "e"
rooms = ["open:{c}"]
fields = ["c: number", "n: number", "x"]
"#;

const GATHERED: &str = "system:service:all";

/// What the application has asked of each node and channel: its messages, and its document.
pub(super) type Looked = BTreeMap<u64, Value>;

impl World {
    pub(super) fn compare_documents(&mut self) {
        if self.options.folds == 0 || self.oracle.violation.is_some() {
            return;
        }
        let names = (0..self.options.channels).map(channel_name);
        let names: Vec<String> = names.chain([GATHERED.to_owned()]).collect();
        for _ in 0..TRIES {
            self.looked.clear();
            let asked: Vec<(usize, usize)> = (0..self.nodes.len())
                .flat_map(|node| (0..names.len()).map(move |name| (node, name)))
                .collect();
            for (node, name) in &asked {
                let first = ((node * names.len() + name) * 2) as u64;
                let history = Look::History { limit: 1_000, after: None, before: None };
                for (id, look) in [(first, history), (first + 1, Look::State)] {
                    let (id, channel) = (CommandId(id), names[*name].as_str().into());
                    self.command(*node, 0, Command::Look { id, channel, look });
                }
            }
            self.run_until(self.clock.nanos + 10 * SECOND);
            // Where a node cannot say at present it is asked again.
            let known = self.looked.values().filter(|answer| !answer.is_null());
            if known.count() == 2 * asked.len() {
                return self.check_documents(&names);
            }
        }
        self.oracle.fail("fold", || "nodes do not say what documents there are".into());
    }

    fn check_documents(&mut self, names: &[String]) {
        let looked = std::mem::take(&mut self.looked);
        for (id, history) in looked.iter().filter(|(id, _)| *id % 2 == 0) {
            let (history, answer) = (history, &looked[&(id + 1)]);
            let name = &names[(*id as usize / 2) % names.len()];
            let number = |value: &Value| value.as_u64().unwrap_or_default();
            let told = |entries: &Value, of: fn(&Value) -> &Value| -> Vec<u64> {
                let entries = entries.as_array().map(Vec::as_slice).unwrap_or_default();
                entries.iter().map(|entry| number(of(entry))).collect()
            };
            let events = told(&history["events"], |event| &event["data"]["n"]);
            let document = &answer["state"];
            let folded = told(&document["last"], |entry| &entry["n"]);
            let same =
                folded.iter().rev().zip(events.iter().rev()).all(|(one, other)| one == other);
            let (top, total) = (number(&history["offset"]), number(&document["total"]));
            // What Redis has lost may have been in one of them and not in the other.
            let complete = self.oracle.loses_data || total == top && answer["offset"] == top;
            let missing = events.is_empty() != folded.is_empty() && !self.oracle.loses_data;
            if !same || !complete || missing {
                self.oracle.fail("fold", || {
                    format!(
                        "{name} on node {}: {top} messages, the last {events:?}; document {answer}",
                        *id as usize / 2 / names.len()
                    )
                });
            }
        }
    }
}

/// Of ten seconds each.
const TRIES: usize = 12;
