//! Runs the binary in a place of its own: empty environment, fresh directory.

mod proxy;

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

pub(crate) use proxy::Proxy;

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

    /// What a server has logged here so far, both streams.
    pub(crate) fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.path().join(name)).unwrap_or_default();
        format!("{}{}", read("out.log"), read("err.log"))
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
        command
            .args(arguments.split_whitespace())
            .env_clear()
            .env("HOME", self.path())
            .current_dir(self.path());
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
        command
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Done::of(child.wait_with_output().unwrap())
    }
}

/// A running server on ports of its own.
pub(crate) struct Server<'a> {
    place: &'a Place,
    child: Child,
    /// `http://127.0.0.1:port`
    pub(crate) url: String,
}

impl<'a> Server<'a> {
    /// Starts one in `place` and waits until it answers.
    pub(crate) fn start(place: &'a Place, arguments: &str, variables: &[(&str, &str)]) -> Self {
        let file = |name: &str| {
            let options =
                std::fs::OpenOptions::new().create(true).append(true).open(place.path().join(name));
            Stdio::from(options.unwrap())
        };
        let mut command =
            place.command(&format!("websocket start --port 0 --metrics-port 0 {arguments}"));
        command.envs(variables.iter().copied()).stdout(file("out.log")).stderr(file("err.log"));
        let mut server = Self { place, child: command.spawn().unwrap(), url: String::new() };
        server.url = server.wait_until_healthy();
        server
    }

    fn wait_until_healthy(&mut self) -> String {
        eventually("the server is healthy", || {
            assert_eq!(self.child.try_wait().unwrap(), None, "{}", self.place.log());
            let done = self.place.run("websocket status --json");
            let status: serde_json::Value = serde_json::from_str(&done.out).unwrap();
            (done.code == 0).then(|| status["url"].as_str().unwrap().to_owned())
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
        if name == "STOP" {
            eventually("every thread stops", || self.is_stopped().then_some(()));
        }
    }

    /// Whether the kernel has stopped all of its threads, which it does one by one.
    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        threads.into_iter().all(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            stat.is_ok_and(|stat| stat.contains(") T "))
        })
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `subscribe` or `tail` in the background, subscribed.
pub(crate) struct Subscriber {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    notes: BufReader<std::process::ChildStderr>,
}

impl Subscriber {
    #[track_caller]
    pub(crate) fn start(place: &Place, arguments: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = place.command(arguments);
        let mut child = command
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let notes = BufReader::new(child.stderr.take().unwrap());
        let mut subscriber = Self { child, lines, notes };
        let note = subscriber.note();
        assert!(note.starts_with("subscribed to "), "{note}");
        subscriber
    }

    pub(crate) fn note(&mut self) -> String {
        let mut line = String::new();
        self.notes.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "it has ended");
        line
    }

    /// What it says when it is subscribed once more.
    #[track_caller]
    pub(crate) fn subscribed_again(&mut self) -> String {
        loop {
            let note = self.note();
            if note.starts_with("subscribed to ") {
                return note;
            }
        }
    }

    /// The next event, without the end of its line.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn done(mut self) -> Done {
        let (mut out, mut err) = (String::new(), String::new());
        self.lines.read_to_string(&mut out).unwrap();
        self.notes.read_to_string(&mut err).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Done { code, out, err }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again until there is an answer; fails after half a minute, which only a hung program takes.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
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
