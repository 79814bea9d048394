//! What `docs/semver.md` promises of the library is there: whoever takes something away, or calls it otherwise, is told here. What
//! is new need not be promised at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The crates whose interface is promised item by item.
const CRATES: [(&str, &str); 4] = [
    ("mahavishnu-driver", "driver"),
    ("mahavishnu-tokio", "runtime-tokio"),
    ("mahavishnu-smol", "runtime-smol"),
    ("mahavishnu-test", "testkit"),
];

#[test]
fn what_is_promised_is_there() {
    let text = fs::read_to_string(root().join("docs/semver.md")).unwrap();
    let mut checked = 0;
    for (name, folder) in CRATES {
        let items = items(&root().join(folder).join("src"));
        let begin = format!("| `{name}` | `");
        for row in text.lines().filter(|line| line.starts_with(&begin)) {
            let mut words = row.split('`').skip(3).step_by(2);
            let item = words.next().unwrap();
            let methods = items.get(item).unwrap_or_else(|| panic!("{name}: {item} is gone"));
            for method in words {
                assert!(methods.contains(method), "{name}: {item}::{method} is gone");
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "only {checked} methods were found in the table");
}

/// Errors get variants: who matches them has to be ready for that from the first version on.
#[test]
fn errors_are_open_for_variants() {
    let mut checked = 0;
    for folder in ["driver", "runtime-tokio", "runtime-smol", "testkit", "store", "links", "core"] {
        let inner: &[_] = if folder == "core" { &["auth", "tls"] } else { &[""] };
        for source in
            inner.iter().flat_map(|part| sources(&root().join(folder).join("src").join(part)))
        {
            let text = fs::read_to_string(&source).unwrap();
            let lines: Vec<_> = text.lines().collect();
            for pair in lines.windows(2) {
                let error = declared(pair[1], "pub enum ").filter(|name| name.ends_with("Error"));
                if let Some(error) = error {
                    assert_eq!(pair[0], "#[non_exhaustive]", "{error} in {}", source.display());
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 15, "only {checked} errors were found");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// Types, traits and functions, each with its public methods. Lints see to it that what is `pub` can be reached.
fn items(folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let kinds = ["pub struct ", "pub enum ", "pub trait ", "pub type ", "pub fn ", "pub async fn "];
    let mut items = BTreeMap::<_, BTreeSet<_>>::new();
    for source in sources(folder) {
        let text = fs::read_to_string(&source).unwrap();
        let (mut of, mut is_trait) = (None, false);
        for line in text.lines().take_while(|line| *line != "#[cfg(test)]") {
            for kind in kinds {
                if let Some(name) = declared(line, kind) {
                    items.entry(name.to_owned()).or_default();
                    is_trait = kind == "pub trait ";
                    of = is_trait.then(|| name.to_owned());
                }
            }
            if line.starts_with("impl") {
                (of, is_trait) = (target(line), false);
            }
            let mut starts = vec!["    pub fn ", "    pub async fn ", "    pub const fn "];
            if is_trait {
                starts.push("    fn ");
            }
            let method = starts.into_iter().find_map(|start| declared(line, start));
            if let (Some(of), Some(method)) = (&of, method) {
                items.entry(of.clone()).or_default().insert(method.to_owned());
            }
        }
    }
    items
}

/// The name that a line declares, if it begins so.
fn declared<'l>(line: &'l str, start: &str) -> Option<&'l str> {
    let rest = line.strip_prefix(start)?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    Some(&rest[..end]).filter(|name| !name.is_empty())
}

/// Whose methods an `impl` has, if they are its own: those of traits are the traits'.
fn target(line: &str) -> Option<String> {
    if line.contains(" for ") {
        return None;
    }
    let rest = line.strip_prefix("impl")?;
    let rest = match rest.strip_prefix('<') {
        Some(generic) => generic.split_once("> ").map_or("", |(_, rest)| rest),
        None => rest.trim_start(),
    };
    declared(rest, "").map(str::to_owned)
}
