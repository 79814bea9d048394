//! Which process a number means: made sure of before it is sent a signal.
//!
//! A number alone may be somebody else's by now, or means another process in another PID namespace (a container), on
//! another machine, or after a reboot. So a server notes with its number all that makes it unmistakable.

use rustix::{
    fd::OwnedFd,
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde_json::{Map, Value, json};

use crate::exit::{Exit, Failure};

/// A process, unmistakably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// When it began, in ticks since boot; `None` where the system does not say.
    began: Option<u64>,
    /// The PID namespace that the number belongs to.
    namespace: Option<String>,
    /// The boot of the machine that it runs on.
    boot: Option<String>,
}

impl Identity {
    /// This process.
    pub(crate) fn own() -> Self {
        let pid = i32::try_from(std::process::id()).unwrap_or_default();
        Self { pid, began: began(pid), namespace: namespace(), boot: boot() }
    }

    /// As the notes of a server have it.
    pub(crate) fn to_notes(&self) -> Map<String, Value> {
        let Self { pid, began, namespace, boot } = self;
        [
            ("pid", json!(pid)),
            ("began", json!(began)),
            ("namespace", json!(namespace)),
            ("boot", json!(boot)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
    }

    /// `None` where there is no number that a process can have.
    pub(crate) fn from_json(notes: &Value) -> Option<Self> {
        let text = |name| Some(notes.get(name)?.as_str()?.to_owned());
        Some(Self {
            pid: i32::try_from(notes.get("pid")?.as_i64()?).ok().filter(|pid| *pid > 0)?,
            began: notes.get("began").and_then(Value::as_u64),
            namespace: text("namespace"),
            boot: text("boot"),
        })
    }

    /// Takes hold of the process, so that a signal reaches it or nobody. `None` if it has gone.
    ///
    /// # Errors
    ///
    /// The number means another process here, or it cannot be made sure what it means: [`Exit::StalePid`].
    pub(crate) fn open(&self) -> Result<Option<Process>, Failure> {
        let pid = self.pid;
        let refuse = |why: &str| {
            Err(Failure::new(Exit::StalePid, format!("pid {pid}: {why}; nothing was sent")))
        };
        match (&self.boot, boot()) {
            (Some(theirs), Some(ours)) if *theirs == ours => {}
            (Some(_), Some(_)) => {
                return refuse("the server runs on another machine, stop it there");
            }
            _ => {
                return refuse(
                    "it cannot be made sure that this is the server: it does not say on which machine it runs",
                );
            }
        }
        match (&self.namespace, namespace()) {
            (Some(theirs), Some(ours)) if *theirs == ours => {}
            (Some(_), Some(_)) => {
                return refuse(
                    "the server runs in another PID namespace (a container): tell it there",
                );
            }
            _ => {
                return refuse(
                    "it cannot be made sure that this is the server: it does not say in which PID namespace it runs",
                );
            }
        }
        let Some(number) = Pid::from_raw(pid) else { return Ok(None) };
        let handle = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(failure(pid, error)),
        };
        // Read after it was taken hold of: the number cannot have changed hands in between, because the process that began
        // then has had it ever since.
        match (self.began, began(pid)) {
            (Some(noted), Some(found)) if noted == found => Ok(Some(Process { pid, handle })),
            (Some(_), Some(_)) => refuse("this number is another process's by now"),
            (Some(_), None) => Ok(None),
            (None, _) => refuse(
                "it cannot be made sure that this is the server: it does not say when it began",
            ),
        }
    }
}

/// A process that was taken hold of.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    handle: OwnedFd,
}

impl Process {
    /// Sends a signal. A process that has gone in the meantime is no error.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        match pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(failure(self.pid, error)),
        }
    }
}

fn failure(pid: i32, error: Errno) -> Failure {
    Failure::io(format!("signal to pid {pid}"), &std::io::Error::from(error))
}

/// When a process began, in ticks since boot: field 22 of proc_pid_stat(5).
fn began(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name, in brackets and with whatever is in it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn namespace() -> Option<String> {
    std::fs::read_link("/proc/self/ns/pid").ok()?.to_str().map(str::to_owned)
}

fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    fn identity(child: &Child) -> Identity {
        let pid = i32::try_from(child.id()).unwrap();
        Identity { pid, began: began(pid), ..Identity::own() }
    }

    #[test]
    fn notes_name_the_same_process_again() {
        let own = Identity::own();
        assert!(own.began.is_some() && own.namespace.is_some() && own.boot.is_some(), "{own:?}");
        assert_eq!(Identity::from_json(&own.to_notes().into()), Some(own));
        for pid in [json!(0), json!(-1), json!(4_294_967_297_u64), json!("7"), json!(null)] {
            assert_eq!(Identity::from_json(&json!({ "pid": pid })), None);
        }
    }

    #[test]
    fn a_process_that_is_the_one_gets_the_signal() {
        let mut child = sleeper();
        identity(&child).open().unwrap().unwrap().signal(Signal::KILL).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(identity(&child).open().unwrap().is_none(), "it has gone");
    }

    #[test]
    fn a_stranger_gets_no_signal_and_the_reason_is_said() {
        let mut child = sleeper();
        let ours = identity(&child);
        let other = Some("other".to_owned());
        for (strange, why) in [
            (
                Identity { began: ours.began.map(|ticks| ticks - 1), ..ours.clone() },
                "another process",
            ),
            (Identity { namespace: other.clone(), ..ours.clone() }, "another PID namespace"),
            (Identity { boot: other, ..ours.clone() }, "another machine"),
            (Identity { began: None, ..ours.clone() }, "when it began"),
            (Identity { namespace: None, ..ours.clone() }, "in which PID namespace"),
            (Identity { boot: None, ..ours }, "on which machine"),
        ] {
            let failure = strange.open().unwrap_err();
            assert_eq!(failure.exit, Exit::StalePid);
            assert!(failure.to_string().contains(why), "{failure}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_program_may_have_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a) R 1 (b");
        std::fs::copy("/bin/sleep", &path).unwrap();
        let mut child = Command::new(&path).arg("600").spawn().unwrap();
        assert!(began(i32::try_from(child.id()).unwrap()) >= began(1));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
