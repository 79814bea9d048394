//! `config check | show | docs`, and how the command line answers to wrong use.

use crate::support::{Place, SECRET};

#[test]
fn a_good_configuration_is_said_to_be_one() {
    let done = Place::new().run("config check").expect(0);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("configuration ok\n", ""));
}

#[test]
fn every_problem_is_a_line_of_its_own() {
    let place = Place::new();
    let file = place.write("bad.env", "MAHAVISHNU_PORT=http\nMAHAVISHNU_LOG_FORMAT=xml\n");
    let variables = [("MAHAVISHNU_MAX_CONNECTIONS", "many"), ("MAHAVISHNU_AUTH_ENABLED", "true")];
    let done =
        place.run_with("config check --env-file bad.env --log-level LOUD", &variables).expect(5);
    let expected = [
        format!("mahavishnu: MAHAVISHNU_PORT: \"http\" is not allowed ({}); use a whole number from 0 to 65535", "bad.env"),
        "mahavishnu: MAHAVISHNU_MAX_CONNECTIONS: \"many\" is not allowed (environment); use a whole number from 1 to 10000000".into(),
        "mahavishnu: MAHAVISHNU_LOG_LEVEL: \"LOUD\" is not allowed (--log-level); use DEBUG, INFO, WARNING, WARN, ERROR or CRITICAL".into(),
        "mahavishnu: MAHAVISHNU_LOG_FORMAT: \"xml\" is not allowed (bad.env); use text or json".into(),
    ];
    let lines: Vec<_> = done.err.lines().collect();
    assert_eq!(lines[..4], expected, "{}", file.display());
    assert!(
        lines[4].starts_with("mahavishnu: MAHAVISHNU_AUTH_ENABLED: is true, but there is no key"),
        "{}",
        lines[4]
    );
    assert_eq!((lines.len(), done.out.as_str()), (5, ""));
}

#[test]
fn flags_win_over_environment_which_wins_over_dot_env() {
    let place = Place::new();
    place.write(".env", "MAHAVISHNU_PORT=1\nMAHAVISHNU_HOST=::1\nMAHAVISHNU_SERVER_NAME=file\n");
    let variables = [("MAHAVISHNU_PORT", "2"), ("MAHAVISHNU_HOST", "0.0.0.0")];
    let done = place.run_with("config show --port 3", &variables).expect(0);
    for line in [
        "MAHAVISHNU_PORT=3  # --port",
        "MAHAVISHNU_HOST=0.0.0.0  # environment",
        "MAHAVISHNU_SERVER_NAME=file  # ./.env",
        "MAHAVISHNU_SHARDS=auto  # default",
    ] {
        assert!(done.out.lines().any(|shown| shown == line), "{line} in {}", done.out);
    }
}

#[test]
fn secrets_are_masked() {
    let variables = [
        ("MAHAVISHNU_JWT_SECRET", SECRET),
        ("MAHAVISHNU_JWT_KEYS", "k1:hunter2-hunter2-hunter2-hunter2-x"),
        ("MAHAVISHNU_REDIS_PASSWORD", "hunter2"),
    ];
    let done = Place::new().run_with("config show", &variables).expect(0);
    assert!(done.out.contains("MAHAVISHNU_JWT_SECRET=********  # environment"), "{}", done.out);
    assert!(done.out.contains("MAHAVISHNU_JWT_KEYS=k1:********"), "{}", done.out);
    assert!(!done.out.contains("hunter2") && !done.out.contains(SECRET), "{}", done.out);
}

#[test]
fn a_file_that_is_not_there_is_one_line() {
    let done = Place::new().run("config check --env-file none.env").expect(5);
    assert_eq!(done.err, "mahavishnu: none.env: No such file or directory\n");
}

#[test]
fn a_mistyped_name_is_a_warning() {
    let done = Place::new().run_with("config check", &[("MAHAVISHNU_METRIC_PORT", "1")]).expect(0);
    assert_eq!(
        done.err,
        "warning: MAHAVISHNU_METRIC_PORT is not a setting; did you mean MAHAVISHNU_METRICS_PORT?\n"
    );
}

#[test]
fn other_services_variables_are_none_of_ours() {
    let variables =
        [("OTEL_SERVICE_NAME", "x"), ("CRACKERJACK_PORT", "y"), ("PYTHONUNBUFFERED", "1")];
    let done = Place::new().run_with("config check", &variables).expect(0);
    assert_eq!(done.err, "");
}

#[test]
fn wrong_use_is_a_general_failure_and_help_is_none() {
    let place = Place::new();
    assert!(place.run("websocket start --nonsense").expect(1).err.contains("--nonsense"));
    place.run("").expect(1);
    assert!(place.run("--help").expect(0).out.contains("websocket"));
    assert_eq!(
        place.run("--version").expect(0).out,
        format!("mahavishnu {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert!(
        !place.run("config --help").expect(0).out.contains("docs"),
        "the generator is not for operators"
    );
}

#[test]
fn the_table_for_the_documentation_is_markdown() {
    let done = Place::new().run("config docs").expect(0);
    assert!(done.out.starts_with("### Service\n\n| Variable |"), "{}", done.out);
    assert!(
        done.out.contains("| `MAHAVISHNU_JWT_EXPIRY`, `MAHAVISHNU_TOKEN_EXPIRY` | `3600` |"),
        "{}",
        done.out
    );
}
