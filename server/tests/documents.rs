//! What documents say of the tree: that every file, test and page that they name is there, and that what is there is
//! named.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use mahavishnu_core::reason::Reason;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names in a directory, without their endings.
fn names(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(directory)).unwrap();
    let name =
        |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_string_lossy().into_owned();
    entries.map(|entry| name(entry.unwrap())).collect()
}

/// Names of the documents in `docs`, beside which are folders: their pictures, and the board where the guide has it.
fn pages() -> BTreeSet<String> {
    let mut names = names("docs");
    for folder in ["images", "grafana"] {
        assert!(names.remove(folder), "docs/{folder} is not there");
    }
    names
}

/// Every document, by its path from the root.
fn documents() -> Vec<PathBuf> {
    let pages = pages().into_iter().map(|name| format!("docs/{name}.md"));
    let others = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "fuzz/README.md"];
    pages.chain(others.map(str::to_owned)).map(PathBuf::from).collect()
}

/// What stands between `before` and `after`, each time.
fn between<'t>(text: &'t str, before: &str, after: char) -> impl Iterator<Item = &'t str> {
    text.split(before).skip(1).filter_map(move |rest| Some(rest.split_once(after)?.0))
}

/// A document without its blocks of code.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The places of a document that a link can name.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let text = read(&document);
        for link in between(&prose(&text), "](", ')').filter(|link| !link.starts_with("http")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            let there = root().join(&target).exists();
            assert!(there, "{}: {link}", document.display());
            if !anchor.is_empty() {
                let known = anchors(&read(&target)).contains(anchor);
                assert!(known, "{}: {link}", document.display());
            }
        }
    }
}

#[test]
fn every_picture_is_shown_and_small() {
    let texts: String = documents().iter().map(read).collect();
    for picture in names("docs/images") {
        assert!(texts.contains(&format!("images/{picture}.png)")), "{picture}");
        let path = root().join(format!("docs/images/{picture}.png"));
        let bytes = fs::metadata(path).unwrap().len();
        assert!(bytes <= 100_000, "{picture}: {bytes} bytes");
    }
}

#[test]
fn every_path_that_is_named_is_there() {
    let folders = [
        "core/", "server/", "runtime-", "tests/", "fuzz/", "benches/", "docs/", "deploy/",
        "scripts/",
    ];
    for document in documents() {
        let text = prose(&read(&document));
        for path in text.split('`').skip(1).step_by(2) {
            let is_path = folders.iter().any(|folder| path.starts_with(folder))
                && !path.contains(['*', ' ', '{', '…'])
                && !path.contains("TARGET");
            if is_path {
                assert!(root().join(path).exists(), "{}: {path}", document.display());
            }
        }
    }
}

#[test]
fn every_page_script_folder_and_target_is_named() {
    let (readme, testing, fuzzing) =
        (read("README.md"), read("docs/testing.md"), read("fuzz/README.md"));
    for page in pages() {
        assert!(readme.contains(&format!("docs/{page}.md")), "README.md: docs/{page}.md");
    }
    for script in names("scripts") {
        assert!(readme.contains(&format!("`{script}`")), "README.md: scripts/{script}");
    }
    for target in names("fuzz/fuzz_targets") {
        assert!(fuzzing.contains(&format!("| `{target}` |")), "fuzz/README.md: {target}");
        assert!(testing.contains(&format!("`{target}`")), "docs/testing.md: {target}");
    }
    for bug in names("tests/mutations").iter().filter(|name| *name != "README") {
        assert!(testing.contains(&format!("(`{bug}`)")), "docs/testing.md: {bug}");
    }
    let manifest = read("Cargo.toml");
    let members = between(&manifest, "members = [", ']').next().unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        assert!(readme.contains(&format!("`{member}`")), "README.md: {member}");
    }
}

/// Names under which the deployment guide of this family sends operators somewhere.
#[test]
fn what_the_guide_promises_is_there() {
    for path in [
        "docs/WEBSOCKET_DEPLOYMENT_CHECKLIST.md",
        "docs/WEBSOCKET_PRODUCTION_DEPLOYMENT.md",
        "docs/WEBSOCKET_API_REFERENCE.md",
        "docs/WEBSOCKET_INTEGRATION_COMPLETE.md",
        "docs/grafana/WebSocket_Monitoring.json",
        "scripts/verify_deployment.py",
        "deploy/check-mahavishnu-health.sh",
    ] {
        assert!(root().join(path).is_file(), "{path}");
    }
}

/// Every check of `verify` is in its table, and every subcommand that the checklist names is one.
#[test]
fn the_checklist_and_the_table_of_checks_are_those_of_the_program() {
    let checklist = read("docs/WEBSOCKET_DEPLOYMENT_CHECKLIST.md");
    let operations = read("docs/operations.md");
    let mut sources = String::new();
    for module in names("server/src/deployment") {
        sources.push_str(&read(format!("server/src/deployment/{module}.rs")));
    }
    let lines =
        sources.lines().filter(|line| line.starts_with("const ") && line.contains(": &str = \""));
    let checks: BTreeSet<_> = lines
        .filter_map(|line| line.split('"').nth(1))
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        .collect();
    assert!(checks.len() >= 17, "{checks:?}");
    for check in checks {
        let listed = operations.lines().filter(|line| line.starts_with("| `"));
        let mut cells = listed.filter_map(|line| line.split('|').nth(1));
        assert!(
            cells.any(|cell| cell.contains(&format!("`{check}`"))),
            "docs/operations.md: {check}"
        );
        assert!(checklist.contains(check), "the checklist: {check}");
    }
    let place = crate::support::Place::new();
    for command in between(&checklist, "`mahavishnu ", '`').filter(|words| !words.starts_with('-'))
    {
        let words =
            command.split(' ').take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()));
        let words: Vec<_> = words.collect();
        place.run(&format!("{} --help", words.join(" "))).expect(0);
    }
}

