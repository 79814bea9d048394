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

    /// What a promise of the page's script comes to. Panics if it fails.
    pub fn promise(&mut self, expression: &str) -> Value {
        let params = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
            "userGesture": true,
        });
        let mut result = self.call("Runtime.evaluate", params);
        assert_eq!(result["exceptionDetails"], Value::Null, "{expression}");
        result["result"]["value"].take()
    }

    /// Runs a script in each document that is opened from now on, before its own.
    pub fn before_each_document(&mut self, script: &str) {
        self.call("Page.enable", json!({}));
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script }));
    }

    /// Goes to another page.
    pub fn go(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({ "url": url }));
        assert_eq!(answer["errorText"], Value::Null, "{url}");
    }

    /// A window of that many pixels, for someone who prefers dark colours or does not, and wants nothing to move.
    pub fn show_as(&mut self, (width, height): (u32, u32), dark: bool) {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if dark { "dark" } else { "light" };
        // Colours that are on their way to others are neither.
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Scroll bars take no room any more, as on a telephone.
    pub fn hide_scroll_bars(&mut self) {
        self.call("Emulation.setScrollbarsHidden", json!({ "hidden": true }));
    }

    /// Presses a key that is no letter, for example `Tab`.
    pub fn press(&mut self, key: &str) {
        let code = if key == "Tab" { 9 } else { 13 };
        for kind in ["rawKeyDown", "char", "keyUp"] {
            let mut event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code,
            });
            // A Tab makes no character.
            match (kind, key) {
                ("char", "Enter") => event["text"] = "\r".into(),
                ("char", _) => continue,
                _ => {}
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// A picture of the window, as a PNG in base64.
    pub fn picture(&mut self) -> String {
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        answer["data"].as_str().expect("a picture").to_owned()
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
