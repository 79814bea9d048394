//! Clients that are not ours: Python, Node and curl, installed by `scripts/setup-tests`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::{
    binary,
    http::{self, Response},
};

/// Runs `tests/clients/python/<script>` to its end. Panics with its output if it fails.
pub fn python(script: &str, args: &[&str]) -> String {
    text(&mut python_command(script, args))
}

/// The command that [`python`] runs, for a test that does something meanwhile.
pub fn python_command(script: &str, args: &[&str]) -> Command {
    let mut command = Command::new(environment().join("python/bin/python"));
    command.arg(clients().join("python").join(script)).args(args);
    command
}

/// Runs `tests/clients/node/<script>` to its end. Panics with its output if it fails.
pub fn node(script: &str, args: &[&str]) -> String {
    text(&mut node_command(script, args))
}

/// The command that [`node`] runs, for a test that adds to its environment.
pub fn node_command(script: &str, args: &[&str]) -> Command {
    // Modules are searched from the script upwards, where they are not: the scripts look where this says.
    let modules = environment().join("node/");
    let path = clients().join("node").join(script);
    let mut command = Command::new("node");
    command.arg(path).args(args).env("TEST_MODULES", modules);
    command
}

/// Text of a file of an installed Node package.
pub fn node_file(path: &str) -> String {
    let path = environment().join("node/node_modules").join(path);
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run scripts/setup-tests", path.display()))
}

/// Runs a program that came with a package of Python. Panics with its output if it fails.
pub fn tool(name: &str, args: &[&str]) -> String {
    text(Command::new(environment().join("python/bin").join(name)).args(args))
}

/// Runs curl. Panics if it fails.
pub fn curl(args: &[&str]) -> String {
    environment();
    text(Command::new("curl").args(["--silent", "--show-error", "--max-time", "20"]).args(args))
}

/// What curl was answered, whichever version of HTTP it spoke. Panics if it fails.
pub fn curl_answer(args: &[&str]) -> Response {
    let said = curl(&[&["--include"], args].concat());
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or((&said, ""));
    Response { body: body.into(), ..http::parse_head(head) }
}

/// A program that `scripts/setup-tests` has installed, by its path there.
pub fn installed(program: &str) -> Command {
    Command::new(environment().join(program))
}

/// Directory of the installed clients. Panics if it is not there.
fn environment() -> PathBuf {
    let dir = std::env::var_os("MAHAVISHNU_TEST_ENV")
        .map_or_else(|| binary::workspace().join("target/test-env"), PathBuf::from);
    let stamp = dir.join("ready");
    assert!(
        stamp.is_file(),
        "{} is not there: run scripts/setup-tests once, it installs the foreign clients",
        stamp.display()
    );
    dir
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Runs a command to its end and returns its output. Panics with it if it fails.
pub fn text(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    let command = command
        .stdin(Stdio::null())
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .env_remove("ALL_PROXY");
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{shown}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{shown}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}
