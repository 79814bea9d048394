//! How much memory there is, and what fits into it: connections, what waits for them, what has come only in part; and for
//! how many sockets there are file descriptors.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use mahavishnu_core::{config::ConnectionsBound, limits::Limits};
use mahavishnu_driver::links::LinkLimits;
use rustix::process::{Resource, getrlimit};

use crate::settings::{MemoryLimit, Settings};

/// What the server takes on at most, and why so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// WebSocket connections, over all shards.
    pub(crate) connections_max: usize,
    pub(crate) bound: ConnectionsBound,
    /// Sockets for which there are descriptors, whatever they are for, over all shards.
    pub(crate) sockets_max: usize,
    /// Bytes that wait for slow readers, for each shard.
    pub(crate) queued_bytes_max: usize,
    /// Bytes of unfinished input, for each shard.
    pub(crate) partial_bytes_max: usize,
    /// Bytes of idempotency keys and their answers, for each shard.
    pub(crate) idempotency_bytes_max: usize,
    /// Bytes of messages and documents that are kept, for each shard.
    pub(crate) history_bytes_max: usize,
    /// Bytes of members of channels, for each shard.
    pub(crate) presence_bytes_max: usize,
    /// Bytes of sessions, for each shard.
    pub(crate) sessions_bytes_max: usize,
    /// What a shard's part in a bus takes.
    pub(crate) bus: BusBytes,
    /// The memory that this was computed from; `None` if none was named.
    pub(crate) memory: Option<u64>,
    /// Files that this process may open; `None` without a limit.
    files: Option<u64>,
}

/// Bytes of what waits for Redis or came from it, for each shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BusBytes {
    /// Publishes that wait for Redis.
    pub(crate) queue: usize,
    /// Subscriptions and questions that wait for what Redis keeps.
    pub(crate) waiting: usize,
    /// Messages behind holes.
    pub(crate) holes: usize,
    /// Pages that are being read.
    pub(crate) pages: usize,
    /// Commands that wait to be sent or answered, as they are written.
    pub(crate) commands: usize,
}

impl BusBytes {
    /// Without a limit, what is set and the defaults.
    fn unlimited(settings: &Settings) -> Self {
        let limits = Limits::default().bus;
        let queue = settings.redis_queue_bytes;
        Self {
            queue,
            waiting: limits.bus_waiting_bytes_max,
            holes: limits.bus_holes_bytes_max,
            pages: limits.bus_page_bytes_max * limits.bus_reads_max,
            // What is let in has to fit.
            commands: LinkLimits::default().command_bytes_max.max(queue),
        }
    }

    fn sum(self) -> u64 {
        let Self { queue, waiting, holes, pages, commands } = self;
        // What is read from before what is kept has as much room as what waits behind holes.
        [queue, waiting, holes, holes, pages, commands].into_iter().map(|bytes| bytes as u64).sum()
    }

    /// Each of them smaller in proportion, so that all fit into `bytes`.
    fn within(self, bytes: u64) -> Self {
        let sum = u128::from(self.sum().max(1));
        let bytes = u128::from(bytes).min(sum);
        let part = |one: usize| {
            let part = one as u128 * bytes / sum;
            usize::try_from(part).unwrap_or(one)
        };
        Self {
            queue: part(self.queue),
            waiting: part(self.waiting),
            holes: part(self.holes),
            pages: part(self.pages),
            commands: part(self.commands),
        }
    }
}

/// Servers that this process has, each of which is entitled to as much as the others.
static SERVERS: AtomicU64 = AtomicU64::new(1);

/// From now on what this process may have is for so many servers together.
pub(crate) fn share_among(servers: usize) {
    SERVERS.store(servers as u64, Ordering::Relaxed);
}

