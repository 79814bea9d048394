//! Texts of profiles: what is refused, and where.

use std::sync::Arc;

use mahavishnu_profiles::Profile;
use serde_json::json;

use crate::world::World;

/// What is wrong with it, put in place of a line of the example; the line, key and a piece of what is said.
#[test]
fn what_is_wrong_is_said_by_line_and_key() {
    let text = example();
    let rows: &[(&str, &str, &str, &str)] = &[
        ("name = \"weather\"", "name = \"Weather\"", "name", "lower-case"),
        ("name = \"weather\"", "name = 7", "name", "invalid type"),
        ("websocket = 8700", "websocket = 70000", "ports.websocket", "u16"),
        ("websocket = 8700", "port = 8700", "ports.port", "unknown field `port`"),
        (
            "rooms = [\"station:{station_id}\"]",
            "rooms = [\"station:{\"]",
            "event.rooms",
            "a channel's name",
        ),
        (
            "rooms = [\"station:{station_id}\"]",
            "rooms = [\"station:{other}\"]",
            "event.rooms",
            "other is neither a field",
        ),
        (
            "fields = [\"station_id\", \"celsius: number\"]",
            "fields = [\"station_id\", \"celsius: degrees\"]",
            "event.fields",
            "a kind is",
        ),
        (
            "on = [\"reading.taken\"]",
            "on = [\"reading.token\"]",
            "fold.on",
            "no event \"reading.token\"",
        ),
        (
            "channels = [\"station:{station_id}\"]",
            "channels = [\"\"]",
            "fold.channels",
            "a channel's name",
        ),
        (
            "  { set = \"station_id\", to = \"@key\" },",
            "  { set = \"station_id\", to = \"@kay\" },",
            "fold.steps",
            "no value @kay",
        ),
        (
            "  { set = \"station_id\", to = \"@key\" },",
            "  { set = \"station_id\" },",
            "fold.steps",
            "to is missing",
        ),
        (
            "  { set = \"station_id\", to = \"@key\" },",
            "  { put = \"a\", set = \"b\", to = 1 },",
            "fold.steps",
            "one of set",
        ),
        (
            "  { set = \"station_id\", to = \"@key\" },",
            "  { put = \"a\", value = \"$\" },",
            "fold.steps",
            "by is missing",
        ),
        (
            "  { set = \"station_id\", to = \"@key\" },",
            "  { put = \"a\", by = \"b\", value = \"$\", max = 5000 },",
            "fold.steps",
            "from 1 to 4096",
        ),
        (
            "  { set = \"station_id\", to = \"@key\" },",
            "  { set = \"a\", to = { _frist = [] } },",
            "fold.steps",
            "no operator _frist",
        ),
        (
            "  { set = \"station_id\", to = \"@key\" },",
            "  { set = \"a b\", to = 1 },",
            "fold.steps",
            "is no name",
        ),
        (
            "  { set = \"station_id\", to = \"@key\" },",
            "  { set = \"a\", to = \"=other.x\" },",
            "fold.steps",
            "one document",
        ),
        (
            "documents = { station = \"station:{station_id}\" }",
            "documents = { station = \"station:{id}\" }",
            "request.documents",
            "{id} is not the request's key",
        ),
        (
            "documents = { station = \"station:{station_id}\" }",
            "documents = {}",
            "request.documents",
            "from 1 to 8",
        ),
        (
            "celsius = \"=station.celsius\"",
            "celsius = \"=stations.celsius\"",
            "request.found",
            "no document \"stations\"",
        ),
        ("pattern = \"station:*\"", "pattern = \"*:station\"", "access", "a pattern is"),
        ("prefix = \"WEATHER\"", "", "environment", "missing field `prefix`"),
    ];
    for (line, wrong, key, said) in rows {
        assert_eq!(text.matches(line).count(), 1, "{line}");
        let number = 1 + text[..text.find(line).unwrap()].matches('\n').count();
        let error = Profile::parse(&text.replace(line, wrong)).expect_err(wrong);
        assert!(error.key().starts_with(key), "{wrong}: {error}");
        assert!(error.message().contains(said), "{wrong}: {error}");
        // A table that lacks something is told by its beginning, as is one whose rules are wrong.
        assert!(
            error.line() <= number + 1 && error.line() + 12 >= number,
            "{wrong}: line {number}: {error}"
        );
        assert!(error.to_string().starts_with(&format!(
            "line {}: {}: ",
            error.line(),
            error.key()
        )));
    }
}

/// What docs/services.md shows of it.
#[test]
fn the_document_shows_what_is_said() {
    let wrong = example().replace("on = [\"reading.taken\"]", "on = [\"reading.token\"]");
    let said = format!("`{}`", Profile::parse(&wrong).unwrap_err());
    assert!(include_str!("../../../docs/services.md").contains(&said), "{said}");
}

#[test]
fn the_example_of_the_document_answers() {
    let mut world = World::of(Arc::new(Profile::parse(&example()).unwrap()));
    let ask = |world: &World| world.asked("get_weather", &json!({"station_id": "oslo"}));
    assert_eq!(ask(&world), r#"{"station_id":"oslo","status":"unknown"}"#);
    let rooms = world.tell("reading.taken", json!({"station_id": "oslo", "celsius": -3.5}));
    assert_eq!(rooms, ["station:oslo".into()]);
    world.tell("reading_taken", json!({"station_id": "oslo", "celsius": -4}));
    assert_eq!(ask(&world), r#"{"station_id":"oslo","celsius":-4,"readings":2}"#);
}

#[test]
fn a_text_that_is_too_long_or_has_too_much_is_refused() {
    let long = format!("{}#{}", example(), "x".repeat(mahavishnu_profiles::TEXT_BYTES_MAX));
    assert!(Profile::parse(&long).unwrap_err().message().contains("more than 262144"));
    let many = "[[event]]\nname = \"e\"\nmethod = \"e\"\nrooms = [\"r\"]\n".repeat(257);
    let error = Profile::parse(&format!("{}\n{many}", example())).unwrap_err();
    assert_eq!((error.key(), error.message()), ("event", "more than 256 events"));
}

/// The example of docs/services.md.
fn example() -> String {
    let document = include_str!("../../../docs/services.md");
    let (_, rest) = document.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}
