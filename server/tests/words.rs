//! What people read: help, completions, the manual, and the same words for the same trouble from every subcommand.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::{Command, Stdio},
};

use crate::support::{Done, Place, SECRET, Server, Subscriber};

const ESCAPE: char = '\u{1b}';

#[test]
fn help_has_colours_where_they_are_wanted() {
    let place = Place::new();
    let forced = ("CLICOLOR_FORCE", "1");
    let styled = place.run_with("publish --help", &[forced]).expect(0).out;
    assert!(styled.contains(ESCAPE), "{styled:?}");
    let plain = place.run("publish --help").expect(0).out;
    assert!(!plain.contains(ESCAPE), "no terminal: {plain:?}");
    assert!(plain.contains("\nExamples:\n  mahavishnu publish workflow:42 "), "{plain}");
    for subcommand in ["publish --help", "publish --nonsense"] {
        let done = place.run_with(subcommand, &[("NO_COLOR", "1")]);
        assert!(!done.out.contains(ESCAPE) && !done.err.contains(ESCAPE), "{done:?}");
    }
}

#[test]
fn bash_completes_subcommands_and_flags() {
    let place = Place::new();
    let completions = place.run("completions bash").expect(0).out;
    let script = place.write("completions.bash", &completions);
    let complete = |words: &str| {
        let program = format!(
            "source '{}'; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _mahavishnu mahavishnu \"${{COMP_WORDS[COMP_CWORD]}}\" \"\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let done = Done::of(Command::new("bash").args(["-c", &program]).output().unwrap());
        done.expect(0).out
    };
    assert_eq!(complete("mahavishnu sub"), "subscribe\n");
    assert!(complete("mahavishnu token cre").contains("create"));
    assert!(complete("mahavishnu websocket start --metr").contains("--metrics-port"));
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let text = place.run(&format!("completions {shell}")).expect(0).out;
        assert!(text.contains("subscribe") && text.contains("metrics-port"), "{shell}: {text}");
    }
    assert!(place.run("completions tcsh").expect(1).err.contains("possible values"));
}

#[test]
fn the_manual_is_printed_or_written() {
    let place = Place::new();
    let page = place.run("man").expect(0).out;
    assert!(page.contains(".TH mahavishnu 1"), "{page}");
    assert!(page.contains("mahavishnu\\-publish(1)"), "it names the others: {page}");
    let done = place.run("man pages").expect(0);
    assert!(done.out.ends_with(" pages written to pages\n"), "{}", done.out);
    let start = std::fs::read_to_string(place.path().join("pages/mahavishnu-websocket-start.1"));
    assert!(start.unwrap().contains("\\-\\-metrics\\-port"));
}

/// Both say the same after their URL.
#[track_caller]
fn same_words(place: &Place, url: &str, variables: &[(&str, &str)], code: i32, part: &str) {
    let without_url = |done: Done| {
        let line = done.err.lines().next().unwrap_or_default().to_owned();
        line.split_once(": ").unwrap().1.split_once(": ").unwrap().1.to_owned()
    };
    let published = place.run_with(&format!("publish --url {url} c e"), variables).expect(code);
    let subscribed =
        place.run_with(&format!("subscribe --no-reconnect --url {url} c"), variables).expect(code);
    let past = place.run_with(&format!("history --url {url} c"), variables).expect(code);
    let words = without_url(published);
    assert!(words.contains(part), "{part:?} in {words:?}");
    assert_eq!(without_url(subscribed), words);
    assert_eq!(without_url(past), words);
}

#[test]
fn publish_subscribe_and_history_say_the_same_of_a_server_that_is_not_there() {
    let place = Place::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    same_words(
        &place,
        &format!("http://{free}"),
        &[],
        2,
        "is the server running, and on this port?",
    );
    same_words(
        &place,
        &format!("wss://{free}"),
        &[],
        2,
        "is the server running, and on this port?",
    );
}

#[test]
fn publish_subscribe_and_history_say_the_same_of_tls_where_there_is_none() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    let url = server.url.replace("http://", "https://");
    same_words(
        &place,
        &url,
        &[],
        1,
        "does not speak TLS there; without TLS it is ws:// or http://",
    );
    // The address that was tried is the one that is shown.
    let done = place.run(&format!("subscribe --url {} c", url.replace("https", "wss"))).expect(1);
    assert!(done.err.starts_with(&url.replace("https", "mahavishnu: wss")), "{}", done.err);
}

#[test]
fn publish_subscribe_and_history_say_the_same_of_a_port_that_wants_tls() {
    let place = Place::new();
    let server = Server::start(&place, "--auto-cert", &[]);
    let url = server.url.replace("https://", "http://");
    for arguments in ["publish --url URL c e", "subscribe --url URL c", "history --url URL c"] {
        let done = place.run(&arguments.replace("URL", &url)).expect(1);
        assert!(done.err.contains("HTTP 426"), "{}", done.err);
        assert!(done.err.contains("wss://"), "{}", done.err);
    }
}

