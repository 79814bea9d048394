//! What the process says when it ends: exit codes, and the lines that explain a failure.

use std::{fmt, io, process::ExitCode};

/// Exit codes of every subcommand. Scripts and service managers rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Anything that has no code of its own, wrong usage included.
    General = 1,
    /// `stop`, `status`, `reload`: no server is running. `migrate`, `nodes`: Redis is away.
    NotRunning = 2,
    /// `start`: a server holds the state directory. `migrate down`: nodes are there.
    AlreadyRunning = 3,
    /// `status`: the server runs but does not answer that it is healthy. `verify`: a check failed.
    Unhealthy = 4,
    /// A setting is missing, malformed or contradicts another. `migrate`: what lies in Redis is not for this program.
    Configuration = 5,
    /// A file, port or process may not be touched by this user. `migrate`, `nodes`: Redis refuses the user.
    Permission = 6,
    /// `stop`: the server was still there after `--timeout`. `token revoke`: the other nodes follow later.
    Timeout = 7,
    /// `status`: a PID file was left by a server that is gone. `stop`, `reload`: which process is the server cannot be made
    /// sure, so nothing was sent.
    StalePid = 8,
    /// `cert check`: valid, but not for long.
    CertificateExpiring = 9,
    /// `cert check`: expired, not valid yet, weak, without its key, or with a chain that clients cannot follow.
    CertificateInvalid = 10,
    /// `publish`: the channel's document is another one than `--if-offset` says.
    Conflict = 11,
    /// `config diff`: the running server has other settings.
    Differs = 12,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a subcommand failed: one line per problem, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) lines: Vec<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, line: impl Into<String>) -> Self {
        Self { exit, lines: vec![line.into()] }
    }

    /// An I/O error on `what`, with the code that its kind calls for.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::PermissionDenied {
            Exit::Permission
        } else {
            Exit::General
        };
        Self::new(exit, format!("{what}: {}", plain(error)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for Failure {}

/// The error's text without the "(os error N)" that says nothing to an operator.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_are_plain_words_with_their_own_code() {
        let denied = Failure::io("/run/x", &io::Error::from_raw_os_error(13));
        assert_eq!(denied, Failure::new(Exit::Permission, "/run/x: Permission denied"));
        let missing = Failure::io("/run/x", &io::Error::from_raw_os_error(2));
        assert_eq!(missing, Failure::new(Exit::General, "/run/x: No such file or directory"));
    }
}
