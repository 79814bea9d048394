//! `mahavishnu websocket stop | status | reload`: what one does to a server that runs already.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mahavishnu_core::config::PlainOnTls;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    cli::{FindArgs, StatusArgs, StopArgs},
    exit::{Exit, Failure},
    health, out,
    pid::{self, Candidates, Found},
    process::Identity,
    settings::{self, Loaded},
    theirs,
    url::Target,
};

/// Ends the server with SIGTERM and waits until it has gone.
pub(crate) fn stop(args: &StopArgs) -> Result<Exit, Failure> {
    stop_in(&candidates(&loaded(&args.find)?)?, args)
}

/// The same with who has one of these directories.
pub(crate) fn stop_in(candidates: &Candidates, args: &StopArgs) -> Result<Exit, Failure> {
    let (dir, server) = match running(candidates)? {
        Ok(running) => running,
        Err(found) => return not_running(found, candidates),
    };
    let pid = server.pid;
    let process = server.open()?;
    let signal = |signal| process.as_ref().map_or(Ok(()), |process| process.signal(signal));
    signal(Signal::TERM)?;
    let here = Candidates::new(Some(&dir));
    if wait_gone(&here, &server, Duration::from_secs_f64(args.timeout))? {
        out::line(format_args!("stopped (pid {pid})"))?;
        return Ok(Exit::Ok);
    }
    if !args.force {
        let text = format!("pid {pid} is still running after {} s; --force kills it", args.timeout);
        return Err(Failure::new(Exit::Timeout, text));
    }
    signal(Signal::KILL)?;
    if wait_gone(&here, &server, KILL_TIMEOUT)? {
        pid::clean(&dir);
        out::line(format_args!("killed (pid {pid})"))?;
        return Ok(Exit::Ok);
    }
    Err(Failure::new(Exit::Timeout, format!("pid {pid} is still running after SIGKILL")))
}

/// Says whether a server runs and what it says of its health.
pub(crate) fn status(args: &StatusArgs) -> Result<Exit, Failure> {
    let loaded = loaded(&args.find)?;
    let candidates = candidates(&loaded)?;
    let found = pid::find(&candidates)?;
    let (exit, words, report) = match found {
        Found::Running { server, url, dir } => {
            let pid = server.as_ref().map(|server| server.pid);
            // Its own settings say how it is to be asked; those of this shell are as good only if they are the same.
            let dir = std::path::absolute(&dir).unwrap_or(dir);
            let loaded =
                server.and_then(|server| theirs::settings_of(&server).ok()).unwrap_or(loaded);
            let url = url.unwrap_or_else(|| configured_url(&loaded));
            let health = health::ask(&url, &loaded.settings, &dir);
            let exit = if health.is_ok() { Exit::Ok } else { Exit::Unhealthy };
            let who = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            let words = match &health {
                Ok(body) => format!("running{who} at {url}: healthy{}", summary(body)),
                Err(why) => format!("running{who} at {url}: unhealthy: {why}"),
            };
            let (body, why) = match health {
                Ok(body) => (body, Value::Null),
                Err(why) => (Value::Null, Value::from(why)),
            };
            (
                exit,
                words,
                json!({ "status": if exit == Exit::Ok { "running" } else { "unhealthy" }, "pid": pid, "url": url, "health": body, "error": why }),
            )
        }
        Found::Stale { dir, pid } => {
            pid::clean(&dir);
            let who = pid.map_or_else(String::new, |pid| format!(" of pid {pid}"));
            let words = format!("not running (removed a stale PID file{who} in {})", dir.display());
            (Exit::StalePid, words, json!({ "status": "stale", "pid": pid }))
        }
        Found::Nothing => {
            let looked = candidates.looked();
            (
                Exit::NotRunning,
                "not running".to_owned(),
                json!({ "status": "stopped", "looked_in": looked }),
            )
        }
    };
    if args.json {
        out::line(report)?
    } else {
        out::line(words)?;
        if exit == Exit::NotRunning {
            out::note(looked(&candidates));
        }
    }
    Ok(exit)
}

/// Has the server read its settings again, and says what became of it.
pub(crate) fn reload(args: &FindArgs) -> Result<Exit, Failure> {
    reload_in(&candidates(&loaded(args)?)?)
}

/// The same with who has one of these directories.
pub(crate) fn reload_in(candidates: &Candidates) -> Result<Exit, Failure> {
    match running(candidates)? {
        Ok((dir, server)) => {
            let pid = server.pid;
            let process = server.open()?;
            let before = pid::reloads(&dir).map_or(0, |(count, _)| count);
            let Some(process) = process else {
                return Err(Failure::new(Exit::NotRunning, "not running"));
            };
            process.signal(Signal::HUP)?;
            let problems = wait_reloaded(&dir, before).ok_or_else(|| {
                let text = format!(
                    "pid {pid} has not said within {} s what became of the reload; see its log",
                    RELOAD_TIMEOUT.as_secs()
                );
                Failure::new(Exit::Timeout, text)
            })?;
            if problems.is_empty() {
                out::line(format_args!("reloaded (pid {pid})"))?;
                return Ok(Exit::Ok);
            }
            let refused = "reload refused: the configuration stays as it was".to_owned();
            Err(Failure {
                exit: Exit::Configuration,
                lines: problems.into_iter().chain([refused]).collect(),
            })
        }
        Err(_) => Err(nothing(candidates, "not running")),
    }
}

