//! A server under test: started as an operator starts it, watched by what it prints, stopped or killed.

use std::{
    collections::BTreeMap,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::handshake::client::Response as Refusal;

use crate::{binary, client::Client, http, metrics::Metrics, raw::Raw, stream, wait};

/// A running server. Killed when dropped; a panic in its log fails the test.
#[derive(Debug)]
pub struct Server {
    process: Process,
    port: u16,
    metrics_port: u16,
    dir: TempDir,
    env: BTreeMap<String, String>,
}

/// A program with its output as it comes.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Done {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Server {
    /// A server with default settings on free ports.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server with these settings, named without `MAHAVISHNU_`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::with_file(settings, "")
    }

    /// The same, and `file` as its `.env`, which [`reload`](Self::reload) can change.
    pub fn with_file(settings: &[(&str, &str)], file: &str) -> Self {
        Self::launch(settings, &[], file)
    }

    /// A server with these settings, and further variables in its environment, named in full.
    pub fn with_variables(settings: &[(&str, &str)], variables: &[(&str, &str)]) -> Self {
        Self::launch(settings, variables, "")
    }

    fn launch(settings: &[(&str, &str)], variables: &[(&str, &str)], file: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the server's state");
        std::fs::write(dir.path().join(".env"), file).expect("its directory is ours");
        let mut env = base_env(dir.path());
        env.extend(
            settings
                .iter()
                .map(|(name, value)| (format!("MAHAVISHNU_{name}"), (*value).to_owned())),
        );
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        env.extend(variables);
        // Another test may take a free port before the server does: then with other ports.
        for _ in 0..10 {
            let (port, metrics_port) = free_ports();
            let mut env = env.clone();
            env.entry("MAHAVISHNU_PORT".into()).or_insert_with(|| port.to_string());
            env.entry("MAHAVISHNU_METRICS_PORT".into()).or_insert_with(|| metrics_port.to_string());
            let port = env["MAHAVISHNU_PORT"].parse().expect("a port");
            let metrics_port = env["MAHAVISHNU_METRICS_PORT"].parse().expect("a port");
            let mut process = spawn(dir.path(), &env, &["websocket", "start"]);
            match process.wait_ready(port, env.get("MAHAVISHNU_SERVER_NAME")) {
                Ok(()) => return Self { process, port, metrics_port, dir, env },
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("the server did not start:\n{log}"),
            }
        }
        panic!("no free ports in ten attempts")
    }

    /// A server with one shard, whatever the run says: the number of subscribers that a publish reports is then exact
    /// at once. With more, a channel's home hears of an unsubscribe a moment after the client has its confirmation.
    pub fn alone() -> Self {
        Self::with(&[("SHARDS", "1")])
    }

    /// A server that requires authentication, with [`token::SECRET`](crate::token::SECRET).
    pub fn with_auth(settings: &[(&str, &str)]) -> Self {
        let auth = [("AUTH_ENABLED", "true"), ("JWT_SECRET", crate::token::SECRET)];
        Self::with(&[&auth[..], settings].concat())
    }

    /// Starts the same server again, on the same ports and state, after it ended.
    pub fn start_again(&mut self) {
        self.process = spawn(self.dir.path(), &self.env, &["websocket", "start"]);
        if let Err(log) = self.process.wait_ready(self.port, self.env.get("MAHAVISHNU_SERVER_NAME"))
        {
            panic!("the server did not start again:\n{log}");
        }
    }

    /// Writes a `.env` file for the next start or reload. The environment, which has ports and names, wins over it.
    pub fn write_env_file(&self, text: &str) {
        std::fs::write(self.dir.path().join(".env"), text).expect("its directory is ours");
    }

    /// Has it read another `.env` file, and waits until that is in force.
    pub fn reload(&self, file: &str) {
        let generation = |metrics: &Metrics| metrics.count("mahavishnu_config_generation", &[]);
        let before = generation(&self.metrics());
        self.write_env_file(file);
        self.signal(Signal::HUP);
        self.metrics_when("a reload", |metrics| generation(metrics) > before);
    }

    /// Runs another subcommand with this server's settings.
    pub fn run(&self, args: &[&str]) -> Done {
        spawn(self.dir.path(), &self.env, args).finish()
    }

    /// Starts a further process with this server's settings and lets it run.
    pub fn spawn(&self, args: &[&str]) -> Process {
        spawn(self.dir.path(), &self.env, args)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the end. Panics if it does not come.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// SIGKILL, and waits.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// SIGTERM, and waits.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Where WebSocket, health and publishing answer.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Where metrics answer.
    pub fn metrics_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.metrics_port))
    }

    /// The variables that it was started with.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// One of them, named in full.
    pub fn variable(&self, name: &str) -> &str {
        &self.env[name]
    }

    /// Its name, which is its own.
    pub fn name(&self) -> &str {
        &self.env["MAHAVISHNU_SERVER_NAME"]
    }

    /// A socket to the main port.
    pub fn connect(&self) -> TcpStream {
        self.connect_narrow(None)
    }

    fn connect_narrow(&self, room: Option<usize>) -> TcpStream {
        let address = self.address();
        stream::connect(None, address, room).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// A socket that speaks bytes.
    pub fn raw(&self) -> Raw {
        Raw::new(self.connect())
    }

    /// One through the handshake; the welcome, if there is one, is not read.
    pub fn raw_upgraded(&self) -> Raw {
        Raw::upgrade(self.connect())
    }

    /// One past the welcome.
    pub fn raw_hello(&self) -> Raw {
        Raw::hello(self.connect())
    }

    /// One through the handshake whose side holds about `room` bytes that were not read.
    pub fn raw_narrow(&self, room: usize) -> Raw {
        Raw::upgrade(self.connect_narrow(Some(room)))
    }

    /// A client through the handshake; what comes first is still to be heard.
    pub fn client(&self) -> Client {
        self.open("/", &[]).unwrap_or_else(|refused| panic!("refused: {refused:?}"))
    }

    /// A client by this path, with further header fields. An answer other than 101 is an error.
    pub fn open(&self, path: &str, headers: &[(&str, &str)]) -> Result<Client, Box<Refusal>> {
        Client::open(self.connect(), path, headers)
    }

    /// A client past the welcome.
    pub fn hello(&self) -> Client {
        let mut client = self.client();
        client.expect_welcome();
        client
    }

    /// A client that has shown a token.
    pub fn login(&self, token: &str) -> Client {
        let mut client = self.client();
        let answer = client.request("auth", json!({ "token": token }));
        assert_eq!(answer["data"]["status"], "authenticated", "{answer}");
        client.expect_welcome();
        client
    }

    /// Publishes by a `POST`, as a server without authentication lets loopback do, and returns how many subscribers it
    /// reached.
    pub fn post(&self, channel: &str, event: &str, data: &Value) -> u64 {
        let body = json!({ "channel": channel, "event": event, "data": data });
        let answer = http::post(self.address(), "/publish", &[], &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["subscribers"].as_u64().expect("a number")
    }

    /// `http://host:port` of the main port.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// `ws://host:port` of the main port.
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// What metrics say now.
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&http::get(self.metrics_address(), "/metrics").text())
    }

    /// Waits until metrics satisfy `condition`. They are handed over once per turn, so a client may be faster.
    pub fn metrics_when(&self, what: &str, condition: impl Fn(&Metrics) -> bool) -> Metrics {
        let mut last = None;
        let found = wait::within(wait::DEADLINE, || {
            let metrics = self.metrics();
            let fits = condition(&metrics);
            last = Some(metrics);
            fits.then_some(())
        });
        let last = last.expect("there was an attempt");
        assert!(found.is_some(), "waited in vain for {what} in:\n{}", last.text());
        last
    }

    /// Directory of its PID file.
    pub fn state_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Sockets of clients that the process holds.
    pub fn sockets(&self) -> usize {
        const LISTEN: &str = "0A";
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel tells");
        let ports = [self.port, self.metrics_port].map(|port| format!(":{port:04X}"));
        let is_ours = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next().unwrap_or_default(), fields.nth(1));
            // A socket that no process holds has no inode: it was closed, or nobody has accepted it yet.
            let held = fields.nth(5).is_some_and(|inode| inode != "0");
            held && state != Some(LISTEN) && ports.iter().any(|port| local.ends_with(port))
        };
        table.lines().filter(is_ours).count()
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells");
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number");
        kib * 1024
    }

    /// All that it has printed so far, both streams.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until the log has this: what is written may be read later than something else that the server has done.
    pub fn expect_log(&self, text: &str) {
        let found = wait::within(wait::DEADLINE, || self.log().contains(text).then_some(()));
        assert!(found.is_some(), "no {text:?}:\n{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.child.kill();
        let _ = self.process.child.wait();
        self.process.read_rest();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("---- log of the server ----\n{log}----");
        } else {
            assert!(!log.contains("panicked at"), "the server panicked:\n{log}");
        }
    }
}

