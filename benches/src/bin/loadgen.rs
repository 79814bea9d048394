//! The load generator's command line. It fails if anything was lost, doubled, reordered or changed.

use std::{
    fmt::Display, fs, io::Write, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use mahavishnu_benches::{
    Result,
    client::{OPEN_AT_ONCE, PAYLOAD_BYTES_MAX, Setup, Token},
    cluster,
    echo::Echo,
    fanout::{Fanout, Pace, Until, Wire},
    frame::header_bytes,
    handshake::Target,
    idle::{Churn, ConnectReport, Idle},
    process::Process,
    recover::{Recover, RecoverReport},
    redis::Redis,
    restart::{Restart, RestartReport},
    siege::Siege,
    socket,
    stats::FanoutReport,
    summary::{self, Table},
};
use serde::Serialize;

/// Drives a WebSocket server and checks every delivery.
#[derive(Debug, Parser)]
#[command(name = "loadgen")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One publisher, many subscribers, a fixed number of messages under way.
    Fanout {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        traffic: Traffic,
        /// Messages of a channel published but not yet delivered to all.
        #[arg(long, default_value_t = 64)]
        window: usize,
    },
    /// One publisher at a fixed rate; latencies count from the intended time of each publish.
    Rate {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        traffic: Traffic,
        /// Publishes per second, of all channels together.
        #[arg(long)]
        publishes_per_second: f64,
        /// Messages of a channel under way above which publishing waits (and its latency grows).
        #[arg(long, default_value_t = 4096)]
        in_flight_max: usize,
    },
    /// Every connection keeps messages under way to an endpoint that sends them back.
    Echo {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        length: Length,
        /// Connections.
        #[arg(long, default_value_t = 100)]
        connections: u32,
        /// Messages under way per connection.
        #[arg(long, default_value_t = 1)]
        depth: usize,
        /// Bytes of a message.
        #[arg(long, default_value_t = 128)]
        payload: usize,
    },
    /// Opens connections and holds them.
    Idle {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        opening: Opening,
        /// Seconds to hold them.
        #[arg(long, default_value_t = 5.0)]
        hold: f64,
    },
    /// Opens connections and closes them at once.
    Connect {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        opening: Opening,
    },
    /// Besieges the server with hostile connections of many kinds. Run `rate` beside it to see what that does to others.
    Siege {
        #[command(flatten)]
        common: Common,
        /// Connections at a time.
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        /// New connections per second, at most.
        #[arg(long, default_value_t = 2000.0)]
        opens_per_second: f64,
        /// Seconds.
        #[arg(long, default_value_t = 15.0)]
        seconds: f64,
    },
    /// Clients that come back all at once for what they missed.
    Recover {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        opening: Opening,
        /// Events that each of them missed.
        #[arg(long, default_value_t = 20)]
        missed: u64,
        /// Bytes of an event's data object.
        #[arg(long, default_value_t = 128)]
        payload: usize,
        /// The channel.
        #[arg(long, default_value = "workflow:recover")]
        channel: String,
        /// The node where it is published, if that is another one.
        #[arg(long)]
        publish_url: Option<String>,
    },
    /// What is between nodes is started anew: when all of them deliver again, and whether anything was lost.
    Restart {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        token: TokenArguments,
        /// Starts Redis anew, and ends when it answers again: a command for the shell.
        #[arg(long)]
        command: String,
        /// Channels that each node follows.
        #[arg(long, default_value_t = 10_000)]
        channels: usize,
        /// Of these, how many are published to at once when Redis is back.
        #[arg(long, default_value_t = 200)]
        sample: usize,
        /// Bytes of a message's data object.
        #[arg(long, default_value_t = 128)]
        payload: usize,
        /// The beginning of the channels' names.
        #[arg(long, default_value = "workflow:restart")]
        channel: String,
        /// Seconds until it is asked what Redis has done.
        #[arg(long, default_value_t = 1.0)]
        settle: f64,
        /// Seconds without any progress after which the run fails.
        #[arg(long, default_value_t = 15.0)]
        stall: f64,
    },
    /// Prints the table of `scripts/bench-cluster` from a file of JSON reports.
    Cluster {
        /// One report a line.
        file: PathBuf,
    },
    /// Prints a Markdown table from a file of JSON reports.
    Summary {
        /// Which reports, and which columns.
        #[arg(long, value_enum, default_value_t = Table::Fanout)]
        table: Table,
        /// Label of the runs that ratios are taken to.
        #[arg(long, default_value = "rawloop")]
        baseline: String,
        /// One report a line.
        file: PathBuf,
    },
}

