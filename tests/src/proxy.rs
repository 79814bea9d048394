//! Proxies as operators run them: nginx, HAProxy, Caddy. Installed by `scripts/setup-tests`.

mod shipped;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    Server, binary,
    server::{free_ports, signal},
    wait,
};

pub use shipped::Held;

/// A running proxy in front of one server. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
    /// Where it listens without TLS, if it has a site there.
    plain: u16,
    /// What it reads again.
    file: String,
    reload: Reload,
}

/// How a proxy is told to read its files again.
#[derive(Debug)]
enum Reload {
    Not,
    Signal(Signal),
    Command(Command),
}

impl Proxy {
    /// nginx with `deploy/nginx/mahavishnu-websocket.conf`, on a free port and with a certificate of its own.
    pub fn nginx(server: &Server) -> Self {
        Self::nginx_edited(server, &[])
    }

    /// The same with other lines in the place of some of the site's.
    pub fn nginx_edited(server: &Server, edits: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the proxy");
        let (port, plain) = free_ports();
        make_certificate(dir.path());
        let shipped = binary::workspace().join("deploy/nginx/mahavishnu-websocket.conf");
        let site = std::fs::read_to_string(shipped).expect("the shipped site");
        let pem = |name: &str| dir.path().join(name).display().to_string();
        let site = site
            .replace("127.0.0.1:8686", &server.address().to_string())
            .replace("    listen [::]:80;\n", "")
            .replace("    listen [::]:443 ssl http2;\n", "")
            .replace("listen 80;", &format!("listen 127.0.0.1:{plain};"))
            .replace("listen 443 ssl http2;", &format!("listen 127.0.0.1:{port} ssl http2;"))
            .replace("/etc/ssl/certs/mahavishnu.pem", &pem("cert.pem"))
            .replace("/etc/ssl/private/mahavishnu-key.pem", &pem("key.pem"));
        let site = edits.iter().fold(site, |site, (from, to)| {
            assert!(site.contains(from), "the shipped site has no {from:?}:\n{site}");
            site.replace(from, to)
        });
        Self::run_nginx(dir, port, &site)
    }

    /// nginx with the shipped site before several servers, in the clear, and without its limits by address: all clients of
    /// a test come from one.
    pub fn nginx_to(servers: &[&Server]) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the proxy");
        let (port, plain) = free_ports();
        let shipped = binary::workspace().join("deploy/nginx/mahavishnu-websocket.conf");
        let site = std::fs::read_to_string(shipped).expect("the shipped site");
        let servers: String = servers
            .iter()
            .map(|server| format!("server {} max_fails=0;\n", server.address()))
            .collect();
        let one = "server 127.0.0.1:8686 max_fails=0;\n";
        assert!(site.contains(one), "the shipped site has another line:\n{site}");
        let left_out = ["ssl_", "limit_", "listen [::]", "Strict-Transport-Security"];
        let site: String = site
            .replace(one, &servers)
            .replace("listen 80;", &format!("listen 127.0.0.1:{plain};"))
            .replace("listen 443 ssl http2;", &format!("listen 127.0.0.1:{port};"))
            .lines()
            .filter(|line| !left_out.iter().any(|word| line.contains(word)))
            .map(|line| line.to_owned() + "\n")
            .collect();
        Self::run_nginx(dir, port, &site)
    }

    /// HAProxy that passes bytes on to whichever of these is ready, by its check of `/ready`.
    pub fn haproxy_to(servers: &[&Server]) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the proxy");
        let (port, _) = free_ports();
        let lines = |(number, server): (usize, &&Server)| {
            format!(" server n{number} {} check inter 500 fall 1 rise 1\n", server.address())
        };
        let servers: String = servers.iter().enumerate().map(lines).collect();
        let text = format!(
            "global\n maxconn 8000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n \
             timeout server 60s\n retries 3\n option redispatch\n\
             frontend in\n bind 127.0.0.1:{port}\n default_backend out\n\
             backend out\n balance leastconn\n option httpchk GET /ready\n{servers}"
        );
        let config = dir.path().join("haproxy.cfg");
        std::fs::write(&config, text).expect("its directory is ours");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config);
        Self::run(command, dir, port)
    }

    /// nginx with nothing behind it: it answers 200 when a request has come whole, as it would have passed it on.
    pub fn nginx_alone() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the proxy");
        let (port, _) = free_ports();
        let inner = dir.path().join("inner").display().to_string();
        let site = format!(
            "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://unix:{inner}:; }} }}\n\
             server {{ listen unix:{inner}; location / {{ return 200; }} }}\n"
        );
        Self::run_nginx(dir, port, &site)
    }

    /// nginx that serves a server below a path of its own, such as `/live/`.
    pub fn nginx_below(server: &Server, path: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the proxy");
        let (port, _) = free_ports();
        let address = server.address();
        let site = format!(
            "server {{ listen 127.0.0.1:{port}; location {path} {{ proxy_pass http://{address}/; proxy_http_version 1.1; \
             proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade; \
             proxy_set_header Connection upgrade; }} }}\n"
        );
        Self::run_nginx(dir, port, &site)
    }

    fn run_nginx(dir: tempfile::TempDir, port: u16, site: &str) -> Self {
        let root = dir.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {root}/{what};\n"))
            .concat();
        let main = format!(
            "daemon off;\nmaster_process off;\npid {root}/pid;\nerror_log stderr crit;\nevents {{ worker_connections 8000; }}\n\
             http {{\naccess_log off;\n{temporary}{site}\n}}\n"
        );
        let config = dir.path().join("nginx.conf");
        std::fs::write(&config, main).expect("its directory is ours");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir.path()).arg("-e").arg("stderr").arg("-c").arg(config);
        Self::run(command, dir, port)
    }

    /// HAProxy that passes bytes on, behind a header of the PROXY protocol: `send-proxy` or `send-proxy-v2`. It comes from
    /// 127.0.0.2.
    pub fn haproxy(server: &Server, header: &str) -> Self {
        Self::haproxy_with(server, header, "")
    }

    /// The same, with further lines for how it treats the server.
    pub fn haproxy_with(server: &Server, header: &str, lines: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the proxy");
        let (port, _) = free_ports();
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             frontend in\n bind 127.0.0.1:{port}\n default_backend out\n\
             backend out\n source 127.0.0.2\n{lines} server one {} {header}\n",
            server.address()
        );
        let config = dir.path().join("haproxy.cfg");
        std::fs::write(&config, text).expect("its directory is ours");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config);
        Self::run(command, dir, port)
    }

    fn run(mut command: Command, dir: tempfile::TempDir, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{command:?}: {error}; scripts/setup-tests installs it")
        });
        let this = Self { child, dir, port, plain: 0, file: String::new(), reload: Reload::Not };
        let deadline = Instant::now() + wait::DEADLINE;
        while TcpStream::connect(this.address()).is_err() {
            assert!(Instant::now() < deadline, "the proxy does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        this
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The file that clients trust, for command lines.
    pub fn certificate(&self) -> String {
        self.dir().join("cert.pem").display().to_string()
    }

    /// The directory with `cert.pem`, which clients trust.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // One that has workers ends them.
        if matches!(self.reload, Reload::Signal(_)) {
            signal(&self.child, Signal::TERM);
            let _ = wait::within(wait::DEADLINE, || self.child.try_wait().ok().flatten());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A self-signed certificate for localhost, by openssl.
fn make_certificate(dir: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
}