impl Capacity {
    /// Reads the system's limits if the settings say so.
    pub(crate) fn of(settings: &Settings) -> Self {
        let memory = match settings.memory_limit {
            MemoryLimit::Off => None,
            MemoryLimit::Auto => available(),
            MemoryLimit::Bytes(bytes) => Some(bytes),
        };
        let servers = SERVERS.load(Ordering::Relaxed).max(1);
        let share = |all: u64| all / servers;
        // The server raises its limit to the maximum.
        let files = getrlimit(Resource::Nofile).maximum;
        Self::within(memory.map(share), settings).among(files.map(share), settings)
    }

    /// How many connections a server with these settings has where it may open so many files.
    pub(crate) fn connections_within(files: u64, settings: &Settings) -> usize {
        Self::within(None, settings).among(Some(files), settings).connections_max
    }

    /// The same with `files` that may be open. Where connections and what is kept free for health checks and metrics do not
    /// fit, there are fewer: accepting must never fail, or nobody would be answered any more.
    fn among(self, files: Option<u64>, settings: &Settings) -> Self {
        let reserve = PROGRAM_FILES + u64::from(settings.shards.resolve()) * SHARD_FILES;
        let left = files.map_or(u64::MAX, |files| files.saturating_sub(reserve));
        let sockets_max = usize::try_from(left).unwrap_or(usize::MAX).max(2);
        let fit = sockets_max - (sockets_max / 6).clamp(1, SOCKETS_SPARED);
        let bound = if fit < self.connections_max { ConnectionsBound::Files } else { self.bound };
        let connections_max = self.connections_max.min(fit);
        Self { connections_max, bound, sockets_max, files, ..self }
    }

    fn within(memory: Option<u64>, settings: &Settings) -> Self {
        let shards = u64::from(settings.shards.resolve());
        let wanted = settings.max_connections;
        let Some(memory) = memory else {
            let default = Limits::default();
            return Self {
                connections_max: wanted,
                bound: ConnectionsBound::Setting,
                sockets_max: usize::MAX,
                // A few at their own limits must not be over that of all.
                queued_bytes_max: default
                    .delivery
                    .queued_bytes_max
                    .max(settings.outbox_bytes.saturating_mul(4)),
                partial_bytes_max: default
                    .connections
                    .partial_bytes_max
                    .max(settings.max_message_bytes.saturating_mul(4)),
                idempotency_bytes_max: default.publishing.idempotency_bytes_max,
                history_bytes_max: settings.history_bytes,
                presence_bytes_max: settings.presence_bytes,
                // As many bytes for each as there are by default.
                sessions_bytes_max: settings
                    .sessions_max
                    .saturating_mul(default.sessions.sessions_bytes_max)
                    / default.sessions.sessions_max.max(1),
                bus: BusBytes::unlimited(settings),
                memory: None,
                files: None,
            };
        };
        let free = memory.saturating_sub(PROGRAM_BYTES + shards * SHARD_BYTES);
        // What is kept is there even if nobody is connected.
        let history = (settings.history_bytes as u64).min(free / 8 / shards);
        let has_members = settings.presence_rules.iter().any(|rule| rule.value);
        let presence = (settings.presence_bytes as u64).min(free / 16 / shards);
        let bus = BusBytes::unlimited(settings).within(free / 8 / shards);
        let reserved = history
            + if has_members { presence } else { 0 }
            + if settings.has_redis() { bus.sum() } else { 0 };
        let rest = free / 2 - reserved * shards;
        let fit = usize::try_from(free / 2 / connection_bytes(settings.tls_enabled));
        let fit = fit.unwrap_or(usize::MAX).max(1);
        let part = |bytes: u64| usize::try_from(bytes / shards).unwrap_or(usize::MAX);
        Self {
            connections_max: wanted.min(fit),
            bound: if fit < wanted { ConnectionsBound::Memory } else { ConnectionsBound::Setting },
            sockets_max: usize::MAX,
            queued_bytes_max: part(rest / 16 * 10),
            partial_bytes_max: part(rest / 4),
            idempotency_bytes_max: part(rest / 16),
            history_bytes_max: usize::try_from(history).unwrap_or(usize::MAX),
            presence_bytes_max: usize::try_from(presence).unwrap_or(usize::MAX),
            sessions_bytes_max: part(rest / 16),
            bus,
            memory: Some(memory),
            files: None,
        }
    }