#[derive(Args, Debug)]
struct Common {
    /// The server: ws://host:port/path. For `fanout`, `rate` and `restart` also several nodes, each with an option of its own.
    #[arg(long, default_value = "ws://127.0.0.1:8686")]
    url: Vec<String>,
    /// The server's process: its CPU time and memory are reported. Of several, as with `--url`, those of all together.
    #[arg(long)]
    server_pid: Vec<u32>,
    /// Address and port of the Redis between nodes: what it does is reported.
    #[arg(long)]
    redis: Option<SocketAddr>,
    /// Pins the generator to this CPU.
    #[arg(long)]
    cpu: Option<usize>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Which server this is, for the report.
    #[arg(long, default_value = "")]
    label: String,
    /// What is measured, for the report; runs of one case are compared in a summary.
    #[arg(long, default_value = "")]
    case: String,
    /// Which of several interleaved rounds this is, for the report.
    #[arg(long, default_value_t = 0)]
    round: u32,
}

#[derive(Args, Debug)]
struct Length {
    /// Seconds that are measured.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 0.3)]
    warm_up: f64,
    /// Ends after this many messages instead, all of them measured.
    #[arg(long)]
    messages: Option<u64>,
    /// Seconds without any progress after which the run fails.
    #[arg(long, default_value_t = 5.0)]
    stall: f64,
}

#[derive(Args, Debug)]
struct Traffic {
    #[command(flatten)]
    length: Length,
    #[command(flatten)]
    token: TokenArguments,
    /// Channels.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    channels: u32,
    /// Connections that get every message of a channel.
    #[arg(long, default_value_t = 1000)]
    subscribers: u32,
    /// Bytes of a message's data object.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// The channel that is published to; of several, the beginning of their names.
    #[arg(long, default_value = "workflow:bench")]
    channel: String,
    /// Speaks to rawloop: bare binary frames, no JSON.
    #[arg(long, conflicts_with = "channels")]
    raw: bool,
    /// With --raw, the length of a subscriber's frame with its header: what the product sends.
    #[arg(long, requires = "raw")]
    frame_bytes: Option<usize>,
}

