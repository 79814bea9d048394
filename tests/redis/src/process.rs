//! A server's process.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// A process, killed when dropped. What it prints is in the file `log` of its folder.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn spawn(program: &Path, arguments: &[&str], dir: &Path) -> Self {
        let log = dir.join("log");
        let file: File =
            OpenOptions::new().create(true).append(true).open(&log).expect("its folder is ours");
        let child = Command::new(program)
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stderr(file.try_clone().expect("a file that is open"))
            .stdout(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { child, log }
    }

    /// It has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// SIGKILL, and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("our child");
    }

    /// What it has printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `ready`; `false` if the process has ended before. Panics with its log after [`PATIENCE`].
    pub(crate) fn wait(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.has_ended() {
                return false;
            }
            if ready() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{what} did not come in {PATIENCE:?}:\n{}", self.log());
    }
}

/// A busy machine takes seconds for what should take milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
