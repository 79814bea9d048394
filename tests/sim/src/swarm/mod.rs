//! What kind of world a seed stands for: every option, drawn from the seed, printable, and open to being overridden.

mod history;
mod lasting;
mod store;

use std::{fmt, sync::Arc, time::Duration};

use mahavishnu_core::{
    auth::{Pattern, Policy, Rule},
    config::{AnonymousPublish, Config, SlowPolicy},
    limits::{self, Limits},
    wire,
};

pub(crate) use self::history::Keep;
use crate::{
    clock::{MILLI, START_UNIX},
    random::Random,
};

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Everything that varies between worlds. All options are numbers, so that a failing world can be made smaller
        /// one number at a time.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Options {
            /// Where everything random in the world comes from.
            pub seed: u64,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Options {
            pub(crate) fn zero(seed: u64) -> Self {
                Self { seed, $($name: 0,)* }
            }

            /// Every option by name.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            /// Sets one option. False if there is none of that name.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

options! {
    /// Hubs.
    shards,
    /// Channels.
    channels,
    /// Clients that subscribe and read.
    subscribers,
    /// Clients that publish over WebSocket, and subscribe to a little.
    publishers,
    /// Clients that publish over HTTP.
    posters,
    /// Subscribers that stop reading for a while, again and again.
    sluggards,
    /// Clients that break rules.
    hostile,
    /// Clients that come and go.
    storming,
    /// Length of the safety phase.
    duration_ms,
    /// At most this many events in the safety phase.
    steps_max,
    /// Mean time between a client's actions.
    think_ms,
    /// Messages that a publisher sends at once, at most.
    burst_max,
    /// Bytes of padding in a message, at most.
    padding_max,
    /// Mean one-way delay of the network.
    latency_us,
    /// Bytes that a socket takes in at once, at most.
    chunk_max,
    /// Bytes that one direction of a socket holds.
    room,
    /// Time from an input to the hub's turn, at most.
    turn_us,
    /// Delay between hubs, at most.
    link_us,
    /// Resets per 1000 actions.
    reset_pm,
    /// Half-closes per 1000 actions.
    half_close_pm,
    /// Jumps of the wall clock.
    wall_jumps,
    /// Replacements of the configuration.
    reloads,
    /// Whether tokens are required.
    auth,
    /// Whether messages carry their number in the channel.
    offsets,
    /// Whether the application decides on subscriptions.
    ask_subscribe,
    /// Whether the application decides on publishes.
    ask_publish,
    /// Whether the application is asked whose a handshake or request is.
    ask_whose,
    /// Questions per 1000 that the application never answers.
    app_silent_pm,
    /// Time that the application takes to answer, at most.
    app_ms,
    /// Slow-reader policies: 0 disconnect, 1 gap, 2 latest, 3 by channel.
    slow_policy,
    /// `outbox_bytes_max`.
    outbox_bytes,
    /// `outbox_read_watermark`.
    watermark_bytes,
    /// `round_bytes_max`.
    round_bytes,
    /// `messages_per_second`; 0: off.
    rate,
    /// `ping_interval`; 0: off.
    ping_ms,
    /// `pong_timeout`.
    pong_ms,
    /// `connection_timeout`; 0: off.
    idle_ms,
    /// `head_timeout`, `auth_timeout` and `close_timeout`.
    patience_ms,
    /// `request_timeout`.
    request_ms,
    /// `requests_in_flight_max`.
    in_flight,
    /// `publishes_in_flight_max`.
    publishes_in_flight,
    /// `channels_per_connection_max`.
    channels_per_connection,
    /// `connections_max`; 0: enough for all.
    connections_max,
    /// Connections per 1000 that show a token which expires in the middle of the world.
    brief_pm,
    /// Whether that token is revoked some time.
    revoked,
    /// How often a hub gets no turn for a while.
    stalls,
    /// How long, at most.
    stall_ms,
    /// `shard_queue_bytes_max`.
    shard_queue_bytes,
    /// Clients per 1000 that ask for positions, and recover when they come back.
    positions_pm,
    /// How often per 1000 actions those cut their connection and come back at once.
    blink_pm,
    /// How often per 1000 actions they read history.
    look_pm,
    /// Messages that are kept of a channel; 0: none.
    keep_messages,
    /// For how long.
    keep_ms,
    /// Whether channels differ in what is kept of them: of one in three nothing, of one half.
    keep_mixed,
    /// Whether reloads change what is kept.
    keep_changes,
    /// `history_channel_bytes_max`.
    keep_channel_bytes,
    /// `history_bytes_max`.
    keep_bytes,
    /// `recover_messages_max`.
    recover_max,
    /// `history_page_max`.
    page_max,
    /// `position_keep`.
    position_keep_ms,
    /// Messages that subscribers of every other channel are sent first, whether they ask or not.
    rewind_rule,
    /// `queued_bytes_max`.
    queued_bytes,
    /// Clients per 1000 that are members of channels, or watch who is.
    attend_pm,
    /// `presence_members_max`.
    members_max,
    /// `presence_info_bytes_max`.
    info_bytes,
    /// `presence_changes_max`.
    changes_max,
    /// Clients per 1000 that keep a session, and resume it when they come back.
    sessions_pm,
    /// `session_window`; 0: there are none.
    session_ms,
    /// `sessions_max`.
    sessions_max,
    /// How often per 1000 actions those who keep one lose their connection.
    break_pm,
    /// How often per 1000 actions they try to resume what is not theirs.
    thief_pm,
    /// Publishes per 1000 that carry a document or a condition on one.
    state_pm,
    /// `state_bytes_max`.
    state_bytes,
    /// Whether there is a store.
    store,
    /// How long each step of a write takes, at most.
    store_us,
    /// Writes per 1000 of which nothing is kept.
    store_fail_pm,
    /// `store_queue_bytes_max`.
    store_queue_bytes,
    /// How often the process ends and is started again.
    restarts,
    /// How often the application does something by itself.
    app_acts,
    /// Whether it hears of subscriptions.
    hears,
    /// How it ends: 0 all clients leave, 1 a drain at once, 2 a drain over a while.
    ending,
}

impl Options {
    /// The world of `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut r = Random::new(seed, 0);
        let mut this = Self::zero(seed);
        this.draw_people(&mut r);
        this.draw_network(&mut r);
        this.draw_server(&mut r);
        this.draw_stalls(&mut Random::new(seed, 3));
        this.draw_history(&mut Random::new(seed, 4));
        this.draw_members(&mut Random::new(seed, 5));
        this.draw_sessions(&mut Random::new(seed, 6));
        this.draw_documents(&mut Random::new(seed, 7));
        this.draw_store(&mut Random::new(seed, 8));
        this.draw_acts(&mut Random::new(seed, 10));
        this.ask_whose = u64::from(Random::new(seed, 9).chance(200));
        // Many quick clients live short, and crumbs are costly: seeds take milliseconds, so that many can be searched.
        let costly = if this.chunk_max < 100 { 10 } else { 1 };
        let actions = ACTIONS_MAX * if this.clients() > 200 { 10 } else { 1 };
        let longest = actions * this.think_ms / this.clients() / costly;
        this.duration_ms = this.duration_ms.min(longest.max(200));
        this
    }

    /// Fan-out without faults: how fast is the simulator?
    #[must_use]
    pub fn fan_out(seed: u64) -> Self {
        Self {
            shards: 1,
            channels: 4,
            subscribers: 1000,
            publishers: 4,
            duration_ms: 2_000,
            steps_max: u64::MAX,
            think_ms: 20,
            burst_max: 40,
            padding_max: 40,
            latency_us: 200,
            chunk_max: 64 * 1024,
            room: 1 << 20,
            turn_us: 50,
            offsets: 1,
            outbox_bytes: 1 << 20,
            watermark_bytes: 64 * 1024,
            round_bytes: 64 * 1024,
            ping_ms: 20_000,
            pong_ms: 20_000,
            idle_ms: 300_000,
            patience_ms: 5_000,
            request_ms: 5_000,
            in_flight: 32,
            publishes_in_flight: 10_000,
            channels_per_connection: 1_000,
            shard_queue_bytes: 64 << 20,
            ending: 1,
            ..Self::with_default_history(seed)
        }
    }

    fn draw_people(&mut self, r: &mut Random) {
        // One world in 250 is a large one.
        let large = r.chance(4);
        let scale = if large { r.range(20, 100) } else { 1 };
        self.shards = r.pick(&[1, 1, 1, 1, 2, 2, 2, 3, 8]);
        self.channels = r.range(1, 8);
        self.subscribers = r.range(1, 16) * scale;
        self.publishers = r.range(1, 4);
        self.posters = r.below(4);
        self.sluggards = r.below(4) * scale.min(10);
        self.hostile = if r.chance(500) { r.below(6) } else { 0 };
        self.storming = if r.chance(500) { r.below(6) * scale.min(10) } else { 0 };
        self.duration_ms = if large { r.range(1_000, 3_000) } else { r.range(1_000, 20_000) };
        self.steps_max = u64::MAX;
        self.think_ms = r.pick(&[2, 10, 50, 200, 1_000]);
        self.burst_max = r.pick(&[1, 2, 5, 20]);
        self.padding_max = r.pick(&[0, 20, 200, 2_000]);
        self.ending = r.below(3);
    }

    fn draw_network(&mut self, r: &mut Random) {
        self.latency_us = r.pick(&[1, 100, 1_000, 20_000]);
        self.chunk_max = r.pick(&[7, 100, 1_500, 65_536, 65_536, 65_536]);
        self.room = r.pick(&[600, 4_096, 65_536, 1 << 20]);
        self.turn_us = r.pick(&[0, 10, 1_000, 20_000]);
        self.link_us = r.pick(&[0, 10, 1_000, 50_000]);
        let faulty = r.chance(700);
        let fault =
            |r: &mut Random, rate: u64| if faulty && r.chance(600) { r.below(rate) } else { 0 };
        self.reset_pm = fault(r, 40);
        self.half_close_pm = fault(r, 20);
        self.wall_jumps = fault(r, 6);
        self.reloads = fault(r, 4);
    }

    fn draw_server(&mut self, r: &mut Random) {
        self.auth = r.below(2);
        self.offsets = u64::from(r.chance(850));
        self.ask_subscribe = u64::from(r.chance(200));
        self.ask_publish = u64::from(r.chance(200));
        self.app_silent_pm = r.pick(&[0, 0, 20, 200]);
        self.app_ms = r.pick(&[0, 10, 1_000]);
        self.slow_policy = r.below(4);
        self.outbox_bytes = r.pick(&[2_000, 8_192, 65_536, 1 << 20]);
        self.watermark_bytes = r.pick(&[1_000, 65_536]);
        self.round_bytes = r.pick(&[500, 4_096, 65_536]);
        self.rate = r.pick(&[0, 0, 20, 100]);
        self.ping_ms = r.pick(&[0, 500, 5_000, 20_000]);
        self.pong_ms = r.pick(&[1_000, 5_000, 20_000]);
        self.idle_ms = r.pick(&[0, 60_000, 300_000]);
        self.patience_ms = r.pick(&[500, 2_000, 10_000]);
        self.request_ms = r.pick(&[200, 2_000, 10_000]);
        self.in_flight = r.pick(&[1, 4, 32]);
        self.publishes_in_flight = r.pick(&[2, 10, 10_000, 10_000]);
        self.channels_per_connection = r.pick(&[2, 1_000, 1_000]);
        self.connections_max = if r.chance(100) { r.range(1, 20) } else { 0 };
        self.brief_pm = r.pick(&[0, 0, 300]) * self.auth;
        self.revoked = r.below(2) * self.auth;
    }

    fn draw_acts(&mut self, r: &mut Random) {
        self.app_acts = if r.chance(500) { r.range(1, 80) } else { 0 };
        self.hears = r.below(2);
    }

    fn draw_stalls(&mut self, r: &mut Random) {
        self.shard_queue_bytes = r.pick(&[1_000, 10_000, 1 << 20, 64 << 20]);
        if r.chance(600) {
            self.stalls = r.below(8);
            self.stall_ms = r.pick(&[20, 200, 2_000]);
        }
    }

    /// As long as all stalls together may last.
    pub(crate) fn stalled_ms(&self) -> u64 {
        self.stalls * self.stall_ms
    }

    /// When brief tokens expire: whole seconds of the wall clock.
    pub(crate) fn brief_end(&self) -> Duration {
        START_UNIX + Duration::from_secs(1 + self.duration_ms / 2_000)
    }

    /// Clients of all kinds.
    #[must_use]
    pub fn clients(&self) -> u64 {
        let loud = self.publishers + self.posters + self.hostile + self.storming;
        self.subscribers + self.sluggards + loud
    }

    /// The `generation`th configuration of this world: reloads change limits and slow-reader policies.
    pub(crate) fn config(&self, generation: u64) -> Config {
        let mut config = Config { policy: policy(), ..Config::default() };
        config.limits = self.limits(generation);
        config.auth.required = self.auth == 1;
        if self.auth == 1 {
            config.auth.keys.add_secret(None, SECRET).expect("a good secret");
        }
        config.anonymous_publish = AnonymousPublish::Loopback;
        config.slow_readers.default = match self.slow_policy {
            0 | 3 => SlowPolicy::Disconnect,
            1 => SlowPolicy::Gap,
            _ => SlowPolicy::Latest,
        };
        if self.slow_policy == 3 {
            let rule = |channel: u64, policy| {
                (Pattern::parse(&channel_name(channel)).expect("a pattern"), policy)
            };
            let gap = (0..self.channels).filter(|c| (c + generation) % 3 == 1);
            let latest = (0..self.channels).filter(|c| c % 3 == 2);
            config.slow_readers.rules = gap
                .map(|channel| rule(channel, SlowPolicy::Gap))
                .chain(latest.map(|channel| rule(channel, SlowPolicy::Latest)))
                .collect();
        }
        config.history = self.history(generation);
        // The application's own channels are nobody's log.
        let own = Pattern::parse("app:*").expect("a pattern");
        config.history.rules.insert(0, (own, mahavishnu_core::config::Keep::OFF));
        config.presence = self.presence();
        config.store = self.store == 1;
        config.compat.offsets = self.offsets == 1;
        config.hooks.requests.insert("ask".into());
        config.hooks.authorize_subscribe = self.ask_subscribe == 1;
        config.hooks.authorize_publish = self.ask_publish == 1;
        config.hooks.authenticate = self.ask_whose == 1;
        config.hooks.introduce = self.ask_whose == 1;
        config.hooks.lifecycle = true;
        config.hooks.subscriptions = self.hears == 1;
        config
    }

    fn limits(&self, generation: u64) -> Limits {
        let millis = |ms: u64| Duration::from_nanos(ms * MILLI);
        let maybe = |ms: u64| (ms > 0).then(|| millis(ms));
        Limits {
            wire: wire::Limits {
                head_timeout: millis(self.patience_ms),
                close_timeout: millis(self.patience_ms),
                http_idle_timeout: millis(self.patience_ms * 3),
                ping_interval: maybe(self.ping_ms),
                pong_timeout: millis(self.pong_ms),
                connection_timeout: maybe(self.idle_ms),
                outbox_read_watermark: self.watermark_bytes as usize,
                ..wire::Limits::default()
            },
            connections: limits::Connections {
                messages_per_second: u32::try_from(self.rate).ok().filter(|rate| *rate > 0),
                messages_burst: (self.rate as u32).max(1) * 2,
                connections_max: match self.connections_max {
                    0 => 1_000_000,
                    some => some as usize,
                },
                sockets_max: 1_000_000,
                ..limits::Connections::default()
            },
            auth: limits::Auth {
                auth_timeout: millis(self.patience_ms),
                token_warning: millis(1_000),
                token_grace: millis(BRIEF_GRACE_MS),
                ..limits::Auth::default()
            },
            channels: limits::Channels {
                channels_per_connection_max: self.channels_per_connection as usize,
                ..limits::Channels::default()
            },
            delivery: limits::Delivery {
                // Later generations are a little tighter.
                outbox_bytes_max: (self.outbox_bytes - self.outbox_bytes / 10 * generation.min(5))
                    as usize,
                round_bytes_max: self.round_bytes as usize,
                queued_bytes_max: self.queued_bytes as usize,
            },
            history: self.history_limits(),
            presence: self.presence_limits(),
            sessions: self.session_limits(),
            requests: limits::Requests {
                request_timeout: millis(self.request_ms),
                authenticate_timeout: millis(self.request_ms),
                requests_in_flight_max: self.in_flight as u16,
                ..limits::Requests::default()
            },
            publishing: limits::Publishing {
                publishes_in_flight_max: self.publishes_in_flight as usize,
                ..limits::Publishing::default()
            },
            shards: limits::Shards { shard_queue_bytes_max: self.shard_queue_bytes as usize },
            ..Limits::default()
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed={}", self.seed)?;
        self.list().iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// Every fourth channel is secret: only some permissions open it.
pub(crate) fn channel_name(channel: u64) -> String {
    if channel % 4 == 3 { format!("secret:{channel}") } else { format!("open:{channel}") }
}

pub(crate) fn channel_names(count: u64) -> Arc<[String]> {
    (0..count).map(channel_name).collect()
}

/// What a client's token lets it do; worked out here apart from the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Everything.
    Root,
    /// Subscribe to open channels.
    Read,
    /// Subscribe to and publish on open channels.
    Work,
    /// No permission at all.
    Nothing,
}

impl Rights {
    pub(crate) const ALL: [Self; 4] = [Self::Root, Self::Read, Self::Work, Self::Nothing];

    pub(crate) fn permissions(self) -> &'static [&'static str] {
        match self {
            Self::Root => &["root"],
            Self::Read => &["read"],
            Self::Work => &["read", "work"],
            Self::Nothing => &[],
        }
    }

    pub(crate) fn may_subscribe(self, channel: u64) -> bool {
        self == Self::Root || (self != Self::Nothing && channel % 4 != 3)
    }

    pub(crate) fn may_publish(self, channel: u64) -> bool {
        self == Self::Root || (self == Self::Work && channel % 4 != 3)
    }
}

fn policy() -> Policy {
    let rule = |pattern: &str, subscribe: &[&str], publish: &[&str]| Rule {
        pattern: Pattern::parse(pattern).expect("a pattern"),
        subscribe: subscribe.iter().map(|permission| Box::from(*permission)).collect(),
        publish: publish.iter().map(|permission| Box::from(*permission)).collect(),
    };
    let rules = vec![rule("open:*", &["read"], &["work"]), rule("secret:*", &["secret"], &[])];
    Policy::new(vec!["root".into()], Vec::new(), rules).expect("few rules")
}

/// `token_grace`.
pub(crate) const BRIEF_GRACE_MS: u64 = 500;

/// What the clients of a world do, all together, in its safety phase.
const ACTIONS_MAX: u64 = 4_000;

pub(crate) const SECRET: &[u8] = b"a secret of at least thirty-two bytes, for simulated worlds";
