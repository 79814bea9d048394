//! Prometheus itself: a server of it that scrapes ours, Alertmanager, and `promtool`. Installed by `scripts/setup-tests`.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{Server, foreign::curl, http, server::free_ports, wait};

/// A Prometheus that scrapes servers every second. Ends when dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one and waits until it answers.
    pub fn start(server: &Server) -> Self {
        Self::of(&[server])
    }

    /// The same for several servers.
    pub fn of(servers: &[&Server]) -> Self {
        let targets: Vec<_> =
            servers.iter().map(|server| format!("'{}'", server.metrics_address())).collect();
        let config = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: server\n  static_configs:\n  \
             - targets: [{}]\n",
            targets.join(", ")
        );
        Self::with(&[("prometheus.yml", &config)])
    }

    /// One with these files, the first of which is its configuration.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory for its data");
        for (name, text) in files {
            let path = dir.path().join(name);
            let parent = path.parent().expect("it is below the directory");
            std::fs::create_dir_all(parent).expect("its directory is ours");
            std::fs::write(path, text).expect("its directory is ours");
        }
        let (port, _) = free_ports();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.path().join(files[0].0).display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}; scripts/setup-tests installs it"));
        let this = Self { child, port, dir };
        wait::until("Prometheus", || {
            let answer = http::try_get(this.address(), "/-/ready").ok()?;
            (answer.status == 200).then_some(())
        });
        this
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The labels and values of what an expression has at present.
    pub fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let query = format!("query={expression}");
        let url = format!("http://{}/api/v1/query", self.address());
        let answer = curl(&["--get", "--data-urlencode", &query, &url]);
        let answer: Value = serde_json::from_str(&answer).expect("its answers are JSON");
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        vector(&answer["data"])
    }

    /// What its HTTP API says at this path, which has to be a success.
    pub fn api(&self, path: &str) -> Value {
        // Long answers are chunked.
        let answer = curl(&["--globoff", &format!("http://{}/api/v1/{path}", self.address())]);
        let answer: Value = serde_json::from_str(&answer).expect("its answers are JSON");
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// The labels and values of all series of this name, once there are any.
    pub fn series(&self, name: &str) -> Vec<(Value, f64)> {
        wait::until(name, || {
            let found = vector(&self.api(&format!("query?query={name}")));
            (!found.is_empty()).then_some(found)
        })
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Labels and value of each series of an answer.
fn vector(data: &Value) -> Vec<(Value, f64)> {
    let number = |series: &Value| series["value"][1].as_str()?.parse().ok();
    let read =
        |series: &Value| (series["metric"].clone(), number(series).expect("a value is a number"));
    data["result"].as_array().expect("a vector").iter().map(read).collect()
}

/// An Alertmanager that tells nobody. Ends when dropped.
#[derive(Debug)]
pub struct Alertmanager {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Alertmanager {
    /// Starts one with this configuration and waits until it answers.
    pub fn start(config: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a directory for its data");
        let (port, _) = free_ports();
        // Debian has another name for it than its authors.
        let spawn = |name: &str| {
            Command::new(name)
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.path={}", dir.path().display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .args(["--cluster.listen-address=", "--log.level=error"])
                .stdin(Stdio::null())
                .spawn()
        };
        let child = spawn("prometheus-alertmanager").or_else(|_| spawn("alertmanager"));
        let child = child.unwrap_or_else(|error| {
            panic!("prometheus-alertmanager: {error}; scripts/setup-tests installs it")
        });
        let this = Self { child, address: (Ipv4Addr::LOCALHOST, port).into(), _dir: dir };
        wait::until("Alertmanager", || {
            let answer = http::try_get(this.address, "/-/ready").ok()?;
            (answer.status == 200).then_some(())
        });
        this
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The alerts that it has, suppressed ones among them.
    pub fn alerts(&self) -> Vec<Value> {
        let answer = curl(&[&format!("http://{}/api/v2/alerts", self.address)]);
        serde_json::from_str(&answer).expect("its answers are JSON")
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `promtool check metrics` says of an exposition: nothing, if it is well-formed and named by convention.
pub fn promtool(exposition: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}; scripts/setup-tests installs it"));
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(exposition.as_bytes()).expect("it reads all");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() { said } else { format!("{}\n{said}", output.status) }
}
