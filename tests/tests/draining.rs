//! How a server takes leave: notice for balancers, closes over a window, and clients that are told when to come back.

use std::time::{Duration, Instant};

use mahavishnu_tests::{
    Client, Cluster, Server, http,
    token::{self, SECRET},
    wait,
};
use rustix::process::Signal;
use serde_json::{Value, json};

fn ready(server: &Server) -> (u16, Value) {
    let answer = http::get(server.address(), "/ready");
    (answer.status, answer.json())
}

fn wait_notice(server: &Server) {
    let told = || {
        let (status, ready) = ready(server);
        (status == 503 && ready["checks"]["accepting"] == "failing").then_some(())
    };
    wait::until("a notice", told);
}

#[test]
fn a_server_that_stops_gives_notice_and_closes_over_a_window() {
    let settings =
        [("SHARDS", "1"), ("DRAIN_NOTICE", "2"), ("DRAIN_WINDOW", "2"), ("DRAIN_RETURN", "30")];
    let mut server = Server::with(&settings);
    let mut clients: Vec<Client> = (0..3).map(|_| server.hello()).collect();
    assert_eq!(ready(&server).0, 200);

    server.signal(Signal::TERM);
    let start = Instant::now();
    wait_notice(&server);
    assert_eq!(http::get(server.address(), "/health").json()["status"], "draining");

    // Who comes all the same is served as ever.
    clients.push(server.hello());
    clients.iter_mut().for_each(|client| client.subscribe("global"));
    assert_eq!(server.post("global", "e", &json!({ "n": 1 })), 4);

    let mut times = Vec::new();
    for client in &mut clients {
        assert_eq!(client.message()["data"]["n"], 1);
        let told = client.message();
        assert_eq!((&told["event"], &told["type"]), (&json!("session.closing"), &json!("event")));
        assert_eq!(
            (&told["data"]["reason"], &told["data"]["deadline"]),
            (&json!("restart"), &json!(7))
        );
        times.push(told["data"]["return_after"].as_f64().unwrap());
        assert_eq!(client.expect_close(1001), "Server shutting down");
    }
    assert!(times.iter().all(|time| (0.0..=30.0).contains(time)), "{times:?}");
    // A quarter of the window before each but the first.
    assert!(start.elapsed() >= Duration::from_millis(3_500), "{:?}", start.elapsed());
    drop(clients);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_notice() {
    let mut server = Server::with(&[("DRAIN_NOTICE", "3600")]);
    let mut client = server.hello();
    server.signal(Signal::TERM);
    wait_notice(&server);
    client.subscribe("global");
    assert!(server.is_running());
    server.signal(Signal::TERM);
    server.wait();
}

#[test]
fn how_it_stops_is_read_again_by_a_reload() {
    let mut server = Server::with_file(&[], "MAHAVISHNU_DRAIN_NOTICE=3600\n");
    server.reload("MAHAVISHNU_DRAIN_RETURN=1\n");
    let mut client = server.hello();
    server.signal(Signal::TERM);
    assert_eq!(client.message()["event"], "session.closing");
    client.expect_close(1001);
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_other_nodes_hear_of_a_notice_before_the_node_goes() {
    let mut cluster = Cluster::start(2, &[("DRAIN_NOTICE", "3600"), ("NODE_LEASE", "4")]);
    let draining = |cluster: &Cluster| {
        let nodes = cluster.nodes[1].run(&["nodes"]).stdout;
        nodes.lines().filter(|line| line.ends_with(", draining")).count()
    };
    assert_eq!(draining(&cluster), 0);
    cluster.nodes[0].signal(Signal::TERM);
    wait::until("a lease that says so", || (draining(&cluster) == 1).then_some(()));
    assert!(cluster.nodes[0].is_running());
    // It is one of them still.
    let mut client = cluster.nodes[0].hello();
    client.subscribe("global");
    cluster.nodes[1].post("global", "e", &json!({ "n": 1 }));
    assert_eq!(client.numbers(1), [1]);
}

#[test]
fn all_nodes_together_let_so_many_in() {
    let settings = [("SHARDS", "1"), ("NODE_LEASE", "2"), ("MAX_CONNECTIONS_CLUSTER", "2")];
    let cluster = Cluster::start(2, &settings);
    let clients = [cluster.nodes[0].hello(), cluster.nodes[1].hello()];
    let capacity = |node: usize, word: &str| {
        let says = || {
            let (status, ready) = ready(&cluster.nodes[node]);
            (ready["checks"]["capacity"] == word).then_some(status)
        };
        wait::until(word, says)
    };
    assert_eq!((capacity(0, "failing"), capacity(1, "failing")), (503, 503));
    let mut late = cluster.nodes[0].client();
    assert_eq!(late.expect_close(1013), "Server at maximum capacity");
    drop(clients);
    assert_eq!((capacity(0, "passing"), capacity(1, "passing")), (200, 200));
    cluster.nodes[1].hello().subscribe("global");
}

#[test]
fn untracked_connections_are_each_nodes_own() {
    let answers = |tracked: &str| {
        let cluster = Cluster::start(
            2,
            &[
                ("AUTH_ENABLED", "true"),
                ("JWT_SECRET", SECRET),
                ("MAX_CONNECTIONS_PER_USER", "1"),
                ("TRACK_CONNECTIONS", tracked),
            ],
        );
        let ada = token::of("ada", &["workflow:read"]);
        let _first = cluster.nodes[0].login(&ada);
        let root = token::of("root", &["admin"]);
        let request = format!(
            "GET /connections?user=ada HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {root}\r\n\r\n"
        );
        let asked = || http::exchange(cluster.nodes[1].address(), request.as_bytes()).json();
        if tracked == "true" {
            wait::until("the other node", || (asked()["total"] == 1).then_some(()));
        }
        let second = cluster.nodes[1].open("/", &[("Authorization", &format!("Bearer {ada}"))]);
        let mut second = second.unwrap();
        let stays = tracked == "false";
        if stays {
            second.expect_welcome();
        } else {
            second.wait_close(1013);
        }
        let answer = asked();
        (answer["total"].clone(), answer["complete"].clone())
    };
    assert_eq!(answers("true"), (json!(1), json!(true)));
    assert_eq!(answers("false"), (json!(1), json!(false)));
}
