//! Logs in files that a service manager has opened, and logrotate by the shipped configuration: nothing is lost.

use std::{
    fs::OpenOptions,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use mahavishnu_tests::{binary, foreign, manager::Logged, wait};
use rustix::process::Signal;

/// Connects and leaves, and notes by which ports: each is a line of the log.
fn come_and_go(address: SocketAddr, over: &AtomicBool, ports: &Mutex<Vec<u16>>) {
    while !over.load(Ordering::Relaxed) {
        let client = tungstenite::connect(format!("ws://{address}/")).expect("it serves").0;
        let tungstenite::stream::MaybeTlsStream::Plain(stream) = client.get_ref() else {
            panic!("not by TLS")
        };
        ports.lock().unwrap().push(TcpStream::local_addr(stream).unwrap().port());
    }
}

/// The shipped configuration, for these files, this process and whoever runs the test.
fn configuration(dir: &Path, pid: u32) -> (PathBuf, String) {
    let shipped = std::fs::read_to_string(binary::workspace().join("deploy/logrotate/mahavishnu"));
    let text = shipped.expect("it is shipped");
    let logs = format!("{}/*.log", dir.display());
    let text = text.replace("/var/log/mahavishnu/*.log", &logs);
    let text = text.replace("create 0640 mahavishnu mahavishnu", "create 0640");
    let file = dir.join("logrotate.conf");
    std::fs::write(&file, text).unwrap();
    // In place of systemd, which tells the process by its unit.
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let systemctl = bin.join("systemctl");
    let asked = dir.join("asked");
    let script = format!("#!/bin/sh\necho \"$@\" >> {}\nkill -HUP {pid}\n", asked.display());
    std::fs::write(&systemctl, script).unwrap();
    std::fs::set_permissions(&systemctl, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/sbin:{}", bin.display(), std::env::var("PATH").unwrap());
    (file, path)
}

#[test]
fn nothing_is_lost_when_logs_are_rotated_under_load() {
    const ROTATIONS: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let (out, err) = (dir.path().join("websocket.log"), dir.path().join("websocket-error.log"));
    let open = |path| OpenOptions::new().append(true).create(true).open(path).unwrap();
    let settings = [("MAHAVISHNU_LOG_LEVEL", "DEBUG")];
    let mut server = Logged::start(dir.path(), &settings, open(&out), open(&err));
    let address = server.wait_ready();
    let (config, path) = configuration(dir.path(), server.pid());
    let (over, ports) = (AtomicBool::new(false), Mutex::default());
    std::thread::scope(|scope| {
        let ending = Ending(&over);
        for _ in 0..2 {
            scope.spawn(|| come_and_go(address, &over, &ports));
        }
        for _ in 0..ROTATIONS {
            let before = ports.lock().unwrap().len();
            let busy = || (ports.lock().unwrap().len() > before + 50).then_some(());
            wait::until("clients", busy);
            let mut logrotate = Command::new("logrotate");
            logrotate.arg("--force").arg("--state").arg(dir.path().join("state")).arg(&config);
            foreign::text(logrotate.env("PATH", &path).stdin(Stdio::null()));
            let reopened = || {
                let text = std::fs::read_to_string(&out).unwrap_or_default();
                text.contains("log file opened anew").then_some(())
            };
            wait::until("the new file to be written to", reopened);
        }
        drop(ending);
    });
    server.stop(Signal::TERM);

    let asked = std::fs::read_to_string(dir.path().join("asked")).unwrap();
    let line = "kill --kill-who=main --signal=HUP mahavishnu-websocket*.service\n";
    assert_eq!(asked, line.repeat(ROTATIONS));
    let text = all_of(dir.path(), "websocket.log");
    let files = text.matches("\"listening\"").count() + text.matches(" listening ").count();
    assert_eq!(files, 1, "the first file is there still");
    let ports = ports.into_inner().unwrap();
    for port in &ports {
        let line = format!("peer=127.0.0.1:{port} ");
        assert!(text.contains(&line), "no {line:?} of {} clients in:\n{text}", ports.len());
    }
    assert!(!text.contains("log lines are missing"), "{text}");
}

/// Ends the clients, also when something has failed.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is in a log and in all that it was before, compressed or not.
fn all_of(dir: &Path, name: &str) -> String {
    let names = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    let is_log = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(name);
    let mut files: Vec<_> = names.filter(is_log).collect();
    files.sort();
    assert!(files.len() > 3, "{files:?}");
    let mut zcat = Command::new("zcat");
    foreign::text(zcat.arg("--force").args(files))
}

#[test]
fn a_file_that_cannot_be_opened_anew_is_written_to_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let (out, err) = (logs.join("out"), logs.join("err"));
    let open = |path| OpenOptions::new().append(true).create(true).open(path).unwrap();
    let mut server = Logged::start(dir.path(), &[], open(&out), open(&err));
    server.wait_ready();
    let moved = dir.path().join("moved");
    std::fs::rename(&logs, &moved).unwrap();
    // A reload is carried out all the same.
    let done = mahavishnu_tests::server::run(dir.path(), &[], &["websocket", "reload"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let said = || {
        let text = std::fs::read_to_string(moved.join("err")).unwrap();
        text.contains("the log file cannot be opened anew").then_some(())
    };
    wait::until("a word about it", said);
    server.stop(Signal::TERM);
    assert!(std::fs::read_to_string(moved.join("out")).unwrap().contains("stopped"));
}