#[test]
fn something_that_is_no_server_is_told_by_all() {
    // It speaks first, as TLS, SMTP and SSH servers would not understand each other either.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut byte = [0];
            let _ = stream.read(&mut byte);
            let _ = stream.write_all(b"\x15\x03\x03\x00\x02\x02\x46");
        }
    });
    let place = Place::new();
    for arguments in ["publish --url URL c e", "subscribe --url URL c", "history --url URL c"] {
        let done = place.run(&arguments.replace("URL", &format!("http://{address}"))).expect(1);
        let told = "if it speaks TLS, use wss:// or https://";
        assert!(done.err.contains(told), "{arguments}: {}", done.err);
    }
}

#[test]
fn back_off_is_told_as_long_as_it_is() {
    let place = Place::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut child = place
        .command(&format!("subscribe --url http://{free} c"))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let notes = std::io::BufReader::new(child.stderr.take().unwrap());
    let lines: Vec<_> = std::io::BufRead::lines(notes).take(2).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    for line in &lines {
        let pause = line.rsplit_once("; again in ").unwrap().1;
        assert!(pause.ends_with(" ms") && !pause.contains('.'), "{line}");
    }
}

#[test]
fn who_shows_no_token_is_told_how_by_all() {
    let place = Place::new();
    let secret = ("MAHAVISHNU_JWT_SECRET", SECRET);
    let server = Server::start(&place, "--auth-enabled true", &[secret]);
    let url = ("MAHAVISHNU_URL", &*server.url);
    for arguments in ["publish c e", "subscribe c", "history c"] {
        let done = place.run_with(arguments, &[url]).expect(6);
        assert!(done.err.contains("AUTH_REQUIRED"), "{}", done.err);
        assert!(done.err.contains("(give a token by --token or MAHAVISHNU_TOKEN)"), "{}", done.err);
        let done = place.run_with(arguments, &[url, ("MAHAVISHNU_TOKEN", "x")]).expect(6);
        assert!(done.err.contains("`mahavishnu token inspect`"), "{}", done.err);
    }
}

#[test]
fn who_reaches_nobody_is_told_why_that_may_be() {
    let place = Place::new();
    let server = Server::start(&place, "", &[]);
    let url = [("MAHAVISHNU_URL", &*server.url)];
    let done = place.run_with("publish workflow:42 e", &url).expect(0);
    assert_eq!(done.out, "published; reached 0 subscribers\n");
    assert!(done.err.starts_with("nobody is subscribed to \"workflow:42\""), "{}", done.err);
    let _subscriber = Subscriber::start(&place, "subscribe workflow:42", &url);
    let done = place.run_with("publish workflow:42 e", &url).expect(0);
    assert_eq!((&*done.out, &*done.err), ("published; reached 1 subscriber\n", ""));
}

#[test]
fn a_permission_that_no_rule_knows_is_warned_of() {
    let place = Place::new();
    let secret = [("MAHAVISHNU_JWT_SECRET", SECRET)];
    let arguments = "token create --user a --permission workflow:reed --permission admin";
    let done = place.run_with(arguments, &secret).expect(0);
    assert_eq!(done.out.lines().count(), 1, "the token alone: {}", done.out);
    let warnings: Vec<_> = done.err.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(warnings.len(), 1, "{}", done.err);
    assert!(warnings[0].contains("did you mean \"workflow:read\"?"), "{}", done.err);
}

#[test]
fn config_check_tells_settings_certificates_and_redis_in_one_round() {
    let place = Place::new();
    let variables = [
        ("MAHAVISHNU_PORT", "http"),
        ("MAHAVISHNU_TLS_ENABLED", "true"),
        ("MAHAVISHNU_CERT_FILE", "none.pem"),
        ("MAHAVISHNU_KEY_FILE", "none.key"),
        ("MAHAVISHNU_REDIS_HOST", "localhost"),
        ("MAHAVISHNU_REDIS_TLS", "true"),
        ("MAHAVISHNU_REDIS_CA_FILE", "none.ca"),
    ];
    for arguments in ["config check", "websocket start"] {
        let done = place.run_with(arguments, &variables).expect(5);
        for name in ["MAHAVISHNU_PORT: ", "MAHAVISHNU_CERT_FILE: ", "MAHAVISHNU_REDIS_CA_FILE: "] {
            assert!(done.err.contains(name), "{name} in {arguments}: {}", done.err);
        }
    }
}

#[test]
fn settings_without_a_value_are_shown_as_such() {
    let place = Place::new();
    let done = place.run_with("config show", &[("MAHAVISHNU_REVOKED_FILE", "")]).expect(0);
    let has = |line: &str| done.out.lines().any(|shown| shown == line);
    assert!(has("# MAHAVISHNU_POLICY_FILE is not set"), "{}", done.out);
    assert!(has("MAHAVISHNU_REVOKED_FILE=''  # environment"), "{}", done.out);
    assert!(!done.out.contains("=  #"), "{}", done.out);
}

