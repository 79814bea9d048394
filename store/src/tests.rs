use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use mahavishnu_core::{
    hub::{AppendId, SessionId, StoreCommand, StoredChannel, StoredRound, StoredState},
    protocol::Epoch,
};
use proptest::prelude::*;

use crate::{Contents, Fsync, Store, StoreError};

/// A folder of a test's own, gone when it is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mahavishnu-store-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("history.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(folder: &Folder) -> (Store, Contents) {
    Store::open_on(&folder.file(), Fsync::EverySec, BOOT).unwrap()
}

/// What is in it, left as it is.
fn look(folder: &Folder) -> Contents {
    open(folder).1
}

fn epoch(number: u64) -> Epoch {
    Epoch::from_random(number)
}

fn round(first: u64, count: u32, bytes: usize) -> StoredRound {
    let records = (0..bytes).map(|at| (first as usize + at * 7) as u8).collect::<Vec<_>>();
    StoredRound { first, count, records: records.into() }
}

fn append(channel: &str, epoch: Epoch, round: StoredRound, oldest: u64) -> StoreCommand {
    let channel = channel.into();
    StoreCommand::Append { id: AppendId(0), channel, round, epoch, oldest, state: None }
}

fn document(offset: u64, document: &'static str) -> Option<StoredState> {
    Some(StoredState { offset, document: document.into() })
}

fn failure(path: &Path) -> StoreError {
    match Store::open_on(path, Fsync::EverySec, BOOT) {
        Ok((_, contents)) => panic!("it was opened: {contents:?}"),
        Err(error) => error,
    }
}