impl Process {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, how: Signal) {
        signal(&self.child, how);
    }

    /// Waits for the end. Panics if it does not come.
    pub fn wait(&mut self) -> ExitStatus {
        match wait::within(wait::DEADLINE, || self.child.try_wait().expect("it is ours")) {
            Some(status) => status,
            None => {
                let _ = self.child.kill();
                panic!("it has not ended:\n{}", self.log())
            }
        }
    }

    /// Waits for the end and for all output.
    pub fn finish(mut self) -> Done {
        let code = self.wait().code();
        self.read_rest();
        let log = self.log();
        let (stdout, stderr) = split(&log);
        Done { code, stdout, stderr }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }

    /// All that it has printed so far. Lines of standard error begin with [`STDERR`].
    pub fn log(&self) -> String {
        self.log.lock().expect("no reader panics").clone()
    }

    /// Waits for the end of its output, which comes when it has ended.
    fn read_rest(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// Waits until health is answered by a server of this name, or says what was printed if it ended before.
    fn wait_ready(&mut self, port: u16, name: Option<&String>) -> Result<(), String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let deadline = Instant::now() + wait::DEADLINE;
        loop {
            if !self.is_running() {
                self.read_rest();
                return Err(self.log());
            }
            let answer = http::try_get(address, "/health");
            let expected =
                name.map_or_else(String::new, |name| format!("\"server\":{}", json!(name)));
            if answer.is_ok_and(|answer| answer.status == 200 && answer.text().contains(&expected))
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                return Err(format!("no health within {:?}\n{}", wait::DEADLINE, self.log()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the binary to its end, with these settings (named in full) and nothing else in its environment.
pub fn run(dir: &Path, settings: &[(&str, &str)], args: &[&str]) -> Done {
    spawn_in(dir, settings, args).finish()
}

/// Starts the binary like [`run`], and lets it run.
pub fn spawn_in(dir: &Path, settings: &[(&str, &str)], args: &[&str]) -> Process {
    let mut env = base_env(dir);
    env.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    spawn(dir, &env, args)
}

/// Sends a signal to a process that has not been waited for.
pub(crate) fn signal(child: &Child, how: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
    kill_process(pid, how).expect("it is ours");
}

/// Two ports that were free a moment ago.
pub fn free_ports() -> (u16, u16) {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let port = |listener: &TcpListener| listener.local_addr().expect("it is bound").port();
    let (first, second) = (listen(), listen());
    (port(&first), port(&second))
}

/// Every server has a name of its own, so that a test never takes another's for the one it waits for.
///
/// `MAHAVISHNU_TEST_SETTINGS` has settings for all servers that do not choose otherwise: with `SHARDS=3` the whole suite
/// runs against three shards.
pub(crate) fn base_env(dir: &Path) -> BTreeMap<String, String> {
    let name =
        dir.file_name().map(|name| name.to_string_lossy().trim_start_matches('.').to_owned());
    let path = std::env::var("PATH").unwrap_or_default();
    let dir = dir.display().to_string();
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), path),
        ("HOME".to_owned(), dir.clone()),
        ("MAHAVISHNU_STATE_DIR".to_owned(), dir),
        ("MAHAVISHNU_SERVER_NAME".to_owned(), name.unwrap_or_default()),
        // Tests ask by whatever name.
        ("MAHAVISHNU_ALLOWED_HOSTS".to_owned(), "*".to_owned()),
    ]);
    let settings = std::env::var("MAHAVISHNU_TEST_SETTINGS").unwrap_or_default();
    for (name, value) in settings.split(',').filter_map(|pair| pair.split_once('=')) {
        env.insert(format!("MAHAVISHNU_{}", name.trim()), value.trim().to_owned());
    }
    env
}

