//! What is to be verified: a URL, and the server behind it if that is this machine's own.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::ClientConfig;

use crate::{
    cli::VerifyArgs,
    client,
    exit::{Exit, Failure},
    health,
    pid::{self, Candidates, Found},
    process::Identity,
    publish, running,
    running::Record,
    settings::{self, Loaded, Request},
    trust,
    url::Target,
};

/// Where to look, and by what means.
pub(super) struct Site {
    pub(super) target: Target,
    /// What a TLS client trusts; `None` where the target has no TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Only the certificate in the server's own file is trusted, whoever signed it and whatever name it is for.
    pub(super) pinned: bool,
    /// The server wants certificates of its clients, and this one has none to show.
    pub(super) is_mutual: bool,
    pub(super) token: Option<String>,
    pub(super) timeout: Duration,
    pub(super) inside: Option<Inside>,
}

/// The server of this machine.
pub(super) struct Inside {
    pub(super) request: Request,
    pub(super) loaded: Loaded,
    pub(super) server: Option<Running>,
}

/// A server that runs here.
pub(super) struct Running {
    pub(super) dir: PathBuf,
    pub(super) identity: Identity,
    pub(super) record: Result<Record, Failure>,
}

impl Site {
    /// The URL that is given, or the server of this machine. With both, files and processes are those of this machine.
    pub(super) fn find(args: &VerifyArgs) -> Result<Self, Failure> {
        let inside = (args.url.is_none() || args.find.is_given()).then(|| Inside::look(args));
        let (inside, noted) =
            inside.transpose()?.map_or((None, None), |(inside, url)| (Some(inside), url));
        let (target, tls, pinned) = match (&args.url, &inside) {
            (None, Some(inside)) => {
                let target = inside.target(noted.as_deref())?;
                let dir =
                    inside.server.as_ref().map(|server| server.dir.clone()).unwrap_or_default();
                let tls = target.tls.then(|| health::pinned(&inside.loaded.settings, &dir));
                (target, tls.transpose()?, true)
            }
            (url, _) => {
                let target = Target::from_args(url.as_deref())?;
                let tls = target.tls.then(trust::client_config).transpose()?;
                (target, tls, false)
            }
        };
        let token = publish::token(args.token.as_deref());
        let timeout = Duration::from_secs_f64(args.timeout);
        let is_mutual = pinned && inside.as_ref().is_some_and(Inside::is_mutual);
        Ok(Self { target, tls, pinned, is_mutual, token, timeout, inside })
    }

    /// An HTTP client for the target.
    pub(super) fn agent(&self) -> ureq::Agent {
        match &self.tls {
            Some(tls) => client::agent_over(tls.clone(), self.timeout),
            None => client::agent(self.timeout),
        }
    }

    /// Why what is to be seen only on the server's machine is not looked at.
    pub(super) fn outside() -> &'static str {
        "only on the server's machine: give its --env-file or --state-dir"
    }
}

impl Inside {
    fn look(args: &VerifyArgs) -> Result<(Self, Option<String>), Failure> {
        let mut request = args.find.request();
        let mut loaded = settings::load(&request)?;
        loaded.demand_sound(&["MAHAVISHNU_STATE_DIR", "MAHAVISHNU_HOST", "MAHAVISHNU_PORT"])?;
        let found = pid::find(&Candidates::new(loaded.settings.state_dir.as_deref()))?;
        let (server, url) = match found {
            Found::Running { dir, server: Some(identity), url } => {
                let record = running::read(&dir, identity.pid);
                (Some(Running { dir, identity, record }), url)
            }
            Found::Running { server: None, .. } | Found::Stale { .. } | Found::Nothing => {
                (None, None)
            }
        };
        // What the server was given besides its file counts here as it does there.
        if let Some(Running { record: Ok(record), .. }) = &server {
            let in_force = &record.in_force;
            request.overrides.extend(in_force.overrides());
            if request.env_file.is_none() && in_force.env_file.is_file() {
                request.env_file = Some(in_force.env_file.clone());
            }
            loaded = settings::load(&request)?;
        }
        Ok((Self { request, loaded, server }, url))
    }

    fn is_mutual(&self) -> bool {
        self.loaded.settings.tls_enabled && self.loaded.settings.verify_client
    }

    /// Where the running server answers, else where one with these settings would.
    fn target(&self, noted: Option<&str>) -> Result<Target, Failure> {
        let settings = &self.loaded.settings;
        // Health is there without TLS as well, unless MAHAVISHNU_TLS_PLAIN says otherwise.
        let tls = settings.tls_enabled && !self.is_mutual();
        if let Some(url) = noted {
            return Ok(Target { tls, ..Target::parse(url)? });
        }
        if settings.port == 0 {
            let text = "no server runs here, and MAHAVISHNU_PORT=0 does not say where one would";
            return Err(Failure::new(Exit::NotRunning, text));
        }
        let host = settings::reachable(&settings.host);
        Ok(Target { host, port: settings.port, tls, path: String::new() })
    }
}
