//! What a server is to be like.

use std::path::{Path, PathBuf};

use crate::{Kind, Redis};

/// What a server is to be like. By default: the oldest Redis, that keeps nothing on disk and asks for no password.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) kind: Kind,
    pub(crate) password: Option<String>,
    pub(crate) tls: Option<Tls>,
    pub(crate) lines: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Clients have to show a certificate of this authority.
    pub(crate) authority: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { kind: Kind::redis(), password: None, tls: None, lines: Vec::new() }
    }
}

impl Options {
    /// A server of this kind.
    pub fn of(kind: &Kind) -> Self {
        Self { kind: kind.clone(), ..Self::default() }
    }

    /// Every write is on disk before it is answered (AOF), so that it outlives [`Redis::kill`].
    #[must_use]
    pub fn aof(self) -> Self {
        self.line("appendonly yes").line("appendfsync always")
    }

    /// The default user has this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.line(&format!("requirepass {password}")).line(&format!("masterauth {password}"))
    }

    /// A further user, with these rules of an ACL: `worker`, `on >secret ~app:* &app:* +@all`.
    #[must_use]
    pub fn user(self, name: &str, rules: &str) -> Self {
        self.line(&format!("user {name} {rules}"))
    }

    /// No more memory than this; what would take more is refused with `-OOM`.
    #[must_use]
    pub fn memory(self, bytes: u64) -> Self {
        self.line(&format!("maxmemory {bytes}"))
    }

    /// TLS too, on [`Redis::tls_address`]; the plain port stays. With `authority`, clients have to show a certificate
    /// of it. Only where [`Kind::has_tls`].
    #[must_use]
    pub fn tls(mut self, certificate: &Path, key: &Path, authority: Option<&Path>) -> Self {
        let authority = authority.map(Path::to_owned);
        self.tls = Some(Tls { certificate: certificate.into(), key: key.into(), authority });
        self
    }

    /// A replica of this server from the start.
    #[must_use]
    pub fn replica_of(self, primary: &Redis) -> Self {
        self.line(&format!("replicaof 127.0.0.1 {}", primary.port()))
    }

    /// A line of its configuration file.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Its configuration file.
    pub(crate) fn file(&self, dir: &Path, port: u16, tls_port: u16) -> String {
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("port {port}"),
            format!("dir \"{}\"", dir.display()),
            "protected-mode no".into(),
            "save \"\"".into(),
            // Seconds of waiting for further replicas.
            "repl-diskless-sync-delay 0".into(),
        ];
        if self.kind.version >= (7, 0, 0) {
            lines.push("enable-debug-command yes".into());
        }
        if let Some(tls) = &self.tls {
            lines.push(format!("tls-port {tls_port}"));
            lines.push(format!("tls-cert-file \"{}\"", tls.certificate.display()));
            lines.push(format!("tls-key-file \"{}\"", tls.key.display()));
            match &tls.authority {
                Some(file) => lines.push(format!("tls-ca-cert-file \"{}\"", file.display())),
                // Redis insists on one, although it asks nobody.
                None => {
                    lines.push(format!("tls-ca-cert-file \"{}\"", tls.certificate.display()));
                    lines.push("tls-auth-clients no".into());
                }
            }
        }
        lines.extend(self.lines.iter().cloned());
        lines.join("\n") + "\n"
    }
}
