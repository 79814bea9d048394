//! The environment file that `mahavishnu init` writes: what an operator wants to set first, in the words of the table.

use zeroize::Zeroizing;

use super::table::table;

/// What the file says of a variable.
enum Given {
    /// The new secret.
    Secret,
    /// This, in force.
    On(&'static str),
    /// Its default, as a comment.
    Default,
    /// This for an example, as a comment.
    Example(&'static str),
}

/// The file, with this secret in it.
pub(crate) fn template(secret: &str) -> Zeroizing<String> {
    let rows = table();
    let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES));
    text.push_str(HEAD);
    let mut section = "";
    for (name, given) in FIRST {
        let Some(row) = rows.iter().find(|row| row.name() == *name) else { continue };
        if row.section != section {
            section = row.section;
            let rule = "-".repeat(WIDTH.saturating_sub(section.len() + 6));
            text.push_str(&format!("\n# --- {section} {rule}\n"));
        }
        text.push('\n');
        comment(&mut text, &row.doc);
        let (mark, value) = match given {
            Given::Secret => ("", secret),
            Given::On(value) => ("", *value),
            Given::Default => ("#", row.default.as_str()),
            Given::Example(value) => ("#", *value),
        };
        for part in [mark, name, "=", value, "\n"] {
            text.push_str(part);
        }
    }
    text
}

/// Adds words as lines of comment.
fn comment(text: &mut String, words: &str) {
    let mut width = 0;
    for word in words.split_whitespace() {
        if width == 0 || width + 1 + word.len() > WIDTH {
            text.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        text.push(' ');
        text.push_str(word);
        width += 1 + word.len();
    }
    text.push('\n');
}

const FIRST: &[(&str, Given)] = &[
    ("MAHAVISHNU_AUTH_ENABLED", Given::On("true")),
    ("MAHAVISHNU_JWT_SECRET", Given::Secret),
    ("MAHAVISHNU_JWT_EXPIRY", Given::Default),
    ("MAHAVISHNU_POLICY_FILE", Given::Example("/etc/mahavishnu/policy.toml")),
    ("MAHAVISHNU_ALLOWED_ORIGINS", Given::Example("https://app.example.com")),
    ("MAHAVISHNU_HOST", Given::Default),
    ("MAHAVISHNU_PORT", Given::Default),
    ("MAHAVISHNU_SERVER_NAME", Given::Example("mahavishnu-production")),
    ("MAHAVISHNU_TRUSTED_PROXIES", Given::Example("127.0.0.1")),
    ("MAHAVISHNU_TLS_ENABLED", Given::Example("true")),
    ("MAHAVISHNU_CERT_FILE", Given::Example("/etc/ssl/certs/mahavishnu.pem")),
    ("MAHAVISHNU_KEY_FILE", Given::Example("/etc/ssl/private/mahavishnu-key.pem")),
    ("MAHAVISHNU_METRICS_HOST", Given::Example("127.0.0.1")),
    ("MAHAVISHNU_METRICS_PORT", Given::Default),
    ("MAHAVISHNU_REDIS_HOST", Given::Example("localhost")),
    ("MAHAVISHNU_REDIS_PORT", Given::Default),
    ("MAHAVISHNU_REDIS_PASSWORD_FILE", Given::Example("/etc/mahavishnu/redis-password")),
    ("MAHAVISHNU_MAX_CONNECTIONS", Given::Default),
    ("MAHAVISHNU_RATE_LIMIT", Given::Example("100")),
    ("MAHAVISHNU_MEMORY_LIMIT", Given::Example("auto")),
    ("MAHAVISHNU_HISTORY", Given::Default),
    ("MAHAVISHNU_LOG_LEVEL", Given::Default),
    ("MAHAVISHNU_LOG_FORMAT", Given::Example("json")),
];

const HEAD: &str = "\
# Settings of a Mahavishnu server. A line counts once it has no # in front of it; `config show`
# prints every setting there is. After a change: `mahavishnu config check`, then
# `mahavishnu websocket reload`. Copies for going back: `mahavishnu config backup`.
";

/// Columns of the comments.
const WIDTH: usize = 95;

/// Room for all of it, so that nothing is moved and no copy of the secret stays behind.
const TEXT_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::{
        check::evaluate,
        sources::{Request, Sources},
    };

    const SECRET: &str = "q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu";

    /// What the file comes to.
    fn loaded(text: &str) -> crate::settings::Loaded {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.env");
        std::fs::write(&path, text).unwrap();
        let request = Request { env_file: Some(path), overrides: Vec::new(), ..Request::default() };
        evaluate(&Sources::assemble(&request, std::iter::empty(), Path::new("/")).unwrap())
    }

    #[test]
    fn as_it_is_it_wants_tokens_and_nothing_is_wrong_with_it() {
        let text = template(SECRET);
        assert!(text.len() < TEXT_BYTES, "{} bytes", text.len());
        assert!(text.lines().all(|line| line.len() <= 100), "{}", *text);
        let loaded = loaded(&text);
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert!(loaded.settings.auth_enabled);
        assert_eq!(loaded.keys[0].secret.reveal(), SECRET);
    }

    #[test]
    fn every_line_that_is_a_comment_is_one_that_may_count() {
        let text = template(SECRET);
        let whole = text.replace("\n#MAHAVISHNU_", "\nMAHAVISHNU_");
        let given = whole.lines().filter(|line| line.starts_with("MAHAVISHNU_")).count();
        assert_eq!(given, FIRST.len());
        let loaded = loaded(&whole);
        // Two files that are not there.
        let names: Vec<_> = loaded.problems.iter().map(|problem| problem.name).collect();
        let files = ["MAHAVISHNU_REDIS_PASSWORD_FILE", "MAHAVISHNU_POLICY_FILE"];
        assert!(names.iter().all(|name| files.contains(name)), "{:?}", loaded.problems);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
}
