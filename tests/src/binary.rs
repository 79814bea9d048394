//! The binary under test, built once per test run.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Path of the `mahavishnu` binary: `MAHAVISHNU_BIN` if set, else the workspace's, brought up to date first.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("MAHAVISHNU_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "MAHAVISHNU_BIN={} is not there", path.display());
            path
        }
        None => build(),
    })
}

/// Root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

/// Builds the binary with the profile and into the directory of this test. Cargo builds a package's binaries for that
/// package's own tests only, so without this a stale one, or none, would be tested.
fn build() -> PathBuf {
    let exe = std::env::current_exe().expect("a test has a path");
    // <target>/<profile>/deps/<test>
    let profile_dir = exe.parent().and_then(Path::parent).expect("a test lies in deps");
    let target_dir = profile_dir.parent().expect("a profile lies in the target directory");
    let binary = profile_dir.join("mahavishnu");
    let Some(_turn) = Turn::take(profile_dir) else { return binary };
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--quiet",
            "--package",
            "mahavishnu",
            "--bin",
            "mahavishnu",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(workspace())
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "the server could not be built; its errors are above");
    binary
}

/// One build per run: nextest has a process per test, and they all come here at once.
struct Turn {
    done: Option<PathBuf>,
    _lock: std::fs::File,
}

impl Turn {
    /// `None`: another process of this run has built already.
    fn take(profile_dir: &Path) -> Option<Self> {
        let lock = std::fs::File::create(profile_dir.join("e2e-build.lock"))
            .expect("the target directory is ours");
        lock.lock().expect("a file of ours can be locked");
        let done = std::env::var("NEXTEST_RUN_ID")
            .ok()
            .map(|run| profile_dir.join(format!("e2e-build-{run}")));
        match &done {
            Some(done) if done.exists() => None,
            _ => Some(Self { done, _lock: lock }),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(done) = self.done.as_ref().filter(|_| !std::thread::panicking()) {
            let dir = done.parent().expect("it lies in the profile's directory");
            for old in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if old.file_name().to_string_lossy().starts_with("e2e-build-") {
                    let _ = std::fs::remove_file(old.path());
                }
            }
            let _ = std::fs::write(done, "");
        }
    }
}
