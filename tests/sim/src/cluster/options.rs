//! What kind of world a seed stands for.

use std::{fmt, sync::Arc, time::Duration};

use mahavishnu_core::{
    auth::Pattern,
    config::{self, AnonymousPublish, Config},
    limits::{self, Limits},
    wire,
};

use super::{fault::Fault, folds, queue};
use crate::{clock::MILLI, random::Random, swarm::channel_name};

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Everything that varies between worlds of several processes. All options are numbers.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct ClusterOptions {
            /// Where everything random in the world comes from.
            pub seed: u64,
            $($(#[$doc])* pub $name: u64,)*
            /// How often each fault happens.
            pub faults: [u64; Fault::ALL.len()],
        }

        impl ClusterOptions {
            fn zero(seed: u64) -> Self {
                Self { seed, $($name: 0,)* faults: [0; Fault::ALL.len()] }
            }

            /// Every option by name, faults among them.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                let faults = Fault::ALL.iter().map(|fault| fault.name()).zip(self.faults);
                [$((stringify!($name), self.$name),)*].into_iter().chain(faults).collect()
            }

            /// Sets one option. False if there is none of that name.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => {
                        let fault = Fault::ALL.iter().position(|fault| fault.name() == name);
                        let Some(fault) = fault else { return false };
                        self.faults[fault] = value;
                    }
                }
                true
            }
        }
    };
}

options! {
    /// Processes.
    nodes,
    /// Hubs of each.
    shards,
    /// Channels.
    channels,
    /// Clients: each subscribes, comes and goes, and publishes.
    clients,
    /// Clients per 1000 that ask for positions, and recover.
    positions_pm,
    /// Publishes per 1000 actions.
    publish_pm,
    /// Publishes at once, at most.
    burst_max,
    /// Bytes of padding in a message, at most.
    padding_max,
    /// Connections that are cut per 1000 actions.
    reset_pm,
    /// Length of the part with faults.
    duration_ms,
    /// Mean time between a client's actions.
    think_ms,
    /// One-way delay between clients and hubs.
    latency_us,
    /// One-way delay between links and Redis, at most.
    link_us,
    /// Delay between hubs of a process, at most.
    mail_us,
    /// Time from an input to the hub's turn, at most.
    turn_us,
    /// Bytes of Redis that a link is given at once.
    chunk,
    /// Bytes of Redis that are under way to a link, at most.
    room,
    /// Messages that are kept of a channel.
    keep_messages,
    /// `round_bytes_max`.
    round_bytes,
    /// `bus_page_bytes_max`.
    page_bytes,
    /// `bus_hole_bytes_max`.
    hole_bytes,
    /// Which server is modelled: 0 Redis 7.0, 1 Redis 8.2, 2 Valkey 9.1.
    version,
    /// Whether who publishes to himself gets the message before the answer: 0 as the server does it, 1 the other way.
    pushes,
    /// What replicas hear late, at most.
    lag_ms,
    /// How long a fault that lasts does so, at most.
    fault_ms,
    /// Clients per 1000 that are members of channels, or watch who is.
    attend_pm,
    /// Clients per 1000 that keep a session.
    sessions_pm,
    /// Writes of a back-end into queues per 1000 actions; 0, which no world draws otherwise: there is neither.
    queue_pm,
    /// Whether events make documents: 0 no, 1 yes.
    folds,
}