    /// For people, on one line.
    pub(crate) fn describe(&self) -> String {
        let why = match (self.bound, self.memory) {
            (ConnectionsBound::Setting, _) => "MAHAVISHNU_MAX_CONNECTIONS".to_owned(),
            (ConnectionsBound::Memory, memory) => {
                format!("{} of memory", mebibytes(memory.unwrap_or_default()))
            }
            (ConnectionsBound::Files, _) => {
                format!("{} open files", self.files.unwrap_or_default())
            }
        };
        format!(
            "at most {} connections ({why}); for each shard {} for slow readers, {} of unfinished input, {} of history",
            self.connections_max,
            mebibytes(self.queued_bytes_max as u64),
            mebibytes(self.partial_bytes_max as u64),
            mebibytes(self.history_bytes_max as u64),
        )
    }

    /// What operators may not expect.
    pub(crate) fn warnings(&self, settings: &Settings) -> Vec<String> {
        let mut warnings = Vec::new();
        if settings.memory_limit == MemoryLimit::Auto && self.memory.is_none() {
            let text = "MAHAVISHNU_MEMORY_LIMIT=auto: this system does not say how much memory there is; set a number";
            warnings.push(text.into());
        }
        if self.bound == ConnectionsBound::Files {
            warnings.push(format!(
                "MAHAVISHNU_MAX_CONNECTIONS={} does not fit: this process may open only {} files (ulimit -n, LimitNOFILE), enough for {} connections",
                settings.max_connections,
                self.files.unwrap_or_default(),
                self.connections_max
            ));
        }
        let (outbox, message) = (settings.outbox_bytes, settings.max_message_bytes);
        if self.queued_bytes_max < outbox {
            warnings.push(format!(
                "MAHAVISHNU_OUTBOX_BYTES={outbox} is more than MAHAVISHNU_MEMORY_LIMIT leaves for all slow readers of a shard ({})",
                self.queued_bytes_max
            ));
        }
        let history = settings.history_bytes;
        // The default fits itself to what there is.
        if self.history_bytes_max < history && history != default_history_bytes() {
            warnings.push(format!(
                "MAHAVISHNU_HISTORY_BYTES={history} is more than MAHAVISHNU_MEMORY_LIMIT leaves for what a shard keeps ({})",
                self.history_bytes_max
            ));
        }
        let presence = settings.presence_bytes;
        if self.presence_bytes_max < presence && presence != default_presence_bytes() {
            warnings.push(format!(
                "MAHAVISHNU_PRESENCE_BYTES={presence} is more than MAHAVISHNU_MEMORY_LIMIT leaves for the members of a shard's channels ({})",
                self.presence_bytes_max
            ));
        }
        let queue = settings.redis_queue_bytes;
        if settings.has_redis() && self.bus.queue < queue && queue != default_queue_bytes() {
            warnings.push(format!(
                "MAHAVISHNU_REDIS_QUEUE_BYTES={queue} is more than MAHAVISHNU_MEMORY_LIMIT leaves for what waits for Redis in a shard ({})",
                self.bus.queue
            ));
        }
        if self.partial_bytes_max < message {
            warnings.push(format!(
                "MAHAVISHNU_MAX_MESSAGE_BYTES={message} is more than MAHAVISHNU_MEMORY_LIMIT leaves for unfinished input of a shard ({}): \
                 the longest messages cannot come in",
                self.partial_bytes_max
            ));
        }
        warnings
    }
}

/// What an idle connection takes: ours, and the kernel's share for its socket.
fn connection_bytes(tls: bool) -> u64 {
    KERNEL_BYTES + if tls { TLS_BYTES } else { PLAIN_BYTES }
}

fn default_presence_bytes() -> usize {
    Limits::default().presence.presence_bytes_max
}

fn default_queue_bytes() -> usize {
    Limits::default().bus.bus_queue_bytes_max
}

