//! Malformed and unusual requests: what we make of each, and what nginx, h11 and Node's llhttp make of it.
//!
//! `tests/heads/heads.tsv` is the table. `UPDATE_HEADS=1` with this test measures it anew; notes stay. What a reader of
//! another version says is not compared, and the test says so.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use mahavishnu_tests::{Raw, Server, binary, foreign, proxy::Proxy};

/// Whose columns there are besides ours.
const READERS: [&str; 3] = ["nginx", "h11", "node"];

/// Whoever says nothing for so long waits for more.
const PATIENCE: Duration = Duration::from_secs(2);

/// A row: a request in the table's notation, what each makes of it, and why ours differs.
#[derive(Clone)]
struct Row {
    name: String,
    request: String,
    said: Vec<String>,
    note: String,
}

#[test]
fn ours_is_what_the_table_says() {
    let (_, rows) = table();
    assert!(rows.len() >= 100, "a hundred heads");
    let server = Server::start();
    let differing = rows.iter().filter_map(|row| {
        let said = ask(server.address(), &expand(&row.request));
        (said != row.said[0] && !is_measured())
            .then(|| format!("{}: {said}, not {}", row.name, row.said[0]))
    });
    let differing: Vec<_> = differing.collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// A request that we take and two of the three others refuse, or the other way round, has its reason in the table.
#[test]
fn where_ours_stands_alone_the_table_says_why() {
    let (_, rows) = table();
    let silent = rows.iter().filter(|row| row.note.is_empty() && !is_measured());
    let alone = silent.filter(|row| {
        let other = row.said[1..].iter().filter(|said| takes(said) != takes(&row.said[0]));
        other.count() >= 2
    });
    let alone: Vec<_> = alone.map(|row| row.name.as_str()).collect();
    assert!(alone.is_empty(), "{alone:?}");
}

#[test]
fn others_are_what_the_table_says() {
    let (versions, mut rows) = table();
    let requests: Vec<Vec<u8>> = rows.iter().map(|row| expand(&row.request)).collect();
    let server = Server::start();
    let ours = requests.iter().map(|request| ask(server.address(), request)).collect();
    let readers = [nginx(&requests), h11(&requests), node(&requests)];
    let present: Vec<String> = readers.iter().map(|(version, _)| version.clone()).collect();
    let measured: Vec<Vec<String>> =
        [ours].into_iter().chain(readers.map(|(_, said)| said)).collect();
    if is_measured() {
        for (at, row) in rows.iter_mut().enumerate() {
            row.said = measured.iter().map(|column| column[at].clone()).collect();
        }
        return write(&present, &rows);
    }
    let mut differing = Vec::new();
    for (column, name) in READERS.iter().enumerate() {
        if present[column] != versions[*name] {
            eprintln!(
                "heads.tsv is about {name} {}: {} is not compared",
                versions[*name], present[column]
            );
            continue;
        }
        for (row, said) in rows.iter().zip(&measured[column + 1]) {
            if row.said[column + 1] != *said {
                differing.push(format!(
                    "{}: {name} says {said}, not {}",
                    row.name,
                    row.said[column + 1]
                ));
            }
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// Whether a reader goes on with a request, whatever it answers.
fn takes(said: &str) -> bool {
    !matches!(said, "400" | "411" | "413" | "414" | "431" | "501" | "505" | "wait" | "close")
}

/// The first status that comes back; `wait` if the rest of the request is waited for, `close` if nothing comes.
fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut raw = Raw::connect(address);
    raw.write(request);
    let (mut came, begun) = (Vec::new(), Instant::now());
    loop {
        let (bytes, ended) = raw.read_for(Duration::from_millis(2));
        came.extend(bytes);
        let line = came.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
        match line {
            Some(status) => return String::from_utf8_lossy(status).into_owned(),
            None if ended => return "close".to_owned(),
            None if begun.elapsed() > PATIENCE => return "wait".to_owned(),
            None => {}
        }
    }
}

fn nginx(requests: &[Vec<u8>]) -> (String, Vec<String>) {
    let version = Command::new("nginx").arg("-v").output().expect("nginx runs").stderr;
    let version = String::from_utf8(version).expect("text");
    let version = version.trim().rsplit('/').next().unwrap_or_default().to_owned();
    let proxy = Proxy::nginx_alone();
    (version, requests.iter().map(|request| ask(proxy.address(), request)).collect())
}

fn h11(requests: &[Vec<u8>]) -> (String, Vec<String>) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    for request in requests {
        let digits: String = request.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(file, "{digits}").expect("it is ours");
    }
    let said = foreign::python("h11_heads.py", &[file.path().to_str().expect("text")]);
    let mut lines = said.lines().map(str::to_owned);
    (lines.next().expect("a version"), lines.collect())
}

fn node(requests: &[Vec<u8>]) -> (String, Vec<String>) {
    let mut server = Node(
        foreign::node_command("http_server.mjs", &[])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs"),
    );
    let mut lines = BufReader::new(server.0.stdout.take().expect("a pipe")).lines();
    let mut line = || lines.next().expect("a line").expect("text");
    let (version, port) = (line(), line());
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    (version, requests.iter().map(|request| ask(address, request)).collect())
}

/// Ends with the test.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_measured() -> bool {
    std::env::var_os("UPDATE_HEADS").is_some()
}

fn path() -> PathBuf {
    binary::workspace().join("tests/heads/heads.tsv")
}

/// Versions by reader, and the rows.
fn table() -> (BTreeMap<String, String>, Vec<Row>) {
    let text = std::fs::read_to_string(path()).expect("the table");
    let versions = text.lines().filter_map(|line| line.strip_prefix("# version: "));
    let versions = versions.map(|line| {
        let (name, version) = line.split_once(' ').expect("a name and a version");
        (name.to_owned(), version.to_owned())
    });
    let rows = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let rows = rows.map(|line| {
        let cells: Vec<_> = line.split('\t').map(str::to_owned).collect();
        let [name, request, said @ .., note] = &cells[..] else { panic!("{line}") };
        assert_eq!(said.len(), 1 + READERS.len(), "{line}");
        Row {
            name: name.clone(),
            request: request.clone(),
            said: said.to_vec(),
            note: note.clone(),
        }
    });
    (versions.collect(), rows.collect())
}

fn write(versions: &[String], rows: &[Row]) {
    let present = std::fs::read_to_string(path()).expect("the table");
    let comment = present.lines().take_while(|line| !line.starts_with("# version"));
    let comment = comment.map(|line| format!("{line}\n")).collect::<String>();
    let versions = READERS.iter().zip(versions);
    let versions = versions.map(|(name, version)| format!("# version: {name} {version}\n"));
    let rows = rows.iter().map(|row| {
        format!("{}\t{}\t{}\t{}\n", row.name, row.request, row.said.join("\t"), row.note)
    });
    let text = [comment, versions.collect(), rows.collect()].concat();
    std::fs::write(path(), text).expect("it can be written");
}

/// The bytes of a request in the table's notation.
fn expand(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '\\' => {
                let (what, after) = rest.split_at(1);
                rest = after;
                match what {
                    "r" => bytes.push(b'\r'),
                    "n" => bytes.push(b'\n'),
                    "t" => bytes.push(b'\t'),
                    "0" => bytes.push(0),
                    "\\" => bytes.push(b'\\'),
                    "x" => {
                        let (digits, after) = rest.split_at(2);
                        bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
                        rest = after;
                    }
                    other => panic!("\\{other} in {text}"),
                }
            }
            '<' => {
                let (word, after) = rest.split_once('>').expect("an end");
                bytes.extend(piece(word));
                rest = after;
            }
            other => bytes.push(u8::try_from(other).expect("ASCII")),
        }
    }
    bytes
}

fn piece(word: &str) -> Vec<u8> {
    const JSON: &str = r#"{"channel":"c","event":"e"}"#;
    match word {
        "GET" => b"GET /health HTTP/1.1\r\nHost: x\r\n".to_vec(),
        "POST" => {
            b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".to_vec()
        }
        "JSON" => JSON.into(),
        "J5" => JSON[..5].into(),
        "J22" => JSON[5..].into(),
        repeated => {
            let (what, count) = repeated.rsplit_once('*').expect("what, and how often");
            expand(what).repeat(count.parse().expect("a number"))
        }
    }
}
