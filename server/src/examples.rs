//! The command line with examples below the help of every subcommand. They are kept apart from the flags, in one table,
//! whose lines the tests give to the parser: an example that no longer works fails there.

use std::ffi::OsString;

use clap::{
    Command, CommandFactory, FromArgMatches,
    builder::{
        StyledStr,
        styling::{AnsiColor, Style, Styles},
    },
};

use crate::{cli::Cli, members};

/// The command line as users have it.
pub(crate) fn command() -> Command {
    EXAMPLES.iter().fold(Cli::command().styles(STYLES), |command, (path, lines)| {
        let path: Vec<&str> = path.split_whitespace().collect();
        with(command, &path, lines)
    })
}

/// Reads this process' arguments.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    read(std::env::args_os())
}

/// Reads arguments, the program's name first.
pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(members::as_fields(words))?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command()))
}

fn with(command: Command, path: &[&str], lines: &[&str]) -> Command {
    match path {
        [] => command.after_help(text(lines, *STYLES.get_header())),
        [name, rest @ ..] => command.mut_subcommand(*name, |command| with(command, rest, lines)),
    }
}

fn text(lines: &[&str], heading: Style) -> StyledStr {
    use std::fmt::Write as _;

    let mut text = StyledStr::new();
    // Writing to a text does not fail.
    let _ = write!(text, "{heading}Examples:{heading:#}");
    for line in lines {
        let _ = write!(text, "\n  {line}");
    }
    text
}

