//! What operators install, read by the programs that it is for: units, users and directories, images and manifests.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use mahavishnu_tests::{binary, foreign};

fn deploy(path: &str) -> PathBuf {
    binary::workspace().join("deploy").join(path)
}

/// The shipped units in a directory, with a program that is there.
fn units(dir: &Path) -> Vec<PathBuf> {
    let shipped = std::fs::read_dir(deploy("systemd")).unwrap().flatten();
    let units = shipped.map(|entry| entry.path()).filter(|path| {
        path.extension().is_some_and(|ending| ending == "service" || ending == "socket")
    });
    let copy = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let copy = dir.join(path.file_name().unwrap());
        std::fs::write(&copy, text.replace(PROGRAM, "/bin/true")).unwrap();
        copy
    };
    units.map(copy).collect()
}

const PROGRAM: &str = "/opt/mahavishnu/bin/mahavishnu";

fn analyze(args: &[&str]) -> String {
    let said = Command::new("systemd-analyze").args(args).output().unwrap_or_else(|error| {
        panic!("systemd-analyze: {error}; scripts/setup-tests installs it")
    });
    let text = [said.stdout, said.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(said.status.success(), "systemd-analyze {args:?}: {text}");
    text
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let dir = tempfile::tempdir().unwrap();
    let units = units(dir.path());
    assert_eq!(units.len(), 5);
    for unit in &units {
        let text = analyze(&["verify", "--man=no", unit.to_str().unwrap()]);
        assert!(!text.contains("mahavishnu"), "{text}");
    }
}

#[test]
fn systemd_finds_the_units_well_confined() {
    let dir = tempfile::tempdir().unwrap();
    for unit in units(dir.path()).iter().filter(|unit| unit.extension().unwrap() == "service") {
        // In tenths: 4.3 is promised, and less is kept.
        analyze(&["security", "--offline=true", "--threshold=16", unit.to_str().unwrap()]);
    }
}

/// Settings that say the same in both: nobody wants one of several servers to be less confined than a single one.
#[test]
fn the_template_differs_from_the_unit_in_its_names_alone() {
    let read = |name: &str| {
        let text = std::fs::read_to_string(deploy("systemd").join(name)).unwrap();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let single = read("mahavishnu-websocket.service");
    let template = read("mahavishnu-websocket@.service");
    let named = template
        .replace("/etc/mahavishnu/%i.env", "/etc/mahavishnu/production.env")
        .replace("Directory=mahavishnu-%i", "Directory=mahavishnu")
        .replace("server %i\n", "server\n");
    assert_eq!(named, single);
    assert_ne!(template, single);
    let fleet = read("mahavishnu-fleet.service")
        .replace("fleet.env", "production.env")
        .replace("mahavishnu fleet ", "mahavishnu websocket ")
        .replace("Directory=mahavishnu-fleet", "Directory=mahavishnu")
        .replace("Mahavishnu fleet: all services in one process", "Mahavishnu WebSocket server");
    assert_eq!(fleet, single);
}

#[test]
fn users_and_directories_are_made_as_the_units_want_them() {
    let root = tempfile::tempdir().unwrap();
    let into = format!("--root={}", root.path().display());
    let etc = root.path().join("etc/mahavishnu");
    std::fs::create_dir_all(root.path().join("etc")).unwrap();
    let sysusers = deploy("systemd/mahavishnu.sysusers");
    foreign::text(Command::new("systemd-sysusers").arg(&into).arg(sysusers));
    let passwd = std::fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let entry = passwd.lines().find(|line| line.starts_with("mahavishnu:")).unwrap();
    assert!(entry.ends_with("/nologin"), "{entry}");
    let tmpfiles = deploy("systemd/mahavishnu.tmpfiles");
    let mut create = Command::new("systemd-tmpfiles");
    let made = create.arg("--create").arg(&into).arg(tmpfiles).output().unwrap();
    // Only root may give it away.
    if rustix::process::geteuid().is_root() {
        assert!(made.status.success(), "{made:?}");
        let group = entry.split(':').nth(3).unwrap();
        let said = foreign::text(Command::new("stat").args(["-c", "%a %u %g"]).arg(&etc));
        assert_eq!(said.trim(), format!("750 0 {group}"));
    }
}

#[test]
fn hadolint_finds_nothing_wrong_with_the_dockerfile() {
    foreign::tool("hadolint", &[deploy("docker/Dockerfile").to_str().unwrap()]);
}

#[test]
fn the_compose_file_is_one() {
    let file = deploy("docker/compose.yaml");
    let said = foreign::python("compose.py", &[file.to_str().unwrap()]);
    assert_eq!(said, "grafana mahavishnu prometheus redis\n");
}

#[test]
fn kubernetes_schemas_fit_the_manifests() {
    for name in ["deployment", "service", "poddisruptionbudget"] {
        let file = deploy("kubernetes").join(format!("{name}.yaml"));
        foreign::tool("kubernetes-validate", &["--strict", "--quiet", file.to_str().unwrap()]);
    }
    // What selects pods finds them, and ports go by the names that they have.
    let said = foreign::python("kubernetes.py", &[deploy("kubernetes").to_str().unwrap()]);
    assert_eq!(said, "ok\n");
}

#[test]
fn the_stages_of_the_dockerfile_make_an_image_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let script = binary::workspace().join("scripts/build-image");
    let mut build = Command::new("python3");
    build.arg(script).arg(dir.path().join("root")).arg("--binary").arg(binary::path());
    // To change the root and the user is root's.
    let root = rustix::process::geteuid().is_root();
    if root {
        build.arg("--run");
    }
    let said = foreign::text(&mut build);
    assert!(!root || said.contains("as user 65532: running"), "{said}");
    assert!(!root || said.contains("it has stopped in order"), "{said}");
    let files = foreign::text(Command::new("find").arg(dir.path()).args(["-name", "*sh"]));
    assert_eq!(files, "", "there is a shell");
}