#[test]
fn what_was_committed_comes_back() {
    let folder = Folder::new();
    let (mut store, contents) = open(&folder);
    assert_eq!(contents, Contents::default());
    let (one, two) = (round(1, 2, 100), round(3, 1, 10));
    let mut with_document = append("a", epoch(1), two.clone(), 1);
    if let StoreCommand::Append { state, .. } = &mut with_document {
        *state = document(3, r#"{"x":1}"#);
    }
    let session = SessionId(u128::MAX - 5);
    store
        .commit(&[
            append("a", epoch(1), one.clone(), 1),
            append("b", epoch(2), round(7, 1, 1), 7),
            StoreCommand::KeepSession { session, record: "first".into() },
        ])
        .unwrap();
    store
        .commit(&[
            with_document,
            StoreCommand::KeepSession { session, record: "second".into() },
            StoreCommand::KeepSession { session: SessionId(0), record: "".into() },
            StoreCommand::ForgetSession { session: SessionId(0) },
        ])
        .unwrap();
    store.close().unwrap();

    let expected = Contents {
        channels: vec![
            StoredChannel {
                channel: "b".into(),
                epoch: epoch(2),
                top: 7,
                rounds: vec![round(7, 1, 1)],
                state: None,
            },
            StoredChannel {
                channel: "a".into(),
                epoch: epoch(1),
                top: 3,
                rounds: vec![one, two],
                state: document(3, r#"{"x":1}"#),
            },
        ],
        sessions: vec![(session, "second".into())],
        renumbered: false,
    };
    assert_eq!(look(&folder), expected);
    assert_eq!(expected.bytes(), 111);
    let files: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files, [folder.file()], "nothing lies beside a file that was closed");
}

#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let (mut store, _) = open(&folder);
    store.commit(&[append("a", epoch(1), round(1, 1, 1), 1)]).unwrap();
    for name in ["history.db", "history.db-wal"] {
        let mode = fs::metadata(folder.0.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn another_epoch_drops_what_was_before() {
    let folder = Folder::new();
    let (mut store, _) = open(&folder);
    let mut old = append("a", epoch(1), round(1, 3, 9), 1);
    if let StoreCommand::Append { state, .. } = &mut old {
        *state = document(1, "{}");
    }
    store.commit(&[old, append("b", epoch(1), round(1, 1, 1), 1)]).unwrap();

    store.commit(&[append("a", epoch(2), round(1, 1, 4), 1)]).unwrap();

    drop(store);
    let contents = look(&folder);
    let a = contents.channels.iter().find(|channel| &*channel.channel == "a").unwrap();
    assert_eq!((a.epoch, a.top, a.rounds.len()), (epoch(2), 1, 1));
    assert_eq!((&a.rounds[0], &a.state), (&round(1, 1, 4), &None));
    assert_eq!(contents.channels.len(), 2);
}

#[test]
fn what_is_no_longer_kept_goes_by_whole_rounds() {
    let folder = Folder::new();
    let (mut store, _) = open(&folder);
    for first in [1, 4, 7] {
        store.commit(&[append("a", epoch(1), round(first, 3, 9), 5)]).unwrap();
    }
    let firsts = |folder: &Folder| {
        let contents = look(folder);
        let channel = contents.channels.first();
        channel.map(|a| (a.top, a.rounds.iter().map(|round| round.first).collect::<Vec<_>>()))
    };
    drop(store);
    assert_eq!(firsts(&folder), Some((9, vec![4, 7])));
    let (mut store, _) = open(&folder);
    store.commit(&[StoreCommand::Trim { channel: "a".into(), oldest: 10 }]).unwrap();
    drop(store);
    // Its numbers go on.
    assert_eq!(firsts(&folder), Some((9, vec![])));
    let (mut store, _) = open(&folder);
    store.commit(&[append("a", epoch(1), round(10, 1, 1), 10)]).unwrap();
    drop(store);
    assert_eq!(firsts(&folder), Some((10, vec![10])));
    let (mut store, _) = open(&folder);
    store.commit(&[StoreCommand::Forget { channel: "a".into() }]).unwrap();
    drop(store);
    assert_eq!(firsts(&folder), None);
}

#[test]
fn one_number_is_one_message() {
    let folder = Folder::new();
    let (mut store, _) = open(&folder);
    store.commit(&[append("a", epoch(1), round(1, 3, 9), 1)]).unwrap();
    for first in 1..=3 {
        let again = store.commit(&[
            append("b", epoch(1), round(1, 1, 1), 1),
            append("a", epoch(1), round(first, 1, 1), 1),
        ]);
        assert!(matches!(again, Err(StoreError::Order)), "{again:?}");
    }
    // Numbers that were not to be kept are a hole, over which nobody reads.
    store.commit(&[append("a", epoch(1), round(9, 1, 2), 1)]).unwrap();
    drop(store);
    let contents = look(&folder);
    assert_eq!(contents.channels.len(), 1, "a group is kept or not");
    assert_eq!(contents.channels[0].rounds, [round(9, 1, 2)]);
}

#[test]
fn a_full_disk_takes_nothing_of_a_group_and_what_fits_later_is_kept() {
    let folder = Folder::new();
    let (mut store, _) = open(&folder);
    let session = SessionId(1);
    store
        .commit(&[
            append("a", epoch(1), round(1, 1, 9), 1),
            StoreCommand::KeepSession { session, record: "kept".into() },
        ])
        .unwrap();
    store.fill_up(true);
    for _ in 0..3 {
        let refused = store.commit(&[
            append("a", epoch(1), round(2, 1, 9), 2),
            StoreCommand::ForgetSession { session },
            append("b", epoch(1), round(1, 1, 100_000), 1),
            append("a", epoch(2), round(1, 1, 9), 1),
            StoreCommand::Forget { channel: "a".into() },
        ]);
        assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    }
    store.fill_up(false);

    store.commit(&[append("a", epoch(1), round(2, 2, 9), 1)]).unwrap();

    store.close().unwrap();
    let contents = look(&folder);
    assert_eq!(contents.channels.len(), 1);
    assert_eq!(contents.channels[0].rounds, [round(1, 1, 9), round(2, 2, 9)]);
    assert_eq!(contents.sessions, [(session, Bytes::from("kept"))]);
}

#[test]
fn room_of_what_is_gone_is_used_again() {
    let folder = Folder::new();
    let (mut store, _) = open(&folder);
    let mut fill = |rounds: std::ops::Range<u64>| {
        for group in rounds.collect::<Vec<_>>().chunks(64) {
            let group = group.iter().flat_map(|number| {
                ["a", "b", "c", "d"].map(|channel| {
                    append(channel, epoch(1), round(*number, 1, 1000), number.saturating_sub(99))
                })
            });
            store.commit(&group.collect::<Vec<_>>()).unwrap();
        }
        let size = |name| fs::metadata(folder.0.join(name)).unwrap().len();
        (size("history.db"), size("history.db-wal"))
    };
    let (before, _) = fill(1..4000);
    let (after, log) = fill(4000..12_000);
    assert!(after <= before + 64 * 1024, "{after} bytes after {before}");
    assert!(after < 1024 * 1024, "{after} bytes for 400 kB of messages");
    assert!(log < 18 * 1024 * 1024, "{log} bytes of a log that begins again at 16 MiB");
}

#[test]
fn a_file_that_is_in_use_is_not_opened() {
    let folder = Folder::new();
    let (mut store, _) = open(&folder);
    assert!(matches!(failure(&folder.file()), StoreError::Locked));
    store.commit(&[append("a", epoch(1), round(1, 1, 9), 1)]).unwrap();
    assert!(matches!(failure(&folder.file()), StoreError::Locked));
    store.close().unwrap();
    assert_eq!(look(&folder).channels.len(), 1);
}

#[test]
fn what_a_power_cut_may_have_taken_is_renumbered_and_nothing_else() {
    for (fsync, closed, boot, renumbered) in [
        (Fsync::EverySec, false, "other", true),
        (Fsync::No, false, "other", true),
        (Fsync::Always, false, "other", false),
        (Fsync::EverySec, true, "other", false),
        (Fsync::No, true, "other", false),
        (Fsync::EverySec, false, BOOT, false),
        (Fsync::No, false, BOOT, false),
        (Fsync::EverySec, false, "", true),
    ] {
        let case = format!("{fsync}, closed {closed}, boot id {boot:?}");
        let folder = Folder::new();
        let (mut store, _) = Store::open_on(&folder.file(), fsync, BOOT).unwrap();
        let mut first = append("a", epoch(1), round(1, 3, 9), 1);
        if let StoreCommand::Append { state, .. } = &mut first {
            *state = document(2, "{}");
        }
        let session = StoreCommand::KeepSession { session: SessionId(1), record: "s".into() };
        store.commit(&[first, session]).unwrap();
        store.sync().unwrap();
        if closed {
            store.close().unwrap()
        } else {
            drop(store)
        }

        // With whatever policy it is opened afterwards.
        let (mut store, contents) = Store::open_on(&folder.file(), Fsync::Always, boot).unwrap();

        assert_eq!(contents.renumbered, renumbered, "{case}");
        let [a] = &contents.channels[..] else { panic!("{contents:?}") };
        assert_eq!(a.epoch != epoch(1), renumbered, "{case}");
        assert_eq!((a.top, &a.rounds[..]), (3, &[round(1, 3, 9)][..]), "{case}");
        assert_eq!((&a.state, contents.sessions.len()), (&document(2, "{}"), 1), "{case}");
        // The new numbers go on, and are the same at the next start.
        store.commit(&[append("a", a.epoch, round(4, 1, 1), 1)]).unwrap();
        drop(store);
        let (_, again) = Store::open_on(&folder.file(), Fsync::No, "third").unwrap();
        assert_eq!((again.channels[0].epoch, again.renumbered), (a.epoch, false), "{case}");
        assert_eq!(again.channels[0].rounds.len(), 2, "{case}");
    }
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    let path = folder.file();
    for text in ["", "MAHAVISHNU_PORT=8686\n", &"x".repeat(100_000)] {
        fs::write(&path, text).unwrap();
        assert!(matches!(failure(&path), StoreError::NotAStore), "{}", text.len());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::remove_file(&path).unwrap();
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    drop(foreign);
    assert!(matches!(failure(&path), StoreError::NotAStore));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(failure(&path), StoreError::Io(_)));
    assert!(matches!(failure(&folder.0.join("no/such/folder.db")), StoreError::Io(_)));
}

#[test]
fn a_newer_format_is_refused() {
    let folder = Folder::new();
    drop(open(&folder));
    let newer = rusqlite::Connection::open(folder.file()).unwrap();
    newer.pragma_update(None, "user_version", 2).unwrap();
    drop(newer);
    let error = failure(&folder.file());
    assert!(matches!(error, StoreError::Version(2)), "{error:?}");
    assert_eq!(error.to_string(), "its format is version 2; this program knows version 1");
}

#[test]
fn a_log_without_its_file_is_not_taken_for_another_ones() {
    let folder = Folder::new();
    let (mut store, _) = open(&folder);
    store.commit(&[append("a", epoch(1), round(1, 1, 9), 1)]).unwrap();
    // As after kill -9: nobody has tidied up.
    let log = fs::read(folder.0.join("history.db-wal")).unwrap();
    drop(store);
    fs::remove_file(folder.file()).unwrap();
    fs::write(folder.0.join("history.db-wal"), log).unwrap();
    assert!(matches!(failure(&folder.file()), StoreError::Damaged(_)));
    assert!(!folder.file().exists());
}

/// Whichever byte of a file is another: it is refused, or nothing of what it holds has changed. It is never an empty one.
#[test]
fn damage_is_found() {
    let folder = Folder::new();
    let (mut store, _) = open(&folder);
    for number in 1..=20 {
        store
            .commit(&[
                append("a", epoch(1), round(number, 1, 300), 1),
                append("b", epoch(2), round(number, 1, 9000), 1),
                StoreCommand::KeepSession { session: SessionId(number.into()), record: "s".into() },
            ])
            .unwrap();
    }
    store.close().unwrap();
    let whole = fs::read(folder.file()).unwrap();
    let contents = look(&folder);
    let (mut refused, mut harmless) = (0, 0);
    for at in (0..whole.len()).step_by(809).chain(0..100) {
        let mut damaged = whole.clone();
        damaged[at] ^= if at % 2 == 0 { 0x01 } else { 0xff };
        fs::write(folder.file(), damaged).unwrap();
        let _ = fs::remove_file(folder.0.join("history.db-wal"));
        match Store::open_on(&folder.file(), Fsync::EverySec, BOOT) {
            Ok((_, found)) => {
                assert_eq!(found, contents, "byte {at} of {}", whole.len());
                harmless += 1;
            }
            Err(_) => refused += 1,
        }
    }
    for length in (0..whole.len()).step_by(4096 * 3) {
        fs::write(folder.file(), &whole[..length]).unwrap();
        let _ = fs::remove_file(folder.0.join("history.db-wal"));
        failure(&folder.file());
    }
    // Most of the file are messages; some of it are bytes that mean nothing.
    assert!(refused > harmless * 2, "{refused} refused, {harmless} harmless");
}

/// What a store should hold.
#[derive(Clone, Debug, Default)]
struct Model {
    channels: BTreeMap<Arc<str>, StoredChannel>,
    sessions: BTreeMap<u128, Bytes>,
}

impl Model {
    fn carry_out(&mut self, command: &StoreCommand) {
        match command {
            StoreCommand::Append { channel, round, epoch, oldest, state, .. } => {
                let fresh = || StoredChannel {
                    channel: channel.clone(),
                    epoch: *epoch,
                    top: 0,
                    rounds: Vec::new(),
                    state: None,
                };
                let known = self.channels.entry(channel.clone()).or_insert_with(fresh);
                if known.epoch != *epoch {
                    *known = fresh();
                }
                if known.top + 1 != round.first {
                    known.rounds.clear();
                }
                known.rounds.push(round.clone());
                known.top = round.last();
                known.rounds.retain(|round| round.last() >= *oldest);
                known.state = state.clone().or_else(|| known.state.take());
            }
            StoreCommand::Trim { channel, oldest } => {
                if let Some(known) = self.channels.get_mut(channel) {
                    known.rounds.retain(|round| round.last() >= *oldest);
                }
            }
            StoreCommand::Forget { channel } => {
                self.channels.remove(channel);
            }
            StoreCommand::KeepSession { session, record } => {
                self.sessions.insert(session.0, record.clone());
            }
            StoreCommand::ForgetSession { session } => {
                self.sessions.remove(&session.0);
            }
        }
    }

    fn is(&self, contents: &Contents) {
        let found: BTreeMap<_, _> =
            contents.channels.iter().map(|found| (found.channel.clone(), found.clone())).collect();
        assert_eq!(found, self.channels);
        let found: BTreeMap<_, _> =
            contents.sessions.iter().map(|(name, record)| (name.0, record.clone())).collect();
        assert_eq!(found, self.sessions);
    }
}

/// What a hub may ask for: `what`, of which channel or session, how much.
fn command(model: &Model, (what, which, much): (u8, u8, u16)) -> StoreCommand {
    let channel: Arc<str> = format!("channel:{}", which % 4).into();
    let known = model.channels.get(&channel);
    let (top, last_epoch) = known.map_or_else(|| (0, epoch(1)), |known| (known.top, known.epoch));
    let oldest = (top + 1).saturating_sub(u64::from(much % 12));
    match what % 10 {
        0..=4 => append(
            &channel,
            last_epoch,
            round(top + 1, u32::from(which % 5) + 1, much.into()),
            oldest,
        ),
        5 => {
            let hole = u64::from(which % 3) * 2;
            let round = round(top + 1 + hole, 1, 40);
            let state = Some(StoredState { offset: round.first, document: vec![which; 9].into() });
            StoreCommand::Append {
                id: AppendId(0),
                channel,
                round,
                epoch: last_epoch,
                oldest,
                state,
            }
        }
        6 if much % 3 == 0 => append(&channel, epoch(much.into()), round(1, 2, 50), 1),
        6 => StoreCommand::Trim { channel, oldest },
        7 if much % 2 == 0 => StoreCommand::Forget { channel },
        7 | 8 => {
            let record = vec![which; usize::from(much % 300)].into();
            StoreCommand::KeepSession { session: SessionId((which % 6).into()), record }
        }
        _ => StoreCommand::ForgetSession { session: SessionId((which % 6).into()) },
    }
}

/// What happens between two groups.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    Sync,
    Close,
    /// The store goes without having been closed.
    Drop,
    /// The next group finds a full disk.
    Full,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_store_holds_what_a_list_would(
        groups in prop::collection::vec(
            (
                prop::collection::vec(any::<(u8, u8, u16)>(), 0..8),
                prop::sample::select(vec![Between::Nothing, Between::Sync, Between::Close, Between::Drop, Between::Full]),
            ),
            1..20,
        ),
        fsync in prop::sample::select(Fsync::ALL.to_vec()),
    ) {
        let folder = Folder::new();
        let reopen = || Store::open_on(&folder.file(), fsync, BOOT).unwrap();
        let mut store = reopen().0;
        let mut model = Model::default();
        for (group, between) in groups {
            let before = model.clone();
            let commands: Vec<_> = group.iter().map(|script| {
                let command = command(&model, *script);
                model.carry_out(&command);
                command
            }).collect();
            match between {
                Between::Full => {
                    store.fill_up(true);
                    if store.commit(&commands).is_err() {
                        model = before;
                    }
                    store.fill_up(false);
                    continue;
                }
                Between::Nothing | Between::Sync | Between::Close | Between::Drop => store.commit(&commands).unwrap(),
            }
            match between {
                Between::Nothing | Between::Full => {}
                Between::Sync => store.sync().unwrap(),
                Between::Close => {
                    store.close().unwrap();
                    let (again, contents) = reopen();
                    model.is(&contents);
                    store = again;
                }
                Between::Drop => {
                    drop(store);
                    let (again, contents) = reopen();
                    model.is(&contents);
                    store = again;
                }
            }
        }
        drop(store);
        model.is(&reopen().1);
    }
}

const BOOT: &str = "6a2f1c1e-2f3b-4a52-9f0e-0d1b7c1a9e55";
