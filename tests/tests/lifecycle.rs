//! A server's life: how it stops, dies, starts again, reloads, and what the subcommands say of it.

use std::time::Duration;

use mahavishnu_tests::{
    Client, Heard, Server, http, json,
    server::free_ports,
    token::{self, SECRET},
    wait,
};
use rustix::process::Signal;
use serde_json::json;

const PID_FILE: &str = "mahavishnu_websocket.pid";

#[test]
fn sigterm_and_sigint_close_with_1001_and_exit_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start();
        let mut client = server.hello();
        server.signal(signal);
        assert_eq!(client.expect_close(1001), "Server shutting down");
        assert_eq!(client.hear(), Heard::End);
        drop(client);
        assert_eq!(server.wait().code(), Some(0));
        assert!(!server.state_dir().join(PID_FILE).exists());
    }
}

#[test]
fn clients_that_wait_for_authentication_are_closed_with_1001_too() {
    let mut server = Server::with_auth(&[]);
    let mut client = server.client();
    server.signal(Signal::TERM);
    client.expect_close(1001);
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_client_that_answers_no_close_holds_a_stop_up_to_the_drain_timeout_only() {
    let mut server = Server::with(&[("DRAIN_TIMEOUT", "0.3")]);
    let mut raw = server.raw_hello();
    server.signal(Signal::TERM);
    assert_eq!(raw.close_frame().unwrap().0, 1001);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::with(&[("DRAIN_TIMEOUT", "3600")]);
    let mut raw = server.raw_hello();
    server.signal(Signal::TERM);
    assert_eq!(raw.close_frame().unwrap().0, 1001);
    assert!(server.is_running());
    server.signal(Signal::TERM);
    server.wait();
}

#[test]
fn while_stopping_no_new_connection_is_taken() {
    let mut server = Server::with(&[("DRAIN_TIMEOUT", "3600")]);
    let mut raw = server.raw_hello();
    server.signal(Signal::TERM);
    raw.close_frame();
    wait::until("a closed port", || {
        http::try_get(server.address(), "/health").is_err().then_some(())
    });
    drop(raw);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn an_idle_kept_http_connection_does_not_hold_up_a_stop() {
    let mut server = Server::with(&[("DRAIN_TIMEOUT", "3600")]);
    let mut connection = server.raw();
    connection.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(connection.response().status, 200);
    let _silent = server.raw();
    server.signal(Signal::TERM);
    connection.expect_end();
    drop((connection, _silent));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn kill_9_prevents_nothing() {
    let mut server = Server::start();
    for _ in 0..3 {
        let mut client = server.hello();
        client.subscribe("global");
        server.kill();
        server.start_again();
    }
    server.hello().expect_silence();
}

#[test]
fn kill_9_while_starting_prevents_nothing() {
    let mut server = Server::start();
    server.terminate();
    for after in 0..15 {
        let process = server.spawn(&["websocket", "start"]);
        std::thread::sleep(Duration::from_millis(after));
        process.signal(Signal::KILL);
        drop(process);
    }
    server.start_again();
    server.hello().expect_silence();
}

#[test]
fn it_starts_again_on_the_same_port_with_clients_still_about() {
    let mut server = Server::start();
    for _ in 0..3 {
        let mut clients: Vec<Client> = (0..20).map(|_| server.hello()).collect();
        server.signal(Signal::TERM);
        clients.iter_mut().for_each(|client| drop(client.expect_close(1001)));
        drop(clients);
        assert_eq!(server.wait().code(), Some(0));
        server.start_again();
    }
}

#[test]
fn a_second_server_with_the_same_state_is_exit_3() {
    let server = Server::start();
    let (port, metrics_port) = free_ports();
    let (port, metrics_port) = (port.to_string(), metrics_port.to_string());
    let second =
        server.run(&["websocket", "start", "--port", &port, "--metrics-port", &metrics_port]);
    assert_eq!(second.code, Some(3), "{second:?}");
    assert!(second.stderr.contains(&format!("pid {}", server.pid())), "{second:?}");
    assert_eq!(second.stderr.lines().count(), 1, "{second:?}");
    server.hello().expect_silence();
}

#[test]
fn status_says_what_is_so() {
    let mut server = Server::start();
    let status = server.run(&["websocket", "status"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    assert!(status.stdout.contains(&server.pid().to_string()), "{status:?}");
    server.kill();
    assert_eq!(server.run(&["websocket", "status"]).code, Some(8), "a stale PID file");
    assert_eq!(server.run(&["websocket", "status"]).code, Some(2), "not running");
    server.start_again();
    let json = server.run(&["websocket", "status", "--json"]);
    assert_eq!(
        (json.code, json::keys(json.stdout.trim()).is_empty()),
        (Some(0), false),
        "{json:?}"
    );
}

#[test]
fn status_of_a_server_that_hangs_is_unhealthy() {
    let server = Server::start();
    server.signal(Signal::STOP);
    let status = server.run(&["websocket", "status"]);
    server.signal(Signal::CONT);
    assert_eq!(status.code, Some(4), "{status:?}");
}

#[test]
fn stop_waits_until_the_server_is_gone() {
    let mut server = Server::start();
    let stop = server.run(&["websocket", "stop"]);
    assert_eq!(stop.code, Some(0), "{stop:?}");
    assert!(http::try_get(server.address(), "/health").is_err());
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.run(&["websocket", "stop"]).code, Some(2));
}

#[test]
fn stop_of_a_server_that_hangs_times_out_or_kills() {
    let mut server = Server::start();
    server.signal(Signal::STOP);
    assert_eq!(server.run(&["websocket", "stop", "--timeout", "0.2"]).code, Some(7));
    assert!(server.is_running());
    let forced = server.run(&["websocket", "stop", "--timeout", "0.2", "--force"]);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert_eq!(server.wait().code(), None);
    assert_eq!(server.run(&["websocket", "status"]).code, Some(2));
    server.start_again();
}

#[test]
fn a_pid_file_that_names_another_process_harms_nobody() {
    let mut server = Server::start();
    server.kill();
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    std::fs::write(server.state_dir().join(PID_FILE), format!("{}\n", other.id())).unwrap();
    assert_eq!(server.run(&["websocket", "stop"]).code, Some(2));
    let alive = other.try_wait().unwrap().is_none();
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(alive, "stop has killed a stranger");
}

#[test]
fn the_pid_file_is_private_and_holds_the_pid() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    let path = server.state_dir().join(PID_FILE);
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), server.pid().to_string());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn reload_takes_new_settings_and_keeps_connections() {
    let server = Server::start();
    let mut client = server.hello();
    client.subscribe("global");
    server.write_env_file("MAHAVISHNU_MAX_CONNECTIONS=1\n");
    let reload = server.run(&["websocket", "reload"]);
    assert_eq!(reload.code, Some(0), "{reload:?}");
    wait::until("the new limit", || {
        let mut other = server.client();
        matches!(other.hear(), Heard::Close(1013, _)).then_some(())
    });
    assert_eq!(client.publish("global", "e", json!({ "n": 1 })), 1);
    assert_eq!(client.message()["data"]["n"], 1);
}

#[test]
fn sighup_is_a_reload() {
    let server = Server::start();
    server.write_env_file("MAHAVISHNU_MIRROR_STATUS=false\n");
    let mut client = server.hello();
    assert_eq!(client.request("subscribe", json!({ "channel": "global" }))["status"], "subscribed");
    server.signal(Signal::HUP);
    wait::until("the new setting", || {
        client
            .request("subscribe", json!({ "channel": "global" }))
            .get("status")
            .is_none()
            .then_some(())
    });
}

#[test]
fn a_reload_with_a_mistake_changes_nothing() {
    let mut server = Server::start();
    server.write_env_file("MAHAVISHNU_MAX_CONNECTIONS=1\nMAHAVISHNU_LOG_LEVEL=LOUD\n");
    server.signal(Signal::HUP);
    wait::until("a line about it", || server.log().contains("MAHAVISHNU_LOG_LEVEL").then_some(()));
    assert!(server.is_running());
    let _clients: Vec<Client> = (0..3).map(|_| server.hello()).collect();
}

#[test]
fn a_reload_takes_back_what_the_new_policy_forbids() {
    let server = Server::with_auth(&[]);
    let mut ada = server.login(&token::of("ada", &["workflow:read"]));
    ada.subscribe("workflow:1");
    let policy = server.state_dir().join("policy.toml");
    std::fs::write(&policy, "[mahavishnu]\nfull_access = [\"admin\"]\n").unwrap();
    server.write_env_file(&format!("MAHAVISHNU_POLICY_FILE={}\n", policy.display()));
    server.signal(Signal::HUP);
    let notice = ada.message();
    assert_eq!(notice["event"], "channel.withdrawn", "{notice}");
    assert_eq!(notice["data"], json!({ "channel": "workflow:1", "reason": "policy" }));
    std::fs::write(&policy, "[mahavishnu]\nfull_acess = []\n").unwrap();
    server.signal(Signal::HUP);
    wait::until("the refusal", || {
        server.log().contains("policy.toml:2: unknown field").then_some(())
    });
    let mut root = server.login(&token::of("root", &["admin"]));
    root.subscribe("workflow:1");
}

/// As a deployment that truncates a file before it writes it: an empty file and SIGHUP.
#[test]
fn a_reload_takes_no_protection_away_by_saying_nothing() {
    let server = Server::with_file(
        &[],
        &format!(
            "MAHAVISHNU_AUTH_ENABLED=true\nMAHAVISHNU_JWT_SECRET={SECRET}\nMAHAVISHNU_ALLOWED_ORIGINS=https://a.example\n"
        ),
    );
    let message = r#"{"channel":"global","event":"e","data":{}}"#;
    let is_open = || http::post(server.address(), "/publish", &[], message).status == 200;
    assert!(!is_open());

    server.write_env_file("");
    let reload = server.run(&["websocket", "reload"]);

    assert_eq!(reload.code, Some(5), "{reload:?}");
    assert!(reload.stderr.contains("MAHAVISHNU_AUTH_ENABLED: is not set any more"), "{reload:?}");
    assert!(
        reload.stderr.contains("MAHAVISHNU_ALLOWED_ORIGINS: is not set any more"),
        "{reload:?}"
    );
    server.expect_log("reload refused");
    assert_eq!(server.metrics().count("mahavishnu_config_reloads_refused_total", &[]), 1);
    assert!(!is_open());
    server.login(&token::of("ada", &["admin"]));

    server.write_env_file("MAHAVISHNU_AUTH_ENABLED=false\nMAHAVISHNU_ALLOWED_ORIGINS=\n");
    let reload = server.run(&["websocket", "reload"]);
    assert_eq!(reload.code, Some(0), "who says so gets it: {reload:?}");
    assert!(is_open());
    server.expect_log("takes protection away");
}

/// Stopped for longer than a client may be silent. The ping that was due goes out first.
#[test]
fn a_server_that_was_stopped_ends_nobody_for_its_own_silence() {
    let server =
        Server::with(&[("CONNECTION_TIMEOUT", "3"), ("PING_INTERVAL", "1"), ("PONG_TIMEOUT", "2")]);
    let mut clients: Vec<Client> = (0..5).map(|_| server.hello()).collect();
    server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(5));
    server.signal(Signal::CONT);
    // It has taken its turns.
    for _ in 0..3 {
        assert_eq!(http::get(server.address(), "/health").status, 200);
    }
    for client in &mut clients {
        let answer = client.request("subscribe", json!({ "channel": "global" }));
        assert_eq!(answer["data"]["status"], "subscribed", "{answer}");
    }
    server.expect_log("did not run");
}

#[test]
fn keys_are_rotated_by_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    let write = |keys: &serde_json::Value| std::fs::write(&path, keys.to_string()).unwrap();
    write(&json!({ "old": token::OTHER_SECRET }));
    let server =
        Server::with(&[("AUTH_ENABLED", "true"), ("JWT_KEYS_FILE", path.to_str().unwrap())]);
    let claims = token::claims("ada", &["admin"]);
    let new = token::sign_with(SECRET, Some("new"), &claims);
    let accepts = |token: &str| {
        server.client().request("auth", json!({ "token": token }))["type"] == "response"
    };
    write(&json!({ "old": token::OTHER_SECRET, "new": SECRET }));
    server.signal(Signal::HUP);
    wait::until("the new key", || accepts(&new).then_some(()));
    write(&json!({ "old": token::OTHER_SECRET }));
    server.signal(Signal::HUP);
    wait::until("its end", || (!accepts(&new)).then_some(()));
}

#[test]
fn reload_without_a_server_is_exit_2() {
    let mut server = Server::start();
    server.terminate();
    assert_eq!(server.run(&["websocket", "reload"]).code, Some(2));
}

#[test]
fn a_service_manager_may_stop_what_has_stopped() {
    let mut server = Server::start();
    server.terminate();
    let dir = server.state_dir().to_str().unwrap();
    let done = mahavishnu_tests::server::run(
        server.state_dir(),
        &[("SERVICE_RESULT", "success"), ("MAHAVISHNU_STATE_DIR", dir)],
        &["websocket", "stop"],
    );
    assert_eq!(done.code, Some(0), "{done:?}");
}
