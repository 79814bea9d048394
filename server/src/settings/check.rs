//! Reads all settings and checks them against each other. Every problem is found in one go.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use mahavishnu_core::auth::{Policy, Revocations, TokenRules};

use super::{
    PREFIX, Settings,
    effects::without_effect,
    keys::{self, Key},
    passwords::Passwords,
    reader::{Problem, Reader},
    service::Service,
    sources::{Given, Request, Source, Sources},
    table::table,
    value::MASK,
};
use crate::{
    exit::{Exit, Failure},
    handed,
    policy::{self, PolicyFile},
    revoked,
    telemetry::Telemetry,
};

/// All settings, and what is wrong with them.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    /// Keys that tokens are verified with, the one without `kid` first.
    pub(crate) keys: Vec<Key>,
    /// What this server shows to others.
    pub(crate) passwords: Passwords,
    /// Rules of services, those of the policy file before the built-in ones.
    pub(crate) policies: PolicyFile,
    /// What the file of revoked tokens says.
    pub(crate) revoked: Arc<Revocations>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
    /// What is exported to OpenTelemetry, and the variables that say so, as they are shown, with where they come from.
    pub(crate) telemetry: Telemetry,
    pub(crate) telemetry_given: Vec<(String, String, Source)>,
    /// Where each value came from, by full name.
    pub(crate) origins: BTreeMap<&'static str, Source>,
    /// Under which name it was given, if under another one.
    pub(crate) spellings: BTreeMap<&'static str, String>,
    /// Which service it is, if one in particular.
    pub(crate) service: Option<Service>,
}

/// Reads the sources that `request` names. Fails only if a source cannot be read; what is wrong with the settings
/// themselves is in [`Loaded::problems`].
pub(crate) fn load(request: &Request) -> Result<Loaded, Failure> {
    Ok(evaluate(&Sources::read(request)?))
}

/// [`load`] as another process would, which has this environment and stands there.
pub(crate) fn load_of(
    request: &Request,
    environment: impl Iterator<Item = (String, OsString)>,
    working_directory: &Path,
) -> Result<Loaded, Failure> {
    Ok(evaluate(&Sources::assemble(request, environment, working_directory)?))
}

/// [`load`] from sources that have been read.
pub(crate) fn evaluate(sources: &Sources) -> Loaded {
    let mut reader = Reader::new(sources);
    let settings = Settings::read(&mut reader);
    let Reader { problems, mut warnings, origins, spellings, .. } = reader;
    warnings.extend(unknown_names(sources));
    let (telemetry, telemetry_given) = read_telemetry(sources, &mut warnings);
    let mut loaded = Loaded {
        settings,
        keys: Vec::new(),
        passwords: Passwords::default(),
        policies: PolicyFile::default(),
        revoked: Arc::default(),
        problems,
        warnings,
        telemetry,
        telemetry_given,
        origins,
        spellings,
        service: sources.service().cloned(),
    };
    loaded.load_keys();
    loaded.load_files();
    loaded.check_build();
    loaded.check_tls();
    loaded.check_keys();
    loaded.check_secret_files();
    loaded.check_network();
    loaded.check_redis();
    loaded.check_limits();
    loaded.check_recording();
    loaded.check_effects();
    loaded
}

impl Loaded {
    /// The environment file that has the key which tokens are signed with, if one has it. `None`: there is no key, or it
    /// comes from elsewhere.
    pub(crate) fn key_file(&self) -> Option<PathBuf> {
        match self.origins.get(self.keys.first()?.source())? {
            Source::File(path) => std::path::absolute(path).ok(),
            Source::Flag(_) | Source::Environment | Source::Service(_) | Source::Default => None,
        }
    }

    /// Who may subscribe and publish where, and whether MAHAVISHNU_POLICY_FILE says so.
    pub(crate) fn policy(&self) -> Option<(Policy, bool)> {
        let unsaid = self.origins.get("MAHAVISHNU_AUTH_POLICY") == Some(&Source::Default);
        // A service that only its file describes has its rules there, too.
        match self.service.as_ref().filter(|_| unsaid) {
            Some(service) => Some((policy::of_profile(service.profile())?, false)),
            None => self.policies.policy(&self.settings.auth_policy),
        }
    }

    /// Whose rules [`policy`](Self::policy) has.
    pub(crate) fn policy_name(&self) -> &str {
        let unsaid = self.origins.get("MAHAVISHNU_AUTH_POLICY") == Some(&Source::Default);
        let own = self.service.as_ref().filter(|_| unsaid);
        own.map_or(&self.settings.auth_policy, |service| &service.profile().name)
    }

