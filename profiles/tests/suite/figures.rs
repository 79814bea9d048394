//! No answer says what nobody told: each of its figures came with an event or counts what did, and each of its texts came
//! with an event, is the key, a time, or a word of the profile.

use mahavishnu_profiles::{FieldKind, Profile};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::world::World;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_says_only_what_was_told(
        service in 0usize..6,
        events in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 0..25),
    ) {
        let profile = &Profile::builtins()[service];
        let mut world = World::of(profile.clone());
        let mut told = Said::default();
        for (event, mut bits) in events.iter().cloned() {
            let event = event.get(&profile.events);
            let arguments = arguments(event, &mut bits);
            told.take(&arguments);
            world.tell(&event.name, arguments);
        }
        for request in &profile.requests {
            let data = request.key.as_ref().map_or_else(|| json!({}), |key| json!({ &**key: KEY }));
            let answer = world.ask(&request.event, data);
            let mut said = Said::default();
            said.take(&answer);
            for figure in said.figures {
                let is_count = figure.as_u64().is_some_and(|count| count <= events.len() as u64);
                prop_assert!(is_count || told.figures.contains(&figure), "{} says {figure}: {answer}", request.event);
            }
            for text in said.texts {
                let is_known = told.texts.contains(&text)
                    || text == KEY
                    || text.starts_with("2026-11-30T12:00:00.")
                    || profile.text().contains(&format!("\"{text}\""));
                prop_assert!(is_known, "{} says {text:?}: {answer}", request.event);
            }
            // What is true or false was told so, or follows from states that were told.
            if !told.texts.iter().any(|text| text == "passed" || text == "failed") {
                prop_assert!(said.truths.iter().all(|truth| told.truths.contains(truth)), "{}: {answer}", request.event);
            }
        }
    }
}

/// Arguments of an event about the one thing that is asked about, with figures that no count reaches.
fn arguments(event: &mahavishnu_profiles::Event, bits: &mut u64) -> Value {
    let mut draw = |below: u64| {
        *bits =
            bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*bits >> 33) % below
    };
    let mut arguments = Map::new();
    for field in &event.fields {
        let is_key = event.rooms.iter().any(|room| room.member() == Some(&*field.name));
        if is_key {
            arguments.insert(field.name.to_string(), json!(KEY));
            continue;
        }
        if !field.required && draw(2) == 0 {
            continue;
        }
        let figure = 1000 + draw(1_000_000);
        let value = match &field.kind {
            FieldKind::Text(_) | FieldKind::Id(_) if &*field.name == "status" => {
                json!(["passed", "failed", "skipped", "busy"][draw(4) as usize])
            }
            FieldKind::Text(_) | FieldKind::Id(_) => json!(format!("told {}", draw(4))),
            FieldKind::Number(_) => json!(figure),
            FieldKind::Boolean => json!(draw(2) == 0),
            FieldKind::Object(_) => json!({ "state": format!("told {figure}"), "figure": figure }),
            FieldKind::List => json!([figure]),
            FieldKind::Any => json!({ "figure": figure }),
        };
        arguments.insert(field.name.to_string(), value);
    }
    if event.more && draw(2) == 0 {
        arguments.insert("total_stages".to_owned(), json!(1000 + draw(1000)));
    }
    Value::Object(arguments)
}

/// The figures, texts and truths of a value, wherever they stand in it.
#[derive(Default)]
struct Said {
    figures: Vec<serde_json::Number>,
    texts: Vec<String>,
    truths: Vec<bool>,
}

impl Said {
    fn take(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(truth) => self.truths.push(*truth),
            Value::Number(figure) => self.figures.push(figure.clone()),
            Value::String(text) => self.texts.push(text.clone()),
            Value::Array(list) => list.iter().for_each(|value| self.take(value)),
            Value::Object(members) => members.values().for_each(|value| self.take(value)),
        }
    }
}

/// The thing that every event is about.
const KEY: &str = "k";
