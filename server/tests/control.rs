//! `websocket stop | status | reload` where no server runs.

use crate::support::Place;

const PID: &str = ".local/state/mahavishnu/mahavishnu_websocket.pid";

#[test]
fn without_a_server_each_says_so() {
    let place = Place::new();
    for (arguments, first) in
        [("stop", "mahavishnu: not running"), ("reload", "mahavishnu: not running")]
    {
        let done = place.run(&format!("websocket {arguments}")).expect(2);
        let lines: Vec<_> = done.err.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, first), "{}", done.err);
        assert!(lines[1].contains(&*place.path().to_string_lossy()), "it says where: {}", done.err);
    }
    let done = place.run("websocket status").expect(2);
    assert_eq!(done.out, "not running\n");
    assert!(done.err.starts_with("looked for a server in "), "{}", done.err);
    let done = place.run("websocket status --json").expect(2);
    let status: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&status["status"], done.err.as_str()), (&"stopped".into(), ""));
    let looked = status["looked_in"].as_array().unwrap().iter();
    let own = place.path().join(".local/state/mahavishnu");
    assert!(looked.into_iter().any(|dir| dir == own.to_str().unwrap()), "{status}");
    let done = place.run("websocket stop --state-dir /nowhere").expect(2);
    assert!(done.err.contains("looked for a server in /nowhere; "), "{}", done.err);
}

#[test]
fn a_stale_pid_file_is_told_once_and_cleaned() {
    let place = Place::new();
    // PID 1 exists and is not ours: it must not be taken for the server.
    let file = place.write(PID, "1\n");
    let done = place.run("websocket status").expect(8);
    assert!(
        done.out.starts_with("not running (removed a stale PID file of pid 1 in "),
        "{}",
        done.out
    );
    assert!(!file.exists());
    place.run("websocket status").expect(2);
}

#[test]
fn stopping_what_is_gone_cleans_up() {
    let place = Place::new();
    let file = place.write(PID, "1\n");
    let done = place.run("websocket stop").expect(2);
    assert_eq!(done.err, "mahavishnu: not running (removed a stale PID file)\n");
    assert!(!file.exists());
}

#[test]
fn a_service_manager_may_stop_what_has_ended_by_itself() {
    let place = Place::new();
    let done = place.run_with("websocket stop", &[("SERVICE_RESULT", "exit-code")]).expect(0);
    assert_eq!(done.out, "not running\n");
}

#[test]
fn bad_settings_do_not_keep_a_server_from_being_stopped() {
    let place = Place::new();
    place.run_with("websocket stop", &[("MAHAVISHNU_PORT", "http")]).expect(2);
}

#[test]
fn the_state_directory_is_found_by_flag_variable_or_service_manager() {
    let place = Place::new();
    let stale = || place.write("elsewhere/mahavishnu_websocket.pid", "1\n");
    let dir = stale().parent().unwrap().to_str().unwrap().to_owned();
    place.run(&format!("websocket status --state-dir {dir}")).expect(8);
    stale();
    place.run_with("websocket status", &[("MAHAVISHNU_STATE_DIR", &dir)]).expect(8);
    stale();
    place.run_with("websocket status", &[("RUNTIME_DIRECTORY", &dir)]).expect(8);
    stale();
    place.run_with("websocket status", &[("STATE_DIRECTORY", &format!("{dir}:/other"))]).expect(8);
}
