//! `mahavishnu init`: an environment file to begin with, and in it a secret that nobody else has.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

use zeroize::Zeroizing;

use crate::{
    backup,
    cli::InitArgs,
    exit::{Exit, Failure},
    out, settings,
};

/// Writes the file and says what to do with it.
pub(crate) fn init(args: &InitArgs) -> Result<Exit, Failure> {
    let path = &args.path;
    let text = settings::template(&secret()?);
    let there = path.symlink_metadata().is_ok();
    if there && !args.force {
        return Err(in_the_way(path));
    }
    if there {
        let kept = backup::keep(path)?;
        replace(path, &text)?;
        out::line(format_args!("kept what was there as {}", kept.display()))?;
    } else {
        create(path, &text)?;
    }
    let program = std::env::args().next().unwrap_or_else(|| "mahavishnu".into());
    let root = rustix::process::geteuid().is_root();
    out::line(steps(&program, path, root && !there).trim_end())?;
    Ok(Exit::Ok)
}

/// 256 bits from the system, as long as a key for HS256 has to be, in letters that no reader of such files gives a meaning.
fn secret() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| Failure::new(Exit::General, format!("no random numbers: {error}")))?;
    // With room for all of it nothing is moved, so no copy stays behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes.iter() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// A file that was not there.
fn create(path: &Path, text: &str) -> Result<(), Failure> {
    let file = private().open(path).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            in_the_way(path)
        } else if error.kind() == io::ErrorKind::NotFound {
            let text = format!("{}: there is no such directory; make it first", path.display());
            Failure::new(Exit::General, text)
        } else {
            Failure::io(path.display(), &error)
        }
    })?;
    fill(file, path, text)
}

/// A file in the place of another one, at once, and for the same users to read. What a symbolic link leads to is replaced.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let failure = |error: io::Error| Failure::io(path.display(), &error);
    let path = &fs::canonicalize(path).map_err(failure)?;
    let before = fs::metadata(path).map_err(failure)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let draft = path.with_file_name(name);
    // Of an attempt that was broken off.
    let _ = fs::remove_file(&draft);
    let file = private().open(&draft).map_err(|error| Failure::io(draft.display(), &error))?;
    let handed_on = fchown(&file, Some(before.uid()), Some(before.gid()))
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o660)));
    let done = handed_on
        .map_err(failure)
        .and_then(|()| fill(file, &draft, text))
        .and_then(|()| fs::rename(&draft, path).map_err(failure));
    if done.is_err() {
        let _ = fs::remove_file(&draft);
    }
    done
}

/// Nobody else can read it from its first moment on.
fn private() -> OpenOptions {
    OpenOptions::new().write(true).create_new(true).mode(0o600).clone()
}

/// Writes all of it, or leaves nothing.
fn fill(mut file: File, path: &Path, text: &str) -> Result<(), Failure> {
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
        let _ = fs::remove_file(path);
        Failure::io(path.display(), &error)
    })
}

fn in_the_way(path: &Path) -> Failure {
    let text = format!(
        "{}: is there already; give another path, or --force for a new one, with a new secret, and a copy of this one beside it",
        path.display()
    );
    Failure::new(Exit::General, text)
}

/// What to do next. `shared`: a server of another user may have to read the file.
fn steps(program: &str, path: &Path, shared: bool) -> String {
    let shown = path.display();
    // Found without being named, by whoever is started where it lies.
    let found = path == Path::new(settings::DOT_ENV);
    let (flag, place) = match found {
        true => (String::new(), ", in this directory"),
        false => (format!(" --env-file {}", quoted(path)), ""),
    };
    let mut text = format!(
        "wrote {shown} with a new secret; only its owner can read it, and no repository should have it\n\n\
         Next{place}:\n\n  {program} config check{flag}\n  {program} websocket start{flag}\n\n\
         In another terminal{place}:\n\n  \
         export MAHAVISHNU_TOKEN=$({program} token create{flag} --user me --permission admin)\n  \
         {program} subscribe workflow:42\n"
    );
    if shared && !found {
        let path = quoted(path);
        let _ = write!(
            text,
            "\nFor a server that runs as the user mahavishnu:\n\n  chgrp mahavishnu {path} && chmod 640 {path}\n"
        );
    }
    text
}

/// As a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "_-./~".contains(c);
    match text.chars().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_secret_is_a_key_of_its_own() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert_ne!(*one, *other);
        assert_eq!(one.len(), 64);
        assert!(mahavishnu_core::auth::check_secret(one.as_bytes()).is_ok());
    }

    #[test]
    fn the_steps_name_the_file_where_it_is_not_found_by_itself() {
        let here = steps("m", Path::new(".env"), true);
        assert!(here.contains("\n  m websocket start\n"), "{here}");
        assert!(here.contains("In another terminal, in this directory:"), "{here}");
        assert!(!here.contains("chgrp"), "{here}");
        let there = steps("m", Path::new("/etc/a b/p.env"), true);
        assert!(there.contains("\n  m websocket start --env-file '/etc/a b/p.env'\n"), "{there}");
        assert!(there.contains("chmod 640 '/etc/a b/p.env'\n"), "{there}");
        assert!(!there.contains("this directory"), "{there}");
    }
}
