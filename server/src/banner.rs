//! What a person at a terminal sees when the server is up: where it is, and lines to paste.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use mahavishnu_core::protocol::Request;

use crate::{
    settings::{self, Settings},
    tls,
};

/// Where a running server is.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    /// `host:port` as this machine reaches WebSocket, health and publishing.
    pub(crate) main: String,
    /// The same for metrics, if they are served.
    pub(crate) metrics: Option<String>,
}

impl Addresses {
    /// `main` and `metrics` are where the server listens, the first address of each.
    pub(crate) fn new(settings: &Settings, main: SocketAddr, metrics: Option<SocketAddr>) -> Self {
        let host = settings.metrics_host.as_ref().unwrap_or(&settings.host);
        Self {
            main: authority(&settings.host, main),
            metrics: metrics.map(|metrics| authority(host, metrics)),
        }
    }
}

/// The text, with a line break at its end.
#[derive(Debug)]
pub(crate) struct Banner<'a> {
    /// How this program was called.
    pub(crate) program: &'a str,
    pub(crate) settings: &'a Settings,
    pub(crate) addresses: &'a Addresses,
    pub(crate) state_dir: &'a Path,
    /// The file that the key for tokens is in, if it is in one: other terminals have it there, too.
    pub(crate) key_file: Option<&'a Path>,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, settings, addresses, state_dir, key_file } = self;
        let main = &addresses.main;
        let auth = match settings.auth_enabled {
            true => "required: clients need a token",
            false => "off: clients need no token",
        };
        writeln!(f, "\nMahavishnu {} is up.\n", env!("CARGO_PKG_VERSION"))?;
        let (ws, http) = if settings.tls_enabled { ("wss", "https") } else { ("ws", "http") };
        writeln!(f, "  WebSocket       {ws}://{main}{}", everywhere(&settings.host))?;
        if settings.page {
            writeln!(f, "  Page            {http}://{main}/")?;
        }
        if let Some(metrics) = &addresses.metrics {
            let host = settings.metrics_host.as_ref().unwrap_or(&settings.host);
            writeln!(f, "  Metrics         http://{metrics}/metrics{}", everywhere(host))?;
        }
        writeln!(f, "  Authentication  {auth}")?;
        writeln!(f, "  Shards          {}", settings.shards.resolve())?;
        writeln!(f, "  State           {}\n", state_dir.display())?;
        writeln!(f, "In another terminal:\n")?;
        if settings.auth_enabled {
            let flag = match key_file {
                Some(file) => format!(" --env-file {}", file.display()),
                None => {
                    writeln!(
                        f,
                        "  # with the key of this server there, too; `{program} init` writes a file with one for both"
                    )?;
                    String::new()
                }
            };
            writeln!(
                f,
                "  export MAHAVISHNU_TOKEN=$({program} token create{flag} --user me --permission admin)"
            )?;
        }
        let header = if settings.auth_enabled {
            " -H \"Authorization: Bearer $MAHAVISHNU_TOKEN\""
        } else {
            ""
        };
        if settings.tls_enabled && settings.cert_file.is_empty() {
            writeln!(f, "  # This certificate is for development. A client trusts it by one of:")?;
            for line in tls::trust_lines(state_dir, &format!("https://{main}")) {
                writeln!(f, "  {line}")?;
            }
        }
        writeln!(f, "  {program} subscribe --url {ws}://{main} workflow:42")?;
        writeln!(
            f,
            "  {program} publish --url {http}://{main} workflow:42 workflow.started '{{\"workflow_id\":\"42\"}}'"
        )?;
        writeln!(f, "  npx --yes wscat -c {ws}://{main}{header}")?;
        writeln!(f, "    {}", Request::Subscribe { channel: "workflow:42" }.to_text(None))?;
        writeln!(f, "  curl -s {http}://{main}/health\n")?;
        writeln!(f, "Ctrl-C stops it.\n")
    }
}

