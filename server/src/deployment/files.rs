//! Files that the settings name: whether they are there, are for nobody else to read or to change, and can be read by the
//! server when it is told to reload.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    report::Check,
    site::{Inside, Site},
};
use crate::{exit::plain, settings};

/// One check of all files.
pub(super) fn checks(site: &Site) -> Vec<Check> {
    let Some(inside) = &site.inside else {
        return vec![Check::skipped(FILES, Site::outside())];
    };
    let files = files(inside);
    if files.is_empty() {
        return vec![Check::skipped(FILES, "the settings name no file, and come from none")];
    }
    let server = inside.server.as_ref().and_then(|server| Ids::of(server.identity.pid));
    let mut problems = Vec::new();
    let mut remedies = Vec::new();
    for file in &files {
        for (problem, remedy) in file.problems(server.as_ref()) {
            problems.push(problem);
            remedies.push(remedy);
        }
    }
    if problems.is_empty() {
        let count = files.len();
        let files = if count == 1 { "file" } else { "files" };
        let found = format!("{count} {files}: there, and nobody else's to read or to change");
        return vec![Check::ok(FILES, found)];
    }
    vec![Check::fail(FILES, problems.join("\n"), remedies.join(" && "))]
}

/// A file and what it is for.
struct File {
    /// The variable that names it.
    name: &'static str,
    path: PathBuf,
    /// What is in it is nobody else's to read.
    secret: bool,
}

impl File {
    /// Each with what mends it.
    fn problems(&self, server: Option<&Ids>) -> Vec<(String, String)> {
        let Self { name, path, secret } = self;
        let shown = path.display();
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) => {
                let remedy = format!("make {shown}, or correct {name}");
                return vec![(format!("{name}: {shown}: {}", plain(&error)), remedy)];
            }
        };
        let mode = meta.mode() & 0o777;
        let mut problems = Vec::new();
        let mut say = |what: &str, remedy: String| {
            problems.push((format!("{name}: {shown} (mode {mode:o}): {what}"), remedy));
        };
        if *secret && mode & 0o004 != 0 {
            say("every user of this machine can read it", format!("chmod o-rwx {shown}"));
        }
        if mode & 0o002 != 0 {
            say("every user of this machine can change it", format!("chmod o-w {shown}"));
        }
        if server.is_some_and(|server| !server.may_read(&meta)) {
            let remedy = format!("chgrp to the group of the server's user, and chmod g+r, {shown}");
            say("the running server's user cannot read it: it will refuse to reload", remedy);
        }
        problems
    }
}

/// All that are in use.
fn files(inside: &Inside) -> Vec<File> {
    let settings = &inside.loaded.settings;
    let mut files = Vec::new();
    let mut add = |name: &'static str, path: &Path, secret: bool| {
        files.push(File { name, path: path.to_owned(), secret });
    };
    let named = inside.request.env_file.clone();
    let found = || Some(PathBuf::from(settings::DOT_ENV)).filter(|path| path.is_file());
    if let Some(path) = named.or_else(found) {
        add("--env-file", &path, inside.loaded.has_secrets_from_file());
    }
    if settings.tls_enabled {
        let keys =
            if settings.key_file.is_empty() { &settings.cert_file } else { &settings.key_file };
        for key in keys {
            add("MAHAVISHNU_KEY_FILE", key, true);
        }
        for certificate in settings.cert_file.iter().filter(|path| !keys.contains(path)) {
            add("MAHAVISHNU_CERT_FILE", certificate, false);
        }
        if settings.verify_client {
            if let Some(path) = &settings.ca_file {
                add("MAHAVISHNU_CA_FILE", path, false);
            }
            for path in &settings.crl_file {
                add("MAHAVISHNU_CRL_FILE", path, false);
            }
        }
    }
    let rest = [
        ("MAHAVISHNU_JWT_KEYS_FILE", &settings.jwt_keys_file, true),
        ("MAHAVISHNU_REDIS_PASSWORD_FILE", &settings.redis_password_file, true),
        ("MAHAVISHNU_REDIS_SENTINEL_PASSWORD_FILE", &settings.redis_sentinel_password_file, true),
        ("MAHAVISHNU_REDIS_KEY_FILE", &settings.redis_key_file, true),
        ("MAHAVISHNU_POLICY_FILE", &settings.policy_file, false),
        ("MAHAVISHNU_REVOKED_FILE", &settings.revoked_file, false),
    ];
    for (name, path, secret) in rest {
        if let Some(path) = path {
            add(name, path, secret);
        }
    }
    files
}

/// Whom a process counts as when it opens a file.
struct Ids {
    user: u32,
    groups: Vec<u32>,
}

impl Ids {
    fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    /// From proc_pid_status(5): of real, effective, saved and filesystem the last, which counts.
    fn parse(status: &str) -> Option<Self> {
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let last = |name| line(name)?.split_whitespace().last()?.parse().ok();
        let mut groups: Vec<u32> =
            line("Groups:")?.split_whitespace().filter_map(|id| id.parse().ok()).collect();
        groups.push(last("Gid:")?);
        Some(Self { user: last("Uid:")?, groups })
    }

    /// By the mode alone: lists of access (ACL) may permit more.
    fn may_read(&self, file: &Metadata) -> bool {
        let mode = file.mode();
        if self.user == 0 {
            return true;
        }
        if self.user == file.uid() {
            return mode & 0o400 != 0;
        }
        if self.groups.contains(&file.gid()) {
            return mode & 0o040 != 0;
        }
        mode & 0o004 != 0
    }
}

const FILES: &str = "files";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_process_is_who_the_kernel_says() {
        let status = "Name:\tm\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n";
        let ids = Ids::parse(status).unwrap();
        assert_eq!((ids.user, ids.groups.as_slice()), (4, &[9, 10, 8][..]));
        assert!(Ids::of(i32::try_from(std::process::id()).unwrap()).is_some());
        assert!(Ids::parse("Uid: x").is_none());
    }

    #[test]
    fn modes_decide_who_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        let meta = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            fs::metadata(&path).unwrap()
        };
        let (owner, group) = (meta(0o600).uid(), meta(0o600).gid());
        let (stranger, other) = (owner + 1, group + 1);
        for (mode, user, of, may) in [
            (0o600, stranger, other, false),
            (0o600, stranger, group, false),
            (0o640, stranger, group, true),
            (0o640, stranger, other, false),
            (0o644, stranger, other, true),
            (0o604, stranger, group, false),
        ] {
            let ids = Ids { user, groups: vec![of] };
            assert_eq!(ids.may_read(&meta(mode)), may, "{mode:o}");
        }
        assert!(Ids { user: 0, groups: Vec::new() }.may_read(&meta(0o000)));
    }
}
