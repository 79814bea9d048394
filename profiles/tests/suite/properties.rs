//! What holds for every service, whatever is published and asked.

use std::sync::Arc;

use mahavishnu_profiles::{Happened, Profile, Question};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::TIME;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Any documents, any data: no panic, a document within its bound, and it is an object.
    #[test]
    fn a_fold_makes_an_object_within_its_bound(
        (profile, event, channel) in happenings(), before in prop::option::of(any_object()), data in any_object(),
        id in "[ab]{0,2}", bytes_max in 0usize..2000,
    ) {
        let happened = Happened { channel: &channel, event: &event, data: &data, id: &id, unix_ms: TIME };
        if let Some(after) = profile.fold(before.as_deref(), &happened, bytes_max) {
            prop_assert!(after.len() <= bytes_max, "{} > {bytes_max}", after.len());
            prop_assert!(serde_json::from_str::<Value>(&after).unwrap().is_object());
            prop_assert!(profile.folds(&channel));
        }
    }

    /// What comes next follows from the document alone: whoever has it goes on as those who saw all events.
    #[test]
    fn a_fold_goes_on_from_any_document(
        service in services(), events in prop::collection::vec((any::<prop::sample::Index>(), any_data()), 0..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let channel_of = |event: &mahavishnu_profiles::Event| event.rooms[0].fill("k");
        let channel = events.first().map(|(event, _)| channel_of(event.get(&service.events)));
        let fold = |mut document: Option<String>, events: &[(prop::sample::Index, String)], from: usize| {
            let mut all = vec![document.clone()];
            for (index, (event, data)) in events.iter().enumerate() {
                let event = event.get(&service.events);
                let id = (from + index).to_string();
                let happened = Happened { channel: channel.as_ref().unwrap(), event: &event.name, data, id: &id, unix_ms: TIME };
                document = service.fold(document.as_deref(), &happened, 3000).or(document);
                all.push(document.clone());
            }
            all
        };
        let whole = fold(None, &events, 0);
        let cut = cut.index(whole.len());
        // As it comes back from a file or another node: written anew by somebody else's JSON would be another text.
        let rest = fold(whole[cut].clone(), &events[cut..], cut);
        prop_assert_eq!(&whole[cut..], &rest[..]);
    }

    /// The same event once more changes nothing, if nothing came between.
    #[test]
    fn an_event_that_comes_twice_in_a_row_counts_once(
        (profile, event, channel) in happenings(), before in prop::option::of(any_object()), data in any_data(),
    ) {
        let happened = Happened { channel: &channel, event: &event, data: &data, id: "1", unix_ms: TIME };
        if let Some(once) = profile.fold(before.as_deref(), &happened, 65_536) {
            let twice = profile.fold(Some(&once), &happened, 65_536);
            prop_assert_eq!(twice, None, "{}", once);
        }
    }

    /// An answer is a JSON object, whatever the documents and the data are.
    #[test]
    fn an_answer_is_an_object(
        service in services(), request in any::<prop::sample::Index>(), data in any_object(), key in "[a-z]{0,3}",
        documents in prop::collection::vec(prop::option::of(any_object()), 0..9),
    ) {
        prop_assume!(!service.requests.is_empty());
        let request = request.get(&service.requests);
        let mut data: Value = serde_json::from_str(&data).unwrap();
        if let Some(name) = &request.key {
            data[&**name] = json!(key);
        }
        let data = data.to_string();
        let texts: Vec<_> = documents.iter().map(Option::as_deref).collect();
        let answer = service.answer(&request.event, &data, &texts, TIME);
        prop_assert!(serde_json::from_str::<Value>(&answer).unwrap().is_object(), "{answer}");
        if let Some(Question::Documents { channels, .. }) = service.question(&request.event, &data) {
            prop_assert!(!channels.is_empty() && channels.len() <= mahavishnu_profiles::DOCUMENTS_MAX);
        }
    }

    /// Texts that are no JSON are no event, no document and no question.
    #[test]
    fn what_is_no_json_changes_nothing(
        (profile, event, channel) in happenings(), text in "\\PC{0,40}",
    ) {
        prop_assume!(!serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object()));
        let happened = Happened { channel: &channel, event: &event, data: &text, id: "", unix_ms: TIME };
        prop_assert_eq!(profile.fold(None, &happened, 1000), None);
        for request in &profile.requests {
            let _ = profile.question(&request.event, &text);
            let answer = profile.answer(&request.event, &text, &[Some(&text)], TIME);
            prop_assert!(serde_json::from_str::<Value>(&answer).unwrap().is_object());
        }
    }

    /// A profile of any text is one or is refused at a line that is there.
    #[test]
    fn any_text_is_a_profile_or_refused_at_a_line(service in services(), at in any::<prop::sample::Index>(), put in "\\PC{0,5}") {
        let text = service.text();
        let places: Vec<_> = text.char_indices().map(|(at, _)| at).collect();
        let at = *at.get(&places);
        let changed = format!("{}{put}{}", &text[..at], &text[at..]);
        if let Err(error) = Profile::parse(&changed) {
            prop_assert!((1..=changed.lines().count()).contains(&error.line()), "{error}");
        }
    }
}