impl ClusterOptions {
    /// The world of `seed`, with what goes wrong in it.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut r = Random::new(seed, 20);
        let mut this = Self::calm(seed);
        // One world in ten is without any fault.
        if r.chance(900) {
            let loses = r.chance(500);
            for (at, fault) in Fault::ALL.iter().enumerate() {
                // What only a process knew dies with it: if Redis has lost it too nobody knows that there was anything.
                let possible = if loses { *fault != Fault::Kill } else { !fault.loses_data() };
                let count = if r.chance(250) { r.range(1, fault.most()) } else { 0 };
                this.faults[at] = if possible { count } else { 0 };
            }
        }
        this
    }

    /// The same without faults.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        let mut r = Random::new(seed, 21);
        Self {
            nodes: r.pick(&[1, 2, 2, 3, 3]),
            shards: r.pick(&[1, 1, 2, 3]),
            channels: r.range(1, 4),
            clients: r.range(2, 10),
            positions_pm: r.pick(&[500, 800, 1_000]),
            publish_pm: r.pick(&[100, 400]),
            burst_max: r.pick(&[1, 3, 20]),
            padding_max: r.pick(&[0, 200, 5_000]),
            reset_pm: r.pick(&[0, 20, 60]),
            duration_ms: r.range(3_000, 30_000),
            think_ms: r.pick(&[20, 100, 400]),
            latency_us: r.pick(&[10, 1_000, 20_000]),
            link_us: r.pick(&[10, 500, 5_000, 100_000]),
            mail_us: r.pick(&[0, 10, 5_000]),
            turn_us: r.pick(&[0, 10, 1_000]),
            chunk: r.pick(&[50, 1_500, 65_536]),
            room: r.pick(&[4_096, 65_536, 1 << 20]),
            keep_messages: r.pick(&[5, 100, 1_000]),
            round_bytes: r.pick(&[500, 4_096, 65_536]),
            page_bytes: r.pick(&[1_000, 256 << 10]),
            hole_bytes: r.pick(&[1_000, 1 << 20]),
            version: r.below(3),
            pushes: r.below(2),
            lag_ms: r.pick(&[0, 5, 200, 2_000]),
            fault_ms: r.pick(&[100, 1_000, 4_000, 12_000]),
            attend_pm: r.pick(&[0, 0, 500, 1_000]),
            sessions_pm: r.pick(&[0, 0, 500, 1_000]),
            folds: r.pick(&[0, 0, 1]),
            ..Self::zero(seed)
        }
    }

    /// Events from before cannot be vouched for after such a world's faults.
    pub(super) fn loses_data(&self) -> bool {
        Fault::ALL.iter().zip(self.faults).any(|(fault, count)| fault.loses_data() && count > 0)
    }

    pub(super) fn config(&self, node: u64) -> Arc<Config> {
        let mut config =
            Config { anonymous_publish: AnonymousPublish::Loopback, ..Config::default() };
        config.limits = Limits {
            wire: wire::Limits { ping_interval: None, ..wire::Limits::default() },
            delivery: limits::Delivery {
                round_bytes_max: self.round_bytes as usize,
                ..limits::Delivery::default()
            },
            bus: limits::Bus {
                bus_page_bytes_max: self.page_bytes as usize,
                bus_hole_bytes_max: self.hole_bytes as usize,
                // Longer than any world: whoever was followed can be healed.
                bus_follow_time: Duration::from_secs(3_600),
                ..limits::Bus::default()
            },
            ..Limits::default()
        };
        let time = Duration::from_secs(300);
        let keep = config::Keep { messages: self.keep_messages as u32, time };
        let pattern = |channel| Pattern::parse(&channel_name(channel)).expect("a pattern");
        config.history.default = keep;
        config.history.rules = (0..self.channels).map(|channel| (pattern(channel), keep)).collect();
        config.presence = (0..self.channels).map(|channel| (pattern(channel), true)).collect();
        let queues = if self.queue_pm > 0 { queue::sources().into() } else { Vec::new() };
        config.profile = (self.folds == 1).then(|| folds::PROFILE.clone());
        config.bus = Some(config::Bus {
            node_name: format!("node-{node}").into(),
            ingress: queues.into_iter().map(Arc::new).collect(),
            ..config::Bus::default()
        });
        Arc::new(config)
    }

    pub(super) fn duration(&self) -> u64 {
        self.duration_ms * MILLI
    }
}

impl fmt::Display for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed={}", self.seed)?;
        self.list().iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}
