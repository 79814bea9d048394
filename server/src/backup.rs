//! `mahavishnu config backup`: a copy of the environment file under the name by which going back looks for it.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::{Timestamp, tz::TimeZone};

use crate::{
    cli::BackupArgs,
    exit::{Exit, Failure},
    handed, out, settings,
};

/// Copies the file, and says how to go back.
///
/// Going back is `cp`, and no subcommand: it writes into the file that is there, which so keeps its owner and mode, and
/// who reads it meanwhile is not given half of it.
pub(crate) fn backup(args: &BackupArgs) -> Result<Exit, Failure> {
    let path = args.env_file.clone().unwrap_or_else(|| settings::DOT_ENV.into());
    let kept = keep(&path)?;
    out::line(format_args!("kept {} as {}", path.display(), kept.display()))?;
    Ok(Exit::Ok)
}

/// Copies `file` to `config.TIME.NAME` beside it, for its owner alone to read. Returns the path of the copy.
pub(crate) fn keep(file: &Path) -> Result<PathBuf, Failure> {
    let bytes = handed::bytes(file).map_err(|refused| Failure::new(refused.exit, refused.text))?;
    let time = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.trim_start_matches('.');
    for place in 1..=SAME_SECOND_MAX {
        let again = if place == 1 { String::new() } else { format!("-{place}") };
        let path = file.with_file_name(format!("config.{time}{again}.{name}"));
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            opened => opened.and_then(|mut copy| {
                copy.write_all(&bytes)
                    .and_then(|()| copy.sync_all())
                    .inspect_err(|_| drop(fs::remove_file(&path)))
            }),
        };
        return written.map(|()| path.clone()).map_err(|e| Failure::io(path.display(), &e));
    }
    let text = format!("{}: {SAME_SECOND_MAX} copies were made this second", file.display());
    Err(Failure::new(Exit::General, text))
}

/// More copies of one file and second are somebody's loop.
const SAME_SECOND_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn copies_have_names_of_their_own_and_no_other_readers() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env");
        fs::write(&file, "MAHAVISHNU_PORT=1\n").unwrap();
        let copies = [keep(&file).unwrap(), keep(&file).unwrap(), keep(&file).unwrap()];
        for copy in &copies {
            let name = copy.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with("config.20") && name.ends_with(".env"), "{name}");
            assert_eq!(fs::read_to_string(copy).unwrap(), "MAHAVISHNU_PORT=1\n");
            assert_eq!(fs::metadata(copy).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(copies[0] != copies[1] && copies[1] != copies[2], "{copies:?}");
        assert!(keep(&dir.path().join("none")).is_err());
    }
}