/// Numbers keep every digit that they came with, however often a document is read and written.
#[test]
fn numbers_stay_what_they_were() {
    let profile = Profile::builtin("akosha").unwrap();
    let number = "12345678901234567890.123456789012345678901234567890e-3";
    let mut document: Option<String> = None;
    for n in 0..20 {
        let data = format!(r#"{{"pattern_id":{n},"pattern_type":"t","confidence":{number}}}"#);
        let happened = Happened {
            channel: "patterns:t",
            event: "pattern.detected",
            data: &data,
            id: "",
            unix_ms: TIME,
        };
        document = profile.fold(document.as_deref(), &happened, 65_536);
    }
    assert_eq!(document.unwrap().matches(number).count(), 20);
}

/// Hundreds of thousands of members are nothing to wait for.
#[test]
fn a_large_event_takes_no_long_time() {
    let members: Vec<_> = (0..100_000).map(|n| format!("\"m{n}\":{n}")).collect();
    let data = format!("{{{}}}", members.join(","));
    let profile = Profile::builtin("excalidraw").unwrap();
    let happened = Happened {
        channel: "diagram:d",
        event: "diagram.updated",
        data: &data,
        id: "",
        unix_ms: TIME,
    };
    let after: Value =
        serde_json::from_str(&profile.fold(None, &happened, 65_536).unwrap()).unwrap();
    assert_eq!(after["shed"], json!(100_000 - 128));
    assert_eq!(after["m127"], json!(127));
}

fn services() -> impl Strategy<Value = Arc<Profile>> {
    let all = Profile::builtins().iter().filter(|profile| !profile.events.is_empty()).cloned();
    prop::sample::select(all.collect::<Vec<_>>())
}

/// A service, one of its events, and a channel that it goes to, mostly.
fn happenings() -> impl Strategy<Value = (Arc<Profile>, String, String)> {
    (services(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[a-z:]{0,3}")
        .prop_map(|(profile, event, other, key)| {
            let event = event.get(&profile.events);
            let rooms: Vec<_> = profile.events.iter().flat_map(|event| &event.rooms).collect();
            let own = &event.rooms[0];
            let room = if other.index(4) == 0 { *other.get(&rooms) } else { own };
            let (name, channel) = (event.name.to_string(), room.fill(&key).to_string());
            (profile, name, channel)
        })
}

/// Data that has what folds look for, in any form.
fn any_data() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "stage_name",
        "result",
        "worker_id",
        "status",
        "test_name",
        "error",
        "gate_name",
        "score",
        "pattern_id",
        "user_id",
        "position",
        "state_path",
        "new_value",
        "anomaly_id",
        "timestamp",
        "total_tests",
        "stages",
        "run_ref",
        "quality_gate_report",
        "shed",
        "once",
        "adapter_id",
        "team_id",
        "task",
        "summary",
    ]);
    prop::collection::vec((name, any_json()), 0..8).prop_map(|members| {
        let members: serde_json::Map<_, _> =
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Value::Object(members).to_string()
    })
}

/// Documents that have what folds look for, in any form.
fn any_object() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "stages",
        "workers",
        "status",
        "failed_tests",
        "failures_told",
        "gates",
        "checks",
        "report",
        "patterns",
        "cursors",
        "users",
        "left",
        "values",
        "shed",
        "once",
        "metadata",
        "teams",
        "stages_completed",
        "run_id",
    ]);
    let members = prop::collection::vec((name, any_json()), 0..8);
    (members, any_data()).prop_map(|(members, data)| {
        let mut all: Value = serde_json::from_str(&data).unwrap();
        for (name, value) in members {
            all[name] = value;
        }
        all.to_string()
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
        "\\PC{0,60}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        let name = prop::sample::select(vec![
            "stage_name",
            "worker_id",
            "user_id",
            "passed",
            "state",
            "x",
            "status",
            "changed_at",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..5).prop_map(|members| {
                Value::Object(
                    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                )
            }),
        ]
    })
}
