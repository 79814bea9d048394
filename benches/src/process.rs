//! What the server under test used: CPU time and resident memory from `/proc`.

use std::{fs, io, time::Duration};

/// A running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pid: u32,
}

impl Process {
    /// Names a process; nothing is read yet.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// User and system time of all threads, ended ones included. The kernel counts in ticks of usually 10 ms.
    ///
    /// # Errors
    /// The process is gone or may not be looked at.
    pub fn cpu_time(self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let ticks = parse_cpu_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Duration::from_nanos(
            ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)),
        ))
    }

    /// Resident bytes. Counted exactly from the page tables where that is allowed; the running count in `status` lags
    /// by up to 64 pages a thread.
    ///
    /// # Errors
    /// The process is gone or may not be looked at.
    pub fn resident_bytes(self) -> io::Result<u64> {
        let exact = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid));
        if let Some(bytes) = exact.ok().and_then(|text| parse_kib(&text, "Rss:")) {
            return Ok(bytes);
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        parse_kib(&status, "VmRSS:").ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The same of several processes together; `None` of none.
///
/// # Errors
/// One of them is gone or may not be looked at.
pub fn cpu_time(processes: &[Process]) -> io::Result<Option<Duration>> {
    let times = processes.iter().map(|process| process.cpu_time());
    times.reduce(|all, one| Ok(all? + one?)).transpose()
}

/// The same of several processes together.
///
/// # Errors
/// As for one.
pub fn resident_bytes(processes: &[Process]) -> io::Result<u64> {
    processes.iter().map(|process| process.resident_bytes()).sum()
}

/// Fields 14 and 15 of proc_pid_stat(5). The second field is the program's name in parentheses and may hold anything,
/// so counting starts after the last parenthesis.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn parse_kib(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 999 1000 200";

        assert_eq!(parse_cpu_ticks(stat), Some(300));
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(parse_kib("Name:\tx\nVmRSS:\t    2048 kB\n", "VmRSS:"), Some(2 << 20));
        assert_eq!(parse_kib("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let this = Process::new(std::process::id());

        assert!(this.resident_bytes().unwrap() > 100_000);
        assert!(this.cpu_time().is_ok());
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(Process::new(u32::MAX).cpu_time().is_err());
    }
}