fn default_history_bytes() -> usize {
    Limits::default().history.history_bytes_max
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Memory that this process may use: nine tenths of what its control groups allow, else half of the machine's.
fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine_bytes(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = limit_files(&groups)
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok())
        .min()
        // Without a limit, version 1 has a number larger than any machine.
        .filter(|limit| machine.is_none_or(|machine| *limit < machine));
    group.map(|limit| limit / 10 * 9).or_else(|| machine.map(|machine| machine / 2))
}

fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Where limits of the groups in `/proc/self/cgroup` may stand, those of their parents included.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{path}/{name}"));
            match path.rsplit_once('/') {
                Some((parent, _)) => path = parent,
                None => break,
            }
        }
    }
    files
}

/// Descriptors that are no sockets of clients: listeners, signals, logs, the lock, files of a reload, a recording.
const PROGRAM_FILES: u64 = 64;

/// The same for each shard: pollers and what wakes them; and the newcomers of a turn, which are there before those who make
/// room for them have gone.
const SHARD_FILES: u64 = 16 + 64;

/// Sockets kept free of WebSockets: for health checks, metrics and handshakes. A sixth where there are few.
const SOCKETS_SPARED: usize = 100;

/// The program before its first connection; 6 MB were measured.
const PROGRAM_BYTES: u64 = 16 << 20;

/// A shard's own buffers, tables and stack.
const SHARD_BYTES: u64 = 4 << 20;

/// An idle connection in the process: 230 bytes were measured, 700 with a token of its own.
const PLAIN_BYTES: u64 = 1_024;

/// The same with TLS; 8 to 10 KiB were measured.
const TLS_BYTES: u64 = 12 * 1024;

