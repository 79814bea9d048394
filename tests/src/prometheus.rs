//! Prometheus itself: a server of it that scrapes one of ours, and `promtool`. Installed by `scripts/setup-tests`.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{Server, foreign::curl, http, server::free_ports, wait};

/// A Prometheus that scrapes one server every second. Ends when dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one and waits until it answers.
    pub fn start(server: &Server) -> Self {
        let dir = tempfile::tempdir().expect("a directory for its data");
        let (port, _) = free_ports();
        let config = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: server\n  static_configs:\n  \
             - targets: ['{}']\n",
            server.metrics_address()
        );
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("its directory is ours");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}; scripts/setup-tests installs it"));
        let this = Self { child, port, _dir: dir };
        wait::until("Prometheus", || {
            let answer = http::try_get(this.address(), "/-/ready").ok()?;
            (answer.status == 200).then_some(())
        });
        this
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
            let data = self.api(&format!("query?query={name}"));
            let result = data["result"].as_array().expect("a vector").clone();
            let number = |series: &Value| series["value"][1].as_str()?.parse().ok();
            let read = |series: Value| {
                (series["metric"].clone(), number(&series).expect("a value is a number"))
            };
            (!result.is_empty()).then(|| result.into_iter().map(read).collect())
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