    /// What is asked of tokens.
    pub(crate) fn token_rules(&self) -> TokenRules {
        let audience = self.origins.get("MAHAVISHNU_JWT_AUDIENCE");
        TokenRules {
            // Some helpers of a service name it, and some name nobody.
            audience_optional: matches!(audience, Some(Source::Service(_))),
            ..self.settings.token_rules()
        }
    }

    /// Fails if anything is wrong: what a server needs.
    pub(crate) fn demand_all(&self) -> Result<(), Failure> {
        self.demand(|_| true)
    }

    /// Fails if something is wrong with one of `names`: what a subcommand that uses only those needs.
    pub(crate) fn demand_sound(&self, names: &[&str]) -> Result<(), Failure> {
        self.demand(|problem| names.contains(&problem.name))
    }

    /// Whether the file of variables itself holds a secret.
    pub(crate) fn has_secrets_from_file(&self) -> bool {
        let secrets = table();
        let mut secrets = secrets.iter().filter(|row| row.is_secret);
        secrets.any(|row| matches!(self.origins.get(row.name()), Some(Source::File(_))))
    }

    /// Fails if something is wrong with where Redis is and how it is spoken to.
    pub(crate) fn demand_redis(&self) -> Result<(), Failure> {
        self.demand(|problem| problem.name.starts_with("MAHAVISHNU_REDIS_"))
    }

    fn demand(&self, relevant: impl Fn(&Problem) -> bool) -> Result<(), Failure> {
        let problems: Vec<_> = self.problems.iter().filter(|problem| relevant(problem)).collect();
        if problems.is_empty() {
            return Ok(());
        }
        let exit = if problems.iter().all(|p| p.exit == Exit::Permission) {
            Exit::Permission
        } else {
            Exit::Configuration
        };
        Err(Failure {
            exit,
            lines: problems.into_iter().map(|problem| problem.line.clone()).collect(),
        })
    }

    fn problem(&mut self, name: &'static str, text: impl std::fmt::Display) {
        self.problems.push(Problem {
            name,
            line: format!("{name}: {text}"),
            exit: Exit::Configuration,
        });
    }

    fn load_keys(&mut self) {
        let (keys, problems) = keys::load(&self.settings);
        self.keys = keys;
        self.problems.extend(problems);
        let (passwords, problems) = Passwords::load(&self.settings);
        self.passwords = passwords;
        self.problems.extend(problems);
    }

    /// The policy and the revoked tokens.
    fn load_files(&mut self) {
        let mut problem = |name, (exit, text): (Exit, String)| {
            self.problems.push(Problem { name, line: format!("{name}: {text}"), exit });
        };
        match self.settings.policy_file.as_deref().map(PolicyFile::read).transpose() {
            Ok(file) => self.policies = file.unwrap_or_default(),
            Err(wrong) => problem("MAHAVISHNU_POLICY_FILE", wrong),
        }
        match self.settings.revoked_file.as_deref().map(revoked::read).transpose() {
            Ok(read) => self.revoked = Arc::new(read.unwrap_or_default()),
            Err(wrong) => problem("MAHAVISHNU_REVOKED_FILE", wrong),
        }
        self.warnings.extend(self.policies.warnings.iter().cloned());
    }

    /// What the table has but this build has not.
    fn check_build(&mut self) {
        if !self.settings.runtime.is_built_in() {
            self.problem("MAHAVISHNU_RUNTIME", self.settings.runtime.missing());
        }
    }

    /// What a seed cannot bring back cannot be replayed.
    fn check_recording(&mut self) {
        if self.settings.record_file.is_some() && self.settings.tls_enabled {
            let text =
                "a server with TLS cannot be recorded: unset it, or let a proxy terminate TLS";
            self.problem("MAHAVISHNU_RECORD_FILE", text);
        }
    }

