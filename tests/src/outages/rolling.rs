//! All nodes started again in turn, behind a balancer and under load.

use std::{
    fmt,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::Scale;
use crate::{
    Cluster, Server,
    cluster::Setup,
    load::{Load, Plan, Report, Silence},
    proxy::Proxy,
    wait,
};

/// A balancer as operators run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancer {
    /// The shipped site with three servers, without TLS and without limits by address.
    Nginx,
    /// TCP, with `GET /ready` as its check twice a second.
    Haproxy,
}

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// By default: all clients at once.
    AtOnce,
    /// With a second's notice, and the clients one after the other within five.
    Gently,
}

impl Drain {
    fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::AtOnce => &[],
            Self::Gently => &[("DRAIN_NOTICE", "1"), ("DRAIN_WINDOW", "5")],
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Rolled {
    balancer: Balancer,
    drain: Drain,
    clients: usize,
    report: Report,
    silence: Silence,
    /// For how long each node was not ready.
    away: Vec<Duration>,
}

/// Starts three nodes again in turn: SIGTERM, its end, a new process, and the next one when `/ready` is 200.
pub fn roll(balancer: Balancer, drain: Drain, scale: Scale, settings: &[(&str, &str)]) -> Rolled {
    let mut setup = Setup { size: 3, settings: scale.settings(), ..Setup::default() };
    setup.settings.extend(drain.settings().iter().chain(settings));
    let mut cluster = Cluster::of(&setup);
    let servers: Vec<_> = cluster.nodes.iter().collect();
    let proxy = match balancer {
        Balancer::Nginx => Proxy::nginx_to(&servers),
        Balancer::Haproxy => Proxy::haproxy_to(&servers),
    };
    let plan = plan(scale, &proxy);
    let load = Load::start(cluster.addresses(), &plan);
    load.wait_for(50);
    let from = Instant::now();
    let away = (0..cluster.nodes.len()).map(|node| {
        load.run(Duration::from_secs(1));
        restart(&mut cluster.nodes[node])
    });
    let away = away.collect();
    load.wait_for(50);
    let clients = (plan.listeners + plan.plain) * cluster.nodes.len();
    let (report, silence) = load.finish_timed(from, from);
    Rolled { balancer, drain, clients, report, silence, away }
}

fn plan(scale: Scale, proxy: &Proxy) -> Plan {
    let (listeners, channels, publishers) = match scale {
        Scale::Small => (67, 20, 10),
        Scale::Full => (667, 100, 20),
    };
    Plan {
        channels,
        listeners,
        plain: 0,
        publishers,
        pause: Duration::from_millis(100),
        entries: vec![proxy.address()],
        // As the clients of this project do at first.
        back_off: Duration::from_millis(200),
        ..Plan::default()
    }
}

/// For how long it was not ready.
fn restart(node: &mut Server) -> Duration {
    let start = Instant::now();
    node.signal(Signal::TERM);
    node.wait();
    node.start_again();
    let ready = wait::within(Duration::from_secs(45), || {
        let answer = crate::http::try_get(node.address(), "/ready").ok()?;
        (answer.status == 200).then_some(())
    });
    assert!(ready.is_some(), "it does not become ready:\n{}", node.log());
    start.elapsed()
}

impl Rolled {
    /// The heads of its columns.
    pub const HEAD: &str = "| Balancer | Clients are closed | Clients that recover | Lost, doubled, disordered | Told | Longest silence of one, s \
        | Most connections in a second | Each node away, s |\n|---|---|--:|---|--:|--:|--:|---|";

    /// What is wrong with it.
    pub fn fault(&self) -> Option<String> {
        let is_fine =
            self.report.is_honest() && self.report.disagreed == 0 && self.report.is_untold();
        (!is_fine || self.report.reconnects == 0).then(|| self.report.to_string())
    }

    /// Panics if something is wrong with it.
    pub fn assert_fine(&self) {
        if let Some(fault) = self.fault() {
            panic!("{self}\n{fault}");
        }
    }
}

impl fmt::Display for Rolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { balancer, drain, clients, report, silence, away } = self;
        let away: Vec<_> = away.iter().map(|it| format!("{:.1}", it.as_secs_f64())).collect();
        let (away, longest) = (away.join(", "), silence.longest.as_secs_f64());
        let how = match drain {
            Drain::AtOnce => "at once",
            Drain::Gently => "in 5 s, after 1 s of notice",
        };
        let faults = format!("{}, {}, {}", report.lost, report.doubled, report.reordered);
        write!(f, "| {balancer:?} | {how} | {clients} | {faults} ")?;
        write!(f, "| {} | {longest:.1} | {} | {away} |", report.told, silence.peak)
    }
}
