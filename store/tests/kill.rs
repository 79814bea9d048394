//! A process that is killed without warning, again and again: what it was told is kept is there.

#![expect(
    clippy::unwrap_used,
    reason = "helpers fail a test as tests do; clippy exempts only functions marked as tests"
)]

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use mahavishnu_core::{
    hub::{AppendId, StoreCommand, StoredRound},
    protocol::Epoch,
};
use mahavishnu_store::{Fsync, Store};

const CHANNELS: u64 = 7;
const ROUNDS_KEPT: u64 = 40;

/// The process that is killed: this test's own program, told by an environment variable where its file is.
#[test]
fn child() {
    let Ok(file) = std::env::var(FILE) else { return };
    let fsync = std::env::var(FSYNC).unwrap().parse().unwrap();
    let (mut store, contents) = Store::open(Path::new(&file), fsync).unwrap();
    let mut next = contents.channels.iter().map(|channel| channel.top + 1).max().unwrap_or(1);
    // Groups of one channel, of some, of all.
    loop {
        let channels = next % CHANNELS + 1;
        let group: Vec<_> = (0..CHANNELS)
            .rev()
            .take(channels as usize)
            .map(|channel| append(channel, next))
            .collect();
        store.commit(&group).unwrap();
        store.sync().unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nkept {next}").unwrap();
        out.flush().unwrap();
        next += 1;
    }
}

/// The channel with the largest number is in each group; the others miss some, and so have holes.
fn append(channel: u64, number: u64) -> StoreCommand {
    StoreCommand::Append {
        id: AppendId(number),
        channel: name(channel),
        round: StoredRound { first: number, count: 1, records: records(channel, number).into() },
        epoch: Epoch::from_random(channel),
        oldest: number.saturating_sub(ROUNDS_KEPT - 1),
        state: None,
    }
}

fn name(channel: u64) -> Arc<str> {
    format!("channel:{channel}").into()
}

fn records(channel: u64, number: u64) -> Vec<u8> {
    (0..200 + number % 900).map(|at| (at * 31 + channel + number) as u8).collect()
}

fn killed_again_and_again(fsync: Fsync) {
    let folder =
        std::env::temp_dir().join(format!("mahavishnu-kill-{}-{fsync}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("history.db");
    for lines in [1, 2, 17, 60, 5, 90, 33] {
        let kept = run_and_kill(&file, fsync, lines);
        check(&file, fsync, kept);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Kills the process when it has said so often that something is kept. What it said last.
fn run_and_kill(file: &PathBuf, fsync: Fsync, lines: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(FILE, file)
        .env(FSYNC, fsync.as_str())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().filter_map(|line| {
        line.unwrap().strip_prefix("kept ").map(|number| number.parse::<u64>().unwrap())
    });
    let mut last = said.nth(lines - 1).unwrap();
    child.kill().unwrap();
    // It has gone on until then.
    last = said.last().unwrap_or(last);
    child.wait().unwrap();
    last
}

fn check(file: &Path, fsync: Fsync, kept: u64) {
    let (store, contents) = Store::open(file, fsync).unwrap();
    drop(store);
    assert!(!contents.renumbered, "{fsync}: the machine has not been started anew");
    let all =
        contents.channels.iter().find(|channel| channel.channel == name(CHANNELS - 1)).unwrap();
    assert!(all.top == kept || all.top == kept + 1, "{fsync}: {} is there of {kept}", all.top);
    let groups: Vec<_> = all.rounds.iter().map(|round| round.first).collect();
    assert_eq!(
        groups,
        (all.top.saturating_sub(ROUNDS_KEPT - 1).max(1)..=all.top).collect::<Vec<_>>()
    );
    for channel in &contents.channels {
        let number: u64 = channel.channel.strip_prefix("channel:").unwrap().parse().unwrap();
        assert_eq!(channel.epoch, Epoch::from_random(number));
        for round in &channel.rounds {
            assert_eq!(round.records, records(number, round.first), "{}", channel.channel);
        }
        // Of each group it has its part: the last one that it belongs to is there.
        let last = (1..=all.top).rev().find(|group| group % CHANNELS + 1 >= CHANNELS - number);
        assert_eq!(Some(channel.top), last, "{fsync}: {} of {}", channel.channel, all.top);
    }
}

#[test]
fn always() {
    killed_again_and_again(Fsync::Always);
}

#[test]
fn everysec() {
    killed_again_and_again(Fsync::EverySec);
}

#[test]
fn no() {
    killed_again_and_again(Fsync::No);
}

const FILE: &str = "MAHAVISHNU_STORE_TEST_FILE";
const FSYNC: &str = "MAHAVISHNU_STORE_TEST_FSYNC";
