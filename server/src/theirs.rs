//! The settings of the server that runs, as it reads them: by its flags, its environment, its working directory and its
//! files, all of which the kernel knows. Those of the shell that asks may be others, or none.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use crate::{
    cli::{Command, FleetCommand, WebsocketCommand},
    examples,
    fleet::{self, Chosen},
    process::Identity,
    settings::{self, Loaded, Request},
};

/// Reads them.
///
/// # Errors
///
/// Why that cannot be done, in words: the process is another user's, or is not what it is taken for.
pub(crate) fn settings_of(server: &Identity) -> Result<Loaded, String> {
    let Seen { line, environment, cwd } = look(server)?;
    let request = request(&line, &cwd).ok_or(NOT_OURS)?;
    load(&request, &environment, &cwd)
}

/// Reads those of a fleet: its services, each with its settings.
///
/// # Errors
///
/// As [`settings_of`].
pub(crate) fn fleet_of(server: &Identity) -> Result<Vec<(Chosen, Loaded)>, String> {
    let Seen { line, environment, cwd } = look(server)?;
    let Command::Fleet(FleetCommand::Start(args)) = command(&line).ok_or(NOT_OURS)? else {
        return Err("it runs one server and no fleet".to_owned());
    };
    let chosen = fleet::chosen(&args).map_err(|failure| failure.lines.join("; "))?;
    let read = |mut chosen: Chosen| {
        chosen.request.env_file = chosen.request.env_file.map(|file| cwd.join(file));
        let loaded = load(&chosen.request, &environment, &cwd)?;
        Ok((chosen, loaded))
    };
    chosen.into_iter().map(read).collect()
}

fn load(request: &Request, environment: &[u8], cwd: &Path) -> Result<Loaded, String> {
    settings::load_of(request, variables(environment), cwd)
        .map_err(|failure| failure.lines.join("; "))
}

/// What the kernel says of a process. This one stands where that one does from then on.
struct Seen {
    line: Vec<u8>,
    environment: Vec<u8>,
    cwd: PathBuf,
}

fn look(server: &Identity) -> Result<Seen, String> {
    let sure = || match server.open() {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err("it has just ended".to_owned()),
        Err(failure) => Err(failure.to_string().replace("; nothing was sent", "")),
    };
    sure()?;
    let proc = PathBuf::from(format!("/proc/{}", server.pid));
    let refused = |what: &str, error: &std::io::Error| {
        format!("its {what} cannot be read: {}", crate::exit::plain(error))
    };
    let root = fs::read_link(proc.join("root")).map_err(|error| refused("root", &error))?;
    if root != Path::new("/") {
        return Err("it has another root directory, and so other files".to_owned());
    }
    let cwd = fs::read_link(proc.join("cwd")).map_err(|error| refused("directory", &error))?;
    let read = |name: &str| fs::read(proc.join(name)).map_err(|error| refused(name, &error));
    let (line, environment) = (read("cmdline")?, read("environ")?);
    // What was read is the server's only if it is still the one.
    sure()?;
    if command(&line).is_none() {
        return Err(NOT_OURS.to_owned());
    }
    // Files are named from where it is.
    std::env::set_current_dir(&cwd).map_err(|error| refused("directory", &error))?;
    Ok(Seen { line, environment, cwd })
}

const NOT_OURS: &str = "its command line is none of this program's";

/// What it was called with.
fn command(line: &[u8]) -> Option<Command> {
    let words = line.strip_suffix(b"\0").unwrap_or(line).split(|byte| *byte == 0);
    let words = words.map(|word| OsString::from_vec(word.to_vec()));
    let command = examples::read(words).ok()?.command;
    let runs = matches!(
        command,
        Command::Websocket(WebsocketCommand::Start(_)) | Command::Fleet(FleetCommand::Start(_))
    );
    runs.then_some(command)
}

/// What it was told by its flags.
fn request(line: &[u8], cwd: &Path) -> Option<Request> {
    let Command::Websocket(WebsocketCommand::Start(args)) = command(line)? else { return None };
    let mut request = args.request();
    request.env_file = request.env_file.map(|file| cwd.join(file));
    Some(request)
}

/// Pairs as the kernel keeps them.
fn variables(environment: &[u8]) -> impl Iterator<Item = (String, OsString)> + '_ {
    environment.split(|byte| *byte == 0).filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at(at);
        let name = std::str::from_utf8(name).ok()?.to_owned();
        Some((name, OsString::from_vec(value.get(1..)?.to_vec())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_variables_are_those_of_the_process() {
        let line = b"/opt/m/mahavishnu\0websocket\0start\0--env-file\0x.env\0--port\x007\0";
        let request = request(line, Path::new("/srv")).unwrap();
        assert_eq!(request.env_file.as_deref(), Some(Path::new("/srv/x.env")));
        assert_eq!(request.overrides, [("MAHAVISHNU_PORT", "--port", "7".to_owned())]);
        for other in [&b"sleep\x00600\0"[..], b"mahavishnu\0subscribe\0c\0", b""] {
            assert!(super::request(other, Path::new("/")).is_none());
        }
        let read: Vec<_> = variables(b"A=1\0B=x=y\0broken\0C=\0").collect();
        let pair = |name: &str, value: &str| (name.to_owned(), OsString::from(value));
        assert_eq!(read, [pair("A", "1"), pair("B", "x=y"), pair("C", "")]);
    }

    #[test]
    fn another_program_is_not_taken_for_a_server() {
        let why = settings_of(&Identity::own()).unwrap_err();
        assert!(why.contains("command line"), "{why}");
    }
}
