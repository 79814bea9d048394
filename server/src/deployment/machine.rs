//! The machine of the server: its process, its settings, and how many files it may open.

use std::fs;

use super::{
    report::Check,
    site::{Inside, Running, Site},
};
use crate::{exit::Failure, memory::Capacity, redis, settings::Difference, tls};

/// Process, settings, settings in force, open files.
pub(super) fn checks(site: &Site) -> Vec<Check> {
    let Some(inside) = &site.inside else {
        return vec![Check::skipped(SERVER, Site::outside())];
    };
    vec![server(inside), settings(inside), in_force(inside), descriptors(inside)]
}

fn server(inside: &Inside) -> Check {
    let Some(running) = &inside.server else {
        let remedy = "`mahavishnu websocket start`; if it runs, name its directory by --state-dir";
        return Check::fail(
            SERVER,
            "no server runs on this machine where it was looked for",
            remedy,
        );
    };
    let Running { dir, identity, record } = running;
    let who = format!("pid {}, state directory {}", identity.pid, dir.display());
    match record {
        Ok(record) if record.version != VERSION => {
            let found =
                format!("{who}: runs version {}, and this program is {VERSION}", record.version);
            Check::warn(SERVER, found, "restart it to run what is installed")
        }
        Ok(_) => Check::ok(SERVER, format!("{who}, version {VERSION}")),
        Err(_) => Check::ok(SERVER, who),
    }
}

/// All that would be wrong at the next start.
fn settings(inside: &Inside) -> Check {
    let loaded = &inside.loaded;
    let record = inside.server.as_ref().and_then(|server| server.record.as_ref().ok());
    if loaded.demand_all().is_err() && record.is_some_and(|record| record.in_force.is_blind()) {
        let why = "secrets are in the server's environment alone: `mahavishnu config check` there";
        return Check::skipped(SETTINGS, why);
    }
    let mut warnings = loaded.warnings.clone();
    let files = || -> Result<Vec<String>, Failure> {
        loaded.demand_all()?;
        redis::link_config(loaded)?;
        Ok(tls::load(&loaded.settings, None)?.warnings)
    };
    match files() {
        Ok(more) => warnings.extend(more),
        Err(failure) => {
            return Check::failure(SETTINGS, &failure, "`mahavishnu config check` says the same");
        }
    }
    if warnings.is_empty() {
        return Check::ok(SETTINGS, "a server would start with them");
    }
    Check::warn(SETTINGS, warnings.join("\n"), "`mahavishnu config check` says the same")
}

/// Whether the running server has read what the file says.
fn in_force(inside: &Inside) -> Check {
    let Some(running) = &inside.server else {
        return Check::skipped(IN_FORCE, "no server runs here");
    };
    let record = match &running.record {
        Ok(record) => record,
        Err(failure) => return Check::skipped(IN_FORCE, failure.to_string()),
    };
    let file = inside.request.env_file.as_deref();
    match record.in_force.differences(file) {
        Ok((found, _)) if found.is_empty() => {
            Check::ok(IN_FORCE, "the server runs with what its file says")
        }
        Ok((found, _)) => {
            let names: Vec<_> = found.iter().map(|Difference { name, .. }| *name).collect();
            let found = format!("the file says something else by now: {}", names.join(", "));
            Check::warn(IN_FORCE, found, "`mahavishnu config diff` shows it; reload, or restart")
        }
        Err(failure) => Check::failure(IN_FORCE, &failure, "a reload would be refused"),
    }
}

/// What the running process may open, against what its settings need.
fn descriptors(inside: &Inside) -> Check {
    let Some(running) = &inside.server else {
        return Check::skipped(DESCRIPTORS, "no server runs here");
    };
    let limits = fs::read_to_string(format!("/proc/{}/limits", running.identity.pid));
    let Some(limit) = limits.ok().as_deref().and_then(open_files) else {
        return Check::skipped(DESCRIPTORS, "the system does not say how many files it may open");
    };
    let settings = &inside.loaded.settings;
    let fit = Capacity::connections_within(limit, settings);
    let wanted = settings.max_connections;
    if fit < wanted {
        let found = format!(
            "{limit} open files are enough for {fit} connections, and MAHAVISHNU_MAX_CONNECTIONS is {wanted}"
        );
        let remedy = "LimitNOFILE in the unit, `ulimit -n` before a start by hand";
        return Check::warn(DESCRIPTORS, found, remedy);
    }
    Check::ok(DESCRIPTORS, format!("{limit} open files, enough for {wanted} connections"))
}

/// The limit in force, from proc_pid_limits(5). Unlimited is as much as a number can say.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

const SERVER: &str = "server";
const SETTINGS: &str = "settings";
const IN_FORCE: &str = "in-force";
const DESCRIPTORS: &str = "descriptors";
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "Limit                     Soft Limit           Hard Limit           Units\nMax processes             1                    2                    processes\nMax open files            1024                 4096                 files\n";
        assert_eq!(open_files(table), Some(1024));
        assert_eq!(open_files("Max open files  unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(open_files("Max cpu time 1 2 seconds"), None);
    }
}
