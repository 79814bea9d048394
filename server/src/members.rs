//! Events in a service's own way: which channels and which data an event's members make, for `publish --service`.

use std::{
    ffi::OsString,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::CommandFactory;
use mahavishnu_profiles::{Event, FieldKind, Profile};
use serde_json::{Map, Value};

use crate::{
    cli::Cli,
    exit::{Exit, Failure},
    settings,
};

/// Has `publish --service S EVENT --run-id 7` say `--field run_id=7`: flags that the command does not have are members of the
/// event. Other commands, and `publish` without a service, stay as they are.
pub(crate) fn as_fields(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let named = |word: &OsString| {
        word.to_str().is_some_and(|word| word == "--service" || word.starts_with("--service="))
    };
    if words.get(1).is_none_or(|word| word != "publish") || !words.iter().any(named) {
        return words;
    }
    let command = Cli::command();
    let publish = command.find_subcommand("publish");
    let known: Vec<_> = publish.into_iter().flat_map(|publish| publish.get_arguments()).collect();
    let takes = |name: &str| {
        let flag = known.iter().find(|argument| argument.get_long() == Some(name))?;
        Some(flag.get_action().takes_values())
    };
    let mut told = words.drain(2..).collect::<Vec<_>>().into_iter();
    while let Some(word) = told.next() {
        let flag = word.to_str().and_then(|word| word.strip_prefix("--"));
        let (name, value) = match flag.map(|flag| flag.split_once('=')) {
            Some(Some((name, value))) => (name, Some(value.to_owned())),
            Some(None) => (flag.unwrap_or_default(), None),
            None => ("", None),
        };
        match takes(name) {
            _ if name.is_empty() => words.push(word),
            Some(takes) => {
                let next = if takes && value.is_none() { told.next() } else { None };
                words.push(word);
                words.extend(next);
            }
            None if matches!(name, "help" | "version") => words.push(word),
            None => {
                let name = name.replace('-', "_");
                let next =
                    value.or_else(|| told.next().map(|it| it.to_string_lossy().into_owned()));
                words.push("--field".into());
                // Without a value it is what clap complains about.
                words.push(match next {
                    Some(value) => format!("{name}={value}").into(),
                    None => name.into(),
                });
            }
        }
    }
    words
}

/// What is to be published.
#[derive(Debug)]
pub(crate) struct Told {
    /// The event's name.
    pub(crate) event: Box<str>,
    /// Where, at least one.
    pub(crate) channels: Vec<Box<str>>,
    /// A JSON object.
    pub(crate) data: String,
}

/// Makes the event `event` of a service from its members: those of `data`, a JSON object, and before them `fields`.
pub(crate) fn event(
    service: &str,
    event: &str,
    data: &str,
    fields: &[String],
) -> Result<Told, Failure> {
    let profile = profile(service)?;
    let wrong = |why: String| Failure::new(Exit::General, why);
    let kind = profile.event(event).ok_or_else(|| {
        let all: Vec<_> = profile.events.iter().map(|event| &*event.name).collect();
        wrong(format!("{} has no event {event:?}: it has {}", profile.name, all.join(", ")))
    })?;
    let mut members: Map<String, Value> = serde_json::from_str(data)
        .map_err(|error| wrong(format!("DATA is not a JSON object: {error}")))?;
    for field in fields {
        let (name, text) = field
            .split_once('=')
            .ok_or_else(|| wrong(format!("--field {field:?}: it wants NAME=VALUE")))?;
        members.insert(name.to_owned(), value(kind, name, text));
    }
    let arguments = Value::Object(members).to_string();
    let broadcast = kind.broadcast(&arguments, now_ms());
    let broadcast = broadcast.map_err(|error| wrong(format!("{}: {error}", described(kind))))?;
    Ok(Told { event: kind.name.clone(), channels: broadcast.channels, data: broadcast.data })
}

/// A service of the family, or of a file.
fn profile(said: &str) -> Result<std::sync::Arc<Profile>, Failure> {
    settings::profile(said, Path::new("."), "--service")?.ok_or_else(|| {
        let all: Vec<_> = Profile::builtins().iter().map(|profile| &*profile.name).collect();
        let why = format!("no service {said:?}: {}, or a file", all.join(", "));
        Failure::new(Exit::Configuration, why)
    })
}

/// A member as it was typed: a text where the event wants one, else JSON, else a text.
fn value(event: &Event, name: &str, text: &str) -> Value {
    let field = event.fields.iter().find(|field| *field.name == *name);
    let as_text = match field.map(|field| &field.kind) {
        Some(FieldKind::Text(_) | FieldKind::Id(_)) => true,
        Some(_) => false,
        None => event.arguments.iter().any(|argument| **argument == *name),
    };
    let json = if as_text { None } else { serde_json::from_str(text).ok() };
    json.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// `test.completed (run_id, tests_completed: number)`.
fn described(event: &Event) -> String {
    let fields = event.fields.iter().map(|field| match (&field.kind, field.required) {
        (FieldKind::Text(_), true) => field.name.to_string(),
        (FieldKind::Text(_), false) => format!("{}?", field.name),
        (kind, required) => format!("{}{}: {kind}", field.name, if required { "" } else { "?" }),
    });
    let arguments = event.arguments.iter().map(|argument| format!("{argument}?"));
    let mut all: Vec<_> = fields.chain(arguments).collect();
    all.extend(event.more.then(|| "…".to_owned()));
    format!("{} ({})", event.name, all.join(", "))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rewritten(line: &str) -> String {
        let words = line.split(' ').map(OsString::from);
        let words = as_fields(words).into_iter().map(|word| word.into_string().unwrap());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn flags_of_no_command_are_members() {
        assert_eq!(
            rewritten(
                "m publish --service crackerjack test.failed --run-id 7 --json --error=-- --token t"
            ),
            "m publish --service crackerjack test.failed --field run_id=7 --json --field error=-- --token t"
        );
        assert_eq!(
            rewritten("m publish --token --run-id --service=x e --last"),
            "m publish --token --run-id --service=x e --field last"
        );
        for line in [
            "m publish c e --run-id 7",
            "m publish --service x --help",
            "m subscribe --service 1 --x y",
            "m",
        ] {
            assert_eq!(rewritten(line), line);
        }
    }

    #[test]
    fn members_are_what_the_event_wants() {
        let fields = ["run_id=7", "tests_completed=3", "tests_failed=0", "duration_seconds=1.50"];
        let fields = fields.map(str::to_owned);
        let told = event("crackerjack", "test_completed", "{}", &fields).unwrap();
        assert_eq!((&*told.event, told.channels), ("test.completed", vec!["test:7".into()]));
        let mut data: Value = serde_json::from_str(&told.data).unwrap();
        assert!(data.as_object_mut().unwrap().remove("timestamp").is_some());
        assert_eq!(
            data,
            json!({ "run_id": "7", "tests_completed": 3, "tests_failed": 0, "duration_seconds": 1.50 })
        );

        let fields =
            ["workflow_id=1", "name=\"a\"", "plan={\"n\":1}", "note=so it is"].map(str::to_owned);
        let told =
            event("mahavishnu", "workflow.started", r#"{"workflow_id":2,"by":"me"}"#, &fields)
                .unwrap();
        let data: Value = serde_json::from_str(&told.data).unwrap();
        let member = |name: &str| data.get(name).cloned().unwrap();
        assert_eq!(member("workflow_id"), "1");
        assert_eq!((member("by"), member("name")), ("me".into(), "a".into()));
        assert_eq!((member("plan"), member("note")), (json!({ "n": 1 }), "so it is".into()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |service: &str, name: &str, fields: &[&str]| {
            let fields: Vec<_> = fields.iter().map(|field| (*field).to_owned()).collect();
            event(service, name, "{}", &fields).unwrap_err().to_string()
        };
        assert!(said("nobody", "e", &[]).contains("no service \"nobody\": "));
        assert!(said("./none.toml", "e", &[]).contains("none.toml"));
        assert!(
            said("akosha", "e", &[]).contains("akosha has no event \"e\": it has pattern.detected")
        );
        assert!(said("akosha", "pattern.detected", &["x"]).contains("NAME=VALUE"));
        let missing = said("crackerjack", "test.started", &["run_id=1", "total_tests=many"]);
        assert!(
            missing.contains(
                "test.started (run_id, test_suite, total_tests: number): test_suite is missing"
            ),
            "{missing}"
        );
    }
}