/// Colours in a terminal, as cargo has them. What they are printed with leaves them out elsewhere, and where NO_COLOR is set.
const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Subcommands, and lines to paste.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "mahavishnu websocket start                    # a server on 127.0.0.1:8686",
            "mahavishnu subscribe workflow:42              # in a second terminal",
            "mahavishnu publish workflow:42 workflow.started '{\"workflow_id\":\"42\"}'",
        ],
    ),
    (
        "init",
        &[
            "mahavishnu init                               # .env here, with a secret",
            "mahavishnu init /etc/mahavishnu/production.env",
        ],
    ),
    ("config backup", &["mahavishnu config backup --env-file /etc/mahavishnu/production.env"]),
    (
        "verify",
        &[
            "mahavishnu verify                             # the server of this machine",
            "mahavishnu verify https://ws.example.com --json",
        ],
    ),
    ("config diff", &["mahavishnu config diff", "mahavishnu config diff --json"]),
    (
        "websocket start",
        &[
            "mahavishnu websocket start",
            "mahavishnu websocket start --env-file production.env",
            "mahavishnu websocket start --host 0.0.0.0 --port 8690 --auto-cert",
            "mahavishnu websocket start --service crackerjack",
        ],
    ),
    (
        "fleet start",
        &[
            "mahavishnu fleet start                        # all seven on 127.0.0.1",
            "mahavishnu fleet start --env-file fleet.env --metrics-port 9090",
            "mahavishnu fleet start --only crackerjack,akosha --with ./my-service.toml",
        ],
    ),
    ("fleet stop", &["mahavishnu fleet stop", "mahavishnu fleet stop --timeout 30 --force"]),
    ("fleet status", &["mahavishnu fleet status", "mahavishnu fleet status --json"]),
    ("fleet reload", &["mahavishnu fleet reload --env-file fleet.env"]),
    ("service list", &["mahavishnu service list", "mahavishnu service list --json"]),
    (
        "service show",
        &[
            "mahavishnu service show crackerjack",
            "mahavishnu service show crackerjack --toml > my-service.toml",
        ],
    ),
    (
        "websocket stop",
        &[
            "mahavishnu websocket stop",
            "mahavishnu websocket stop --timeout 30 --force --state-dir /run/mahavishnu",
        ],
    ),
    (
        "websocket status",
        &[
            "mahavishnu websocket status",
            "mahavishnu websocket status --json --state-dir /run/mahavishnu",
        ],
    ),
    (
        "websocket reload",
        &["mahavishnu websocket reload", "mahavishnu websocket reload --state-dir /run/mahavishnu"],
    ),
    (
        "token create",
        &[
            "mahavishnu token create --user ada --permission workflow:read --permission workflow:write",
            "export MAHAVISHNU_TOKEN=$(mahavishnu token create --user ada --permission admin --expires-in 3600)",
            "mahavishnu token create --env-file production.env --user service --permission admin --expires-in never",
        ],
    ),
    (
        "token inspect",
        &[
            "mahavishnu token inspect                      # the one in MAHAVISHNU_TOKEN",
            "mahavishnu token create --user ada | mahavishnu token inspect -",
        ],
    ),
    (
        "token revoke",
        &[
            "mahavishnu token revoke --jti 7b6ee4a7-6f8f-4b3c-9a0e-6f2f4ad0e4ab",
            "mahavishnu token revoke --user ada --issued-before now",
            "mahavishnu token revoke --print --user ada --issued-before 2026-01-31T12:00:00Z",
        ],
    ),
    (
        "publish",
        &[
            "mahavishnu publish workflow:42 workflow.started '{\"workflow_id\":\"42\"}'",
            "date +'{\"at\":\"%s\"}' | mahavishnu publish workflow:42 workflow.ticked -",
            "mahavishnu publish --url https://ws.example.com --token \"$TOKEN\" global deployed @event.json",
            "mahavishnu publish --service crackerjack test.started --run-id 7 --test-suite unit --total-tests 90",
        ],
    ),
    (
        "subscribe",
        &[
            "mahavishnu subscribe workflow:42 pool:local",
            "mahavishnu subscribe --url wss://ws.example.com --token \"$TOKEN\" --json workflow:42",
            "mahavishnu subscribe --rewind 10 --count 20 workflow:42",
        ],
    ),
    (
        "history",
        &[
            "mahavishnu history workflow:42",
            "mahavishnu history --since 10m --limit 100 --json workflow:42",
        ],
    ),
    ("tail", &["mahavishnu tail workflow:42", "mahavishnu tail -n 100 --json workflow:42"]),
    ("replay", &["mahavishnu replay --env-file production.env recording.bin"]),
    ("nodes", &["mahavishnu nodes --env-file production.env", "mahavishnu nodes --json"]),
    ("migrate status", &["mahavishnu migrate status --env-file production.env"]),
    ("migrate up", &["mahavishnu migrate up --dry-run --env-file production.env"]),
    ("migrate down", &["mahavishnu migrate down --dry-run --env-file production.env"]),
    (
        "cert check",
        &[
            "mahavishnu cert check --env-file production.env",
            "mahavishnu cert check --cert fullchain.pem --key privkey.pem --min-days 14 --json",
        ],
    ),
    (
        "explain",
        &[
            "mahavishnu explain --channel workflow:42      # the token in MAHAVISHNU_TOKEN",
            "mahavishnu explain --channel workflow:42 --verb publish --token \"$TOKEN\"",
            "mahavishnu explain --channel workflow:42 --env-file production.env",
        ],
    ),
    (
        "policy show",
        &[
            "mahavishnu policy show > policy.toml",
            "mahavishnu policy show --service crackerjack --built-in",
        ],
    ),
    (
        "config check",
        &["mahavishnu config check", "mahavishnu config check --env-file production.env"],
    ),
    (
        "config show",
        &[
            "mahavishnu config show --env-file production.env",
            "mahavishnu config show | grep -v default       # what was set, and where",
        ],
    ),
    (
        "completions",
        &[
            "mahavishnu completions bash > ~/.local/share/bash-completion/completions/mahavishnu",
            "mahavishnu completions zsh > ~/.zfunc/_mahavishnu",
            "mahavishnu completions fish > ~/.config/fish/completions/mahavishnu.fish",
        ],
    ),
    (
        "man",
        &[
            "mahavishnu man | man -l -                     # the first page",
            "mahavishnu man ~/.local/share/man/man1        # all pages, for man(1) to find",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a line as a shell takes them apart: quotes, comments and pipes, of which these lines make use.
    fn words(line: &str) -> Vec<Vec<String>> {
        let (mut commands, mut word, mut quote) = (vec![Vec::new()], String::new(), None);
        let push = |commands: &mut Vec<Vec<String>>, word: &mut String| {
            if !word.is_empty()
                && let Some(command) = commands.last_mut()
            {
                command.push(std::mem::take(word));
            }
        };
        for c in line.chars() {
            match (c, quote) {
                (c, Some(open)) if c == open => quote = None,
                (c, Some(_)) => word.push(c),
                ('\'' | '"', None) => quote = Some(c),
                ('#', None) if word.is_empty() => break,
                ('|' | '>' | '(', None) => {
                    push(&mut commands, &mut word);
                    commands.push(Vec::new());
                }
                (c, None) if c.is_whitespace() || c == ')' => push(&mut commands, &mut word),
                (c, None) => word.push(c),
            }
        }
        push(&mut commands, &mut word);
        commands
    }

    #[test]
    fn every_example_is_a_command_line_of_its_subcommand() {
        for (path, lines) in EXAMPLES {
            for line in *lines {
                let ours = words(line).into_iter();
                let ours: Vec<_> = ours
                    .filter(|words| words.first().is_some_and(|word| word == "mahavishnu"))
                    .collect();
                assert!(!ours.is_empty(), "{line}");
                for words in &ours {
                    let parsed = read(words.iter().map(OsString::from));
                    assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                }
                let shown: Vec<&str> = path.split_whitespace().collect();
                assert!(
                    ours.iter().any(|words| words[1..].iter().zip(&shown).all(|(a, b)| a == b)),
                    "{line} is no example of {path}"
                );
                assert!(line.chars().count() <= 118, "{line}");
            }
        }
    }

    fn leaves<'a>(command: &'a Command, path: &str, found: &mut Vec<(String, &'a Command)>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let path = format!("{path} {}", sub.get_name()).trim().to_owned();
            match sub.has_subcommands() {
                true => leaves(sub, &path, found),
                false => found.push((path, sub)),
            }
        }
    }

    #[test]
    fn every_subcommand_shows_examples() {
        let command = command();
        let mut found = Vec::new();
        leaves(&command, "", &mut found);
        assert!(found.len() > 20, "{found:?}");
        for (path, sub) in found {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.starts_with("Examples:\n  "),
                "no examples of `{path}`: a row of EXAMPLES"
            );
        }
    }

    #[test]
    fn help_tells_the_defaults_of_the_table() {
        let loaded = crate::settings::testing::load(&[]);
        let shown = loaded.settings.shown();
        let command = command();
        let start = command.find_subcommand("websocket").unwrap().find_subcommand("start").unwrap();
        let mut compared = 0;
        for flag in start.get_arguments() {
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let told = help.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
            let name = format!("MAHAVISHNU_{}", flag.get_id().as_str().to_uppercase());
            let Some((_, default)) = shown.iter().find(|(known, _)| *known == name) else {
                continue;
            };
            let Some((told, _)) = told else { continue };
            // A sentence says where else it comes from.
            if !told.contains(' ') {
                assert_eq!(told, default, "--{}", flag.get_id());
                compared += 1;
            }
        }
        assert!(compared >= 8, "only {compared} compared");
    }

    #[test]
    fn headings_are_styled_for_terminals_and_plain_elsewhere() {
        let text = text(&["a"], *STYLES.get_header());
        assert_eq!(text.to_string(), "Examples:\n  a");
        assert!(text.ansi().to_string().starts_with("\u{1b}["), "{:?}", text.ansi().to_string());
    }
}
