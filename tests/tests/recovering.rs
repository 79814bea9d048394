//! Subscribers that break off and come back, as other people write them: Python `websockets`, Node `ws` and a page in a
//! browser, with the very files of `clients/`. Each must end with what was published: nothing lost, doubled or reordered.

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mahavishnu_tests::{
    Client, Metrics, Server,
    browser::{Browser, Pages},
    foreign::{node_command, python_command},
    http,
    line::Line,
    wait,
};
use serde_json::{Value, json};

const CHANNEL: &str = "workflow:42";

/// A program that says what it hears, in lines of JSON. Ends when dropped.
struct Program {
    child: Child,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Program {
    fn run(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&heard));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                kept.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, heard }
    }

    fn python(url: &str, last: u64) -> Self {
        Self::run(python_command("missing_nothing.py", &[url, &last.to_string()]))
    }

    fn node(url: &str, last: u64) -> Self {
        Self::run(node_command("missing_nothing.mjs", &[url, &last.to_string()]))
    }

    /// One with a session, which is a member.
    fn python_member(url: &str, last: u64) -> Self {
        Self::run(python_command("missing_nothing.py", &[url, &last.to_string(), "session"]))
    }

    fn node_member(url: &str, last: u64) -> Self {
        Self::run(node_command("missing_nothing.mjs", &[url, &last.to_string(), "session"]))
    }

    fn heard(&self) -> Vec<Value> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that keeps everything of a test, and a line to it.
fn start(settings: &[(&str, &str)]) -> (Server, Line) {
    let server = Server::with(&[&[("HISTORY", "1000/300"), ("SHARDS", "2")], settings].concat());
    let line = Line::to(server.address());
    (server, line)
}

fn publish(server: &Server, n: u64) -> u64 {
    server.post(CHANNEL, "e", &json!({ "n": n }))
}

fn event(n: u64) -> Value {
    json!({ "n": n, "offset": n })
}

fn until_subscribed(server: &Server) {
    let subscriptions = |metrics: &Metrics| metrics.count("mahavishnu_subscriptions", &[]);
    server.metrics_when("a subscription", |metrics| subscriptions(metrics) == 1);
}

/// Publishes up to `last` without a pause while the line is cut again and again, and waits until all is heard.
fn storm(server: &Server, line: &Line, last: u64, heard: impl Fn() -> Vec<Value>) {
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for n in 1..=last {
                publish(server, n);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        // Before it has its first answer it has no position either.
        wait::until("the first event", || (!heard().is_empty()).then_some(()));
        let mut cuts = 0;
        while !publisher.is_finished() {
            let (calls, count) = (line.calls(), heard().len());
            line.cut();
            std::thread::sleep(Duration::from_millis(20));
            line.mend();
            cuts += 1;
            // Where it is in its dialogue when the next cut comes is chance: sometimes it has not heard anything yet.
            // Who has heard the last event has no reason to.
            wait::until("it to come back", || {
                (line.calls() > calls || publisher.is_finished()).then_some(())
            });
            if cuts % 2 == 0 {
                wait::until("it to hear something", || {
                    (heard().len() > count || publisher.is_finished()).then_some(())
                });
            }
        }
        assert!(cuts > 3, "{cuts} breaks");
    });
    let all = |heard: &[Value]| heard.last().is_some_and(|line| line["n"] == last);
    wait::until("the last event", || all(&heard()).then_some(()));
}

/// Waits until the last event is there. Every one before it must be too, once, in order.
fn assert_complete(heard: impl Fn() -> Vec<Value>, last: u64) {
    wait::until("the last event", || (heard().last() == Some(&event(last))).then_some(()));
    assert_eq!(heard(), (1..=last).map(event).collect::<Vec<_>>());
}

#[test]
fn python_websockets_misses_nothing_while_its_connection_breaks() {
    misses_nothing_while_its_connection_breaks(Program::python);
}

#[test]
fn node_ws_misses_nothing_while_its_connection_breaks() {
    misses_nothing_while_its_connection_breaks(Program::node);
}

fn misses_nothing_while_its_connection_breaks(run: fn(&str, u64) -> Program) {
    const LAST: u64 = 400;
    for settings in [&[][..], &[("DEFLATE", "on"), ("DEFLATE_THRESHOLD", "100")]] {
        let (server, line) = start(settings);
        let program = run(&line.ws_url(), LAST);
        until_subscribed(&server);
        storm(&server, &line, LAST, || program.heard());
        assert_complete(|| program.heard(), LAST);
        let metrics = server.metrics();
        let recovered = metrics.count("mahavishnu_recoveries_total", &[("result", "recovered")]);
        assert!(recovered > 3, "{recovered} recoveries");
        let sent = [("direction", "sent")];
        let deflated = metrics.count("mahavishnu_deflate_messages_total", &sent);
        assert_eq!(deflated > 0, !settings.is_empty(), "{deflated} messages were compressed");
    }
}

