//! `config show` and the table of variables for the documentation.

use super::{check::Loaded, reader::Reload, sources::Source, table::table};

/// Every variable as a line of an environment file, with where its value came from; one without a value is a comment. Secrets
/// are masked.
pub(crate) fn show(loaded: &Loaded) -> String {
    let mut text = String::new();
    for (name, value) in loaded.settings.shown() {
        let origin = loaded.origins.get(name).unwrap_or(&Source::Default);
        let line = match (value.as_str(), origin) {
            ("", Source::Default) => format!("# {name} is not set"),
            ("", origin) => format!("{name}=''  # {origin}"),
            (value, origin) => match loaded.spellings.get(name) {
                Some(spelling) => format!("{name}={}  # {origin}, as {spelling}", quoted(value)),
                None => format!("{name}={}  # {origin}", quoted(value)),
            },
        };
        text.push_str(&line);
        text.push('\n');
    }
    for (name, value, origin) in &loaded.telemetry_given {
        text.push_str(&format!("{name}={}  # {origin}\n", quoted(value)));
    }
    text
}

/// The table of variables as Markdown.
pub(crate) fn docs() -> String {
    let mut text = String::new();
    let mut section = "";
    for variable in table() {
        if variable.section != section {
            section = variable.section;
            text.push_str(&format!("\n### {section}\n\n| Variable | Default | Allowed | Meaning | Reload |\n|---|---|---|---|---|\n"));
        }
        let names: Vec<_> = variable.names.iter().map(|name| format!("`{name}`")).collect();
        let default = if variable.default.is_empty() {
            "not set".to_owned()
        } else {
            format!("`{}`", variable.default)
        };
        let reload = match variable.reload {
            Reload::Live => "SIGHUP",
            Reload::Restart => "restart",
        };
        text.push_str(&format!(
            "| {} | {default} | {} | {} | {reload} |\n",
            names.join(", "),
            variable.allowed,
            variable.doc
        ));
    }
    text.trim_start().to_owned()
}

/// In single quotes if a file needs them.
fn quoted(value: &str) -> String {
    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:,*=".contains(c));
    if plain { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

/// Names of variables that differ between two readings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Those that a reload puts in force.
    pub(crate) live: Vec<&'static str>,
    /// Those that wait for the next start.
    pub(crate) restart: Vec<&'static str>,
}

/// What a reload changes.
pub(crate) fn changes(old: &Loaded, new: &Loaded) -> Changes {
    let mut changes = Changes::default();
    let pairs = old.settings.shown().into_iter().zip(new.settings.shown());
    for (variable, ((_, before), (_, after))) in table().iter().zip(pairs) {
        let list = match variable.reload {
            Reload::Live => &mut changes.live,
            Reload::Restart => &mut changes.restart,
        };
        // Secrets are masked alike, old and new.
        let name = variable.name();
        let secrets = old
            .keys
            .iter()
            .filter(|key| key.source() == name)
            .ne(new.keys.iter().filter(|key| key.source() == name));
        let content = match name {
            "MAHAVISHNU_POLICY_FILE" => {
                let of = Loaded::policy;
                of(old) != of(new) && old.settings.auth_policy == new.settings.auth_policy
            }
            "MAHAVISHNU_REVOKED_FILE" => old.revoked != new.revoked,
            _ => !after.is_empty() && old.passwords.of(name) != new.passwords.of(name),
        };
        if before != after || secrets || content {
            list.push(name);
        }
    }
    changes
}
