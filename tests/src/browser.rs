//! A real browser, installed by `scripts/setup-tests`, and what serves it pages.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Client, binary, http, stream, wait};

/// A browser with one page open. Ends when dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    profile: TempDir,
}

impl Browser {
    /// Opens `page`, with further arguments of the program.
    #[must_use]
    pub fn open(page: &str, args: &[&str]) -> Self {
        let profile = tempfile::tempdir().expect("a directory for the browser's profile");
        let child = Command::new(program())
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("--remote-debugging-port=0")
            .args(args)
            .arg(page)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{error}; scripts/setup-tests installs Chromium"));
        Self { child, profile }
    }

    /// The page, as a developer has it in hand: the Chrome DevTools Protocol.
    #[must_use]
    pub fn devtools(&self) -> DevTools {
        let file = self.profile.path().join("DevToolsActivePort");
        let port = wait::until("the browser to listen", || {
            let text = std::fs::read_to_string(&file).ok()?;
            text.lines().next()?.parse::<u16>().ok()
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let url = wait::until("the page to be there", || {
            let pages = http::try_get(address, "/json/list").ok()?.json();
            let page = pages.as_array()?.iter().find(|page| page["type"] == "page")?;
            Some(page["webSocketDebuggerUrl"].as_str()?.to_owned())
        });
        let socket = stream::connect(None, address, None).expect("the browser listens");
        let client = Client::open_at(socket, &url, &[]);
        let client = client.unwrap_or_else(|refused| panic!("{url}: {refused:?}"));
        DevTools { client, asked: 0 }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> &'static str {
    let known = ["chromium", "chromium-browser", "google-chrome"];
    let runs = |name: &&&str| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    known.iter().find(runs).copied().unwrap_or("chromium")
}

/// A connection to a page's developer tools.
#[derive(Debug)]
pub struct DevTools {
    client: Client,
    asked: u64,
}

impl DevTools {
    /// Takes the page's network away, or gives it back.
    pub fn set_offline(&mut self, offline: bool) {
        self.call("Network.enable", json!({}));
        let conditions = json!({
            "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1,
        });
        self.call("Network.emulateNetworkConditions", conditions);
    }

    /// What the page's script makes of an expression.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        self.call("Runtime.evaluate", params)["result"]["value"].take()
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.client.send(&json!({ "id": id, "method": method, "params": params }));
        loop {
            // Events stand between.
            let answer = self.client.message();
            if answer["id"] == id {
                assert_eq!(answer["error"], Value::Null, "{method}");
                return answer["result"].clone();
            }
        }
    }
}

/// Serves the files of the workspace over HTTP.
#[derive(Debug)]
pub struct Pages {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Pages {
    /// On a free port of this machine.
    #[must_use]
    pub fn serve() -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let server = std::thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                // A browser connects ahead, and says nothing then.
                std::thread::spawn(move || answer(&client.expect("a connection")));
            }
        });
        Self { address, is_over, server: Some(server) }
    }

    /// URL of a file, by its path in the workspace.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        let _ = self.server.take().map(JoinHandle::join);
    }
}

/// Answers one `GET`. Fails if there is none.
fn answer(client: &TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(client).lines();
    let request = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    while !lines.next().ok_or(io::ErrorKind::UnexpectedEof)??.is_empty() {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let file = binary::workspace().join(path.trim_start_matches('/'));
    let (status, body) = match std::fs::read(&file) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let (kind, length) = (kind_of(&file), body.len());
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    (&mut &*client).write_all(&[head.as_bytes(), &body].concat())
}

fn kind_of(file: &Path) -> &'static str {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html",
        Some("js" | "mjs") => "text/javascript",
        _ => "text/plain",
    }
}
