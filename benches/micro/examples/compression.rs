//! What compression costs and saves: the tables of docs/compression.md.
//!
//! `cargo run --release -p mahavishnu-microbenches --example compression`
#![expect(clippy::print_stdout, reason = "the tables are its output")]
#![expect(clippy::expect_used, reason = "a measurement that fails stops")]
#![expect(clippy::indexing_slicing, reason = "a measurement that fails stops")]

use std::{
    fs, io,
    sync::Arc,
    time::{Duration, Instant},
};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use mahavishnu_core::{
    config::{Config, DeflateConfig},
    entropy::Seed,
    hub::{Command, Hub, Listener, Peer, Place, Publication},
    time::Now,
    ws::{self, Flush, Opcode},
};
use miniz_oxide::{
    DataFormat,
    deflate::core::{CompressorOxide, TDEFLFlush, compress},
    inflate::core::{
        DecompressorOxide, decompress,
        inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF},
    },
};

fn main() {
    println!("## One message\n");
    println!("| data | message | level | compressed | saved | compress | inflate |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for size in SIZES {
        for level in [1, 3, 6, 9] {
            one_message(size, level);
        }
    }
    println!("\n## With and without context takeover\n");
    println!("| data | level | message | alone | with takeover | compress alone | with takeover |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for size in SIZES {
        for level in [1, 6] {
            takeover(size, level);
        }
    }
    let (compress, decompress) = memory();
    println!("\nMemory of a window: {compress} KB to compress, {decompress} KB to inflate.");
    println!("\n## Fan-out to {MEMBERS}, {WINDOW} messages a turn\n");
    println!("| data | receivers | µs per message | ratio | bytes per delivery |");
    println!("|---|---|---:|---:|---:|");
    for size in SIZES {
        fan_out(size);
    }
}

fn one_message(size: usize, level: u8) {
    let messages = envelopes(size, 64);
    let plain: usize = messages.iter().map(Vec::len).sum();
    let mut stream = CompressorOxide::default();
    stream.set_format_and_level(DataFormat::Raw, level);
    let mut packed = vec![vec![0; plain + 64]; messages.len()];
    let mut lens = vec![0; messages.len()];
    let compress_time = best_mean(messages.len(), |at| {
        stream.reset();
        (_, _, lens[at]) = compress(&mut stream, &messages[at], &mut packed[at], TDEFLFlush::Sync);
    });
    let deflated = lens.iter().sum::<usize>() - 4 * lens.len();
    let mut stream = DecompressorOxide::default();
    let mut text = vec![0; 4 * size + 4096];
    let inflate_time = best_mean(packed.len(), |at| {
        stream.init();
        let (_, _, len) = decompress(&mut stream, &packed[at][..lens[at]], &mut text, 0, FLAGS);
        assert_eq!(len, messages[at].len());
    });
    println!(
        "| {size} B | {} B | {level} | {} B | {:.0} % | {} | {} |",
        plain / 64,
        deflated / 64,
        100.0 - 100.0 * deflated as f64 / plain as f64,
        micros(compress_time),
        micros(inflate_time),
    );
}

/// The same messages with a window that lives as long as the connection, and with one for each message.
fn takeover(size: usize, level: u32) {
    let messages = envelopes(size, 200);
    let plain: usize = messages.iter().map(Vec::len).sum();
    let mut found = Vec::new();
    for alone in [true, false] {
        let mut stream = Compress::new(Compression::new(level), false);
        let mut bytes = vec![0; messages.len()];
        let time = best_mean(messages.len(), |at| {
            if at == 0 {
                stream.reset();
            }
            bytes[at] = deflate(&mut stream, &messages[at], alone).len() - 4;
        });
        found.push((bytes.iter().sum::<usize>() / messages.len(), micros(time)));
    }
    let [(alone, alone_time), (kept, kept_time)] = &found[..] else { return };
    let plain = plain / 200;
    println!(
        "| {size} B | {level} | {plain} B | {alone} B | {kept} B | {alone_time} | {kept_time} |"
    );
}

fn deflate(stream: &mut Compress, message: &[u8], alone: bool) -> Vec<u8> {
    if alone {
        stream.reset();
    }
    let mut out = Vec::with_capacity(message.len() + 64);
    stream.compress_vec(message, &mut out, FlushCompress::Sync).expect("room");
    out
}

/// Resident kilobytes of a compressor and of a decompressor that have seen messages.
fn memory() -> (usize, usize) {
    let message = envelopes(16 * 1024, 1).concat();
    let mut packed = Vec::new();
    let before = resident();
    let compressors: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = Compress::new(Compression::new(1), false);
            for _ in 0..8 {
                packed = deflate(&mut stream, &message, false);
            }
            stream
        })
        .collect();
    let middle = resident();
    let packed = deflate(&mut Compress::new(Compression::new(1), false), &message, true);
    let mut text = Vec::with_capacity(2 * message.len());
    let decompressors: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = Decompress::new(false);
            for _ in 0..8 {
                text.clear();
                let done = stream.decompress_vec(&packed, &mut text, FlushDecompress::Sync);
                done.expect("what was compressed just now");
            }
            stream
        })
        .collect();
    let after = resident();
    drop((compressors, decompressors));
    (middle.saturating_sub(before) / 100, after.saturating_sub(middle) / 100)
}

fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or_default() * 4
}