/// `address` as this machine reaches it: by the name that was set, which may have other addresses, too.
fn authority(host: &str, address: SocketAddr) -> String {
    let name = host.parse::<IpAddr>().is_err();
    let host = if name { host.to_owned() } else { settings::reachable(&address.ip().to_string()) };
    if host.contains(':') {
        format!("[{host}]:{}", address.port())
    } else {
        format!("{host}:{}", address.port())
    }
}

fn everywhere(host: &str) -> &'static str {
    match host.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => "  (on every address of this machine)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::testing::load;

    fn text(pairs: &[(&str, &str)], main: &str) -> String {
        let loaded = load(pairs);
        let settings = &loaded.settings;
        let metrics = "127.0.0.1:9".parse().unwrap();
        let addresses = Addresses::new(settings, main.parse().unwrap(), Some(metrics));
        let (state_dir, key_file) = (Path::new("/s"), Some(Path::new("/e/p.env")));
        let key_file = key_file.filter(|_| !pairs.contains(&("SERVER_NAME", "keyless")));
        let program = "bin/m";
        Banner { program, settings, addresses: &addresses, state_dir, key_file }.to_string()
    }

    #[test]
    fn its_lines_can_be_pasted() {
        let text = text(&[("SHARDS", "2")], "127.0.0.1:1");
        for line in [
            "  bin/m subscribe --url ws://127.0.0.1:1 workflow:42",
            "  bin/m publish --url http://127.0.0.1:1 workflow:42 workflow.started '{\"workflow_id\":\"42\"}'",
            "  npx --yes wscat -c ws://127.0.0.1:1",
            "    {\"type\":\"request\",\"event\":\"subscribe\",\"data\":{\"channel\":\"workflow:42\"}}",
            "  curl -s http://127.0.0.1:1/health",
            "  Page            http://127.0.0.1:1/",
            "  Metrics         http://127.0.0.1:9/metrics",
            "  Authentication  off: clients need no token",
            "  Shards          2",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_page_that_is_off_is_not_named() {
        let text = text(&[("PAGE", "false")], "127.0.0.1:1");
        assert!(!text.contains("Page"), "{text}");
    }

    #[test]
    fn with_authentication_it_shows_how_to_get_a_token() {
        let secret = "q8ZtV1mC0y7hTn3sLw5xJ2kRbG9dFaEu";
        let text = text(&[("AUTH_ENABLED", "true"), ("JWT_SECRET", secret)], "127.0.0.1:1");
        let create = "export MAHAVISHNU_TOKEN=$(bin/m token create --env-file /e/p.env --user me";
        assert!(text.contains(create), "{text}");
        assert!(
            text.contains(
                "wscat -c ws://127.0.0.1:1 -H \"Authorization: Bearer $MAHAVISHNU_TOKEN\""
            ),
            "{text}"
        );
        assert!(!text.contains(secret), "{text}");
        let pairs = [("AUTH_ENABLED", "true"), ("JWT_SECRET", secret), ("SERVER_NAME", "keyless")];
        let text = self::text(&pairs, "127.0.0.1:1");
        assert!(text.contains("# with the key of this server there, too"), "{text}");
    }

    #[test]
    fn a_name_is_shown_as_it_was_set_with_the_port_that_was_free() {
        let text = text(&[("HOST", "localhost"), ("PORT", "0")], "[::1]:7");
        assert!(text.contains("  WebSocket       ws://localhost:7\n"), "{text}");
        assert!(text.contains("  Metrics         http://localhost:9/metrics\n"), "{text}");
    }

    #[test]
    fn wildcards_are_shown_as_something_to_connect_to() {
        assert!(
            text(&[("HOST", "0.0.0.0")], "0.0.0.0:1").contains("ws://127.0.0.1:1  (on every"),
            "IPv4"
        );
        assert!(text(&[("HOST", "::")], "[::]:1").contains("ws://[::1]:1  (on every"), "IPv6");
    }
}
