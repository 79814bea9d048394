//! The tables of the documents are what the program says: this compares them, and rewrites them if asked to.
//!
//! `UPDATE_DOCS=1 cargo test -p mahavishnu docs` writes them anew.

use std::{collections::BTreeMap, path::Path};

use mahavishnu_core::{
    metrics::{FAMILIES, Type},
    reason::{Counted, Reason},
};
use mahavishnu_profiles::{Event, FieldKind, Profile};

/// The document is about builds with all runtimes: the default of one is another without it.
#[test]
#[cfg(feature = "tokio")]
fn the_document_of_variables_is_up_to_date() {
    let table = crate::support::Place::new().run("config docs").expect(0).out;
    compare("docs/configuration.md", "variables", &table);
}

#[test]
fn the_document_of_reasons_is_up_to_date() {
    let mut table = String::from(
        "| Reason | Close | HTTP | `error_code` | Counted as | Retry | Text | When |\n|---|---|---|---|---|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let row = reason.row();
        let number = |number: Option<u16>| number.map_or_else(String::new, |n| n.to_string());
        let counted = match row.counted {
            Counted::Connection(label) => format!("connection `{label}`"),
            Counted::Message(label) => format!("message `{label}`"),
            Counted::No => String::new(),
        };
        let cells = [
            code(reason.name()),
            number(row.close),
            number(row.status),
            row.code.map_or_else(String::new, code),
            counted,
            row.retry.as_str().to_owned(),
            row.text.to_owned(),
            meaning(reason.name()),
        ];
        table.push_str(&line(&cells));
    }
    compare("docs/reasons.md", "reasons", &table);
}

#[test]
fn the_document_of_metrics_is_up_to_date() {
    let mut table = String::from("| Family | Type | Labels | Meaning |\n|---|---|---|---|\n");
    for family in FAMILIES {
        let kind = match family.kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        let labels: Vec<_> = family.labels.iter().copied().map(code).collect();
        let cells = [code(family.name), kind.to_owned(), labels.join(", "), family.help.to_owned()];
        table.push_str(&line(&cells));
    }
    table.push_str("\n| Histogram | Upper bounds of its buckets, in seconds |\n|---|---|\n");
    for family in FAMILIES.iter().filter(|family| family.kind == Type::Histogram) {
        let bounds: Vec<_> = family.buckets.iter().map(ToString::to_string).collect();
        table.push_str(&line(&[code(family.name), bounds.join(" ")]));
    }
    table.push_str("\n| Counter | `error_type` | Reasons |\n|---|---|---|\n");
    let mut types: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for reason in Reason::ALL {
        let key = match reason.row().counted {
            Counted::Connection(label) => ("websocket_connection_errors_total", label),
            Counted::Message(label) => ("websocket_message_errors_total", label),
            Counted::No => continue,
        };
        types.entry(key).or_default().push(code(reason.name()));
    }
    for ((counter, label), reasons) in types {
        table.push_str(&line(&[code(counter), code(label), reasons.join(", ")]));
    }
    compare("docs/metrics.md", "families", &table);
}

#[test]
fn the_example_of_embedding_is_the_one_that_compiles() {
    let example = include_str!("../../runtime-tokio/examples/embed.rs");
    compare("docs/embedding.md", "embed", &format!("\n```rust\n{}\n```\n", example.trim_end()));
}

#[test]
fn the_test_of_handlers_is_the_one_that_is_run() {
    let example = include_str!("../../testkit/examples/handlers.rs");
    compare("docs/embedding.md", "handlers", &format!("\n```rust\n{}\n```\n", example.trim_end()));
}

#[test]
fn the_recipe_of_a_snapshot_is_the_one_that_is_run() {
    let recipe = include_str!("../../clients/python/snapshot.py");
    compare("docs/history.md", "snapshot", &format!("\n```python\n{}\n```\n", recipe.trim_end()));
}

/// The classes of the services in the module for back-ends.
#[test]
fn the_python_module_has_every_broadcast_of_every_profile() {
    let mut text = String::from("\n");
    for profile in Profile::builtins().iter().filter(|profile| !profile.events.is_empty()) {
        let name: String = profile.title.chars().filter(char::is_ascii_alphanumeric).collect();
        text += &format!("\nclass {name}(Service):\n    \"\"\"{}.\"\"\"\n", profile.title);
        for event in &profile.events {
            text += &method(event);
        }
        text += "\n";
    }
    let path = "clients/python/mahavishnu_events.py";
    compare_between(path, ("# services begin\n", "\n# services end"), &text);
}

/// A broadcast as a method.
fn method(event: &Event) -> String {
    let (mut needed, mut left_out, mut fields) = (Vec::new(), Vec::new(), Vec::new());
    for field in &event.fields {
        let (name, mark) = (&field.name, if field.required { "" } else { "?" });
        let plain = field.kind == FieldKind::Text(None);
        let kind = if plain { String::new() } else { format!(": {}", field.kind) };
        fields.push(format!("\"{name}{mark}{kind}\""));
        match field.required {
            true => needed.push(name.to_string()),
            false => left_out.push(format!("{name}=OMITTED")),
        }
    }
    left_out.extend(event.arguments.iter().map(|name| format!("{name}=None")));
    let members = event.fields.iter().map(|field| &field.name).chain(&event.arguments);
    let given: Vec<_> = members.map(|name| format!("\"{name}\": {name}")).collect();
    let rooms: Vec<_> = event.rooms.iter().map(|room| format!("\"{room}\"")).collect();
    let mut signature = vec!["self".to_owned()];
    signature.extend(needed);
    signature.extend(left_out);
    signature.extend(event.more.then(|| "metadata=None".to_owned()));
    signature.extend(["*", "idempotency_key=None"].map(str::to_owned));
    signature.extend(event.more.then(|| "**more".to_owned()));
    format!(
        "\n    def broadcast_{}({}):\n        \"\"\"{} to {}.\"\"\"\n        fields = [{}]\n        given = {{{}}}\n        return self._broadcast(\"{}\", [{}], fields, given, {}, idempotency_key)\n",
        event.method,
        signature.join(", "),
        event.name,
        event.rooms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
        fields.join(", "),
        given.join(", "),
        event.name,
        rooms.join(", "),
        if event.more { "(metadata, more)" } else { "()" },
    )
}

/// Compares the part of a document between `<!-- NAME begin -->` and `<!-- NAME end -->` with what it must be.
#[track_caller]
pub(crate) fn compare(document: &str, name: &str, expected: &str) {
    let (begin, end) = (format!("<!-- {name} begin -->\n"), format!("\n<!-- {name} end -->"));
    compare_between(document, (&begin, &end), expected);
}

#[track_caller]
fn compare_between(document: &str, (begin, end): (&str, &str), expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(begin).unwrap();
    let (present, after) = rest.split_once(end).unwrap_or(("", rest));
    let expected = expected.trim_end();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, [before, begin, expected, end, after].concat()).unwrap();
    } else {
        assert!(
            present == expected,
            "{document} is out of date: run UPDATE_DOCS=1 cargo test -p mahavishnu docs"
        );
    }
}

/// The sentence above a reason in the source of the table.
fn meaning(word: &str) -> String {
    let source = include_str!("../../wire/src/reason.rs");
    let row = format!(" \"{word}\": ");
    let above: Vec<_> = source.lines().take_while(|line| !line.contains(&row)).collect();
    let comment = above.iter().rev().map_while(|line| line.trim().strip_prefix("/// "));
    let mut lines: Vec<_> = comment.collect();
    lines.reverse();
    assert!(!lines.is_empty(), "{word} has no comment");
    lines.join(" ")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}