/// Nothing runs in any of these places.
fn nothing(candidates: &Candidates, text: &str) -> Failure {
    Failure { exit: Exit::NotRunning, lines: vec![text.to_owned(), looked(candidates)] }
}

/// Where a server was looked for, and what to do if it is elsewhere.
pub(crate) fn looked(candidates: &Candidates) -> String {
    let dirs = candidates.looked().join(", ");
    format!(
        "looked for a server in {dirs}; --state-dir names another place, --env-file a file that does"
    )
}

/// What was wrong with the first reload after the `before`th; `None` if the server does not say.
fn wait_reloaded(dir: &Path, before: u64) -> Option<Vec<String>> {
    let deadline = Instant::now() + RELOAD_TIMEOUT;
    while Instant::now() < deadline {
        match pid::reloads(dir) {
            Some((count, problems)) if count > before => return Some(problems),
            Some(_) | None => std::thread::sleep(POLL),
        }
    }
    None
}

fn loaded(args: &FindArgs) -> Result<Loaded, Failure> {
    settings::load(&args.request())
}

/// Only the state directory matters here: whatever else is wrong must not keep a server from being stopped.
pub(crate) fn candidates(loaded: &Loaded) -> Result<Candidates, Failure> {
    loaded.demand_sound(&["MAHAVISHNU_STATE_DIR"])?;
    Ok(Candidates::new(loaded.settings.state_dir.as_deref()))
}

/// Directory and process of the running server, or what there is instead.
fn running(candidates: &Candidates) -> Result<Result<(PathBuf, Identity), Found>, Failure> {
    let deadline = Instant::now() + START_GRACE;
    loop {
        match pid::find(candidates)? {
            Found::Running { dir, server: Some(server), .. } => return Ok(Ok((dir, server))),
            Found::Running { dir, server: None, .. } if Instant::now() > deadline => {
                let text = format!(
                    "a server runs, but {} does not say which process it is; nothing was sent",
                    dir.display()
                );
                return Err(Failure::new(Exit::StalePid, text));
            }
            // Between locking and writing: a moment later it is there.
            Found::Running { server: None, .. } => std::thread::sleep(POLL),
            other @ (Found::Stale { .. } | Found::Nothing) => return Ok(Err(other)),
        }
    }
}

/// Nothing to stop. That is no failure for a service manager, which runs `ExecStop` also after the server has ended by
/// itself (systemd tells by `SERVICE_RESULT`).
fn not_running(found: Found, candidates: &Candidates) -> Result<Exit, Failure> {
    let text = match &found {
        Found::Stale { dir, .. } => {
            pid::clean(dir);
            "not running (removed a stale PID file)"
        }
        Found::Running { .. } | Found::Nothing => "not running",
    };
    if std::env::var_os("SERVICE_RESULT").is_some() {
        out::line(text)?;
        return Ok(Exit::Ok);
    }
    match found {
        Found::Stale { .. } => Err(Failure::new(Exit::NotRunning, text)),
        Found::Running { .. } | Found::Nothing => Err(nothing(candidates, text)),
    }
}

/// Whether `server` has given up its directory within `timeout`.
fn wait_gone(
    candidates: &Candidates,
    server: &Identity,
    timeout: Duration,
) -> Result<bool, Failure> {
    let deadline = Instant::now() + timeout;
    loop {
        match pid::find(candidates)? {
            // Another one: a service manager has started it already.
            Found::Running { server: Some(other), .. } if other != *server => return Ok(true),
            Found::Running { .. } => {}
            Found::Stale { .. } | Found::Nothing => return Ok(true),
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
}

/// Where a server with these settings would answer on this machine.
fn configured_url(loaded: &Loaded) -> String {
    let settings = &loaded.settings;
    let host = settings::reachable(&settings.host);
    let tls = settings.tls_enabled && settings.tls_plain == PlainOnTls::Nothing;
    Target { host, port: settings.port, tls, path: String::new() }.http("")
}

/// The numbers of a health answer, if it has them.
fn summary(body: &Value) -> String {
    let number = |name| body.pointer(&format!("/metrics/{name}")).and_then(Value::as_u64);
    let mut text = String::new();
    if let Some(count) = number("active_connections") {
        text.push_str(&format!(", {count} connection{}", if count == 1 { "" } else { "s" }));
    }
    if let Some(seconds) = number("uptime_seconds") {
        text.push_str(&format!(", up {}", out::span(seconds)));
    }
    text
}

const POLL: Duration = Duration::from_millis(20);
const START_GRACE: Duration = Duration::from_secs(1);
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than a server waits for its files.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_takes_what_the_answer_has() {
        let body = json!({ "metrics": { "active_connections": 1, "uptime_seconds": 7260 } });
        assert_eq!(summary(&body), ", 1 connection, up 2 h 1 min");
        assert_eq!(summary(&json!({})), "");
    }
}
