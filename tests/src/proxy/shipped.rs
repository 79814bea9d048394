//! Proxies with the files in `deploy`, as they are but for names, ports and paths.

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use rustix::process::Signal;

use super::{Proxy, Reload, make_certificate};
use crate::{
    Server, binary, foreign,
    http::Response,
    server::{free_ports, signal},
};

impl Proxy {
    /// nginx with `deploy/nginx/nginx.conf` and a site beside it.
    pub fn nginx_tuned(server: &Server, site: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the proxy");
        let (port, plain) = free_ports();
        make_certificate(dir.path());
        let root = dir.path().display();
        for name in ["sites-enabled", "log"] {
            fs::create_dir(dir.path().join(name)).expect("its directory is ours");
        }
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {root}/{what};\n"))
            .concat();
        let pem = |name: &str| format!("{root}/{name}");
        let text = replaced(
            &format!("nginx/{site}.conf"),
            &[
                ("127.0.0.1:8686", &server.address().to_string()),
                ("127.0.0.1:9090", &server.metrics_address().to_string()),
                ("    listen [::]:80;\n", ""),
                ("    listen [::]:443 ssl http2;\n", ""),
                ("listen 80;", &format!("listen 127.0.0.1:{plain};")),
                ("listen 443 ssl http2;", &format!("listen 127.0.0.1:{port} ssl http2;")),
                ("mahavishnu.example.com;", "localhost;"),
                ("/etc/ssl/certs/mahavishnu.pem", &pem("cert.pem")),
                ("/etc/ssl/private/mahavishnu-key.pem", &pem("key.pem")),
            ],
        );
        let text = text.replace("/etc/ssl/certs/ca-certificates.crt", &pem("cert.pem"));
        let text = text.replace("/var/log/nginx", &format!("{root}/log"));
        let site = write(dir.path(), "sites-enabled/mahavishnu-websocket", &(temporary + &text));
        let text = replaced(
            "nginx/nginx.conf",
            &[
                ("/run/nginx.pid", &format!("{root}/pid")),
                ("/var/log/nginx", &format!("{root}/log")),
                ("/etc/nginx/sites-enabled", &format!("{root}/sites-enabled")),
            ],
        );
        let config = write(dir.path(), "nginx.conf", &text);
        let nginx = |also: &[&str]| {
            let mut command = Command::new("nginx");
            command.args(["-g", "daemon off;", "-e", "stderr", "-c", &config]).args(also);
            command
        };
        let said = check(&mut nginx(&["-t"]));
        // The certificate of a test has no OCSP address.
        let warned = said.lines().any(|line| line.contains("[warn]") && !line.contains("stapling"));
        assert!(!warned, "{said}");
        let mut this = Self::run(nginx(&[]), dir, port);
        (this.plain, this.file, this.reload) = (plain, site, Reload::Signal(Signal::HUP));
        this
    }