/// The core alone: sockets that take everything at once.
fn fan_out(size: usize) {
    let mut plain = None;
    for (name, offers, level) in
        [("plain", 0, 1), ("half, level 1", 2, 1), ("all, level 1", 1, 1), ("all, level 6", 1, 6)]
    {
        let mut world = World::new(MEMBERS, offers, level);
        let mut time = Duration::MAX;
        let mut bytes = 0;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            (0..WINDOW).for_each(|n| world.publish(size, n));
            let mut sink = Count(0);
            world.turn(&mut sink);
            bytes = sink.0;
            time = time.min(begun.elapsed() / WINDOW);
        }
        let base = *plain.get_or_insert(time);
        println!(
            "| {size} B | {name} | {} | {:.2} | {} |",
            micros(time),
            time.as_secs_f64() / base.as_secs_f64(),
            bytes / (MEMBERS as usize * WINDOW as usize),
        );
    }
}

/// A hub with subscribers of one channel.
struct World {
    hub: Hub,
    now: Now,
}

impl World {
    /// Every `offers`th of its members offers compression; none if that is 0.
    fn new(members: u32, offers: u32, level: u8) -> Self {
        let now = Now { mono: Instant::now(), unix: Duration::from_secs(1_770_000_000) };
        let deflate = DeflateConfig { enabled: true, level, threshold_bytes: 1, channels: vec![] };
        let config = Config { deflate, ..Config::default() };
        let hub = Hub::new(Arc::new(config), Place::alone(Seed::from(1)), now);
        let mut this = Self { hub, now };
        for n in 0..members {
            this.join(offers > 0 && n % offers == 0);
        }
        this.turn(&mut io::sink());
        this
    }

    fn join(&mut self, deflate: bool) {
        let peer = Peer { address: ([127, 0, 0, 1], 50_000).into(), listener: Listener::Main };
        let conn = self.hub.handle_accept(self.now, peer).expect("room");
        let offer = if deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        let mut bytes = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
        )
        .into_bytes();
        let subscribe = br#"{"type":"request","event":"subscribe","data":{"channel":"c"}}"#;
        ws::encode_frame(&mut bytes, Opcode::Text, subscribe, Some([1, 2, 3, 4]));
        self.hub.handle_bytes(self.now, conn, &mut bytes);
    }

    fn publish(&mut self, size: usize, n: u32) {
        let data = data(size, n);
        let publication = Publication::new("c", EVENT, data);
        self.hub.handle_command(self.now, Command::Publish { id: None, publication });
    }

    /// One broadcast, as its only subscriber gets it.
    fn envelope(&mut self, size: usize, n: u32) -> Vec<u8> {
        // The ids and the time differ as they do in life.
        self.now = self.now.plus(Duration::from_micros(12_345));
        self.publish(size, n);
        let mut out = Vec::new();
        self.turn(&mut out);
        out.split_off(out.len() - message_len(&out))
    }

    /// Everything goes out.
    fn turn(&mut self, sink: &mut dyn io::Write) {
        let flush = |world: &mut Self, conn| {
            assert_eq!(world.hub.flush(world.now, conn, &mut *sink), Flush::Drained);
        };
        mahavishnu_sim::turn(self, self.now, |world| &mut world.hub, |_, _| (), flush);
    }
}

struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `data` of an event, about `size` bytes: steps of a workflow, with numbers and ids that differ.
fn data(size: usize, n: u32) -> String {
    let mut random = (u64::from(n) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut text = format!("{{\"workflow_id\":\"wf-{:08x}\",\"n\":{n},\"stages\":[", next() as u32);
    let mut first = true;
    loop {
        let status = ["completed", "failed", "running"][(next() % 3) as usize];
        let stage = format!(
            "{}{{\"stage\":\"s{}\",\"status\":\"{status}\",\"ms\":{},\"worker\":\"{:06x}\"}}",
            if first { "" } else { "," },
            next() % 40,
            next() % 100_000,
            next() & 0xFF_FFFF,
        );
        if !first && text.len() + stage.len() + 2 > size {
            break;
        }
        text.push_str(&stage);
        first = false;
    }
    text.push_str("]}");
    text
}

/// Broadcasts as they go out, one after the other.
fn envelopes(size: usize, count: u32) -> Vec<Vec<u8>> {
    let mut world = World::new(1, 0, 1);
    (0..count).map(|n| world.envelope(size, n)).collect()
}

/// The payload's length of a server's frame.
fn message_len(frame: &[u8]) -> usize {
    match frame {
        [_, 126, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        [_, short, ..] if *short < 126 => usize::from(*short),
        _ => frame.len().saturating_sub(10),
    }
}

/// The mean over `count` steps of each step's shortest time in several rounds.
fn best_mean(count: usize, mut step: impl FnMut(usize)) -> Duration {
    let mut times = vec![Duration::MAX; count];
    for _ in 0..ROUNDS {
        for (at, time) in times.iter_mut().enumerate() {
            let begun = Instant::now();
            step(at);
            *time = begun.elapsed().min(*time);
        }
    }
    times.iter().sum::<Duration>() / count as u32
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

/// As the core inflates.
const FLAGS: u32 = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
const SIZES: [usize; 3] = [128, 1024, 16 * 1024];
const EVENT: &str = "workflow.stage_completed";
const MEMBERS: u32 = 1000;
const WINDOW: u32 = 16;
const ROUNDS: usize = 60;