/// What somebody hears who watches the channel, and who is there.
struct Watcher(Client<TcpStream>);

impl Watcher {
    fn of(server: &Server) -> Self {
        let mut client = server.hello();
        client.request("subscribe", json!({ "channel": CHANNEL, "presence": "watch" }));
        Self(client)
    }

    /// The next one who comes (`None`) or goes, and why; by which name.
    fn next(&mut self) -> (Option<String>, Value) {
        loop {
            let mut message = self.0.message();
            let reason = message["data"]["reason"].as_str().map(str::to_owned);
            let event = message["event"].as_str().unwrap_or_default();
            if event.starts_with("presence.") {
                assert_eq!(event == "presence.left", reason.is_some(), "{message}");
                return (reason, message["data"]["connection_id"].take());
            }
        }
    }

    /// The members, if nobody has come or gone since this was last asked.
    fn members(&mut self) -> Vec<Value> {
        let id = self.0.ask("get_presence", json!({ "channel": CHANNEL }));
        loop {
            let mut message = self.0.message();
            if message["correlation_id"] == id.as_str() {
                let members = message["data"]["members"].as_array_mut().expect("a list");
                return std::mem::take(members);
            }
            let event = message["event"].as_str().unwrap_or_default();
            assert!(!event.starts_with("presence."), "{message}");
        }
    }
}

const ROOM: (&str, &str) = ("PRESENCE_RULES", "workflow:*");

fn sessions(server: &Server, state: &str, count: u64) {
    server.metrics_when(&format!("{count} sessions {state}"), |metrics| {
        metrics.count("mahavishnu_sessions", &[("state", state)]) == count
    });
}

/// Offline for so long that coming back fails again and again, and then for longer than its session waits.
#[test]
fn a_member_that_was_offline_takes_its_session_up_again() {
    for run in [Program::python_member as fn(&str, u64) -> Program, Program::node_member] {
        let (server, line) = start(&[ROOM]);
        let mut watcher = Watcher::of(&server);
        let program = run(&line.ws_url(), 40);
        let (left, name) = watcher.next();
        assert_eq!(left, None);
        let before = watcher.members();
        assert_eq!((before.len(), &before[0]["info"]["name"]), (1, &json!("Ada")));
        sessions(&server, "attached", 1);
        (1..=5).for_each(|n| _ = publish(&server, n));
        assert_complete(|| program.heard(), 5);

        line.cut();
        sessions(&server, "detached", 1);
        (6..=30).for_each(|n| _ = publish(&server, n));
        // Several times its longest pause between two attempts.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(watcher.members(), before, "nobody has noticed");
        line.mend();

        assert_complete(|| program.heard(), 30);
        sessions(&server, "attached", 1);
        let metrics = server.metrics();
        let resumed = metrics.count("mahavishnu_session_resumes_total", &[("result", "resumed")]);
        let recovered = metrics.count("mahavishnu_recoveries_total", &[("result", "recovered")]);
        assert_eq!((resumed, recovered), (1, 1));
        assert_eq!(watcher.members(), before, "it is the same one, there all the time");

        // It ends by itself, and says goodbye: so does its session.
        (31..=40).for_each(|n| _ = publish(&server, n));
        assert_complete(|| program.heard(), 40);
        assert_eq!(watcher.next(), (Some("left".to_owned()), name));
        sessions(&server, "attached", 0);
        sessions(&server, "detached", 0);
    }
}

#[test]
fn a_member_whose_session_is_over_misses_nothing_and_is_another_one() {
    for run in [Program::python_member as fn(&str, u64) -> Program, Program::node_member] {
        let (server, line) = start(&[ROOM, ("SESSION_SECONDS", "0.5")]);
        let mut watcher = Watcher::of(&server);
        let program = run(&line.ws_url(), 30);
        let (_, first) = watcher.next();
        sessions(&server, "attached", 1);
        (1..=5).for_each(|n| _ = publish(&server, n));
        assert_complete(|| program.heard(), 5);
        line.cut();
        (6..=20).for_each(|n| _ = publish(&server, n));
        assert_eq!(watcher.next(), (Some("lost".to_owned()), first.clone()));
        line.mend();
        assert_complete(|| program.heard(), 20);
        let (left, second) = watcher.next();
        assert_eq!((left, second == first), (None, false));
        sessions(&server, "attached", 1);
    }
}

