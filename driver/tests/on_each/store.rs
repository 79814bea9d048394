//! A server with a store: what it keeps, and what becomes of publishers when it cannot.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use mahavishnu_driver::{
    BroadcastError, Server, Store, StoreFailed,
    core::{
        config::Config,
        hub::{StoreCommand, StoreEvent},
        reason::Reason,
    },
};
use mahavishnu_store::Fsync;
use serde_json::json;

use super::server::{Client, end, start};
use crate::Host;

/// A store that does what a test says.
#[derive(Clone, Default)]
struct Puppet(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    fails: bool,
    panics: bool,
    /// Messages in the groups that were kept.
    kept: Vec<u64>,
    /// How often sessions were, and the last of them.
    sessions: usize,
    session: Bytes,
    closed: bool,
}

impl Store for Puppet {
    fn commit(&mut self, commands: &[StoreCommand]) -> Result<(), StoreFailed> {
        let mut state = self.0.lock().unwrap();
        if std::mem::take(&mut state.panics) {
            drop(state);
            panic!("as the test wants it");
        }
        if state.fails {
            return Err("no space left".into());
        }
        for command in commands {
            match command {
                StoreCommand::Append { round, .. } => {
                    state.kept.extend(round.first..=round.last());
                }
                StoreCommand::KeepSession { record, .. } => {
                    state.sessions += 1;
                    state.session = record.clone();
                }
                StoreCommand::Trim { .. }
                | StoreCommand::Forget { .. }
                | StoreCommand::ForgetSession { .. } => {}
            }
        }
        Ok(())
    }

    fn sync_every(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn sync(&mut self) -> Result<(), StoreFailed> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), StoreFailed> {
        self.0.lock().unwrap().closed = true;
        Ok(())
    }
}

pub(crate) fn a_store_that_fails_refuses_publishers_and_is_tried_again<R: Host>() {
    let puppet = Puppet::default();
    let builder = Server::<R>::builder().store(puppet.clone(), Vec::new());
    let (server, address) = start(builder);
    let mut subscriber = Client::subscribed(address, "c");
    let handle = server.handle();
    let broadcast = |n: u64| R::block_on(handle.broadcast("c", "e", &json!({ "n": n })));

    puppet.0.lock().unwrap().fails = true;
    assert_eq!(broadcast(1).unwrap_err(), BroadcastError::Refused(Reason::NotKept));
    puppet.0.lock().unwrap().panics = true;
    assert_eq!(broadcast(2).unwrap_err(), BroadcastError::Refused(Reason::NotKept));
    puppet.0.lock().unwrap().fails = false;
    let published = broadcast(3).unwrap();

    assert_eq!((published.offset, published.subscribers), (1, 1));
    assert_eq!(subscriber.next()["data"], json!({ "n": 3 }));
    drop(subscriber);
    end(server);
    let state = puppet.0.lock().unwrap();
    assert_eq!((&state.kept[..], state.closed), (&[1][..], true));
}

/// However often a session changes, so many of its records do not wait.
pub(crate) fn a_store_that_stalls_is_told_of_a_session_as_it_is_then<R: Host>() {
    let puppet = Puppet::default();
    let mut config = Config::default();
    config.limits.connections.messages_per_second = None;
    let builder = Server::<R>::builder().config(config).store(puppet.clone(), Vec::new());
    let (server, address) = start(builder);
    let mut client = Client::connect(address);
    {
        let stalled = puppet.0.lock().unwrap();
        assert_eq!(client.request("keep_session", &json!({}))["data"]["ttl"], 120);
        for n in 0..100 {
            let data = json!({ "channel": format!("c{n}") });
            assert_eq!(client.request("subscribe", &data)["data"]["status"], "subscribed");
        }
        drop(stalled);
    }
    // The server's end is written too.
    drop(client);
    end(server);
    let state = puppet.0.lock().unwrap();
    assert!((1..=4).contains(&state.sessions), "{} records", state.sessions);
    assert!(state.session.windows(3).any(|part| part == b"c99"), "the last one is whole");
}

pub(crate) fn what_is_kept_is_there_in_the_next_server<R: Host>() {
    let file = Folder::new();
    let kept = |shards: u16| {
        let (store, contents) =
            mahavishnu_store::Store::open(&file.0.join("h.db"), Fsync::EverySec).unwrap();
        assert!(!contents.renumbered);
        let events: Vec<StoreEvent> = contents.into_events();
        let (server, address) = start(Server::<R>::builder().shards(shards).store(store, events));
        (server, address)
    };
    let history = |client: &mut Client, channel: &str| {
        let asked = json!({ "channel": channel, "limit": 10 });
        client.request("get_history", &asked)["data"].clone()
    };
    let (server, address) = kept(2);
    let handle = server.handle();
    for n in 0..6 {
        let channel = ["a", "b", "c"][n % 3];
        R::block_on(handle.broadcast(channel, "e", &json!({ "n": n }))).unwrap();
    }
    let mut client = Client::connect(address);
    let before = ["a", "b", "c"].map(|channel| history(&mut client, channel));
    assert_eq!(before[1]["events"][1]["data"], json!({ "n": 4 }));
    drop(client);
    end(server);

    for shards in [1, 3] {
        let (server, address) = kept(shards);
        let mut client = Client::connect(address);
        assert_eq!(["a", "b", "c"].map(|channel| history(&mut client, channel)), before);
        drop(client);
        end(server);
    }
}

/// A folder of a test's own, gone when it is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name =
            format!("mahavishnu-driver-{}-{:?}", std::process::id(), std::thread::current().id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