#[derive(Args, Debug)]
struct TokenArguments {
    /// A JWT that every connection shows.
    #[arg(long)]
    token: Option<String>,
    /// Where it is shown.
    #[arg(long, value_enum, default_value_t = TokenAt::Message)]
    token_at: TokenAt,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TokenAt {
    /// In the connection's first message.
    Message,
    /// In the upgrade's Authorization header.
    Header,
}

#[derive(Args, Debug)]
struct Opening {
    #[command(flatten)]
    token: TokenArguments,
    /// Connections in all.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Handshakes under way at a time.
    #[arg(long, default_value_t = OPEN_AT_ONCE)]
    at_once: usize,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to do if standard error is closed too.
            let _ = writeln!(std::io::stderr(), "loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Fanout { common, traffic, window } => {
            fan_out(&common, traffic, Pace::Closed, window)
        }
        Command::Rate { common, traffic, publishes_per_second, in_flight_max } => {
            fan_out(&common, traffic, Pace::PerSecond(publishes_per_second), in_flight_max)
        }
        Command::Echo { common, length, connections, depth, payload } => {
            let target = prepare(&common)?;
            let echo = Echo {
                target,
                connections,
                depth,
                payload_bytes: payload,
                until: length.until()?,
                stall: seconds(length.stall)?,
                server: common.server(),
                label: common.label.clone(),
                case: common.case.clone(),
            };
            print_fanout(&common, echo.run()?)
        }
        Command::Idle { common, opening, hold } => {
            let setup = opening.setup(&common)?;
            let Opening { connections, at_once, .. } = opening;
            let server = common.server();
            let label = common.label.clone();
            let idle = Idle { setup, connections, at_once, hold: seconds(hold)?, server, label };
            print_connects(&common, idle.run()?)
        }
        Command::Connect { common, opening } => {
            let setup = opening.setup(&common)?;
            let Opening { connections, at_once, .. } = opening;
            let server = common.server();
            let churn = Churn { setup, connections, at_once, server, label: common.label.clone() };
            print_connects(&common, churn.run()?)
        }
        Command::Siege { common, connections, opens_per_second, seconds: length } => {
            let siege = Siege {
                target: prepare(&common)?,
                connections,
                opens_per_second,
                length: seconds(length)?,
                server: common.server(),
                label: common.label.clone(),
            };
            print(&common, &siege.run()?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Recover { common, opening, missed, payload, channel, publish_url } => {
            let setup = opening.setup(&common)?;
            let Opening { connections, at_once, .. } = opening;
            let recover = Recover {
                setup,
                published_at: publish_url.as_deref().map(Target::parse).transpose()?,
                channel,
                connections,
                at_once,
                missed,
                data_bytes: payload,
                servers: common.servers(),
                redis: common.redis.map(Redis::new),
                label: common.label.clone(),
                case: common.case.clone(),
            };
            print(&common, &RecoverReport { round: common.round, ..recover.run()? })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Restart {
            common,
            token,
            command,
            channels,
            sample,
            payload,
            channel,
            settle,
            stall,
        } => {
            let restart = Restart {
                targets: prepare_all(&common)?,
                token: token.token(),
                channel,
                channels,
                sample,
                data_bytes: payload,
                command,
                servers: common.servers(),
                redis: Redis::new(common.redis.ok_or("which Redis? See --redis")?),
                settle: seconds(settle)?,
                stall: seconds(stall)?,
                label: common.label.clone(),
                case: common.case.clone(),
            };
            let report = RestartReport { round: common.round, ..restart.run()? };
            print(&common, &report)?;
            Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Cluster { file } => {
            let table = cluster::table(&fs::read_to_string(file)?)?;
            write!(std::io::stdout(), "{table}")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Summary { table, baseline, file } => {
            let table = summary::table(table, &fs::read_to_string(file)?, &baseline)?;
            write!(std::io::stdout(), "{table}")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn fan_out(common: &Common, traffic: Traffic, pace: Pace, window: usize) -> Result<ExitCode> {
    let targets = prepare_all(common)?;
    let wire = if traffic.raw {
        let frame_bytes =
            traffic.frame_bytes.unwrap_or_else(|| traffic.payload + header_bytes(traffic.payload));
        Wire::Raw { frame_bytes }
    } else {
        Wire::Json {
            channel: traffic.channel,
            data_bytes: traffic.payload,
            token: traffic.token.token(),
        }
    };
    let fanout = Fanout {
        targets,
        wire,
        channels: traffic.channels,
        subscribers: traffic.subscribers,
        pace,
        window,
        until: traffic.length.until()?,
        stall: seconds(traffic.length.stall)?,
        servers: common.servers(),
        redis: common.redis.map(Redis::new),
        label: common.label.clone(),
        case: common.case.clone(),
    };
    print_fanout(common, fanout.run()?)
}

fn prepare(common: &Common) -> Result<Target> {
    match prepare_all(common)?.as_slice() {
        [target] => Ok(target.clone()),
        _ => Err("this is for one server".into()),
    }
}

fn prepare_all(common: &Common) -> Result<Vec<Target>> {
    socket::raise_open_files()?;
    if let Some(cpu) = common.cpu {
        socket::pin_to_cpu(cpu)?;
    }
    common.url.iter().map(|url| Target::parse(url)).collect()
}

fn print_fanout(common: &Common, report: FanoutReport) -> Result<ExitCode> {
    let report = FanoutReport { round: common.round, ..report };
    print(common, &report)?;
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_connects(common: &Common, report: ConnectReport) -> Result<ExitCode> {
    print(common, &ConnectReport { case: common.case.clone(), round: common.round, ..report })?;
    Ok(ExitCode::SUCCESS)
}

fn print(common: &Common, report: &(impl Display + Serialize)) -> Result<()> {
    let mut stdout = std::io::stdout();
    if common.json {
        writeln!(stdout, "{}", serde_json::to_string(report)?)?;
    } else {
        writeln!(stdout, "{report}")?;
    }
    Ok(())
}

fn seconds(value: f64) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(value)?)
}

impl Common {
    fn server(&self) -> Option<Process> {
        self.server_pid.first().copied().map(Process::new)
    }

    fn servers(&self) -> Vec<Process> {
        self.server_pid.iter().copied().map(Process::new).collect()
    }
}

impl Length {
    fn until(&self) -> Result<Until> {
        Ok(match self.messages {
            Some(messages) => Until::Messages(messages),
            None => {
                Until::Elapsed { warm_up: seconds(self.warm_up)?, measured: seconds(self.seconds)? }
            }
        })
    }
}

impl TokenArguments {
    fn token(&self) -> Option<Token> {
        let token = self.token.clone()?;
        Some(match self.token_at {
            TokenAt::Message => Token::Message(token),
            TokenAt::Header => Token::Header(token),
        })
    }
}

impl Opening {
    fn setup(&self, common: &Common) -> Result<Setup> {
        let target = prepare(common)?;
        Ok(Setup {
            target,
            token: self.token.token(),
            channel: None,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
        })
    }
}
