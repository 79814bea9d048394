//! `mahavishnu config diff`: what the running server runs with, against what its file says by now, or another one would.

use serde_json::json;

use crate::{
    cli::DiffArgs,
    exit::{Exit, Failure},
    out,
    pid::{self, Candidates, Found},
    running,
    settings::{self, Difference, Effect},
};

/// Prints a line for each setting that differs. Exit code 12 if there is one.
pub(crate) fn diff(args: &DiffArgs) -> Result<Exit, Failure> {
    let loaded = settings::load(&args.find.request())?;
    loaded.demand_sound(&["MAHAVISHNU_STATE_DIR"])?;
    let candidates = Candidates::new(loaded.settings.state_dir.as_deref());
    let Found::Running { dir, server: Some(server), .. } = pid::find(&candidates)? else {
        return Err(Failure::new(Exit::NotRunning, "not running"));
    };
    let record = running::read(&dir, server.pid)?;
    let file = args.find.env_file();
    let (found, problems) = record.in_force.differences(file)?;
    let path = file.unwrap_or(&record.in_force.env_file).display();
    if args.json {
        let list: Vec<_> = found.iter().map(to_json).collect();
        out::line(json!({
            "pid": server.pid, "version": record.version, "since": record.since,
            "state_dir": dir.display().to_string(), "file": path.to_string(),
            "differences": list, "problems": problems,
        }))?;
    } else {
        let since = &record.since;
        out::line(format_args!(
            "pid {}, settings in force since {since}, against {path}:",
            server.pid
        ))?;
        for one in &found {
            out::line(to_text(one))?;
        }
        if found.is_empty() {
            out::line("no difference")?;
        }
    }
    if !problems.is_empty() {
        return Err(Failure { exit: Exit::Configuration, lines: problems });
    }
    Ok(if found.is_empty() { Exit::Ok } else { Exit::Differs })
}

fn to_text(one: &Difference) -> String {
    let Difference { name, running, file, effect } = one;
    let when = match effect {
        Effect::Reload => "with a reload".to_owned(),
        Effect::Restart => "with a restart".to_owned(),
        Effect::Held(by) => format!("not at all: the server was given the other by {by}"),
    };
    format!("{name}: {running} -> {file}  ({when})")
}

fn to_json(one: &Difference) -> serde_json::Value {
    let Difference { name, running, file, effect } = one;
    let (effect, by) = match effect {
        Effect::Reload => ("reload", None),
        Effect::Restart => ("restart", None),
        Effect::Held(by) => ("held", Some(by)),
    };
    json!({ "name": name, "running": running, "file": file, "effect": effect, "held_by": by })
}
