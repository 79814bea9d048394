//! The tables of the documents are what the program says: this compares them, and rewrites them if asked to.
//!
//! `UPDATE_DOCS=1 cargo test -p mahavishnu docs` writes them anew.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, PoisonError},
};

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

/// All other code of the document, each piece between its marks in the source.
#[test]
fn the_code_of_embedding_is_what_is_run() {
    let source = include_str!("../../runtime-tokio/tests/embedding.rs");
    let mut lines = source.lines();
    let mut names = vec!["embed".to_owned(), "handlers".to_owned()];
    while let Some(line) = lines.next() {
        let Some(name) = line.trim().strip_prefix("// [").and_then(|rest| rest.strip_suffix(']'))
        else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let shown = lines.by_ref().take_while(|line| line.trim() != "// [end]");
        let shown: Vec<_> = shown.map(|line| line.get(indent..).unwrap_or_default()).collect();
        compare("docs/embedding.md", name, &format!("\n```rust\n{}\n```\n", shown.join("\n")));
        names.push(name.to_owned());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/embedding.md");
    let document = std::fs::read_to_string(path).unwrap();
    for name in &names {
        assert_eq!(document.matches(&format!("<!-- {name} begin -->")).count(), 1, "{name}");
    }
    assert_eq!(document.matches("\n```rust\n").count(), names.len(), "code that nobody runs");
}

/// What a program costs on either runtime, in lines.
#[test]
fn the_lines_of_the_examples_are_counted() {
    let axum = include_str!("../../runtime-tokio/examples/axum.rs");
    let on_tokio = include_str!("../../runtime-tokio/examples/hyper.rs");
    let on_smol = include_str!("../../runtime-smol/examples/jobs.rs");
    let handlers = include_str!("../../testkit/examples/handlers.rs");
    let program = |text: &'static str| {
        text.lines().take_while(|line| *line != "#[cfg(test)]").collect::<Vec<_>>()
    };
    let (axum, on_tokio, on_smol) = (program(axum), program(on_tokio), program(on_smol));
    let differ = |left: &[&str], right: &[&str]| {
        let common = common(left, right);
        format!("{} for {}", right.len() - common, left.len() - common)
    };
    let (all, service) = (handlers.lines().count(), program(handlers).len());
    let table = format!(
        "| Program | tokio | smol | Lines of smol's for lines of tokio's |\n|---|---|---|---|\n\
        | jobs watched live, the router is axum's | `axum.rs`, {} | there is no axum without tokio | – |\n\
        | the same, the router written by hand on hyper | `hyper.rs`, {} | `jobs.rs`, {} | {} |\n\
        | a service's handlers, and beside it {} lines of tests in virtual time | `handlers.rs`, {} | the same file | 0 |\n",
        axum.len(),
        on_tokio.len(),
        on_smol.len(),
        differ(&on_tokio, &on_smol),
        all - service,
        service,
    );
    compare("docs/embedding.md", "lines", &format!("\n{table}"));
}

/// How many lines two texts have in common, in order.
fn common(left: &[&str], right: &[&str]) -> usize {
    let mut counts = vec![0; right.len() + 1];
    for line in left {
        let mut before = 0;
        for (at, other) in right.iter().enumerate() {
            let here = counts[at + 1];
            counts[at + 1] = if line == other { before + 1 } else { here.max(counts[at]) };
            before = here;
        }
    }
    counts[right.len()]
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
    /// Tests that rewrite parts of one document do it one after the other.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
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