    /// Required authentication needs keys that cannot be guessed; optional authentication is only warned about.
    fn check_keys(&mut self) {
        let required = self.settings.auth_enabled;
        let doubts = self.keys.iter().filter_map(|key| Some((key.source(), key.doubt()?)));
        self.warnings.extend(doubts.map(|(name, doubt)| format!("{name}: {doubt}")));
        let published = |key: &Key| {
            let tokens = &self.service.as_ref()?.profile().tokens;
            let secret = key.secret.reveal();
            let known = tokens.refused_secrets.iter().any(|known| **known == *secret);
            known.then(|| PUBLISHED.to_owned())
        };
        let fault = |key: &Key| Some((key.source(), key.fault().or_else(|| published(key))?));
        let faults: Vec<_> = self.keys.iter().filter_map(fault).collect();
        for (name, fault) in faults {
            if required {
                self.problem(name, fault);
            } else {
                self.warnings.push(format!("{name}: {fault}"));
            }
        }
        let broken = |problem: &Problem| KEY_VARIABLES.contains(&problem.name);
        if required && self.keys.is_empty() && !self.problems.iter().any(broken) {
            let text = "is true, but there is no key: set MAHAVISHNU_JWT_SECRET (`openssl rand -base64 32` makes one)";
            self.problem("MAHAVISHNU_AUTH_ENABLED", text);
        }
        // What the core would refuse whatever the switch says: too many keys, or the text of a key file as a secret.
        if let Some(service) = &self.service
            && self.policy().is_none()
        {
            let name = &service.profile().name;
            let text = format!("the rights of {name} are too many, or one has no pattern");
            self.problem("MAHAVISHNU_SERVICE", text);
        }
        if let Err(failure) = crate::token::key_set(&self.keys) {
            self.problems.extend(failure.lines.into_iter().map(|line| Problem {
                name: "MAHAVISHNU_JWT_KEYS",
                line,
                exit: Exit::Configuration,
            }));
        }
        let unset = self.origins.get("MAHAVISHNU_AUTH_ENABLED") == Some(&Source::Default);
        if unset && !self.keys.is_empty() {
            let text = "MAHAVISHNU_AUTH_ENABLED is not set: clients are let in without a token, although there are keys";
            self.warnings.push(text.into());
        }
    }

    /// Files with secrets that are none on this machine. Those of [`check_tls`](Self::check_tls) are looked at when they are
    /// read.
    fn check_secret_files(&mut self) {
        let settings = &self.settings;
        let redis_key = settings.redis_key_file.as_ref().or(settings.redis_cert_file.as_ref());
        let files = [
            ("MAHAVISHNU_JWT_KEYS_FILE", settings.jwt_keys_file.as_ref()),
            ("MAHAVISHNU_REDIS_PASSWORD_FILE", settings.redis_password_file.as_ref()),
            (
                "MAHAVISHNU_REDIS_SENTINEL_PASSWORD_FILE",
                settings.redis_sentinel_password_file.as_ref(),
            ),
            ("MAHAVISHNU_REDIS_KEY_FILE", redis_key.filter(|_| settings.redis_tls)),
        ];
        let open = |(name, path): (&str, Option<&PathBuf>)| {
            let path = path.filter(|path| handed::is_open_to_all(path))?.display();
            Some(format!("{name}: {path}: every user of this machine can read it; `chmod 600` it"))
        };
        self.warnings.extend(files.into_iter().filter_map(open));
    }

    /// What the TLS variables say about each other; the files themselves are read later.
    fn check_tls(&mut self) {
        let settings = &self.settings;
        let (certificates, keys) = (settings.cert_file.len(), settings.key_file.len());
        if !settings.tls_enabled {
            return;
        }
        if certificates == 0 && !settings.auto_cert {
            let text = "is true, but there is no certificate: set MAHAVISHNU_CERT_FILE and MAHAVISHNU_KEY_FILE, or try --auto-cert";
            self.problem("MAHAVISHNU_TLS_ENABLED", text);
        } else if keys != 0 && keys != certificates {
            let text = format!(
                "names {keys} files, and MAHAVISHNU_CERT_FILE {certificates}; each certificate has one key"
            );
            self.problem("MAHAVISHNU_KEY_FILE", text);
        }
        let settings = &self.settings;
        if settings.verify_client && settings.ca_file.is_none() {
            let text = "is true, but MAHAVISHNU_CA_FILE does not say whose signatures count";
            self.problem("MAHAVISHNU_VERIFY_CLIENT", text);
        }
    }

    fn check_network(&mut self) {
        let settings = &self.settings;
        let metrics_host = settings.metrics_host.as_ref().unwrap_or(&settings.host);
        let same_port = settings.port == settings.metrics_port && settings.port != 0;
        if settings.metrics_enabled && same_port && overlap(&settings.host, metrics_host) {
            let text = format!(
                "{} is MAHAVISHNU_PORT already; metrics need a port of their own",
                settings.port
            );
            self.problem("MAHAVISHNU_METRICS_PORT", text);
        }
        if !self.settings.auth_enabled && !is_loopback(&self.settings.host) {
            let text = "authentication is off and MAHAVISHNU_HOST is not a loopback address: anyone who can reach it may subscribe";
            self.warnings.push(text.into());
            if self.settings.allow_remote_publish {
                let text = "MAHAVISHNU_ALLOW_REMOTE_PUBLISH is true and authentication is off: anyone who can reach it may publish";
                self.warnings.push(text.into());
            }
        }
    }