    /// HAProxy with `deploy/haproxy/haproxy.cfg`.
    pub fn haproxy_shipped(server: &Server) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the proxy");
        let (port, plain) = free_ports();
        make_certificate(dir.path());
        let read = |name| fs::read_to_string(dir.path().join(name)).expect("it has been made");
        let pem = write(dir.path(), "mahavishnu.pem", &(read("cert.pem") + &read("key.pem")));
        let text = replaced(
            "haproxy/haproxy.cfg",
            &[
                ("log /dev/log local0", "log stderr format raw local0 err"),
                // A test may run as anybody, and with few open files.
                ("maxconn 20000", "maxconn 2000"),
                ("    user haproxy\n    group haproxy\n", ""),
                ("bind :80\n", &format!("bind 127.0.0.1:{plain}\n")),
                ("bind :443 ", &format!("bind 127.0.0.1:{port} ")),
                ("/etc/haproxy/mahavishnu.pem", &pem),
                ("127.0.0.1:8686", &server.address().to_string()),
                ("127.0.0.1:9090", &server.metrics_address().to_string()),
            ],
        );
        let config = write(dir.path(), "haproxy.cfg", &text);
        let said = check(Command::new("haproxy").args(["-c", "-f", &config]));
        assert!(!said.contains("[WARNING]"), "{said}");
        let mut command = Command::new("haproxy");
        command.args(["-W", "-db", "-f", &config]);
        let mut this = Self::run(command, dir, port);
        (this.plain, this.file, this.reload) = (plain, config, Reload::Signal(Signal::USR2));
        this
    }

    /// Caddy with `deploy/caddy/Caddyfile`.
    pub fn caddy(server: &Server) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the proxy");
        let (port, plain) = free_ports();
        let (admin, _) = free_ports();
        make_certificate(dir.path());
        let pem = |name: &str| dir.path().join(name).display().to_string();
        let text = replaced(
            "caddy/Caddyfile",
            &[
                (
                    "admin localhost:2019",
                    &format!("admin 127.0.0.1:{admin}\n\tdefault_bind 127.0.0.1"),
                ),
                ("http://mahavishnu.example.com {", &format!("http://localhost:{plain} {{")),
                ("\nmahavishnu.example.com {", &format!("\nhttps://localhost:{port} {{")),
                ("/etc/ssl/certs/mahavishnu.pem", &pem("cert.pem")),
                ("/etc/ssl/private/mahavishnu-key.pem", &pem("key.pem")),
                ("reverse_proxy 127.0.0.1:8686", &format!("reverse_proxy {}", server.address())),
                ("127.0.0.1:9090", &server.metrics_address().to_string()),
            ],
        );
        let config = write(dir.path(), "Caddyfile", &text);
        let caddy = |what: &str| {
            let mut command = foreign::installed("caddy/bin/caddy");
            command.args([what, "--config", &config, "--adapter", "caddyfile"]);
            command.env("HOME", dir.path()).env("XDG_DATA_HOME", dir.path());
            command.env("XDG_CONFIG_HOME", dir.path());
            command
        };
        let said = check(&mut caddy("validate"));
        assert!(!said.contains("\"level\":\"warn\""), "{said}");
        let mut reload = caddy("reload");
        reload.args(["--force", "--address", &format!("127.0.0.1:{admin}")]);
        let mut run = caddy("run");
        run.stderr(Stdio::null());
        let mut this = Self::run(run, dir, port);
        (this.plain, this.file, this.reload) = (plain, config, Reload::Command(reload));
        this
    }

    /// HAProxy with the backend of the production guide, before two servers, in the clear. It asks more often.
    pub fn haproxy_of_the_guide([first, second]: [&Server; 2]) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the proxy");
        let (port, _) = free_ports();
        let text = format!(
            "defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 10s

frontend in
    bind 127.0.0.1:{port}
    default_backend mahavishnu_websocket

backend mahavishnu_websocket
    balance leastconn
    option httpchk GET /health
    http-check expect status 200
    default-server inter 100ms rise 2 fall 3
    server web1 {} check
    server web2 {} check backup
",
            first.address(),
            second.address()
        );
        let config = write(dir.path(), "haproxy.cfg", &text);
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f", &config]);
        Self::run(command, dir, port)
    }

    /// Reads its file again, in which something is another thing now, as an operator has it done.
    pub fn reload_with(&mut self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.file).expect("it has been written");
        assert!(text.contains(from), "{text}");
        fs::write(&self.file, text.replace(from, to)).expect("its directory is ours");
        match &mut self.reload {
            Reload::Not => panic!("nothing to reload"),
            Reload::Signal(how) => signal(&self.child, *how),
            Reload::Command(command) => {
                check(command);
            }
        }
    }

    /// What curl is answered over TLS, in HTTP/2 if the proxy has it.
    pub fn ask(&self, path: &str, args: &[&str]) -> Response {
        let url = format!("https://localhost:{}{path}", self.port);
        foreign::curl_answer(&[&["--http2", "--cacert", &self.certificate(), &url], args].concat())
    }

    /// What curl is answered without TLS.
    pub fn ask_plain(&self, path: &str) -> Response {
        foreign::curl_answer(&[&format!("http://localhost:{}{path}", self.plain)])
    }

    /// The statuses of so many requests one after the other.
    pub fn statuses(&self, path: &str, count: u32) -> Vec<u16> {
        let url = format!("https://localhost:{}{path}?[1-{count}]", self.port);
        let certificate = self.certificate();
        let args = ["--cacert", &certificate, "--output", "/dev/null", "--write-out"];
        let said = foreign::curl(&[&args[..], &["%{http_code}\n", &url]].concat());
        said.lines().map(|line| line.parse().expect("a status")).collect()
    }

    /// A WebSocket through it, from an address of this machine.
    pub fn hold(&self, channel: &str, from: &str) -> Held {
        let url = format!("wss://localhost:{}/", self.port);
        Held::new(&[&url, &self.certificate(), channel, from])
    }
}

/// One WebSocket of a Python client, which says what comes.
#[derive(Debug)]
pub struct Held {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Held {
    fn new(args: &[&str]) -> Self {
        let mut command = foreign::python_command("held.py", args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("python runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    /// What it says next; nothing if it has ended.
    pub fn line(&mut self) -> Option<String> {
        self.lines.next().map(|line| line.expect("it is text"))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file in `deploy` with all these replaced, each of which must be there.
fn replaced(file: &str, pairs: &[(&str, &str)]) -> String {
    let path = binary::workspace().join("deploy").join(file);
    let text = fs::read_to_string(&path);
    let mut text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (shipped, own) in pairs {
        assert!(text.contains(shipped), "{file} is without {shipped:?}");
        text = text.replace(shipped, own);
    }
    text
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).expect("its directory is ours");
    path.display().to_string()
}

/// What a command that must succeed says.
fn check(command: &mut Command) -> String {
    let done = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/setup-tests installs it"));
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(done.status.success(), "{command:?}: {said}");
    said
}