/// `cargo bench -- NAME --warm-up-time 1` gives its arguments to every target that has benchmarks, and the harness that
/// libraries and programs have by default takes none of criterion's.
#[test]
fn only_benchmarks_are_run_as_such() {
    let manifest = read("Cargo.toml");
    let members = between(&manifest, "members = [", ']').next().unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        let manifest = read(format!("{member}/Cargo.toml"));
        let there = |path: &str| root().join(member).join(path).exists();
        let programs = manifest.matches("[[bin]]").count();
        if there("src/bin") {
            assert!(programs >= names(&format!("{member}/src/bin")).len(), "{member}: programs");
        }
        assert!(programs > 0 || !there("src/main.rs"), "{member}: its program");
        let targets = programs + usize::from(there("src/lib.rs"));
        assert_eq!(manifest.matches("\nbench = false").count(), targets, "{member}");
    }
}

/// In the third column of these tables stands by which test something is shown: `file`: `test`, `test`.
#[test]
fn every_test_that_shows_something_is_there() {
    let documents = [
        ("SECURITY.md", 40),
        ("docs/recovery-tests.md", 60),
        ("docs/from-the-production-guide.md", 80),
    ];
    for (document, least) in documents {
        let text = read(document);
        let rows = text.lines().filter(|line| line.starts_with("| ")).filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
            cells.get(2).copied()
        });
        let mut seen = 0;
        for shown in rows {
            for part in shown.split(';') {
                let mut source = None;
                for word in part.split('`').skip(1).step_by(2) {
                    if word.contains(['.', '/', ':']) || word == "fuzz" {
                        source = Some((word, source_of(document, word)));
                    } else if let Some((file, text)) = &source {
                        assert!(text.contains(word), "{document}: {file}: {word}");
                        seen += 1;
                    }
                }
            }
        }
        assert!(seen > least, "only {seen} tests were found in the tables of {document}");
    }
}

/// Each item of the guide works and a test shows it, or something takes its place.
#[test]
fn every_item_of_the_production_guide_has_a_verdict() {
    let text = read("docs/from-the-production-guide.md");
    let is_row = |line: &&str| line.starts_with("| §") || line.starts_with("| S ");
    let rows: Vec<&str> = text.lines().filter(is_row).collect();
    for row in &rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let &[_, verdict, shown] = &cells[..] else { panic!("three columns: {row}") };
        assert!(
            ["as written", "replaced", "outside this project"]
                .iter()
                .any(|it| verdict.starts_with(it)),
            "{row}"
        );
        assert!(!verdict.starts_with("as written") || shown != "–", "by which test? {row}");
    }
    assert!(rows.len() > 70, "only {} items", rows.len());
}

/// The text of a file, or of all files of a folder, as these tables name it.
fn source_of(document: &str, name: &str) -> String {
    let path = match name.split_once(':') {
        Some(("core", path)) => root().join("core/src").join(path),
        Some(("bodies", module)) => {
            root().join(format!("tests/conformance/tests/bodies/{module}.rs"))
        }
        _ if name.contains('/') || !name.contains('.') => root().join(name),
        _ => root().join("tests/tests").join(name),
    };
    let mut text = String::new();
    let mut paths = vec![path];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(source) = fs::read_to_string(&path) {
            text.push_str(&source);
        } else {
            assert!(path.exists(), "{document}: {name}");
        }
    }
    text
}

#[test]
fn the_glossary_has_each_word_once() {
    let text = read("docs/glossary.md");
    let mut seen = BTreeSet::new();
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Word")) {
        let words = row.trim_matches('|').split(" | ").next().unwrap();
        for word in words.split(',') {
            assert!(seen.insert(word.trim()), "docs/glossary.md: {word} is there twice");
        }
    }
}

/// Authors of clients find every text that a server closes with. Of 1002 the text says what is wrong by itself.
#[test]
fn every_close_is_in_the_document_of_the_protocol() {
    let text = read("docs/protocol.md");
    let codes = text.split("\n## ").find(|section| section.starts_with("Close codes\n")).unwrap();
    for reason in Reason::ALL {
        let row = reason.row();
        let Some(code) = row.close.filter(|code| *code != 1002) else { continue };
        let said = codes.lines().any(|line| {
            line.starts_with(&format!("| {code}"))
                && (line.contains(&format!("\"{}\"", reason.close_text()))
                    || reason.close_text().is_empty()
                    || reason.close_text().starts_with("Authentication")
                        && line.contains("Authentication"))
        });
        assert!(said, "docs/protocol.md: {code} {:?}", reason.close_text());
    }
}