/// The kernel's socket, file and registration for our end; 2.5 KiB were measured, with nothing in its buffers.
const KERNEL_BYTES: u64 = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::testing::load;

    /// With as many files as one likes, whatever this machine allows.
    fn capacity(pairs: &[(&str, &str)]) -> Capacity {
        let settings = load(pairs).settings;
        let memory = match settings.memory_limit {
            MemoryLimit::Bytes(bytes) => Some(bytes),
            MemoryLimit::Off | MemoryLimit::Auto => None,
        };
        Capacity::within(memory, &settings)
    }

    #[test]
    fn sockets_never_exceed_the_descriptors() {
        let settings = load(&[("MAX_CONNECTIONS", "2000"), ("SHARDS", "1")]).settings;
        let among = |files| Capacity::within(None, &settings).among(files, &settings);
        for files in [0, 1, 100, 256, 1024, 2000, 2300, 4096, 1 << 20] {
            let capacity = among(Some(files));
            assert!(capacity.connections_max < capacity.sockets_max, "{files}: {capacity:?}");
            let open = capacity.sockets_max as u64 + PROGRAM_FILES + SHARD_FILES;
            assert!(open <= files.max(PROGRAM_FILES + SHARD_FILES + 2), "{files}: {capacity:?}");
            let fits = capacity.connections_max == 2000;
            assert_eq!(capacity.warnings(&settings).is_empty(), fits, "{files}");
            assert_eq!(capacity.bound == ConnectionsBound::Setting, fits, "{files}");
        }
        assert_eq!(
            (among(Some(2300)).connections_max, among(Some(2300)).sockets_max),
            (2000, 2156)
        );
        assert_eq!(among(Some(2000)).connections_max, 1756);
        assert!(among(Some(2000)).warnings(&settings)[0].contains("may open only 2000 files"));
        assert_eq!((among(None).connections_max, among(None).sockets_max), (2000, usize::MAX));
    }

    #[test]
    fn without_a_limit_the_defaults_hold_on_every_machine() {
        let capacity = capacity(&[]);
        let default = Limits::default();
        assert_eq!(
            (capacity.connections_max, capacity.queued_bytes_max, capacity.partial_bytes_max),
            (
                default.connections.connections_max,
                default.delivery.queued_bytes_max,
                default.connections.partial_bytes_max,
            )
        );
        assert_eq!(capacity.bound, ConnectionsBound::Setting);
    }

    #[test]
    fn memory_bounds_connections_where_it_is_less_than_what_is_wanted() {
        let many = ("MAX_CONNECTIONS", "1000000");
        let fit = |limit, tls| {
            let one = ("SHARDS", "1");
            let capacity = capacity(&[many, one, ("MEMORY_LIMIT", limit), ("TLS_ENABLED", tls)]);
            assert_eq!(capacity.bound, ConnectionsBound::Memory);
            capacity.connections_max
        };
        // As the document on benchmarks has it.
        assert_eq!(
            [fit("512M", "false"), fit("2G", "false"), fit("8G", "false")],
            [50_380, 207_667, 836_812]
        );
        assert_eq!(
            [fit("512M", "true"), fit("2G", "true"), fit("8G", "true")],
            [15_744, 64_896, 261_504]
        );
        let roomy = capacity(&[("MEMORY_LIMIT", "512M")]);
        assert_eq!((roomy.connections_max, roomy.bound), (10_000, ConnectionsBound::Setting));
    }

    #[test]
    fn shards_share_what_there_is() {
        let (limit, members) = (("MEMORY_LIMIT", "1G"), ("PRESENCE_RULES", "room:*"));
        let redis = ("REDIS_HOST", "r");
        let one = capacity(&[limit, members, redis, ("SHARDS", "1")]);
        let four = capacity(&[limit, members, redis, ("SHARDS", "4")]);
        assert!(4 * four.queued_bytes_max <= one.queued_bytes_max);
        assert!(4 * four.partial_bytes_max <= one.partial_bytes_max);
        for capacity in [one, four] {
            let all = capacity.queued_bytes_max
                + capacity.partial_bytes_max
                + capacity.idempotency_bytes_max
                + capacity.history_bytes_max
                + capacity.presence_bytes_max
                + capacity.sessions_bytes_max
                + usize::try_from(capacity.bus.sum()).unwrap();
            let shards = if capacity == one { 1 } else { 4 };
            assert!(shards * all as u64 <= (1 << 30) / 2, "the other half is for connections");
        }
    }

    #[test]
    fn what_is_kept_has_its_part_whatever_the_setting() {
        let kept = |limit, shards, setting| {
            let pairs = [("MEMORY_LIMIT", limit), ("SHARDS", shards), ("HISTORY_BYTES", setting)];
            (capacity(&pairs).history_bytes_max as u64, capacity(&pairs).queued_bytes_max)
        };
        let free = |shards| (512 << 20) - PROGRAM_BYTES - shards * SHARD_BYTES;
        assert_eq!(kept("512M", "1", "1073741824").0, free(1) / 8);
        assert_eq!(kept("512M", "4", "1073741824").0, free(4) / 8 / 4);
        assert_eq!(kept("512M", "4", "1048576").0, 1 << 20, "no more than was asked for");
        assert!(kept("512M", "4", "1048576").1 > kept("512M", "4", "1073741824").1);
        assert_eq!(kept("off", "4", "1073741824").0, 1 << 30, "without a limit what is set");
    }

    #[test]
    fn members_take_their_part_where_there_are_any() {
        let with = |rules, bytes| {
            let pairs = [("MEMORY_LIMIT", "512M"), ("SHARDS", "2"), ("PRESENCE_RULES", rules)];
            let capacity = capacity(&[&pairs[..], &[("PRESENCE_BYTES", bytes)]].concat());
            (capacity.presence_bytes_max as u64, capacity.queued_bytes_max)
        };
        let part = ((512 << 20) - PROGRAM_BYTES - 2 * SHARD_BYTES) / 16 / 2;
        assert_eq!(with("room:*", "1073741824").0, part);
        assert_eq!(with("room:*", "65536").0, 65_536, "no more than was asked for");
        let [none, few, many] =
            [("room:*=off", "1073741824"), ("room:*", "65536"), ("room:*", "1073741824")]
                .map(|(rules, bytes)| with(rules, bytes).1);
        assert!(none > few && few > many, "{none} {few} {many}");
    }

    #[test]
    fn a_bus_takes_its_part_where_there_is_one() {
        let with = |limit, redis: &[(&str, &str)]| {
            let pairs = [("MEMORY_LIMIT", limit), ("SHARDS", "2")];
            let capacity = capacity(&[&pairs[..], redis].concat());
            (capacity.bus, capacity.queued_bytes_max)
        };
        let redis = ("REDIS_HOST", "r");
        let default = BusBytes::unlimited(&load(&[]).settings);
        assert_eq!(with("off", &[redis]).0, default);
        let limits = Limits::default();
        assert_eq!(default.queue, limits.bus.bus_queue_bytes_max);
        assert_eq!(default.commands, LinkLimits::default().command_bytes_max);
        let large = ("REDIS_QUEUE_BYTES", "1073741824");
        assert_eq!(with("off", &[redis, large]).0.commands, 1 << 30, "what is let in fits");

        let part = ((512 << 20) - PROGRAM_BYTES - 2 * SHARD_BYTES) / 8 / 2;
        let (bus, queued) = with("512M", &[redis]);
        assert!(bus.sum() <= part && bus.sum() + 5 > part, "{bus:?}");
        let scaled = default.sum() as f64 / part as f64;
        for (whole, part) in [(default.queue, bus.queue), (default.commands, bus.commands)] {
            assert!((whole as f64 / part as f64 - scaled).abs() < 0.01, "{bus:?}");
        }
        assert!(queued < with("512M", &[]).1, "without Redis the others have it");
        assert_eq!(with("8G", &[redis]).0, default, "no more than by default");

        let warned = |pairs: &[(&str, &str)]| {
            let settings = load(&[pairs, &[("MEMORY_LIMIT", "64M"), ("SHARDS", "1")]].concat());
            let warnings = Capacity::of(&settings.settings).warnings(&settings.settings);
            warnings.iter().any(|line| line.contains("MAHAVISHNU_REDIS_QUEUE_BYTES="))
        };
        assert!(warned(&[redis, large]));
        assert!(!warned(&[redis]) && !warned(&[large]));
    }

    #[test]
    fn sessions_have_as_much_memory_each_however_many_there_may_be() {
        let bytes =
            |max| capacity(&[("MEMORY_LIMIT", "off"), ("SESSIONS_MAX", max)]).sessions_bytes_max;
        assert_eq!((bytes("10000"), bytes("100000")), (16_777_216, 167_772_160));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let settings = load(&[
            ("MEMORY_LIMIT", "64M"),
            ("MAX_MESSAGE_BYTES", "16777216"),
            ("OUTBOX_BYTES", "67108864"),
            ("HISTORY_BYTES", "67108865"),
            ("PRESENCE_BYTES", "67108865"),
        ])
        .settings;
        let warnings = Capacity::of(&settings).warnings(&settings);
        assert!(warnings[0].contains("OUTBOX_BYTES=67108864"), "{warnings:?}");
        assert!(warnings[1].contains("HISTORY_BYTES=67108865"), "{warnings:?}");
        assert!(warnings[2].contains("PRESENCE_BYTES=67108865"), "{warnings:?}");
        assert!(warnings[3].contains("MAX_MESSAGE_BYTES=16777216"), "{warnings:?}");
        let settings = load(&[("MEMORY_LIMIT", "64M")]).settings;
        assert_eq!(Capacity::of(&settings).warnings(&settings), [""; 0], "the default fits itself");
    }

    #[test]
    fn the_groups_of_both_versions_are_asked_up_to_the_root() {
        let files = limit_files("0::/system.slice/m.service\n5:cpu,memory:/docker/x\n3:cpuset:/\n");
        assert_eq!(
            files,
            [
                "/sys/fs/cgroup/system.slice/m.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
                "/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert_eq!(limit_files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
    }

    #[test]
    fn the_machine_tells_its_memory() {
        assert_eq!(machine_bytes("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(machine_bytes("MemFree: 1 kB\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 0));
    }
}