#[test]
fn the_log_says_what_is_bound_and_how_much_is_taken_on_after_the_banner() {
    let place = Place::new();
    let _server = Server::start(&place, "--host 0.0.0.0", &[]);
    let log = place.log();
    let at = |part: &str| log.find(part).unwrap_or_else(|| panic!("{part} in {log}"));
    assert!(at("Mahavishnu ") < at(" listening ") && at(" listening ") < at("at most 10000 "));
    assert!(
        log.contains(" sockets=\"0.0.0.0:") && log.contains(" metrics_socket=\"0.0.0.0:"),
        "{log}"
    );
}

#[test]
fn explain_and_status_ask_the_server_that_runs_and_not_the_shell() {
    let place = Place::new();
    let key = format!("MAHAVISHNU_JWT_SECRET={SECRET}\nMAHAVISHNU_AUTH_ENABLED=true\n");
    place.write("conf/production.env", &format!("{key}MAHAVISHNU_AUTO_CERT=true\n"));
    let arguments = "--env-file conf/production.env --tls-enabled true";
    let server = Server::start(&place, arguments, &[("MAHAVISHNU_AUTH_POLICY", "crackerjack")]);
    let made = "token create --env-file conf/production.env --user a --permission";
    let reader = place.run(&format!("{made} crackerjack:read")).expect(0).last_line().to_owned();

    // From elsewhere, by somebody who has nothing of its settings but its home.
    let elsewhere = tempfile::tempdir().unwrap();
    let run = |arguments: &str| {
        let output = place.command(arguments).current_dir(elsewhere.path()).output().unwrap();
        Done::of(output)
    };
    let done = run("websocket status").expect(0);
    assert!(done.out.contains(&format!("running (pid {}) at http", server.pid())), "{done:?}");
    let done = run(&format!("explain --channel test:1 --token {reader}")).expect(0);
    assert!(done.out.contains("policy: crackerjack"), "{done:?}");
    assert!(done.err.starts_with("by the settings of the server that runs (pid "), "{done:?}");
    let done = run(&format!("explain --channel test:1 --verb publish --token {reader}")).expect(6);
    assert!(done.out.contains("\nit takes: "), "{done:?}");
    assert!(done.last_line().starts_with("denied: "), "{done:?}");
    let done = run("explain --channel test:1").expect(6);
    assert_eq!(done.last_line(), "denied: clients need a token here");

    // Who names settings means those.
    let done = run("explain --channel test:1 --auth-enabled false").expect(0);
    assert_eq!(done.err, "", "{done:?}");
    drop(server);
    let done = run("explain --channel test:1").expect(0);
    assert!(
        done.err.starts_with("no server runs here, so by the settings of this shell; "),
        "{done:?}"
    );
}

#[test]
fn refusals_are_in_the_log_once_with_what_it_takes() {
    let place = Place::new();
    let secret = ("MAHAVISHNU_JWT_SECRET", SECRET);
    let server = Server::start(&place, "--auth-enabled true", &[secret]);
    let url = ("MAHAVISHNU_URL", &*server.url);
    let made = "token create --user a --permission workflow:read";
    let reader = place.run_with(made, &[secret]).expect(0).last_line().to_owned();
    for _ in 0..5 {
        let done =
            place.run_with("publish workflow:1 e", &[url, ("MAHAVISHNU_TOKEN", &reader)]).expect(6);
        assert!(!done.err.contains("workflow:write"), "clients are not told: {done:?}");
        place.run_with("publish workflow:1 e", &[url]).expect(6);
    }
    let log = place.log();
    let lines = |reason: &str| {
        let part = format!(" refused reason=\"{reason}\"");
        log.lines().filter(|line| line.contains(&part)).map(str::to_owned).collect::<Vec<_>>()
    };
    let forbidden = lines("publish_forbidden");
    assert_eq!(forbidden.len(), 1, "{log}");
    for part in
        [" INFO ", "count=1", "last=\"127.0.0.1\"", "workflow:write", "pattern=\"workflow:*\""]
    {
        assert!(forbidden[0].contains(part), "{part} in {}", forbidden[0]);
    }
    assert_eq!(lines("auth_required").len(), 1, "{log}");
}

#[test]
fn clients_are_told_which_permission_it_takes_where_that_is_wanted() {
    let place = Place::new();
    let secret = ("MAHAVISHNU_JWT_SECRET", SECRET);
    let told = ("MAHAVISHNU_TELL_PERMISSIONS", "true");
    let server = Server::start(&place, "--auth-enabled true", &[secret, told]);
    let made = "token create --user a --permission pool:read";
    let token = place.run_with(made, &[secret]).expect(0).last_line().to_owned();
    let variables = [("MAHAVISHNU_URL", &*server.url), ("MAHAVISHNU_TOKEN", &token)];
    for (arguments, permission) in [
        ("publish workflow:1 e", "workflow:write"),
        ("subscribe workflow:1", "workflow:read"),
        ("history workflow:1", "workflow:read"),
    ] {
        let done = place.run_with(arguments, &variables).expect(6);
        assert!(done.err.contains(": it takes "), "{}", done.err);
        assert!(done.err.contains(permission), "{permission} in {}", done.err);
    }
}