/// Its connection breaks at any moment, in the middle of taking the session up too.
#[test]
fn a_member_misses_nothing_while_its_connection_breaks() {
    for run in [Program::python_member as fn(&str, u64) -> Program, Program::node_member] {
        const LAST: u64 = 300;
        let (server, line) = start(&[ROOM]);
        let program = run(&line.ws_url(), LAST);
        until_subscribed(&server);
        storm(&server, &line, LAST, || program.heard());
        assert_complete(|| program.heard(), LAST);
        let metrics = server.metrics();
        let resumed = metrics.count("mahavishnu_session_resumes_total", &[("result", "resumed")]);
        assert!(resumed > 1, "{resumed} times");
    }
}

#[test]
fn a_page_misses_nothing_while_its_connection_breaks_or_falls_silent() {
    let (server, line) = start(&[]);
    let pages = Pages::serve();
    let page = pages.url("tests/clients/browser/missing_nothing.html");
    let browser = Browser::open(&format!("{page}#{}", line.ws_url()), &[]);
    let devtools = Mutex::new(browser.devtools());
    let heard = || {
        let value = devtools.lock().unwrap().evaluate("heard");
        value.as_array().cloned().unwrap_or_default()
    };
    until_subscribed(&server);
    storm(&server, &line, 300, heard);
    assert_complete(heard, 300);

    // Nobody tells the page that nothing comes any more.
    let calls = line.calls();
    line.fall_silent();
    (301..=320).for_each(|n| _ = publish(&server, n));
    wait::until("the page to notice", || (line.calls() > calls).then_some(()));
    line.mend();
    assert_complete(heard, 320);

    // The browser itself goes offline and comes back.
    let calls = line.calls();
    devtools.lock().unwrap().set_offline(true);
    (321..=340).for_each(|n| _ = publish(&server, n));
    wait::until("the page to know", || {
        (devtools.lock().unwrap().evaluate("navigator.onLine") == false).then_some(())
    });
    devtools.lock().unwrap().set_offline(false);
    (341..=345).for_each(|n| _ = publish(&server, n));
    assert_complete(heard, 345);
    assert!(line.calls() > calls, "it has come again");
}

/// One that reads nothing for a while is closed, or events are left out for it: in the end it has them all.
#[test]
fn who_reads_too_slowly_has_everything_in_the_end() {
    const LAST: u64 = 800;
    for policy in ["disconnect", "gap"] {
        let (server, _line) = start(&[
            ("HISTORY", "2000/300"),
            ("HISTORY_CHANNEL_BYTES", "100000000"),
            ("HISTORY_BYTES", "100000000"),
            ("RECOVER_MAX", "2000"),
            ("OUTBOX_BYTES", "2000000"),
            ("SLOW_READER", policy),
            // It answers no pings meanwhile.
            ("PING_INTERVAL", "0"),
        ]);
        let args = [&server.ws_url(), &LAST.to_string(), "stall"];
        let mut program = Program::run(python_command("missing_nothing.py", &args));
        until_subscribed(&server);
        publish(&server, 1);
        wait::until("the first event", || program.heard().pop());
        let filler = "x".repeat(32 * 1024);
        for n in 2..=LAST {
            server.post(CHANNEL, "e", &json!({ "n": n, "filler": filler }));
        }
        server.metrics_when("a slow reader", |metrics| {
            let slow = [("reason", "slow_reader")];
            metrics.count("mahavishnu_messages_dropped_total", &slow) > 0
        });
        drop(program.child.stdin.take());
        assert_complete(|| program.heard(), LAST);
    }
}

/// More than is kept: it is told so, once, and what follows is complete.
#[test]
fn who_was_away_for_too_long_is_told_so() {
    for run in [Program::python as fn(&str, u64) -> Program, Program::node] {
        const LAST: u64 = 60;
        let (server, line) = start(&[("HISTORY", "10/300")]);
        let program = run(&line.ws_url(), LAST);
        until_subscribed(&server);
        (1..=5).for_each(|n| _ = publish(&server, n));
        assert_complete(|| program.heard(), 5);
        line.cut();
        (6..=30).for_each(|n| _ = publish(&server, n));
        line.mend();
        until_lost(&program, "trimmed");
        server.metrics_when("a recovery that failed", |metrics| {
            metrics.count("mahavishnu_recoveries_total", &[("result", "trimmed")]) == 1
        });

        (31..=LAST).for_each(|n| _ = publish(&server, n));
        wait::until("the end", || (program.heard().last() == Some(&event(LAST))).then_some(()));
        let before = (1..=5).map(event).chain([json!({ "lost": "trimmed" })]);
        assert_eq!(program.heard(), before.chain((31..=LAST).map(event)).collect::<Vec<_>>());
    }
}