    /// Where Redis is and how it is spoken to, and what goes with it.
    fn check_redis(&mut self) {
        let settings = &self.settings;
        let mut problems: Vec<(&'static str, &str)> = Vec::new();
        if settings.redis_host.is_some() && !settings.redis_sentinels.is_empty() {
            let text = "MAHAVISHNU_REDIS_HOST is set, too, and the sentinels are to say where Redis is; unset one of the two";
            problems.push(("MAHAVISHNU_REDIS_SENTINELS", text));
        }
        if settings.redis_sentinel_master.is_none() && !settings.redis_sentinels.is_empty() {
            let text =
                "is not set, but MAHAVISHNU_REDIS_SENTINELS is: what do they call the primary?";
            problems.push(("MAHAVISHNU_REDIS_SENTINEL_MASTER", text));
        }
        let broken = |name| self.problems.iter().any(|problem| problem.name == name);
        if settings.has_redis()
            && settings.redis_username.is_some()
            && self.passwords.redis.is_none()
            && !broken("MAHAVISHNU_REDIS_PASSWORD_FILE")
        {
            let text = "is set, but there is no MAHAVISHNU_REDIS_PASSWORD";
            problems.push(("MAHAVISHNU_REDIS_USERNAME", text));
        }
        if !settings.redis_sentinels.is_empty()
            && settings.redis_sentinel_username.is_some()
            && self.passwords.sentinel.is_none()
            && !broken("MAHAVISHNU_REDIS_SENTINEL_PASSWORD_FILE")
        {
            let text = "is set, but there is no MAHAVISHNU_REDIS_SENTINEL_PASSWORD";
            problems.push(("MAHAVISHNU_REDIS_SENTINEL_USERNAME", text));
        }
        if settings.has_redis() && settings.history_file.is_some() {
            let text = "with Redis (MAHAVISHNU_REDIS_HOST or MAHAVISHNU_REDIS_SENTINELS) it is Redis that keeps messages and documents, for all servers; unset one of the two";
            problems.push(("MAHAVISHNU_HISTORY_FILE", text));
        }
        if settings.has_redis() && settings.record_file.is_some() {
            let text = "a server with Redis cannot be recorded: what comes from Redis would be missing; unset one of the two";
            problems.push(("MAHAVISHNU_RECORD_FILE", text));
        }
        if settings.ingress_list.is_some() && settings.ingress_list == settings.ingress_stream {
            let text = "is MAHAVISHNU_INGRESS_STREAM, too, and Redis has one thing under a name";
            problems.push(("MAHAVISHNU_INGRESS_LIST", text));
        }
        for (name, text) in problems {
            self.problem(name, text);
        }
        let Settings { redis_queue_bytes, max_message_bytes, .. } = self.settings;
        if self.settings.has_redis() && redis_queue_bytes < max_message_bytes {
            self.warnings.push(format!(
                "MAHAVISHNU_REDIS_QUEUE_BYTES={redis_queue_bytes} is less than MAHAVISHNU_MAX_MESSAGE_BYTES={max_message_bytes}: \
                 the longest messages cannot be published"
            ));
        }
    }

    fn check_effects(&mut self) {
        if self.settings.trace_users && self.telemetry.traces.is_none() {
            let text = "MAHAVISHNU_TRACE_USERS has no effect: no spans are exported (OTEL_EXPORTER_OTLP_ENDPOINT)";
            self.warnings.push(text.into());
        }
        // Nobody has asked for what a service has by itself.
        let by_itself = |name: &str| matches!(self.origins.get(name), Some(Source::Service(_)));
        let idle = without_effect(&self.settings, !self.keys.is_empty(), by_itself);
        self.warnings.extend(idle);
    }

    fn check_limits(&mut self) {
        let Settings { outbox_bytes, max_message_bytes, connection_timeout, ping_interval, .. } =
            self.settings;
        // Nothing but the answers to pings is to be expected of a client that only listens.
        if connection_timeout.zip(ping_interval).is_some_and(|(silence, ping)| silence <= ping) {
            let text = "MAHAVISHNU_CONNECTION_TIMEOUT is not longer than MAHAVISHNU_PING_INTERVAL: clients that only listen are closed before they are asked";
            self.warnings.push(text.into());
        }
        if outbox_bytes < max_message_bytes {
            self.warnings.push(format!(
                "MAHAVISHNU_OUTBOX_BYTES={outbox_bytes} is less than MAHAVISHNU_MAX_MESSAGE_BYTES={max_message_bytes}: \
                 the longest messages cannot be delivered"
            ));
        }
        let Settings { history_bytes, history_channel_bytes, .. } = self.settings;
        if self.settings.keeps_history() && history_channel_bytes < max_message_bytes {
            self.warnings.push(format!(
                "MAHAVISHNU_HISTORY_CHANNEL_BYTES={history_channel_bytes} is less than MAHAVISHNU_MAX_MESSAGE_BYTES={max_message_bytes}: \
                 the longest messages cannot be kept"
            ));
        }
        let state_bytes = self.settings.state_bytes;
        for (name, bytes, cannot) in [
            ("MAX_MESSAGE_BYTES", max_message_bytes, "come in"),
            ("OUTBOX_BYTES", outbox_bytes, "be read"),
        ] {
            if state_bytes > bytes {
                self.warnings.push(format!(
                    "MAHAVISHNU_STATE_BYTES={state_bytes} is more than MAHAVISHNU_{name}={bytes}: the largest documents cannot {cannot}"
                ));
            }
        }
        if history_bytes < history_channel_bytes {
            self.warnings.push(format!(
                "MAHAVISHNU_HISTORY_BYTES={history_bytes} is less than MAHAVISHNU_HISTORY_CHANNEL_BYTES={history_channel_bytes}: \
                 one channel may make all others forgotten"
            ));
        }
    }
}

/// The variables of OpenTelemetry.
fn read_telemetry(
    sources: &Sources,
    warnings: &mut Vec<String>,
) -> (Telemetry, Vec<(String, String, Source)>) {
    let (mut values, mut shown) = (BTreeMap::new(), Vec::new());
    for (name, Given { text, origin }) in sources.telemetry() {
        let Some(text) = text else {
            warnings.push(format!("{name}: a value that is not UTF-8; ignored"));
            continue;
        };
        let masked = if name.ends_with("HEADERS") { MASK } else { &text };
        shown.push((name.clone(), masked.to_owned(), origin));
        values.insert(name, text.to_string());
    }
    (Telemetry::read(&values, warnings), shown)
}

/// Warnings about variables that no row names. Not errors: other services share the prefix and the environment.
fn unknown_names(sources: &Sources) -> Vec<String> {
    let known: Vec<&str> = table()
        .iter()
        .flat_map(|variable| variable.names)
        .copied()
        .chain(CLIENT_VARIABLES)
        .collect();
    let mut warnings = Vec::new();
    let mut others = Vec::new();
    let unknown = |name: &&str| !known.contains(name) && name.starts_with(PREFIX);
    // The service's own program has variables that we know nothing of.
    for name in sources.names().filter(unknown) {
        let bare = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
        let nearest = known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(&bare(name), &bare(known)), known))
            .min();
        match nearest {
            // Short names are all near each other.
            Some((distance, known)) if distance <= (bare(name).len() / 3).min(3) => {
                warnings.push(format!("{name} is not a setting; did you mean {known}?"));
            }
            _ => others.push(name),
        }
    }
    if !others.is_empty() {
        warnings.push(format!("not settings of this server, ignored: {}", others.join(", ")));
    }
    warnings
}

/// Whether two listeners on one port would collide.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    let any = |host: &str| host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    a.eq_ignore_ascii_case(b) || any(a) || any(b)
}

/// `host` as this machine reaches it: a wildcard is every address, the loopback one among them.
pub(crate) fn reachable(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".into(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "::1".into(),
        _ => host.to_owned(),
    }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What is wrong with a key that a service has in its code.
const PUBLISHED: &str = "this secret is written in the service's public code, so everybody has it; `openssl rand -base64 32` makes a real one";

/// Variables that keys come from.
pub(crate) const KEY_VARIABLES: &[&str] =
    &["MAHAVISHNU_JWT_SECRET", "MAHAVISHNU_JWT_KEYS", "MAHAVISHNU_JWT_KEYS_FILE"];

/// Read by the client subcommands, not by the server.
const CLIENT_VARIABLES: [&str; 2] = ["MAHAVISHNU_TOKEN", "MAHAVISHNU_URL"];
