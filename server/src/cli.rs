//! The command line. Flags that stand for a variable carry its text: the table of settings parses them all.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use mahavishnu_core::protocol::Epoch;

pub(crate) use crate::fleet::arguments::{
    FleetArgs, FleetCommand, FleetStartArgs, ServiceCommand, ServiceListArgs, ServiceShowArgs,
};
use crate::{
    history::{After, Since},
    settings::{DOT_ENV, Override, Request},
};

/// WebSocket broadcast server with rooms, JWT authentication and Prometheus metrics.
#[derive(Debug, Parser)]
#[command(
    name = "mahavishnu",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    args_override_self = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write an environment file with a new secret, readable by its owner alone, and say what to do with it.
    Init(InitArgs),
    /// Run and control the server.
    #[command(subcommand)]
    Websocket(WebsocketCommand),
    /// Run and control all services of the family in one process.
    #[command(subcommand)]
    Fleet(FleetCommand),
    /// Show the services of the family that a server can be.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Make and look into tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Publish one event to a channel.
    Publish(PublishArgs),
    /// Print the events of channels, one line each, until interrupted.
    Subscribe(SubscribeArgs),
    /// Print what is kept of a channel, one line for each event, the oldest first.
    History(HistoryArgs),
    /// Print the last events of a channel and then those that come, without a gap, until interrupted.
    Tail(TailArgs),
    /// Run a recording (MAHAVISHNU_RECORD_FILE) again and say whether the same comes out.
    Replay(Box<ReplayArgs>),
    /// Print the nodes that hold a lease in Redis, one a line.
    Nodes(NodesArgs),
    /// Look after what servers keep in Redis.
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// Look into certificates.
    #[command(subcommand)]
    Cert(CertCommand),
    /// Say what a token may do with a channel, and which rule says so. Denied: exit code 6.
    Explain(Box<ExplainArgs>),
    /// Show who may subscribe and publish where.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Check an installation: settings, files, Redis, health, metrics, TLS, a round trip over WebSocket, what a proxy does.
    /// Something failed: exit code 4.
    Verify(Box<VerifyArgs>),
    /// Check and show the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print what makes a shell complete these commands.
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each subcommand into a directory.
    Man(ManArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// Whose.
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Write all pages here [default: print the first one].
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Write a new file, with a new secret, although there is one, which is kept as config.TIME.NAME beside it.
    #[arg(long)]
    pub(crate) force: bool,
    /// The file. Subcommands find .env in their working directory by themselves, and others by --env-file.
    #[arg(default_value = DOT_ENV)]
    pub(crate) path: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// With --env-file: what that one would change.
    #[command(flatten)]
    pub(crate) find: FindArgs,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) find: FindArgs,
    /// The URL that clients use, through proxies and all. With --env-file or --state-dir the server of this machine is
    /// looked at, too [default: the server of this machine alone].
    pub(crate) url: Option<String>,
    /// Token to present [default: MAHAVISHNU_TOKEN]. With full access it also shows whether addresses of clients are known.
    /// Other users can see it while this runs.
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// Channel for a round trip [default: a new one below workflow:].
    #[arg(long)]
    pub(crate) channel: Option<String>,
    /// Where Prometheus finds the metrics [default: by the settings of this machine].
    #[arg(long, value_name = "URL")]
    pub(crate) metrics: Option<String>,
    /// Keep a connection silent for so long, to see whether a proxy ends it.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) idle: Option<f64>,
    /// Seconds that each answer may take.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: f64,
    /// Fail on warnings, too.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct BackupArgs {
    /// The file to copy [default: .env].
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WebsocketCommand {
    /// Run the server in the foreground until SIGTERM or SIGINT. SIGHUP reloads.
    Start(Box<ServerArgs>),
    /// Stop the running server and wait until it is gone.
    Stop(StopArgs),
    /// Say whether a server runs and is healthy.
    Status(StatusArgs),
    /// Have the running server read its settings again.
    Reload(FindArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token. It is the last line of the output.
    Create(TokenCreateArgs),
    /// Show what a token says and whether it verifies.
    Inspect(TokenInspectArgs),
    /// Have the running server refuse tokens and close their connections. Prints the line for MAHAVISHNU_REVOKED_FILE.
    Revoke(TokenRevokeArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Print the rules that count, in the format of MAHAVISHNU_POLICY_FILE.
    Show(PolicyShowArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Say what lies in Redis and whether it is for this program. It is not: exit code 5. Redis is away: 2.
    Status(RedisArgs),
    /// Begin the layout of keys if there is none. The first node does that by itself.
    Up(MigrateUpArgs),
    /// Remove every key of MAHAVISHNU_REDIS_PREFIX in MAHAVISHNU_REDIS_DB, and none besides. Stop all nodes first.
    Down(MigrateDownArgs),
}

/// Which Redis.
#[derive(Args, Debug)]
pub(crate) struct RedisArgs {
    /// File of MAHAVISHNU_ variables, of which those of Redis count [default: .env if there is one]. The environment wins
    /// over it.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

impl RedisArgs {
    pub(crate) fn request(&self) -> Request {
        Request { env_file: self.env_file.clone(), overrides: Vec::new(), ..Request::default() }
    }
}

#[derive(Args, Debug)]
pub(crate) struct MigrateUpArgs {
    #[command(flatten)]
    pub(crate) redis: RedisArgs,
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct MigrateDownArgs {
    #[command(flatten)]
    pub(crate) redis: RedisArgs,
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Even though nodes hold leases, which put back what they still have, or though the layout is of another version.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct NodesArgs {
    #[command(flatten)]
    pub(crate) redis: RedisArgs,
    /// Print a JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Say what the server's certificates are, how long they last and what is wrong with them. Exits with 0 if they are
    /// valid, 9 if they expire soon, 10 if they are invalid.
    Check(CertCheckArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Find everything that is wrong with the settings.
    Check(Box<ServerArgs>),
    /// Print every setting, secrets masked.
    Show(Box<ServerArgs>),
    /// Say where the settings that the running server has are others than its file says by now. They are: exit code 12.
    Diff(DiffArgs),
    /// Copy the environment file to config.TIME.NAME beside it. To go back, copy that over it and reload.
    Backup(BackupArgs),
    /// Print the table of variables as Markdown.
    #[command(hide = true)]
    Docs,
}

/// Which settings count, and flags for the common ones. Each wins over its MAHAVISHNU_ variable.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ServerArgs {
    /// File of MAHAVISHNU_ variables [default: .env if there is one]. The environment wins over it.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// Which service of the family it is, or a file (.toml) that describes another one [default: none in particular].
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Directory of the PID file.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<String>,
    /// Address to listen on [default: 127.0.0.1].
    #[arg(long)]
    host: Option<String>,
    /// Port to listen on, 0 for any [default: 8686].
    #[arg(long)]
    port: Option<String>,
    /// Name of this instance in /health [default: mahavishnu].
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// tokio or smol [default: tokio if this build has it].
    #[arg(long)]
    runtime: Option<String>,
    /// Threads that serve connections, or auto: one for each core that this process may use [default: auto].
    #[arg(long)]
    shards: Option<String>,
    /// Serve TLS: true or false [default: false].
    #[arg(long, value_name = "BOOL")]
    tls_enabled: Option<String>,
    /// Certificate chain, PEM.
    #[arg(long, value_name = "FILE")]
    cert_file: Option<String>,
    /// Private key, PEM.
    #[arg(long, value_name = "FILE")]
    key_file: Option<String>,
    /// For development: serve TLS with a certificate that is made on the spot and kept in the state directory.
    #[arg(long)]
    auto_cert: bool,
    /// Require a token from every client: true or false [default: false].
    #[arg(long, value_name = "BOOL")]
    auth_enabled: Option<String>,
    /// Address for metrics [default: that of --host].
    #[arg(long, value_name = "HOST")]
    metrics_host: Option<String>,
    /// Port for metrics, 0 for any [default: 9090].
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<String>,
    /// Open connections at most [default: 10000].
    #[arg(long, value_name = "COUNT")]
    max_connections: Option<String>,
    /// DEBUG, INFO, WARNING, ERROR or CRITICAL [default: INFO].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json [default: text].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl ServerArgs {
    /// What to read settings from.
    pub(crate) fn request(&self) -> Request {
        let flags = [
            ("MAHAVISHNU_SERVICE", "--service", &self.service),
            ("MAHAVISHNU_STATE_DIR", "--state-dir", &self.state_dir),
            ("MAHAVISHNU_HOST", "--host", &self.host),
            ("MAHAVISHNU_PORT", "--port", &self.port),
            ("MAHAVISHNU_SERVER_NAME", "--server-name", &self.server_name),
            ("MAHAVISHNU_RUNTIME", "--runtime", &self.runtime),
            ("MAHAVISHNU_SHARDS", "--shards", &self.shards),
            ("MAHAVISHNU_TLS_ENABLED", "--tls-enabled", &self.tls_enabled),
            ("MAHAVISHNU_CERT_FILE", "--cert-file", &self.cert_file),
            ("MAHAVISHNU_KEY_FILE", "--key-file", &self.key_file),
            ("MAHAVISHNU_AUTH_ENABLED", "--auth-enabled", &self.auth_enabled),
            ("MAHAVISHNU_METRICS_HOST", "--metrics-host", &self.metrics_host),
            ("MAHAVISHNU_METRICS_PORT", "--metrics-port", &self.metrics_port),
            ("MAHAVISHNU_MAX_CONNECTIONS", "--max-connections", &self.max_connections),
            ("MAHAVISHNU_LOG_LEVEL", "--log-level", &self.log_level),
            ("MAHAVISHNU_LOG_FORMAT", "--log-format", &self.log_format),
        ];
        // The flag stands for both: a certificate that nobody serves is of no use.
        let auto = self.auto_cert.then(|| {
            let on = |name| (name, "--auto-cert", "true".to_owned());
            [on("MAHAVISHNU_AUTO_CERT"), on("MAHAVISHNU_TLS_ENABLED")]
        });
        let overrides = flags
            .into_iter()
            .filter_map(|(name, flag, value)| Some((name, flag, value.clone()?)))
            .chain(auto.into_iter().flatten());
        Request {
            env_file: self.env_file.clone(),
            overrides: overrides.collect(),
            ..Request::default()
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    /// Settings under which the recording was made.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The recording.
    pub(crate) file: PathBuf,
}

/// Which server is meant.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FindArgs {
    /// File of MAHAVISHNU_ variables that the server was started with [default: .env if there is one].
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Directory of its PID file.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
}

impl FindArgs {
    /// The file that was named.
    pub(crate) fn env_file(&self) -> Option<&Path> {
        self.env_file.as_deref()
    }

    /// Whether a server of this machine is meant.
    pub(crate) fn is_given(&self) -> bool {
        self.env_file.is_some() || self.state_dir.is_some()
    }

    pub(crate) fn request(&self) -> Request {
        let state_dir: Option<Override> =
            self.state_dir.clone().map(|dir| ("MAHAVISHNU_STATE_DIR", "--state-dir", dir));
        Request {
            env_file: self.env_file.clone(),
            overrides: state_dir.into_iter().collect(),
            ..Request::default()
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) find: FindArgs,
    /// Seconds to wait for the server to go.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: f64,
    /// Kill it if it is still there after that.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) find: FindArgs,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CertCheckArgs {
    /// File of MAHAVISHNU_ variables that name the certificates [default: .env if there is one].
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Certificate chain, PEM [default: MAHAVISHNU_CERT_FILE].
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key, PEM [default: the same file].
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Days of validity that must be left [default: MAHAVISHNU_CERT_MIN_DAYS].
    #[arg(long, value_name = "DAYS")]
    pub(crate) min_days: Option<u32>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

impl CertCheckArgs {
    pub(crate) fn request(&self) -> Request {
        Request { env_file: self.env_file.clone(), overrides: Vec::new(), ..Request::default() }
    }
}

#[derive(Args, Debug)]
pub(crate) struct TokenCreateArgs {
    /// File of MAHAVISHNU_ variables with the secret [default: .env if there is one].
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// The service that it is for: its variables have the secret, and its tokens' audience and issuer are put in
    /// [default: MAHAVISHNU_SERVICE].
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Whom the token is for: its user_id and sub.
    #[arg(long)]
    pub(crate) user: String,
    /// What it permits, e.g. workflow:read; give it several times for several.
    #[arg(long = "permission", value_name = "PERMISSION")]
    pub(crate) permissions: Vec<String>,
    /// Seconds until it expires, or never [default: MAHAVISHNU_JWT_EXPIRY].
    #[arg(long, value_name = "SECONDS")]
    pub(crate) expires_in: Option<Lifetime>,
    /// Sign with this secret [default: MAHAVISHNU_JWT_SECRET]. Other users can see it while this runs.
    #[arg(long)]
    pub(crate) secret: Option<String>,
    /// Sign with the key of this name from MAHAVISHNU_JWT_KEYS or its file; with --secret: the name to put in.
    #[arg(long)]
    pub(crate) kid: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TokenInspectArgs {
    /// File of MAHAVISHNU_ variables with the keys [default: .env if there is one].
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// The service that it is for: its variables have the keys [default: MAHAVISHNU_SERVICE].
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// The token [default: MAHAVISHNU_TOKEN]; - reads it from standard input.
    pub(crate) token: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TokenRevokeArgs {
    /// The token to present needs full access.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// The token to revoke, by the jti in it; - reads it from standard input.
    #[arg(value_name = "TOKEN")]
    pub(crate) revoked: Option<String>,
    /// Revoke the token with this jti.
    #[arg(long, conflicts_with = "revoked")]
    pub(crate) jti: Option<String>,
    /// Revoke tokens of this user.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Revoke tokens issued before: now, seconds since 1970, or 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) issued_before: Option<String>,
    /// When these tokens will have expired [default: that of TOKEN, else not known].
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only print the line, ask no server.
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PolicyShowArgs {
    /// File of MAHAVISHNU_ variables [default: .env if there is one].
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Of this service [default: MAHAVISHNU_AUTH_POLICY].
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// Of all services.
    #[arg(long, conflicts_with = "service")]
    pub(crate) all: bool,
    /// The built-in rules, whatever MAHAVISHNU_POLICY_FILE says.
    #[arg(long)]
    pub(crate) built_in: bool,
}

impl PolicyShowArgs {
    pub(crate) fn request(&self) -> Request {
        Request { env_file: self.env_file.clone(), overrides: Vec::new(), ..Request::default() }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// Settings of the server in question, if it is not the one that runs on this machine.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The token [default: MAHAVISHNU_TOKEN]. Other users can see it while this runs.
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// The channel, e.g. workflow:42.
    #[arg(long)]
    pub(crate) channel: String,
    /// subscribe or publish.
    #[arg(long, default_value = "subscribe", value_parser = ["subscribe", "publish"])]
    pub(crate) verb: String,
}

/// How a client subcommand reaches a server.
#[derive(Args, Debug)]
pub(crate) struct ClientArgs {
    /// The server: http:// or ws://, or over TLS https:// or wss://, trusting SSL_CERT_FILE or the system's authorities
    /// [default: MAHAVISHNU_URL, else http://127.0.0.1:8686].
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Token to present [default: MAHAVISHNU_TOKEN]. Other users can see it while this runs.
    #[arg(long)]
    pub(crate) token: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// A repetition with the same key is not published again.
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// The channel's document from now on: a JSON object; - reads it from standard input, @FILE from a file.
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<String>,
    /// Publish only if the channel's document came with the message of this number; 0: if it has none. Otherwise exit
    /// code 11.
    #[arg(long, value_name = "N")]
    pub(crate) if_offset: Option<u64>,
    /// Publish only in this epoch of the channel's numbers.
    #[arg(long, value_name = "EPOCH", requires = "if_offset", value_parser = epoch)]
    pub(crate) if_epoch: Option<Epoch>,
    /// Print channel, subscribers and position as a JSON object, one for each channel.
    #[arg(long)]
    pub(crate) json: bool,
    /// Publish an event of this service in its way: NAME as `service list` has it, or the file of a profile. Then the first word is
    /// the event, channels are the event's own, and its members are given by flags of their names: --run-id 7.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// With --service: a member of the event's data, also one whose name is a flag of this command. JSON, or else a text. May be
    /// given often; it counts before what DATA says.
    #[arg(long = "field", value_name = "NAME=VALUE", requires = "service")]
    pub(crate) fields: Vec<String>,
    /// Channel, e.g. workflow:42; with --service the event, e.g. test.completed.
    pub(crate) channel: String,
    /// Name of the event, e.g. workflow.completed; with --service DATA.
    #[arg(required_unless_present = "service")]
    pub(crate) event: Option<String>,
    /// JSON object; - reads it from standard input, @FILE from a file [default: {}].
    pub(crate) data: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SubscribeArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Print whole messages as JSON instead of channel, event and data.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print each event's number in its channel, too, behind the channel.
    #[arg(long)]
    pub(crate) offsets: bool,
    /// Begin with so many of the last events of each channel, if the server keeps them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rewind: Option<u32>,
    /// Begin with the events since: 10m, 2h, 1d ago, or 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "rewind")]
    pub(crate) since: Option<Since>,
    /// End after this many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End when the connection is lost instead of coming back.
    #[arg(long)]
    pub(crate) no_reconnect: bool,
    /// Channels, e.g. workflow:42.
    #[arg(required = true, value_name = "CHANNEL")]
    pub(crate) channels: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Print at most so many events: the last ones, with --after the first ones [default: all that are kept].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Only events since: 10m, 2h, 1d ago, or 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// Only events after this one: the epoch that --json prints, and a number.
    #[arg(long, value_name = "EPOCH:OFFSET", conflicts_with_all = ["since", "before"])]
    pub(crate) after: Option<After>,
    /// Only events before the one with this number.
    #[arg(long, value_name = "OFFSET")]
    pub(crate) before: Option<u64>,
    /// Print JSON objects instead of time, number, event and data.
    #[arg(long)]
    pub(crate) json: bool,
    /// Channel, e.g. workflow:42.
    pub(crate) channel: String,
}

#[derive(Args, Debug)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Begin with so many of the last events.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub(crate) lines: u64,
    /// Begin with the events since: 10m, 2h, 1d ago, or 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "lines")]
    pub(crate) since: Option<Since>,
    /// Print JSON objects instead of time, number, event and data.
    #[arg(long)]
    pub(crate) json: bool,
    /// End after this many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End when the connection is lost instead of coming back.
    #[arg(long)]
    pub(crate) no_reconnect: bool,
    /// Channel, e.g. workflow:42.
    pub(crate) channel: String,
}

fn epoch(text: &str) -> Result<Epoch, &'static str> {
    Epoch::parse(text).ok_or("an epoch is ten letters that the server gave")
}

/// How long a new token is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    Never,
    Seconds(u64),
}

impl std::str::FromStr for Lifetime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("never") {
            return Ok(Self::Never);
        }
        text.parse()
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Self::Seconds)
            .ok_or("use whole seconds or never")
    }
}

fn seconds(text: &str) -> Result<f64, &'static str> {
    text.parse()
        .ok()
        .filter(|value| (0.0..=86_400.0).contains(value))
        .ok_or("use seconds from 0 to 86400")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_overrides_of_their_variables() {
        let cli = Cli::try_parse_from([
            "mahavishnu",
            "websocket",
            "start",
            "--port",
            "1",
            "--host",
            "::1",
        ])
        .unwrap();
        let Command::Websocket(WebsocketCommand::Start(args)) = cli.command else {
            panic!("not start")
        };
        let request = args.request();
        assert_eq!(
            request.overrides,
            [
                ("MAHAVISHNU_HOST", "--host", "::1".to_owned()),
                ("MAHAVISHNU_PORT", "--port", "1".to_owned())
            ]
        );
    }

    #[test]
    fn lifetimes_are_seconds_or_never() {
        assert_eq!("60".parse(), Ok(Lifetime::Seconds(60)));
        assert_eq!("Never".parse(), Ok(Lifetime::Never));
        for bad in ["0", "-1", "1h", ""] {
            assert!(bad.parse::<Lifetime>().is_err(), "{bad}");
        }
    }
}