/// A server without a store that was killed has forgotten everything, and gives its channels other epochs.
#[test]
fn who_comes_back_to_another_life_of_the_server_is_told_so() {
    for run in [Program::python as fn(&str, u64) -> Program, Program::node] {
        let (mut server, line) = start(&[]);
        let program = run(&line.ws_url(), 13);
        until_subscribed(&server);
        (1..=5).for_each(|n| _ = publish(&server, n));
        assert_complete(|| program.heard(), 5);
        server.kill();
        server.start_again();
        until_lost(&program, "epoch");

        (11..=13).for_each(|n| _ = publish(&server, n));
        wait::until("the end", || (program.heard().last()?["n"] == 13).then_some(()));
        let before = (1..=5).map(event).chain([json!({ "lost": "epoch" })]);
        let after = (1..=3).map(|n| json!({ "n": 10 + n, "offset": n }));
        assert_eq!(program.heard(), before.chain(after).collect::<Vec<_>>());
    }
}

/// One with a store goes on where it was, however it ended: what was answered is there, and nobody hears of a loss.
#[test]
fn a_server_that_is_killed_again_and_again_makes_nobody_miss_anything() {
    const LAST: u64 = 300;
    for run in [Program::python as fn(&str, u64) -> Program, Program::node] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("history").display().to_string();
        let (mut server, line) = start(&[("HISTORY_FILE", &file), ("HISTORY_FSYNC", "always")]);
        let program = run(&line.ws_url(), LAST);
        until_subscribed(&server);
        let (address, answered) = (server.address(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                for n in 1..=LAST {
                    let message = json!({ "channel": CHANNEL, "event": "e", "data": { "n": n } });
                    // One that was not answered may have been published all the same.
                    wait::until("an answer", || {
                        let answer = http::try_post(address, "/publish", &message.to_string());
                        answer.is_ok_and(|answer| answer.status == 200).then_some(())
                    });
                    answered.store(n, Ordering::Relaxed);
                }
            });
            while !publisher.is_finished() {
                let next = answered.load(Ordering::Relaxed) + 40;
                wait::until("forty answers", || {
                    (answered.load(Ordering::Relaxed) >= next || publisher.is_finished())
                        .then_some(())
                });
                server.kill();
                server.start_again();
            }
        });
        wait::until("the last event", || (program.heard().last()?["n"] == LAST).then_some(()));
        let heard = program.heard();
        let numbers = |name: &str| heard.iter().map(|line| line[name].as_u64()).collect::<Vec<_>>();
        let offsets: Vec<_> = (1..=heard.len() as u64).map(Some).collect();
        assert_eq!(numbers("offset"), offsets, "each once, in order, and none was lost");
        let mut events = numbers("n");
        events.dedup();
        assert_eq!(events, (1..=LAST).map(Some).collect::<Vec<_>>());
    }
}

fn until_lost(program: &Program, reason: &str) {
    let lost = json!({ "lost": reason });
    wait::until("its loss", || (program.heard().last() == Some(&lost)).then_some(()));
}

/// The recipe of docs/history.md: whatever breaks, each view of a table ends as the table is. With a short history too, so
/// that some are away for too long and begin anew.
#[test]
fn a_snapshot_and_then_the_stream_have_no_gap_between() {
    for history in ["1000/300", "3/300"] {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("orders").display().to_string();
        let snapshots = views("snapshots.py", history, &[&database, "6", "200"]);
        let anew = snapshots.iter().any(|count| *count > 1);
        assert_eq!(anew, history == "3/300", "{snapshots:?}");
    }
}

/// The same where the channel has the state itself, in which no event is missing or counted twice.
#[test]
fn a_document_and_then_the_stream_count_nothing_twice() {
    for (history, every) in [("1000/300", "7"), ("3/300", "1")] {
        let documents = views("documents.py", history, &["6", "200", every]);
        let anew = documents.iter().any(|count| *count > 1);
        assert_eq!(anew, history == "3/300", "{documents:?}");
    }
}

/// Runs six views on a line that breaks all the time. How often each began.
fn views(script: &str, history: &str, args: &[&str]) -> Vec<u32> {
    let (server, line) = start(&[("HISTORY", history)]);
    let (http, ws) = (server.url(), line.ws_url());
    let args = [&[&*http, &*ws], args].concat();
    let mut command = python_command(script, &args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(100));
        line.cut();
        std::thread::sleep(Duration::from_millis(30));
        line.mend();
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let counts: Vec<u32> = said.lines().map_while(|line| line.parse().ok()).collect();
    assert_eq!(counts.len(), 6, "{said}");
    counts
}