fn spawn(dir: &Path, env: &BTreeMap<String, String>, args: &[&str]) -> Process {
    let mut command = Command::new(binary::path());
    command.args(args).env_clear().envs(env).stdin(Stdio::null()).stdout(Stdio::piped());
    started(command.current_dir(dir))
}

/// Starts a command whose standard error is to be its log; and its standard output, if that is a pipe.
pub(crate) fn started(command: &mut Command) -> Process {
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the command can be run");
    let log = Arc::new(Mutex::new(String::new()));
    let out = child.stdout.take().map(|stdout| follow(stdout, "", &log));
    let stderr = child.stderr.take().expect("it is piped");
    let readers = out.into_iter().chain([follow(stderr, STDERR, &log)]).collect();
    Process { child, log, readers }
}

/// Marks lines of standard error in a log.
pub const STDERR: &str = "[stderr] ";

/// Copies a stream into the log, line by line. The pipe is always read, so the server never blocks on it.
fn follow(
    stream: impl Read + Send + 'static,
    mark: &'static str,
    log: &Arc<Mutex<String>>,
) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let mut lines = std::io::BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            match std::io::BufRead::read_until(&mut lines, b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let mut log = log.lock().expect("no reader panics");
                    log.push_str(mark);
                    log.push_str(&String::from_utf8_lossy(&line));
                }
            }
        }
    })
}

fn split(log: &str) -> (String, String) {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    for line in log.split_inclusive('\n') {
        match line.strip_prefix(STDERR) {
            Some(line) => stderr.push_str(line),
            None => stdout.push_str(line),
        }
    }
    (stdout, stderr)
}
