//! `mahavishnu`: the server as a program, and the tools around it.

#[cfg(not(any(feature = "tokio", feature = "smol")))]
compile_error!("the server needs a runtime: enable the feature `tokio` or `smol`");

mod aside;
mod backup;
mod banner;
mod cli;
mod client;
mod config;
mod connector;
mod control;
mod deployment;
mod dial;
mod diff;
mod examples;
mod exit;
mod explain;
mod exposition;
mod fleet;
mod handed;
mod health;
mod history;
mod init;
mod logging;
mod manager;
mod manual;
mod members;
mod memory;
mod migrate;
mod out;
mod page;
mod pid;
mod policy;
mod process;
mod prometheus;
mod publish;
mod reach;
mod record;
mod redis;
mod replay;
mod revoked;
mod running;
mod service;
mod settings;
mod start;
mod statistics;
mod subscribe;
mod telemetry;
mod theirs;
mod tls;
mod token;
mod translate;
mod trust;
mod url;
mod usage;
mod verify;

use std::process::ExitCode;

use crate::{
    cli::{
        CertCommand, Command, ConfigCommand, FleetCommand, MigrateCommand, PolicyCommand,
        ServiceCommand, TokenCommand, WebsocketCommand,
    },
    exit::{Exit, Failure},
};

fn main() -> ExitCode {
    let cli = match examples::parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version arrive here too. clap's own code for wrong usage, 2, means "not running" here.
            let _ = error.print();
            return if error.use_stderr() { Exit::General } else { Exit::Ok }.into();
        }
    };
    let exit = run(cli.command).unwrap_or_else(|failure| {
        for line in &failure.lines {
            out::note(format_args!("mahavishnu: {line}"));
        }
        failure.exit
    });
    logging::flush();
    exit.into()
}

fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => init::init(&args),
        Command::Websocket(WebsocketCommand::Start(args)) => start::start(&args),
        Command::Websocket(WebsocketCommand::Stop(args)) => control::stop(&args),
        Command::Websocket(WebsocketCommand::Status(args)) => control::status(&args),
        Command::Websocket(WebsocketCommand::Reload(args)) => control::reload(&args),
        Command::Fleet(FleetCommand::Start(args)) => start::start_fleet(&args),
        Command::Fleet(FleetCommand::Stop(args)) => fleet::stop(&args),
        Command::Fleet(FleetCommand::Status(args)) => fleet::status(&args),
        Command::Fleet(FleetCommand::Reload(args)) => fleet::reload(&args),
        Command::Service(ServiceCommand::List(args)) => service::list(&args),
        Command::Service(ServiceCommand::Show(args)) => service::show(&args),
        Command::Token(TokenCommand::Create(args)) => token::create(&args),
        Command::Token(TokenCommand::Inspect(args)) => token::inspect(&args),
        Command::Token(TokenCommand::Revoke(args)) => revoked::revoke(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Policy(PolicyCommand::Show(args)) => policy::show(&args),
        Command::Publish(args) => publish::publish(&args),
        Command::Subscribe(args) => subscribe::subscribe(&args),
        Command::History(args) => history::history(&args),
        Command::Tail(args) => subscribe::tail(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Nodes(args) => migrate::nodes(&args),
        Command::Migrate(MigrateCommand::Status(args)) => migrate::status(&args),
        Command::Migrate(MigrateCommand::Up(args)) => migrate::up(&args),
        Command::Migrate(MigrateCommand::Down(args)) => migrate::down(&args),
        Command::Cert(CertCommand::Check(args)) => tls::check(&args),
        Command::Verify(args) => deployment::verify(&args),
        Command::Config(ConfigCommand::Check(args)) => config::check(&args),
        Command::Config(ConfigCommand::Show(args)) => config::show(&args),
        Command::Config(ConfigCommand::Diff(args)) => diff::diff(&args),
        Command::Config(ConfigCommand::Backup(args)) => backup::backup(&args),
        Command::Config(ConfigCommand::Docs) => config::docs(),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    }
}
