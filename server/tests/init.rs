//! `init` and `config backup`: a server that wants tokens in three commands, and the way back.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Place, Server, Subscriber};

/// What a file says, and who may read it.
fn file(place: &Place, name: &str) -> (String, u32) {
    let path = place.path().join(name);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    (std::fs::read_to_string(path).unwrap(), mode)
}

/// Names of the copies.
fn copies(place: &Place) -> Vec<String> {
    let names = std::fs::read_dir(place.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("config.")).collect()
}

/// The line of a file that gives a variable its value.
fn secret(text: &str) -> &str {
    let line = text.lines().find_map(|line| line.strip_prefix("MAHAVISHNU_JWT_SECRET="));
    line.filter(|secret| secret.len() == 64).unwrap()
}

#[test]
fn every_terminal_in_the_directory_has_the_secret() {
    let place = Place::new();
    let done = place.run("init").expect(0);
    let (text, mode) = file(&place, ".env");
    assert_eq!(mode, 0o600);
    assert!(!done.out.contains(secret(&text)), "{}", done.out);
    assert!(done.out.contains("websocket start\n"), "{}", done.out);
    let done = place.run("config check").expect(0);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("configuration ok\n", ""));
    let server = Server::start(&place, "", &[]);
    let url = ("MAHAVISHNU_URL", server.url.as_str());
    place.run_with("publish workflow:42 x", &[url]).expect(6);
    let token = place.run("token create --user me --permission admin").expect(0);
    let given = [url, ("MAHAVISHNU_TOKEN", token.last_line())];
    let mut subscriber = Subscriber::start(&place, "subscribe --count 1 workflow:42", &given);
    let done = place.run_with("publish workflow:42 workflow.started", &given).expect(0);
    assert!(done.out.starts_with("published; reached 1 subscriber"), "{}", done.out);
    assert_eq!(subscriber.line(), "workflow:42 workflow.started {}");
}

#[test]
fn what_is_there_is_replaced_only_by_force_and_kept() {
    let place = Place::new();
    place.run("init prod.env").expect(0);
    let (before, _) = file(&place, "prod.env");
    let done = place.run("init prod.env").expect(1);
    assert!(done.err.contains("prod.env: is there already; give another path"), "{}", done.err);
    assert_eq!(file(&place, "prod.env").0, before);
    let path = place.path().join("prod.env");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let done = place.run("init --force prod.env").expect(0);
    let (after, mode) = file(&place, "prod.env");
    assert_ne!(secret(&after), secret(&before));
    // Whoever was allowed to read it is, but not everybody.
    assert_eq!(mode, 0o640);
    let [copy] = &copies(&place)[..] else { panic!("{:?}", copies(&place)) };
    assert_eq!(file(&place, copy), (before, 0o600));
    assert!(copy.ends_with(".prod.env") && done.out.contains(copy), "{copy}: {}", done.out);
    assert!(done.out.contains("websocket start --env-file prod.env\n"), "{}", done.out);
    place.run("config check --env-file prod.env").expect(0);
}

#[test]
fn a_place_where_nothing_can_be_written_is_told_in_one_line() {
    let place = Place::new();
    let done = place.run("init none/prod.env").expect(1);
    let line = "mahavishnu: none/prod.env: there is no such directory; make it first\n";
    assert_eq!(done.err, line);
    std::fs::create_dir(place.path().join("dir")).unwrap();
    place.run("init dir").expect(1);
    place.run("init --force dir").expect(5);
    assert!(copies(&place).is_empty());
}

#[test]
fn a_copy_brings_a_server_back_to_what_it_was() {
    let place = Place::new();
    place.run("config backup").expect(5);
    place.run("init").expect(0);
    let server = Server::start(&place, "--env-file .env", &[]);
    let token = place.run("token create --user me --permission admin").expect(0);
    let given = [("MAHAVISHNU_URL", server.url.as_str()), ("MAHAVISHNU_TOKEN", token.last_line())];
    let done = place.run("config backup").expect(0);
    let [copy] = &copies(&place)[..] else { panic!("{:?}", copies(&place)) };
    assert_eq!(done.out, format!("kept .env as {copy}\n"));
    place.run("init --force").expect(0);
    place.run("websocket reload").expect(0);
    place.run_with("publish workflow:42 x", &given).expect(6);
    std::fs::copy(place.path().join(copy), place.path().join(".env")).unwrap();
    place.run("websocket reload").expect(0);
    place.run_with("publish workflow:42 x", &given).expect(0);
}
