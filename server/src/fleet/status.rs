//! `mahavishnu fleet status`: each service's health, readiness and connections.

use std::path::Path;

use serde_json::{Value, json};

use super::{Chosen, candidates};
use crate::{
    cli::StatusArgs,
    control,
    exit::{Exit, Failure},
    health, out,
    pid::{self, Candidates, Found},
    settings::Loaded,
    theirs,
};

/// What one service says.
struct Row {
    name: String,
    url: Option<String>,
    health: Result<Value, String>,
    /// The status code of `/ready`.
    ready: Option<u16>,
}

/// Prints a line for each service. Exit code 4 if one of them is not healthy.
pub(crate) fn status(args: &StatusArgs) -> Result<Exit, Failure> {
    let candidates = candidates(&args.find)?;
    let (dir, server) = match pid::find(&candidates)? {
        Found::Running { dir, server: Some(server), .. } => (dir, server),
        Found::Running { dir, server: None, .. } => {
            let text =
                format!("a fleet runs, but {} does not say which process it is", dir.display());
            return Err(Failure::new(Exit::StalePid, text));
        }
        Found::Stale { dir, .. } => {
            pid::clean(&dir);
            return gone(args, &candidates, Exit::StalePid);
        }
        Found::Nothing => return gone(args, &candidates, Exit::NotRunning),
    };
    let dir = std::path::absolute(&dir).unwrap_or(dir);
    let services = theirs::fleet_of(&server).map_err(|why| {
        let text =
            format!("pid {} is a fleet, but which services it has is not known: {why}", server.pid);
        Failure::new(Exit::General, text)
    })?;
    let rows: Vec<_> = services.iter().map(|(chosen, loaded)| ask(&dir, chosen, loaded)).collect();
    let exit = match rows.iter().all(|row| row.health.is_ok()) {
        true => Exit::Ok,
        false => Exit::Unhealthy,
    };
    match args.json {
        true => out::line(json!({
            "status": if exit == Exit::Ok { "running" } else { "unhealthy" },
            "pid": server.pid,
            "state_dir": dir.display().to_string(),
            "services": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        }))?,
        false => {
            for line in table(&rows) {
                out::line(line)?;
            }
        }
    }
    Ok(exit)
}

fn gone(args: &StatusArgs, candidates: &Candidates, exit: Exit) -> Result<Exit, Failure> {
    if args.json {
        let status = if exit == Exit::StalePid { "stale" } else { "stopped" };
        out::line(json!({ "status": status, "looked_in": candidates.looked() }))?;
    } else {
        out::line("not running")?;
        out::note(control::looked(candidates));
    }
    Ok(exit)
}

fn ask(dir: &Path, chosen: &Chosen, loaded: &Loaded) -> Row {
    let dir = dir.join(&chosen.name);
    let url = match pid::find(&Candidates::new(Some(&dir))) {
        Ok(Found::Running { url, .. }) => url,
        Ok(Found::Stale { .. } | Found::Nothing) | Err(_) => None,
    };
    let (health, ready) = match &url {
        Some(url) => {
            let health = health::ask(url, &loaded.settings, &dir);
            (health, health::ready(url, &loaded.settings, &dir))
        }
        None => (Err("it does not listen yet".to_owned()), None),
    };
    Row { name: chosen.name.clone(), url, health, ready }
}

impl Row {
    fn number(&self, name: &str) -> Option<u64> {
        self.health.as_ref().ok()?.pointer(&format!("/metrics/{name}"))?.as_u64()
    }

    fn to_json(&self) -> Value {
        json!({
            "service": self.name,
            "url": self.url,
            "healthy": self.health.is_ok(),
            "ready": self.ready == Some(200),
            "connections": self.number("active_connections"),
            "uptime_seconds": self.number("uptime_seconds"),
            "error": self.health.as_ref().err(),
        })
    }

    fn cells(&self) -> [String; 6] {
        let health = match &self.health {
            Ok(_) => "healthy".to_owned(),
            Err(why) => format!("unhealthy: {why}"),
        };
        let ready = match self.ready {
            Some(200) => "yes".to_owned(),
            Some(status) => format!("no ({status})"),
            None => "no".to_owned(),
        };
        let number = |name| self.number(name);
        [
            self.name.clone(),
            self.url.clone().unwrap_or_else(|| "-".to_owned()),
            ready,
            number("active_connections").map_or_else(|| "-".to_owned(), |count| count.to_string()),
            number("uptime_seconds").map_or_else(|| "-".to_owned(), out::span),
            health,
        ]
    }
}

/// Columns as wide as what is in them.
fn table(rows: &[Row]) -> Vec<String> {
    let heads = ["SERVICE", "URL", "READY", "CONNECTIONS", "UP", "HEALTH"].map(str::to_owned);
    out::columns(std::iter::once(heads).chain(rows.iter().map(Row::cells)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_service() {
        let body = json!({ "metrics": { "active_connections": 3, "uptime_seconds": 61 } });
        let rows = [
            Row {
                name: "akosha".into(),
                url: Some("http://h:1".into()),
                health: Ok(body),
                ready: Some(200),
            },
            Row {
                name: "mahavishnu".into(),
                url: None,
                health: Err("HTTP 503".into()),
                ready: None,
            },
        ];
        let expected = [
            "SERVICE     URL         READY  CONNECTIONS  UP         HEALTH",
            "akosha      http://h:1  yes    3            1 min 1 s  healthy",
            "mahavishnu  -           no     -            -          unhealthy: HTTP 503",
        ];
        assert_eq!(table(&rows), expected);
        assert_eq!(rows[0].to_json()["connections"], 3);
        assert_eq!(rows[1].to_json()["error"], "HTTP 503");
    }
}
