//! What this process takes of its machine, as the kernel says (proc(5)).

use std::fs;

use mahavishnu_core::metrics::Process;
use rustix::process::{Resource, getrlimit};

/// At this moment. What the kernel does not say is left out.
pub(crate) fn now() -> Process {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    Process {
        cpu_seconds: cpu_ticks(&stat).map(|ticks| ticks / TICKS_PER_SECOND),
        resident_bytes: resident_bytes(&status),
        open_files: open_files(),
        open_files_max: getrlimit(Resource::Nofile).current,
        began: began(&stat, &machine),
    }
}

/// The fields of `/proc/self/stat` after the program's name, which is in brackets and has whatever is in it.
fn field(stat: &str, number: usize) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number - 3)?.parse().ok()
}

/// utime and stime.
fn cpu_ticks(stat: &str) -> Option<u64> {
    Some(field(stat, 14)? + field(stat, 15)?)
}

/// starttime, which is counted from the boot of the machine.
fn began(stat: &str, machine: &str) -> Option<f64> {
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    let boot: u64 = boot.trim().parse().ok()?;
    Some(boot as f64 + field(stat, 22)? as f64 / TICKS_PER_SECOND as f64)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Linux says how many there are as the directory's size since 6.2; before, they have to be counted, and one that is open
/// for that is too many.
fn open_files() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    let count = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(count.saturating_sub(1))
}

/// `USER_HZ`, in which Linux counts for programs on every architecture that Rust has.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) R 1 (b)) S 1 2 3 4 5 6 7 8 9 10 1234 566 0 0 20 0 3 0 4250 1 2";

    #[test]
    fn fields_are_counted_behind_any_name() {
        assert_eq!(cpu_ticks(STAT), Some(1800));
        assert_eq!(began(STAT, "cpu 1 2\nbtime 1000\n"), Some(1042.5));
        assert_eq!(began(STAT, "cpu 1 2\n"), None);
        assert_eq!(cpu_ticks(""), None);
        assert_eq!(resident_bytes("VmSize: 9 kB\nVmRSS:\t  12 kB\n"), Some(12 * 1024));
        assert_eq!(resident_bytes("VmSize: 9 kB\n"), None);
    }

    #[test]
    fn the_kernel_tells_all_of_it() {
        let before = now();
        let held: Vec<_> = (0..10).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let after = now();
        let (open, max) = (after.open_files.unwrap(), after.open_files_max.unwrap());
        assert!(open >= held.len() as u64 && open < max, "{before:?} {after:?}");
        assert!(after.resident_bytes.unwrap() > 1 << 20, "{after:?}");
        assert!(after.cpu_seconds.unwrap() < 3600, "{after:?}");
        let unix = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let age = unix - after.began.unwrap();
        assert!((-2.0..3600.0).contains(&age), "{age} s old");
    }
}
