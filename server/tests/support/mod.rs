//! Runs the binary in a place of its own: empty environment, fresh directory.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

pub(crate) const SECRET: &str = "q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu";

/// A working directory that is also home.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where the PID file is by default.
    pub(crate) fn state(&self) -> PathBuf {
        self.path().join(".local/state/mahavishnu")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary with `arguments`, separated by spaces.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mahavishnu"));
        command.args(arguments.split_whitespace()).env_clear().env("HOME", self.path()).current_dir(self.path());
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Done {
        Done::of(self.command(arguments).output().unwrap())
    }

    pub(crate) fn run_with(&self, arguments: &str, variables: &[(&str, &str)]) -> Done {
        Done::of(self.command(arguments).envs(variables.iter().copied()).output().unwrap())
    }

    /// With `input` on its standard input.
    pub(crate) fn run_on(&self, arguments: &str, variables: &[(&str, &str)], input: &str) -> Done {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Done::of(child.wait_with_output().unwrap())
    }
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Fails with all output unless the exit code is `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    pub(crate) fn last_line(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }
}
